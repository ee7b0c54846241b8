//! The threads of tools: one whose runtime serves all conversations, so that a server which floods slows no provider's calls, and the one
//! that starts processes.

use super::super::process::{Running, Spawner};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// How long what still runs may take at the end.
const LAST: Duration = Duration::from_secs(1);

/// The threads. Dropped, they end, and what they started dies.
pub(super) struct Engine {
    pub(super) handle: Handle,
    pub(super) spawner: Spawner,
    stop: oneshot::Sender<oneshot::Sender<()>>,
}

impl Engine {
    /// Starts them.
    ///
    /// # Errors
    /// When the system has no room for them.
    pub(super) fn start(running: Arc<Running>) -> io::Result<Engine> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<oneshot::Sender<()>>();
        std::thread::Builder::new().name("aex-tools".to_owned()).spawn(move || {
            let ended = runtime.block_on(stopped);
            runtime.shutdown_timeout(LAST);
            drop(ended);
        })?;
        Ok(Engine { handle, spawner: Spawner::start(running)?, stop })
    }

    /// Ends them, when nothing is left that they serve.
    pub(super) async fn end(self) {
        let (done, is_done) = oneshot::channel();
        drop(self.stop.send(done));
        // Its sender is dropped with the thread.
        drop(is_done.await);
    }
}
