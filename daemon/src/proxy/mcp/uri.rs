//! URIs of resources: `aex://SERVER/` before the server's own one says whose it is, so that nothing has to be remembered between messages.

use rmcp::model::{ContentBlock, ResourceContents};

const SCHEME: &str = "aex://";

/// A server's URI, or a pattern of some, for agents.
pub(super) fn of(server: &str, own: &str) -> String {
    format!("{SCHEME}{server}/{own}")
}

/// The server, and its own URI.
pub(super) fn read(uri: &str) -> Option<(&str, &str)> {
    uri.strip_prefix(SCHEME)?.split_once('/').filter(|(server, own)| !server.is_empty() && !own.is_empty())
}

/// Has what a server says of its resources name them as agents do.
pub(super) fn map_contents(server: &str, contents: &mut ResourceContents) {
    match contents {
        ResourceContents::TextResourceContents { uri, .. } | ResourceContents::BlobResourceContents { uri, .. } => *uri = of(server, uri),
        _ => {}
    }
}

/// The same within a result or a prompt.
pub(super) fn map_block(server: &str, block: &mut ContentBlock) {
    match block {
        ContentBlock::ResourceLink(link) => link.uri = of(server, &link.uri),
        ContentBlock::Resource(embedded) => map_contents(server, &mut embedded.resource),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_read() {
        for own in ["file:///tmp/a b", "demo://resource/static/x", "a", "aex://b/c", "memo:{id}"] {
            assert_eq!(read(&of("fs_1", own)), Some(("fs_1", own)));
        }
        for foreign in ["file:///tmp/a", "aex://", "aex://fs", "aex://fs/", "aex:///a", "AEX://fs/a"] {
            assert_eq!(read(foreign), None, "{foreign}");
        }
    }
}
