//! Rules by the names that they state, so that a call looks at few of them.

use super::name::ToolName;
use super::pattern::Pattern;
use super::permissions::{Ready, Target};
use std::collections::{BTreeSet, HashMap};

/// Pairs of a server and a tool that a rule is found by; one that states more is found by its tools.
const MAX_PAIRS: usize = 64;

/// Places of rules. Each rule stands in one of the parts, by the narrowest names that it states to the letter; the places of a list ascend.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    pairs: HashMap<ToolName, Vec<usize>>,
    tools: HashMap<String, Vec<usize>>,
    agents: HashMap<String, Vec<usize>>,
    /// All that stand in `agents`.
    of_agents: Vec<usize>,
    servers: HashMap<String, Vec<usize>>,
    wide: Vec<usize>,
}

impl Index {
    pub(super) fn add(&mut self, at: usize, ready: &Ready) {
        if let Some(pairs) = pairs(&ready.targets) {
            add_all(&mut self.pairs, pairs, at);
        } else if let Some(tools) = names(ready.targets.iter().map(|target| target.tool.exact())) {
            add_all(&mut self.tools, tools, at);
        } else if let Some(agents) = names(ready.agent.iter().map(Pattern::exact)) {
            add_all(&mut self.agents, agents, at);
            self.of_agents.push(at);
        } else if let Some(servers) = servers(&ready.targets) {
            add_all(&mut self.servers, servers, at);
        } else {
            self.wide.push(at);
        }
    }

    /// The rules that may mean an agent's call of a tool; of every agent's without one. No rule is in two of the lists.
    pub(super) fn candidates(&self, agent: Option<&str>, tool: &ToolName) -> [&[usize]; 5] {
        let of_agent = agent.map_or(self.of_agents.as_slice(), |agent| listed(self.agents.get(agent)));
        let (pair, by_tool) = (listed(self.pairs.get(tool)), listed(self.tools.get(&tool.tool)));
        [pair, by_tool, of_agent, listed(self.servers.get(&tool.server)), &self.wide]
    }
}

fn listed(list: Option<&Vec<usize>>) -> &[usize] {
    list.map_or(&[], Vec::as_slice)
}

fn add_all<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Vec<usize>>, keys: BTreeSet<K>, at: usize) {
    keys.into_iter().for_each(|key| map.entry(key).or_default().push(at));
}

/// All of the names; nothing when there are none, or when one is a pattern.
fn names<'n>(names: impl Iterator<Item = Option<&'n str>>) -> Option<BTreeSet<String>> {
    let names: Option<BTreeSet<String>> = names.map(|name| name.map(str::to_owned)).collect();
    names.filter(|names| !names.is_empty())
}

fn servers(targets: &[Target]) -> Option<BTreeSet<String>> {
    let each = targets.iter().map(|target| names(target.server.iter().map(Pattern::exact)));
    each.collect::<Option<Vec<_>>>().map(|sets| sets.into_iter().flatten().collect())
}

fn pairs(targets: &[Target]) -> Option<BTreeSet<ToolName>> {
    let mut pairs = BTreeSet::new();
    for target in targets {
        let tool = target.tool.exact()?;
        for server in names(target.server.iter().map(Pattern::exact))? {
            pairs.insert(ToolName { server, tool: tool.to_owned() });
        }
        if pairs.len() > MAX_PAIRS {
            return None;
        }
    }
    Some(pairs)
}
