//! Changes of lists in revision 2026-07-28: a server tells them only to who listens.

use super::{Changed, Session};
use rmcp::model::{ServerNotification, SubscriptionFilter};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long after its end the server is listened to again.
const AGAIN: Duration = Duration::from_secs(1);

impl Session {
    /// Listens until the conversation ends, or the server does not let it. Older servers tell unasked.
    pub(in crate::tools) async fn follow(self: Arc<Session>, to: watch::Sender<Changed>) {
        if self.protocol.has_initialize() {
            return;
        }
        let filter = SubscriptionFilter::builder().tools_list_changed().prompts_list_changed().resources_list_changed().build();
        while let Ok(mut heard) = self.peer.listen(filter.clone()).await {
            while let Ok(Some(notification)) = heard.next().await {
                to.send_modify(|changed| match notification {
                    ServerNotification::ToolListChangedNotification(_) => changed.tools = changed.tools.saturating_add(1),
                    ServerNotification::PromptListChangedNotification(_) => changed.prompts = changed.prompts.saturating_add(1),
                    ServerNotification::ResourceListChangedNotification(_) => changed.resources = changed.resources.saturating_add(1),
                    _ => {}
                });
            }
            // What changed meanwhile is not told again, so the lists are read once more.
            tokio::time::sleep(AGAIN).await;
            to.send_modify(|changed| changed.tools = changed.tools.saturating_add(1));
        }
    }
}
