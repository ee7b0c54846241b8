//! Requests that are made: JSON with odd spacing, escapes, names that stand twice, odd numbers and wrong types, around the fields that the
//! daemon reads. Bytes alone would hardly ever pass the parser.

use crate::dice::Dice;
use aexd::wire::dialect::Dialect;
use std::fmt::Write;

const TEXTS: &[&str] =
    &["m", "gpt-5", "", "a\"b\\", "é", "日本\u{1d11e}", "auto", "default", "ﬁ\u{fb01}", "\u{7f}\n", "true", "{\"model\":1}"];
const NUMBERS: &[&str] = &[
    "1",
    "7",
    "0",
    "5",
    "4096",
    "2147483648",
    "2147483649",
    "18446744073709551615",
    "18446744073709551616",
    "-0",
    "-1",
    "1.0",
    "1e3",
    "1E-7",
    "0.70",
    "1e999",
    "12345678901234567890123456789012345",
];
/// Types of tools; the first three are those that are taken out.
pub const TOOLS: &[&str] =
    &["web_search", "mcp", "file_search", "function", "custom", "bash_20250124", "web_search_20250305", "computer_toolset_1"];
const NAMES: &[&str] = &[
    "model",
    "max_tokens",
    "max_completion_tokens",
    "stream",
    "stream_options",
    "tools",
    "tool_choice",
    "n",
    "temperature",
    "service_tier",
    "parallel_tool_calls",
    "web_search_options",
    "plugins",
    "best_of",
    "echo",
    "prompt",
    "input",
    "messages",
    "mcp_servers",
    "container",
    "compaction",
    "context_management",
    "system",
    "functions",
    "function_call",
    "prediction",
    "modalities",
    "audio",
    "user",
    "x",
    "Model",
    "max_Tokens",
    "ſtream",
    "speed",
    "cache_control",
    "include_usage",
    "max_output_tokens",
    "instructions",
    "previous_response_id",
    "max_tool_calls",
    "store",
    "search_parameters",
    "stop",
    "response_format",
    "",
];

/// A request of a dialect, more or less.
#[must_use]
pub fn request(dice: &mut Dice<'_>, dialect: Dialect) -> String {
    let mut names: Vec<&str> = (0..dice.below(9)).map(|_| dice.pick(NAMES)).collect();
    let needed: &[&str] = match dialect {
        Dialect::Chat | Dialect::CountTokens => &["messages"],
        Dialect::Completions => &[],
        Dialect::Embeddings | Dialect::Responses => &["input"],
        Dialect::Messages => &["messages", "max_tokens"],
    };
    if !dice.once_in(16) {
        for name in needed {
            let at = dice.below(names.len() + 1);
            if !names.contains(name) {
                names.insert(at, name);
            }
        }
    }
    // Most names stand twice by accident only.
    if !dice.once_in(8) {
        let mut known: Vec<&str> = Vec::new();
        names.retain(|name| {
            !known.contains(name) && {
                known.push(name);
                true
            }
        });
    }
    let mut out = String::new();
    space(dice, &mut out);
    members(dice, &mut out, &names, |dice, out, name| if dice.once_in(12) { any(dice, out, 3) } else { fitting(dice, out, name) });
    space(dice, &mut out);
    if dice.once_in(64) {
        out.push('}');
    }
    out
}

/// White space, mostly none.
fn space(dice: &mut Dice<'_>, out: &mut String) {
    out.push_str(dice.pick(&["", "", "", "", " ", "\n\t", "  ", "\r\n"]));
}

fn members(dice: &mut Dice<'_>, out: &mut String, names: &[&str], mut value: impl FnMut(&mut Dice<'_>, &mut String, &str)) {
    out.push('{');
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        space(dice, out);
        text(dice, out, name);
        space(dice, out);
        out.push(':');
        space(dice, out);
        value(dice, out, name);
        space(dice, out);
    }
    out.push('}');
}

fn list(dice: &mut Dice<'_>, out: &mut String, most: usize, mut item: impl FnMut(&mut Dice<'_>, &mut String)) {
    out.push('[');
    for at in 0..dice.below(most + 1) {
        if at > 0 {
            out.push(',');
        }
        space(dice, out);
        item(dice, out);
        space(dice, out);
    }
    out.push(']');
}

/// A string, some of its letters escaped without need.
pub fn text(dice: &mut Dice<'_>, out: &mut String, text: &str) {
    let odd = dice.once_in(8);
    out.push('"');
    for letter in text.chars() {
        if (odd && dice.once_in(3)) || letter < ' ' {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                let _ = if dice.once_in(2) { write!(out, "\\u{unit:04x}") } else { write!(out, "\\u{unit:04X}") };
            }
        } else if matches!(letter, '"' | '\\') {
            out.extend(['\\', letter]);
        } else {
            out.push(letter);
        }
    }
    out.push('"');
}

/// Any value.
pub fn any(dice: &mut Dice<'_>, out: &mut String, depth: usize) {
    match dice.below(8) {
        0 => out.push_str("null"),
        1 => out.push_str("true"),
        2 => out.push_str("false"),
        3 | 4 => out.push_str(dice.pick(NUMBERS)),
        5 if depth > 0 => {
            let names: Vec<&str> = (0..dice.below(4)).map(|_| dice.pick(NAMES)).collect();
            members(dice, out, &names, |dice, out, _| any(dice, out, depth - 1));
        }
        6 if depth > 0 => list(dice, out, 3, |dice, out| any(dice, out, depth - 1)),
        _ => words(dice, out),
    }
}

fn words(dice: &mut Dice<'_>, out: &mut String) {
    let words = dice.pick(TEXTS);
    text(dice, out, words);
}

fn flag(dice: &mut Dice<'_>, out: &mut String) {
    out.push_str(dice.pick(&["true", "true", "false", "null"]));
}

/// A value of the type that a field has.
fn fitting(dice: &mut Dice<'_>, out: &mut String, name: &str) {
    match name {
        "model" | "instructions" | "previous_response_id" => words(dice, out),
        "stream" | "store" | "echo" | "parallel_tool_calls" => flag(dice, out),
        "max_tokens" | "max_completion_tokens" | "max_output_tokens" | "max_tool_calls" | "n" | "best_of" => {
            let number = if dice.once_in(6) { dice.pick(NUMBERS) } else { dice.pick(&["5", "9", "1", "100", "null"]) };
            out.push_str(number);
        }
        "temperature" => out.push_str(dice.pick(NUMBERS)),
        "service_tier" | "speed" => match dice.below(4) {
            0 => out.push_str("null"),
            _ => {
                let tier = dice.pick(&["auto", "default", "flex", "priority", "standard_only"]);
                text(dice, out, tier);
            }
        },
        "stream_options" => match dice.below(5) {
            0 => out.push_str("null"),
            choice => {
                let names: &[&str] = match choice {
                    1 => &[],
                    2 => &["include_usage"],
                    3 => &["x", "include_usage", "y"],
                    _ => &["include_obfuscation"],
                };
                members(dice, out, names, |dice, out, _| flag(dice, out));
            }
        },
        "messages" => list(dice, out, 3, message),
        "prompt" | "input" | "system" => match dice.below(3) {
            0 => list(dice, out, 3, words),
            1 => list(dice, out, 3, |dice, out| out.push_str(dice.pick(&["1", "[1,2]", "7"]))),
            _ => words(dice, out),
        },
        "tools" => list(dice, out, 5, tool),
        "tool_choice" => match dice.below(4) {
            0 => words(dice, out),
            1 => out.push_str("null"),
            _ => {
                members(dice, out, &["type", "name"], |dice, out, name| {
                    let word =
                        if name == "type" { dice.pick(&["tool", "web_search", "mcp", "function", "auto"]) } else { dice.pick(TOOLS) };
                    text(dice, out, word);
                });
            }
        },
        "web_search_options" | "plugins" | "mcp_servers" | "search_parameters" | "compaction" => {
            out.push_str(dice.pick(&["{}", "[]", "null", "[{\"id\":\"web\"}]", "{\"mode\":\"on\"}", "\"on\"", "false", "true"]));
        }
        "container" => out.push_str(dice.pick(&["\"c1\"", "{\"skills\":[{\"type\":\"anthropic\"}]}", "null", "{}"])),
        "context_management" => {
            out.push_str(dice.pick(&[
                "null",
                "{\"edits\":[{\"type\":\"compact_1\"}]}",
                "{\"edits\":[{\"type\":\"clear_thinking\"}]}",
                "{}",
            ]));
        }
        _ => any(dice, out, 3),
    }
}

fn message(dice: &mut Dice<'_>, out: &mut String) {
    members(dice, out, &["role", "content"], |dice, out, name| {
        if name == "role" {
            let role = dice.pick(&["user", "assistant", "system", "tool"]);
            text(dice, out, role);
        } else if dice.once_in(3) {
            list(dice, out, 2, |dice, out| {
                members(
                    dice,
                    out,
                    &["type", "text"],
                    |dice, out, name| if name == "type" { out.push_str("\"text\"") } else { words(dice, out) },
                );
            });
        } else {
            words(dice, out);
        }
    });
}

fn tool(dice: &mut Dice<'_>, out: &mut String) {
    let names: &[&str] = dice.pick(&[["type", "name"].as_slice(), &["type", "function"], &["name", "type", "max_uses"], &["type"]]);
    members(dice, out, names, |dice, out, name| match name {
        "type" => {
            let kind = dice.pick(TOOLS);
            text(dice, out, kind);
        }
        "function" => {
            members(
                dice,
                out,
                &["name", "parameters"],
                |dice, out, name| if name == "name" { words(dice, out) } else { any(dice, out, 2) },
            );
        }
        "max_uses" => out.push_str(dice.pick(&["1", "3", "0"])),
        _ => words(dice, out),
    });
}
