//! What a process of a server is given: its environment, its folders and its pipes.

use super::super::super::framing::Outbox;
use super::super::super::lock;
use super::super::super::process::{Birth, Feeder, Process, drain};
use super::super::super::sandbox;
use super::super::super::session::Changed;
use super::super::instance::Instance;
use super::super::options::{Options, Resolved};
use super::super::private;
use super::Given;
use super::alive::Alive;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::watch;

/// Bytes that may wait to be read by a server, as a multiple of its longest message.
const UNREAD: usize = 2;

/// Starts a process.
///
/// # Errors
/// Why it could not be started. The text holds no secret.
pub(super) async fn give(given: &Given, instance: &Instance) -> Result<Alive, String> {
    let Given { options, written, spawner } = given;
    let server = Arc::clone(&instance.server);
    let (resolve, written, home) = (Arc::clone(&options.resolve), Arc::clone(written), options.home.clone());
    let ready = tokio::task::spawn_blocking(move || {
        private::claim(&home, &server)?;
        Ok::<_, String>((resolve(&server)?, written.note(&server.confinement)?))
    });
    let (Resolved { env, secrets }, writable) = ready.await.map_err(|fault| fault.to_string())??;
    let birth = Birth {
        server: instance.server.name.as_str().into(),
        plan: plan(options, instance, env, writable),
        aexd: options.aexd.clone(),
        groups: options.groups.clone(),
    };
    let mut process = spawner.spawn(birth).await.and_then(Process::watch).map_err(|fault| fault.to_string())?;
    {
        let mut facts = lock(&instance.facts);
        facts.pid = Some(process.pid());
        facts.starts = facts.starts.saturating_add(1);
        facts.report = None;
    }
    let (input, output, stderr) = process.pipes().ok_or("it has no pipes")?;
    let input = Sender::from_owned_fd(input).map_err(|fault| fault.to_string())?;
    let stderr = Receiver::from_owned_fd(stderr).map_err(|fault| fault.to_string())?;
    let feeder = Feeder::new(&instance.journal, process.pid(), secrets.iter().map(crate::os::secret::Secret::expose));
    feeder.say("started");
    Ok(Alive {
        process,
        input: Outbox::new(input, instance.server.bounds.message_bytes.saturating_mul(UNREAD), options.pace.unread),
        output: Some(output),
        is_confined: false,
        stderr: tokio::spawn(drain(stderr, Arc::clone(&feeder))),
        feeder,
        ended: watch::Sender::new(None),
        changed: watch::Sender::new(Changed::default()),
    })
}

fn plan(options: &Options, instance: &Instance, env: Vec<(String, String)>, mut writable: Vec<PathBuf>) -> sandbox::Plan {
    let server = &instance.server;
    writable.push(private::root(&options.home));
    let own = private::folder(options, &instance.server.name, instance.scope);
    let (home, tmp, work) = (own.join("home"), own.join("tmp"), own.join("work"));
    let mut whole = options.env.clone();
    whole.push(("HOME".to_owned(), home.to_string_lossy().into_owned()));
    whole.push(("TMPDIR".to_owned(), tmp.to_string_lossy().into_owned()));
    // What the configuration says holds.
    whole.retain(|(name, _)| env.iter().all(|(own, _)| own != name));
    whole.extend(env);
    sandbox::Plan {
        program: Some(server.command.clone()),
        args: server.args.clone(),
        env: whole,
        cwd: private::cwd(options, server, instance.scope),
        private: vec![home, tmp.clone(), work],
        tmp: Some(tmp),
        deny: options.deny.clone(),
        writable,
        user_home: options.user_home.clone(),
        group: None,
        confinement: server.confinement.clone(),
    }
}
