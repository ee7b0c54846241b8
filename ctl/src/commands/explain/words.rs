//! Words and forms that all stories share.

use crate::units::instant;
use crate::view::Paint;
use aex_proto::explain::{Actor, Caller, EventSeen, PurseTold};
use aex_proto::value::Pico;

/// The widest name of a check or fact; longer ones push their values away.
const NAME_CHARS: usize = 24;

/// Sections of lines under headings.
pub(super) struct Page {
    lines: Vec<String>,
    paint: Paint,
}

impl Page {
    pub(super) fn new(paint: Paint, title: &str) -> Page {
        Page { lines: vec![paint.strong(title)], paint }
    }

    /// A line of plain words.
    pub(super) fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    pub(super) fn head(&mut self, title: &str) {
        self.lines.push(String::new());
        self.lines.push(self.paint.strong(title));
    }

    /// An indented line.
    pub(super) fn row(&mut self, line: impl AsRef<str>) {
        self.lines.push(format!("  {}", line.as_ref()).trim_end().to_owned());
    }

    /// An indented line of a name and what is told of it.
    pub(super) fn fact(&mut self, name: &str, value: impl AsRef<str>) {
        self.row(format!("{name:<NAME_CHARS$} {}", value.as_ref()));
    }

    pub(super) fn events(&mut self, events: &[EventSeen]) {
        self.head("Events");
        for event in events {
            let hash: String = event.hash.to_string().chars().take(16).collect();
            self.row(format!("{:>6}  {}  {:<16}  {hash}…", event.seq, instant(event.at), event.kind));
        }
    }

    pub(super) fn text(self) -> String {
        self.lines.join("\n")
    }
}

/// Dollars, and the exact pico-dollars beside them.
pub(super) fn both(amount: Pico) -> String {
    format!("{amount} ({} pico-USD)", amount.get())
}

pub(super) fn by(actor: Option<&Actor>) -> String {
    actor.map_or_else(|| "the daemon itself".to_owned(), |actor| format!("user {} (process {})", actor.uid, actor.pid))
}

/// `run run-4 of agent bot`, `agent bot`, `the root`.
pub(super) fn who(caller: &Caller) -> String {
    let Some(own) = caller.path.first() else { return "an account that no event made".to_owned() };
    match (own.kind.as_str(), &caller.agent) {
        ("root", _) => "this machine (root)".to_owned(),
        ("run", Some(agent)) => format!("run {} of agent {agent}", own.name),
        (kind, _) => format!("{kind} {}", own.name),
    }
}

/// `account 4, below agent bot (3), root (1)`
pub(super) fn place(caller: &Caller) -> String {
    let mut path = caller.path.iter();
    let own = path.next().map(|own| format!("account {}", own.id)).unwrap_or_default();
    let above: Vec<String> = path
        .map(|holder| {
            if holder.kind == "root" { format!("root ({})", holder.id) } else { format!("{} {} ({})", holder.kind, holder.name, holder.id) }
        })
        .collect();
    if above.is_empty() { own } else { format!("{own}, below {}", above.join(", ")) }
}

/// One line of the money of an account in a period.
pub(super) fn purse(purse: &PurseTold) -> String {
    let used = format!("spent {}, held {}", purse.spent_pico, purse.reserved_pico);
    match (purse.limit_pico, purse.left_pico) {
        (Some(limit), Some(left)) if left.is_negative() => format!("{used} of {limit}: {} beyond it", purse.overdraft_pico),
        (Some(limit), Some(left)) => format!("{used} of {limit}: {left} left"),
        _ => format!("{used}, no budget"),
    }
}

/// `bot, by day`
pub(super) fn purse_name(purse: &PurseTold) -> String {
    format!("{}, {}", purse.name, purse.period.name())
}
