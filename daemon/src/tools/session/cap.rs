//! Results that an agent can bear: text beyond the limit is cut in the middle, with a mark that says so.

use super::super::boundary;
use rmcp::model::{CallToolResult, ContentBlock, ResultType};
use std::io::{self, Write};

/// Cuts a result to this many bytes of text. Structured content cannot be cut: beyond the limit it makes the result an error.
/// A result of an older revision is made complete for newer clients.
pub(in crate::tools) fn cap(mut result: CallToolResult, limit: usize) -> CallToolResult {
    result.result_type.get_or_insert(ResultType::COMPLETE);
    if let Some(structured) = &result.structured_content {
        let length = length(structured);
        if length > limit {
            let text =
                format!("result too large: its structured content has {length} bytes, and {limit} are allowed; ask for less at once");
            return CallToolResult::error(vec![ContentBlock::text(text)]);
        }
    }
    let total = result.content.iter().fold(0_usize, |total, block| total.saturating_add(text(block).map_or(0, str::len)));
    if total > limit {
        cut(&mut result.content, total, limit);
    }
    result
}

fn text(block: &ContentBlock) -> Option<&str> {
    match block {
        ContentBlock::Text(text) => Some(&text.text),
        _ => None,
    }
}

/// Keeps the first three quarters and the last quarter of what is allowed.
fn cut(content: &mut Vec<ContentBlock>, total: usize, limit: usize) {
    let tail = limit / 4;
    let head = limit.saturating_sub(tail);
    let tail_from = total.saturating_sub(tail);
    let mut at = 0_usize;
    let mut is_marked = false;
    for block in content.iter_mut() {
        let ContentBlock::Text(block) = block else { continue };
        let (start, end) = (at, at.saturating_add(block.text.len()));
        at = end;
        if end <= head || start >= tail_from {
            continue;
        }
        let first = boundary(&block.text, head.saturating_sub(start));
        let last = boundary(&block.text, tail_from.saturating_sub(start));
        let mut kept = block.text.get(..first).unwrap_or_default().to_owned();
        if !is_marked {
            is_marked = true;
            kept.push_str(&format!(
                "\n[… {} of {total} bytes left out: result too large, {limit} are allowed …]\n",
                tail_from.saturating_sub(head)
            ));
        }
        kept.push_str(block.text.get(last..).unwrap_or_default());
        block.text = kept;
    }
    content.retain(|block| text(block).is_none_or(|text| !text.is_empty()));
}

/// Bytes of a value as JSON.
fn length(value: &serde_json::Value) -> usize {
    struct Count(usize);
    impl Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.saturating_add(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(_) => usize::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn capped(texts: &[&str], limit: usize) -> Vec<String> {
        let result = cap(CallToolResult::success(texts.iter().map(|text| ContentBlock::text(*text)).collect()), limit);
        result.content.iter().filter_map(text).map(str::to_owned).collect()
    }

    #[test]
    fn head_and_tail_of_a_long_result_stay() {
        let mark = |left, total| format!("\n[… {left} of {total} bytes left out: result too large, 8 are allowed …]\n");
        assert_eq!(capped(&["12345678"], 8), ["12345678"], "what fits");
        assert_eq!(capped(&["1234567890ab"], 8), [format!("123456{}ab", mark(4, 12))]);
        assert_eq!(capped(&["1234", "5678", "9", "0abc"], 8), ["1234".to_owned(), format!("56{}", mark(5, 13)), "bc".to_owned()]);
        assert_eq!(capped(&["éééééééé"], 8), [format!("ééé{}é", mark(8, 16))], "letters stay whole");
    }

    #[test]
    fn structured_content_is_refused_and_not_cut() {
        let result = cap(CallToolResult::structured(json!({"rows": [1, 2, 3]})), 10);
        assert_eq!((result.is_error, result.structured_content), (Some(true), None));
        let mut old = CallToolResult::success(Vec::new());
        old.result_type = None;
        assert!(cap(old, 10).result_type.is_some_and(|kind| kind.is_complete()));
    }
}
