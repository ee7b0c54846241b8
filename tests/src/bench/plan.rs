//! What is measured: groups of scenarios, each a load and a shape of the mock's answers.

use clap::ValueEnum;
use serde::Serialize;

use super::mock::Shape;
use super::target::Kind;

const MOST: usize = 512;
const BIG: usize = 100 << 10;
const PROVIDER_US: u64 = 20_000;

/// A table of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Plain calls, 1 KB each way
    Plain,
    /// Streams of 100 chunks at once
    Stream,
    /// A provider that takes 20 ms
    Latency,
    /// Calls that the budget denies
    Denial,
    /// A prompt of 100 KB
    Prompt,
    /// Many streams open at the same time
    Open,
    /// From exec to the first answer, and idle memory
    Start,
    /// Calls of a tool without a price
    Tools,
}

impl Group {
    pub(super) fn title(self) -> &'static str {
        match self {
            Group::Plain => "Plain calls, 1 KB each way, a provider without latency",
            Group::Stream => "Streams of 100 chunks at once, latency to the last byte; the client does not ask for usage",
            Group::Latency => "A provider that answers, or sends its first chunk, after 20 ms; 1 connection",
            Group::Denial => "Denied by the budget (402), 1 connection",
            Group::Prompt => "A prompt of 100 KB, 1 connection",
            Group::Open => "Open streams, a chunk each 100 ms",
            Group::Start => "Start and rest",
            Group::Tools => "Calls of a tool without a price, one after the other",
        }
    }
}

/// Which agent calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    Rich,
    /// Each call is denied with 402.
    Poor,
}

/// One load on one shape of answers.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) group: Group,
    pub(super) name: String,
    pub(super) kinds: Vec<Kind>,
    pub(super) shape: Shape,
    pub(super) caller: Caller,
    pub(super) connections: usize,
    pub(super) stream: bool,
    pub(super) once: bool,
    pub(super) body_bytes: usize,
}

/// All scenarios of these groups.
pub(super) fn scenarios(groups: &[Group], open_streams: usize) -> Vec<Scenario> {
    let mut all = Vec::new();
    for connections in [1, 64, MOST] {
        let mut plain = scenario(Group::Plain, format!("{connections} conn"));
        plain.connections = connections;
        if connections == MOST {
            plain.kinds = vec![Kind::Direct, Kind::Nginx, Kind::Overlap];
        }
        all.push(plain);
    }
    for connections in [1, 64] {
        let stream = scenario(Group::Stream, format!("{connections} conn"));
        all.push(Scenario { connections, stream: true, ..stream });
    }
    let slow = Shape { latency_us: PROVIDER_US, first_us: PROVIDER_US, ..Shape { chunks: 100, ..Shape::default() } };
    all.push(Scenario { shape: slow, ..scenario(Group::Latency, "plain".to_owned()) });
    all.push(Scenario { shape: slow, stream: true, ..scenario(Group::Latency, "stream".to_owned()) });
    all.push(Scenario { caller: Caller::Poor, kinds: Kind::DURABILITIES.to_vec(), ..scenario(Group::Denial, "402".to_owned()) });
    all.push(Scenario { body_bytes: BIG, ..scenario(Group::Prompt, "100 KB".to_owned()) });
    all.push(open(open_streams));
    all.retain(|scenario| groups.contains(&scenario.group));
    all
}

fn scenario(group: Group, name: String) -> Scenario {
    let mut kinds = vec![Kind::Direct, Kind::Nginx];
    kinds.extend(Kind::DURABILITIES);
    let shape = Shape { chunks: 100, ..Shape::default() };
    Scenario { group, name, kinds, shape, caller: Caller::Rich, connections: 1, stream: false, once: false, body_bytes: 1000 }
}

fn open(connections: usize) -> Scenario {
    let shape = Shape { chunks: 30, chunk_us: 100_000, ..Shape::default() };
    Scenario { shape, connections, stream: true, once: true, ..scenario(Group::Open, format!("{connections} open")) }
}
