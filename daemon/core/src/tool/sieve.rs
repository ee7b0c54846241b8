//! A first look at a rule: whether the names of a call may fit its patterns at all, told by a few words of memory that stand together.

use super::name::ToolName;
use super::pattern::Pattern;
use super::permissions::Target;

/// What a name shows: its first eight bytes, and which bytes are in it.
#[derive(Clone, Copy, Debug)]
struct Shape {
    start: u64,
    bytes: u64,
}

impl Shape {
    fn of(name: &str) -> Shape {
        Shape { start: start(name), bytes: bytes(name) }
    }
}

/// What a call shows of its caller and its tool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    agent: Shape,
    server: Shape,
    tool: Shape,
}

impl Probe {
    pub(super) fn new(agent: &str, tool: &ToolName) -> Probe {
        Probe { agent: Shape::of(agent), server: Shape::of(&tool.server), tool: Shape::of(&tool.tool) }
    }
}

/// What each name has that fits one of some patterns.
#[derive(Clone, Copy, Debug)]
struct Needs {
    start: u64,
    /// The bits of `start` that count.
    mask: u64,
    bytes: u64,
}

impl Needs {
    const NOTHING: Needs = Needs { start: 0, mask: 0, bytes: 0 };

    fn of(pattern: &Pattern) -> Needs {
        let (literal, all) = match pattern {
            Pattern::Any => return Needs::NOTHING,
            Pattern::Exact(text) | Pattern::Prefix(text) => (text.as_str(), text.as_str()),
            Pattern::Glob(text) => (text.split(['*', '?']).next().unwrap_or_default(), text.as_str()),
        };
        // The first bytes are the low ones.
        let mask = literal.bytes().take(8).fold(0, |mask: u64, _| mask << 8 | 0xff);
        let bytes = all.split(['*', '?']).map(bytes).fold(0, |all, part| all | part);
        Needs { start: start(literal), mask, bytes }
    }

    /// Those of any of them; without any, every name fits.
    fn of_any<'p>(patterns: impl Iterator<Item = &'p Pattern>) -> Needs {
        let both = |one: Needs, other: Needs| {
            let mask = one.mask & other.mask & !(one.start ^ other.start);
            Needs { start: one.start & mask, mask, bytes: one.bytes & other.bytes }
        };
        patterns.map(Needs::of).reduce(both).unwrap_or(Needs::NOTHING)
    }

    const fn may_fit(self, shape: Shape) -> bool {
        (shape.start ^ self.start) & self.mask == 0 && self.bytes & !shape.bytes == 0
    }
}

/// What a rule needs of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sieve {
    agent: Needs,
    server: Needs,
    tool: Needs,
}

impl Sieve {
    pub(super) fn new(agent: &[Pattern], targets: &[Target]) -> Sieve {
        let is_any_server = targets.iter().any(|target| target.server.is_empty());
        let servers = targets.iter().flat_map(|target| &target.server).filter(|_| !is_any_server);
        Sieve {
            agent: Needs::of_any(agent.iter()),
            server: Needs::of_any(servers),
            tool: Needs::of_any(targets.iter().map(|target| &target.tool)),
        }
    }

    /// Whether its rule may mean the tool.
    pub(super) const fn may_mean(&self, probe: &Probe) -> bool {
        self.tool.may_fit(probe.tool) && self.server.may_fit(probe.server)
    }

    /// Whether its rule may mean the agent.
    pub(super) const fn may_mean_agent(&self, probe: &Probe) -> bool {
        self.agent.may_fit(probe.agent)
    }
}

fn start(text: &str) -> u64 {
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(text.bytes()).for_each(|(slot, byte)| *slot = byte);
    u64::from_le_bytes(bytes)
}

/// A bit for each byte, four of them share one.
fn bytes(text: &str) -> u64 {
    text.bytes().fold(0, |set, byte| set | 1 << (byte & 63))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "[ab*?é]{0,12}";

    proptest! {
        #[test]
        fn what_fits_is_never_left_out(patterns in prop::collection::vec(TEXT, 0..4), name in "[abé]{0,12}") {
            let patterns: Vec<Pattern> = patterns.iter().map(|text| Pattern::new(text)).collect();
            let fits = patterns.is_empty() || patterns.iter().any(|pattern| pattern.fits(&name));
            prop_assert!(!fits || Needs::of_any(patterns.iter()).may_fit(Shape::of(&name)));
        }
    }

    #[test]
    fn names_that_begin_otherwise_or_lack_a_letter_are_left_out() {
        let may = |pattern: &str, name: &str| Needs::of(&Pattern::new(pattern)).may_fit(Shape::of(name));
        let rows = [
            ("read_*", "read_file", true),
            ("read_*", "write_file", false),
            ("read_*", "read", false),
            ("much_longer_than_six", "much_longer_than_two", false),
            ("*x*", "read", false),
            ("*d*r*", "read", true),
            ("*", "", true),
        ];
        for (pattern, name, wanted) in rows {
            assert_eq!(may(pattern, name), wanted, "{pattern} {name}");
        }
    }
}
