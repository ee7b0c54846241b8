//! What the ledger records while the demo's agent runs, told as it happens.

use crate::client::Client;
use crate::exit::{Attempt, Exit, Failure};
use crate::view::View;
use aex_core::decision::Denial;
use aex_core::event::Event as Known;
use aex_core::paths::Paths;
use aex_proto::event::{Event, EventTail};
use aex_proto::method::{self, EventPushed};
use aex_proto::value::Pico;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

/// How long the last event may take to arrive.
const LAST: Duration = Duration::from_secs(5);

/// What is waited for.
enum Seen {
    Charged,
    BudgetDenied,
}

/// The feed of events.
pub(super) struct Ledger {
    seen: mpsc::Receiver<Seen>,
    socket: UnixStream,
}

impl Ledger {
    /// Follows the chain from now on, in a thread that prints.
    pub(super) fn follow(paths: &Paths, view: View, budget: &'static str) -> Result<Ledger, Failure> {
        let mut client = Client::connect(paths)?;
        let socket = client.socket()?;
        client.call::<method::EventTail>(&EventTail { after: None, agent: None })?;
        let (tell, seen) = mpsc::channel();
        let mut told = Story { view, budget, spent: Pico::ZERO };
        let follow = move || {
            while let Ok(notice) = client.wait_notice::<EventPushed>() {
                let news = told.tell(&notice.event);
                if news.map(|news| tell.send(news)).is_some_and(|sent| sent.is_err()) {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("ledger".to_owned()).spawn(follow).attempt(|| "start a thread".to_owned())?;
        Ok(Ledger { seen, socket })
    }

    /// Calls must have been charged, and then one denied by the budget.
    pub(super) fn verify(self) -> Result<(), Failure> {
        let mut charged = 0;
        let result = loop {
            match self.seen.recv_timeout(LAST) {
                Ok(Seen::Charged) => charged += 1,
                Ok(Seen::BudgetDenied) if charged > 0 => break Ok(()),
                Ok(Seen::BudgetDenied) => break Err("the budget denied the first call"),
                Err(_) => break Err("the ledger has no denial by the budget"),
            }
        };
        self.socket.shutdown(std::net::Shutdown::Both).ok();
        result.map_err(|what| Failure::new(what).with(Exit::Bug))
    }
}

struct Story {
    view: View,
    budget: &'static str,
    spent: Pico,
}

impl Story {
    fn tell(&mut self, event: &Event) -> Option<Seen> {
        let known = Known::parse(&event.kind, &event.body.to_string()).ok()?;
        let (news, balance) = match known {
            Known::CallSettled(settled) => {
                self.spent = self.spent.plus(settled.charge).unwrap_or(Pico::MAX);
                (Seen::Charged, format!("; spent {} of ${}", self.spent, self.budget))
            }
            Known::CallDenied(denied) if matches!(denied.denial, Denial::Budget { .. }) => (Seen::BudgetDenied, String::new()),
            _ => return None,
        };
        self.view.remark(&format!("  ledger  {}{balance}", crate::commands::facts(event))).ok();
        Some(news)
    }
}
