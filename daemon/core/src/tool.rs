//! The law of tools: which calls of tools may be made, by whom, with which arguments.
//!
//! Rules have no order among themselves: all are evaluated; deny > ask > allow > the file's `global_policy`, and without that deny. What
//! cannot be told of a call never lets a rule allow it, and never keeps one from denying it. A decision is made in two halves, both pure:
//! [`Permissions::observe`] looks at the arguments and keeps facts, [`Permissions::decide`] needs those alone, so that an audit decides
//! again without the arguments. Must not: touch files (paths are resolved by the shell, which answers [`Permissions::questions`]), know who
//! speaks MCP.

mod arguments;
mod call;
mod capability;
mod condition;
mod decide;
mod host;
mod index;
mod name;
mod path;
mod pattern;
mod permissions;
mod pin;
mod shown;
mod sieve;
mod spec;

pub use arguments::{Arguments, MAX_BYTES, MAX_DEPTH, Malformed};
pub use call::{Answers, Consent, NoConsent, ToolCall, ToolDenied, ToolResult, card, counted_as, said};
pub use capability::is_capable;
pub use condition::Conditions;
pub use decide::{Caller, DecidedBy, Facts, Priced, Rated, Verdict};
pub use host::{HostPattern, Odd, UrlHost};
pub use name::{BadName, MAX_WIRE, ToolName};
pub use path::{Of, Question, Resolved, oddity};
pub use permissions::{Flaw, MAX_RULES, Permissions};
pub use pin::{Definition, Difference};
pub use shown::shown;
pub use spec::{ConditionSpec, Effect, GlobalPolicy, PermissionsSpec, RuleSpec, Scalar, Standing};

#[cfg(test)]
mod tests;
