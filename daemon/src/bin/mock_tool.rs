//! `mock_tool`: the demo's tool server, an MCP server over stdio with one tool that adds two numbers.
//!
//! It answers as the earlier program's did: `initialize`, `tools/list` and `tools/call`, in revision 2024-11-05; all else gets no answer.
//! Must not: need a runtime or a library of MCP, so that it shows what a tool is.

use serde_json::{Value, json};
use std::io::{self, BufRead, Write};

/// A line longer than this is no request of ours.
const MAX_LINE: usize = 1 << 20;

fn main() -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut output = io::stdout().lock();
    let mut line = Vec::new();
    while read_line(&mut input, &mut line)? {
        let Ok(request) = serde_json::from_slice::<Value>(&line) else { continue };
        if let Some(answer) = answer(&request) {
            writeln!(output, "{answer}")?;
            output.flush()?;
        }
    }
    Ok(())
}

/// The next line, cut at the limit; false at the end of the input.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut is_read = false;
    loop {
        let available = input.fill_buf()?;
        if available.is_empty() {
            return Ok(is_read);
        }
        is_read = true;
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(available.len(), |end| end.saturating_add(1));
        let room = MAX_LINE.saturating_sub(line.len());
        line.extend(available.iter().take(taken.min(room)));
        input.consume(taken);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// What a request is answered; nothing for a notification and for a method that is not served.
fn answer(request: &Value) -> Option<Value> {
    let id = request.get("id")?;
    let outcome = match request.get("method")?.as_str()? {
        "initialize" => Ok(json!({
            "protocolVersion": "2024-11-05",
            "capabilities": {},
            "serverInfo": {"name": "MockTool", "version": "1.0"},
        })),
        "tools/list" => Ok(json!({"tools": [calculate_sum()]})),
        "tools/call" => call(request.get("params").unwrap_or(&Value::Null)),
        _ => return None,
    };
    Some(match outcome {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err((code, message)) => json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}),
    })
}

fn calculate_sum() -> Value {
    json!({
        "name": "calculate_sum",
        "description": "Adds two numbers and says their sum.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "a": {"type": "number", "description": "The first number"},
                "b": {"type": "number", "description": "The second number"},
            },
            "required": ["a", "b"],
        },
    })
}

fn call(params: &Value) -> Result<Value, (i32, String)> {
    let name = params.get("name").and_then(Value::as_str).unwrap_or_default();
    if name != "calculate_sum" {
        return Err((-32601, format!("there is no tool `{name}`")));
    }
    let number = |of: &str| {
        let found = params.get("arguments").and_then(|arguments| arguments.get(of)).and_then(Value::as_f64);
        found.ok_or_else(|| (-32602, format!("`{of}` must be a number")))
    };
    let sum = number("a")? + number("b")?;
    Ok(json!({"content": [{"type": "text", "text": format!("The sum is {sum}")}]}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(request: Value, expected: Value) {
        assert_eq!(answer(&request).unwrap_or_default(), expected);
    }

    #[test]
    fn it_answers_what_the_earlier_program_did_and_nothing_else() {
        let call =
            |name: &str, arguments: Value| json!({"id": 7, "method": "tools/call", "params": {"name": name, "arguments": arguments}});
        let text = |text: &str| json!({"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": text}]}});
        check(call("calculate_sum", json!({"a": 2, "b": 3})), text("The sum is 5"));
        check(call("calculate_sum", json!({"a": 0.5, "b": 0.25})), text("The sum is 0.75"));
        let unknown = json!({"code": -32601, "message": "there is no tool `delete_system32`"});
        check(call("delete_system32", json!({})), json!({"jsonrpc": "2.0", "id": 7, "error": unknown}));
        let missing = json!({"code": -32602, "message": "`b` must be a number"});
        check(call("calculate_sum", json!({"a": 2})), json!({"jsonrpc": "2.0", "id": 7, "error": missing}));
        check(json!({"id": 1, "method": "ping"}), Value::Null);
        check(json!({"id": 1, "method": "server/discover"}), Value::Null);
        check(json!({"method": "notifications/initialized"}), Value::Null);
    }
}
