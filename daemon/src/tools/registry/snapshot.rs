//! What of mcp.json an event names by its digest: all but the values of variables.

use super::Registry;
use crate::tools::server::{EnvPart, EnvValue, Server, Shared, Start, Trust};
use aex_proto::value::Digest;
use serde_json::{Value, json};

impl Registry {
    /// The digest of the servers that hold: SHA-256 over canonical JSON. Text within variables is left out, for it may be a secret; references
    /// are in it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut servers: Vec<&Server> = self.servers.iter().collect();
        servers.sort_by(|one, other| one.name.cmp(&other.name));
        let servers: Vec<Value> = servers.into_iter().map(server).collect();
        Digest::of(Value::from(servers).to_string().as_bytes())
    }
}

fn server(server: &Server) -> Value {
    let Server {
        name,
        command,
        args,
        env,
        cwd,
        enabled,
        start,
        shared,
        confinement,
        times,
        bounds,
        price,
        tool_prices,
        trust,
        may_ask,
        log_full,
    } = server;
    let env: Value = env.iter().map(|(name, value)| (name.clone(), Value::from(value.shown()))).collect();
    let resources = &confinement.resources;
    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let price_text = |price: &aex_proto::value::Pico| price.get().to_string();
    let tool_prices: Value = tool_prices.iter().map(|(tool, price)| (tool.clone(), Value::from(price_text(price)))).collect();
    json!({
        "args": args,
        "bounds": [bounds.message_bytes, bounds.concurrency, bounds.queue, bounds.result_bytes],
        "command": command,
        "cwd": cwd,
        "enabled": enabled,
        "env": env,
        "hosts": confinement.hosts,
        "level": confinement.level,
        "log_full": log_full,
        "may_ask": [may_ask.sampling, may_ask.elicitation],
        "name": name,
        "price": price.as_ref().map(price_text),
        "read": confinement.read,
        "require": confinement.require,
        "resources": [resources.memory_bytes, resources.cpu_seconds, resources.processes, resources.open_files, resources.file_bytes],
        "shared": *shared == Shared::ByAll,
        "start": *start == Start::AtBoot,
        "times": [ms(times.start), ms(times.call), ms(times.call_total), ms(times.shutdown), times.idle.map_or(0, ms)],
        "tool_prices": tool_prices,
        "trust": *trust == Trust::Approve,
        "write": confinement.write,
    })
}

impl EnvValue {
    /// As people are shown it: references as they are written, text hidden.
    #[must_use]
    pub fn shown(&self) -> String {
        let part = |part: &EnvPart| match part {
            EnvPart::Text(_) => "***".to_owned(),
            EnvPart::Env(name) => format!("${{env:{name}}}"),
            EnvPart::File(path) => format!("${{file:{}}}", path.display()),
            EnvPart::Credential(name) => format!("${{credential:{name}}}"),
        };
        self.0.iter().map(part).collect()
    }
}
