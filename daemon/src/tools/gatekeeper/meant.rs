//! Which tool a name means. Nothing is started for a name that says which server it means; for a bare one all servers are looked at.

use super::{Gatekeeper, who};
use crate::ledger::AccountView;
use crate::tools::server::Server;
use crate::tools::supervisor::Listing;
use aex_core::tool::ToolName;
use std::sync::Arc;
use tokio::task::JoinSet;

/// What stands between a server and its tool in names for people, and in those for agents. A bare name of a tool has neither.
const BETWEEN: [&str; 2] = [".", "__"];

/// What a name means.
pub(super) enum Meaning {
    /// A server's tool, if the server has it.
    Tool(Arc<Server>, ToolName),
    /// The same of a server that is disabled.
    Disabled(Arc<Server>, ToolName),
    /// Nothing. A tool by that name that is denied on every server, on one of them.
    Nothing(Option<(Arc<Server>, ToolName)>),
}

impl Gatekeeper {
    /// The tools of all servers of which an account may call some. One that has failed before, and is not ready, is waited for by nobody: its
    /// state tells why, and that its list has changed is told when it is.
    pub(super) async fn listings(&self, view: &AccountView) -> Vec<(Arc<Server>, Arc<Listing>)> {
        let (may_use, mut listing) = (self.may_use(view), JoinSet::new());
        for server in self.tools.servers() {
            if !may_use(&server.name) || self.tools.is_in_trouble(&server.name, &who(view)) {
                continue;
            }
            let (keeper, who) = (self.clone(), who(view));
            listing.spawn(async move { (Arc::clone(&server), keeper.listing(&server, &who).await) });
        }
        let mut listings = Vec::new();
        while let Some(listed) = listing.join_next().await {
            if let Ok((server, Ok(listing))) = listed {
                listings.push((server, listing));
            }
        }
        listings.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        listings
    }

    /// The tool that a name means.
    pub(super) async fn meant(&self, view: &AccountView, tool: &str) -> Meaning {
        let servers = self.tools.servers();
        if let Ok(name) = ToolName::parse(tool)
            && let Some(server) = servers.iter().find(|server| server.name == name.server)
        {
            return Meaning::Tool(Arc::clone(server), name);
        }
        for (server, rest) in servers.iter().filter_map(|server| Some((server, behind(server, "__", tool)?))) {
            // Nearly always it is what stands behind. Of a name that may be a shortened one only the server's own list tells.
            let plain = ToolName::new(&server.name, rest).ok().filter(|name| name.wire() == tool);
            if plain.is_none() || ToolName::may_be_short(tool) {
                let listing = self.tools.list(&server.name, &who(view)).await.ok();
                let tools = listing.iter().flat_map(|listing| &listing.tools);
                let mut names = tools.filter_map(|tool| ToolName::new(&server.name, &tool.name).ok());
                if let Some(name) = names.find(|name| name.wire() == tool) {
                    return Meaning::Tool(Arc::clone(server), name);
                }
            }
            if let Some(name) = plain {
                return Meaning::Tool(Arc::clone(server), name);
            }
        }
        let active = self.gate.active();
        for server in active.config.tools.servers.iter().filter(|server| !server.enabled) {
            let rest = BETWEEN.iter().find_map(|between| behind(server, between, tool));
            if let Some(name) = rest.and_then(|rest| ToolName::new(&server.name, rest).ok()) {
                return Meaning::Disabled(Arc::new(server.clone()), name);
            }
        }
        if BETWEEN.iter().any(|between| tool.contains(between)) {
            return Meaning::Nothing(None);
        }
        self.meant_barely(view, &servers, tool).await
    }

    /// The tool that a bare name means: the only one of that name which the account may call. Of those that it may not, one tells why.
    async fn meant_barely(&self, view: &AccountView, servers: &[Arc<Server>], tool: &str) -> Meaning {
        let may_pass = self.may_pass(view);
        let listings = self.listings(view).await;
        let has_it = |listing: &Listing| {
            listing.tools.iter().any(|listed| listed.name == tool) || listing.quarantined.iter().any(|listed| listed.name == tool)
        };
        let having = listings.iter().filter(|(_, listing)| has_it(listing));
        let named = |server: &Arc<Server>| Some((Arc::clone(server), ToolName::new(&server.name, tool).ok()?));
        let (open, shut): (Vec<_>, Vec<_>) = having.filter_map(|(server, _)| named(server)).partition(|(_, name)| may_pass(name));
        match (open.as_slice(), shut.as_slice()) {
            ([(server, name)], _) | ([], [(server, name), ..]) => Meaning::Tool(Arc::clone(server), name.clone()),
            ([], []) => {
                // A rule may deny it whoever has it: that is said before that nobody has.
                let mut all = servers.iter().filter_map(named);
                let first = all.next().filter(|(_, name)| !may_pass(name));
                Meaning::Nothing(first.filter(|_| all.all(|(_, name)| !may_pass(&name))))
            }
            _ => Meaning::Nothing(None),
        }
    }
}

/// What stands behind a server's name.
fn behind<'a>(server: &Server, between: &str, tool: &'a str) -> Option<&'a str> {
    tool.strip_prefix(server.name.as_str())?.strip_prefix(between)
}
