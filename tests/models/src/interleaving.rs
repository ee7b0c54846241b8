//! Every interleaving of a few calls with commits, flushes, providers, clients, crashes, power cuts and recovery.
//!
//! Steps of money are those of `aex_core`: `Books` rebuilt from the rows for each commit, as the daemon does after a fault;
//! `Durability`, `Ended` and `Ending` decide the rest. What is written here is the world around them, and who waits for what.
//! Each commit holds one change: groups of several leave no state that single ones do not. A flush ends at once: one that takes
//! longer answers later, and what waits for it stands still until then.

mod promises;
mod rows;
mod step;
mod world;

pub use rows::{Final, Rows};
pub use step::Step;
pub use world::{Call, Phase, Provider, World};

use aex_core::hold::Durability;
use aex_core::price::{Bound, MaxTokensField, ModelCard, Overhead, Price};
use aex_proto::value::{AccountId, Pico};
use stateright::{Checker, HasDiscoveries, Model, Property};

/// A mistake that is made on purpose, in the world alone: the checker has to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An answer is shown before its hold is on disk.
    RelayBeforeFlush,
    /// With `full`, a request is sent before its hold is on disk.
    SendBeforeFlush,
    /// A request that waited is sent before its hold is marked as sent.
    SendBeforeMark,
    /// The next start takes what was sent for unsent.
    RecoveryReleasesSent,
    /// The end of a hold that has ended is charged again.
    SettleTwice,
    /// A hold that the group's budget refuses stays on the agent's.
    HalfHold,
    /// A hold past its deadline is released.
    ReleaseOnTimeout,
    /// What a bill has beyond the bound is dropped.
    DropOverdraft,
}

/// What a call may do beside being held, sent, billed or refused, shown and ended. Shared out, for the number of states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// It waits between its hold and its send, as one that is asked about does, and may be given up.
    Waits,
    /// Its deadline may pass, and its end come in line twice.
    TimesOut,
    /// Its client may leave, its provider break off.
    Leaves,
}

/// A call that will be made once.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The agent.
    pub agent: i64,
    /// What else may happen to it.
    pub habit: Habit,
}

/// What is checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// When a reservation counts as safe.
    pub durability: Durability,
    /// The calls.
    pub calls: Vec<Plan>,
    /// Crashes and power cuts, at most.
    pub crashes: u8,
    /// The group has a budget a day beside its total, and the clock goes to the next day and back.
    pub days: bool,
    /// What is wrong with it.
    pub fault: Option<Fault>,
}

/// The group whose budget admits two calls.
pub const GROUP: AccountId = AccountId::new(2);
/// Each call is bounded by one token of input and one of output, at one pico a token.
pub const BOUND: Bound = Bound { amount: Pico::new(2), input_tokens: 1, output_tokens: 1 };

impl Config {
    /// Calls of two agents, the last one of the second, on a group whose budget admits two. One crash.
    #[must_use]
    pub fn new(durability: Durability, calls: &[Habit]) -> Config {
        let agent = |number| if number + 1 == calls.len() { 4 } else { 3 };
        let calls = calls.iter().enumerate().map(|(number, habit)| Plan { agent: agent(number), habit: *habit }).collect();
        Config { durability, calls, crashes: 1, days: false, fault: None }
    }

    /// With so many crashes and power cuts at most.
    #[must_use]
    pub fn crashes(self, crashes: u8) -> Config {
        Config { crashes, ..self }
    }

    /// With a budget a day, and a clock that is set.
    #[must_use]
    pub fn days(self) -> Config {
        Config { days: true, ..self }
    }

    /// With a mistake.
    #[must_use]
    pub fn fault(self, fault: Fault) -> Config {
        Config { fault: Some(fault), ..self }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }
}

/// What a check found.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Different states.
    pub states: usize,
    /// Steps on the longest of the shortest paths.
    pub depth: usize,
    /// The promises that are broken first, and how one gets there in the fewest steps.
    pub broken: Option<(Vec<&'static str>, Vec<Step>)>,
}

impl Checked {
    /// The broken promise and its trace, as a person reads them.
    #[must_use]
    pub fn trace(&self) -> String {
        let Some((promises, steps)) = &self.broken else { return format!("no promise is broken in {} states", self.states) };
        let steps: Vec<String> = steps.iter().enumerate().map(|(at, step)| format!("  {}. {step:?}", at + 1)).collect();
        format!("broken after {} steps: {}\n{}", steps.len(), promises.join("; "), steps.join("\n"))
    }
}

/// Visits every state; stops where a promise is broken. Visited states are known by 64 bits of their hash.
#[must_use]
pub fn check(config: &Config) -> Checked {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = config.clone().checker().threads(threads).finish_when(HasDiscoveries::Any).spawn_bfs().join();
    let broken = checker.discoveries().into_values().map(|path| path.into_actions().len()).min();
    let broken = broken.map(|steps| shortest(config, steps));
    Checked { states: checker.unique_state_count(), depth: checker.max_depth(), broken }
}

/// The checker goes on for a while behind what it finds: the shortest trace is that of the smallest depth which has one.
fn shortest(config: &Config, steps: usize) -> (Vec<&'static str>, Vec<Step>) {
    let found = (1..=steps + 1).find_map(|depth| {
        let checker = config.clone().checker().target_max_depth(depth + 1).spawn_bfs().join();
        let mut found: Vec<_> = checker.discoveries().into_iter().map(|(name, path)| (name, path.into_actions())).collect();
        found.sort_by_key(|(name, steps)| (steps.len(), *name));
        let (_, trace) = found.first()?.clone();
        Some((found.into_iter().map(|(name, _)| name).collect(), trace))
    });
    found.expect("what was found is found again")
}

impl Model for Config {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        step::possible(self, world, steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        step::take(self, &mut next, step);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Config>> {
        promises::all()
    }
}

/// A model that costs one pico a token.
pub(crate) fn card() -> ModelCard {
    let price = Price::of(Pico::new(1), Pico::new(1));
    ModelCard {
        context_tokens: None,
        drop_tools: Vec::new(),
        max_tokens: 1,
        max_tokens_field: MaxTokensField::MaxTokens,
        max_tokens_per_minute: None,
        name: "m".to_owned(),
        overhead: Overhead::WIDEST,
        price: Some(price),
        provider: "p".to_owned(),
        provider_model: "m".to_owned(),
        reasoning: false,
        tokenizer: None,
        tools: false,
        vision: false,
    }
}
