//! `doctor --compat`: the earlier program's five tests, against the running daemon and the provider behind it.
//!
//! They are calls as SDKs make them, so they cost what they cost. Without a token they are those of an agent made for them.

use super::super::Context;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::http::{self, Answer};
use crate::view::Paint;
use aex_proto::account::{AgentChange, AgentCreate, AgentName, AgentPolicy, Period};
use aex_proto::method::{self, Nothing};
use aex_proto::token::Scope;
use aex_proto::value::Pico;
use serde::Serialize;
use serde_json::{Value, json};
use std::time::Duration;

/// What the throwaway agent may spend: 0.10 USD, enough for the holds of short calls, one after the other.
const BUDGET: Pico = Pico::new(100_000_000_000);
const RPM: u32 = 30;
/// How long its token lives, should nobody delete it.
const TTL_MS: u64 = 600_000;
/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Enough for a short answer of a model that thinks first.
const MAX_TOKENS: u32 = 256;
/// The form of a token that nobody has.
const NOBODY: &str = "00000000000000000000000000000000";

/// What a test expected and what came instead.
type Difference = String;

/// One of the five.
type Run = fn(&Target) -> Result<(), Difference>;

#[derive(Debug, Serialize)]
struct Test {
    name: &'static str,
    passed: bool,
    difference: Option<Difference>,
}

#[derive(Debug, Serialize)]
struct Report {
    passed: bool,
    model: String,
    tests: Vec<Test>,
}

/// Where the calls go, and as whom.
struct Target {
    url: String,
    token: String,
    model: String,
}

pub(super) fn run(context: &Context<'_>, token: Option<String>, model: Option<String>) -> Result<Exit, Failure> {
    let mut client = context.connect()?;
    let origin = client.call::<method::DaemonStatus>(&Nothing {})?.origin;
    let model = match model {
        Some(model) => model,
        None => default_model(&mut client)?,
    };
    let url = format!("{origin}/v1/chat/completions");
    let tests = match token {
        Some(token) => tests(&Target { url, token, model: model.clone() }),
        None => with_agent(&mut client, url, model.clone())?,
    };
    let report = Report { passed: tests.iter().all(|test| test.passed), model, tests };
    context.view.show(&report, |paint| text(&report, paint))?;
    Ok(if report.passed { Exit::Done } else { Exit::Failed })
}

fn default_model(client: &mut Client) -> Result<String, Failure> {
    let list = client.call::<method::ModelList>(&Nothing {})?;
    let default = list.models.into_iter().find(|model| model.default);
    default.map(|model| model.name).ok_or_else(|| Failure::new("no default model is configured").hint("aexctl models list"))
}

/// Runs the tests as an agent of their own, which is deleted whatever they find.
fn with_agent(client: &mut Client, url: String, model: String) -> Result<Vec<Test>, Failure> {
    let name: AgentName = format!("doctor-{}", std::process::id()).parse().map_err(Failure::new)?;
    let wanted = AgentCreate {
        group: None,
        name: name.clone(),
        budget_pico: BUDGET,
        per: Period::Total,
        rpm: RPM,
        max_concurrent: None,
        tpm: None,
        scope: Scope::Execution,
        ttl_ms: Some(TTL_MS),
        policy: AgentPolicy::seed(),
        reason: Some("aexctl doctor --compat".to_owned()),
    };
    let created = client.call::<method::AgentCreate>(&wanted)?;
    let tests = tests(&Target { url, token: created.token.expose().to_owned(), model });
    let reason = Some("aexctl doctor --compat has ended".to_owned());
    client.call::<method::AgentDelete>(&AgentChange { name, reason })?;
    Ok(tests)
}

fn tests(target: &Target) -> Vec<Test> {
    let all: [(&'static str, Run); 5] = [
        ("basic_chat", basic_chat),
        ("streaming_sse", streaming_sse),
        ("tool_calling", tool_calling),
        ("structured_output", structured_output),
        ("error_parity", error_parity),
    ];
    let test = |(name, run): (&'static str, Run)| {
        let difference = run(target).err();
        Test { name, passed: difference.is_none(), difference }
    };
    all.into_iter().map(test).collect()
}

fn text(report: &Report, paint: Paint) -> String {
    let mut lines = Vec::new();
    for test in &report.tests {
        lines.push(format!("{}: {}", test.name, if test.passed { paint.good("PASS") } else { paint.bad("FAIL") }));
        lines.extend(test.difference.iter().map(|difference| format!("  {difference}")));
    }
    let passed = report.tests.iter().filter(|test| test.passed).count();
    lines.push(format!("{passed} of {} pass with model {}", report.tests.len(), report.model));
    lines.join("\n")
}

impl Target {
    fn chat(&self, question: &str, more: Value) -> Result<Answer, Difference> {
        let mut body = json!({"model": self.model, "max_tokens": MAX_TOKENS, "messages": [{"role": "user", "content": question}]});
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        self.post(&self.token, &body.to_string())
    }

    fn post(&self, token: &str, body: &str) -> Result<Answer, Difference> {
        http::ask(&self.url, token, Some(body), PATIENCE).map_err(|fault| format!("no answer: {fault}"))
    }
}

fn basic_chat(target: &Target) -> Result<(), Difference> {
    let answer = body(&target.chat("Say hello.", json!({}))?)?;
    same("object", &json!("chat.completion"), &answer["object"])?;
    same("choices[0].message.role", &json!("assistant"), &answer["choices"][0]["message"]["role"])?;
    for count in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        is(answer["usage"][count].is_u64(), || format!("usage.{count}: expected a count, found {}", answer["usage"][count]))?;
    }
    Ok(())
}

fn streaming_sse(target: &Target) -> Result<(), Difference> {
    let answer = target.chat("Say hello.", json!({"stream": true}))?;
    ok(&answer)?;
    let kind = &answer.content_type;
    is(kind.starts_with("text/event-stream"), || format!("content-type: expected text/event-stream, found {kind}"))?;
    let events: Vec<&str> = answer.body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let (last, chunks) = events.split_last().ok_or("expected events, found none")?;
    is(*last == "[DONE]", || format!("expected `data: [DONE]` at the end, found `data: {}`", shown(last)))?;
    let mut deltas = 0;
    for chunk in chunks {
        let chunk: Value = serde_json::from_str(chunk).map_err(|fault| format!("a chunk is no JSON: {fault}"))?;
        same("chunk.object", &json!("chat.completion.chunk"), &chunk["object"])?;
        deltas += usize::from(chunk["choices"][0]["delta"].is_object());
    }
    is(deltas > 0, || "expected chunks with choices[0].delta, found none".to_owned())
}

fn tool_calling(target: &Target) -> Result<(), Difference> {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let function = json!({"name": "get_weather", "description": "The weather of a city.", "parameters": parameters});
    let tools = json!({
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
    });
    // The daemon's built-in provider takes it literally.
    let answer = body(&target.chat("call get_weather {\"city\": \"Paris\"}", tools)?)?;
    let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
    same("message.tool_calls[0].function.name", &json!("get_weather"), &call["name"])?;
    let arguments = call["arguments"].as_str().unwrap_or_default();
    is(is_object(arguments), || format!("function.arguments: expected a JSON object as text, found {}", shown(arguments)))
}

fn structured_output(target: &Target) -> Result<(), Difference> {
    let format = json!({"response_format": {"type": "json_object"}});
    let answer = body(&target.chat("Answer with a JSON object that has one key, \"answer\".", format)?)?;
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap_or_default();
    is(is_object(content), || format!("message.content: expected a JSON object, found {}", shown(content)))
}

fn error_parity(target: &Target) -> Result<(), Difference> {
    let valid = json!({"model": target.model, "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]});
    let mut unknown = valid.clone();
    unknown["model"] = json!("no-such-model");
    let rows = [
        ("an unknown model", target.token.as_str(), unknown.to_string(), 403),
        ("an unknown token", NOBODY, valid.to_string(), 401),
        ("broken JSON", target.token.as_str(), "{\"messages\": [".to_owned(), 400),
    ];
    for (what, token, body, wanted) in rows {
        let answer = target.post(token, &body)?;
        is(answer.status == wanted, || format!("{what}: expected {wanted}, found {} {}", answer.status, shown(&answer.body)))?;
        let told: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        for key in ["message", "type", "param", "code"] {
            is(told["error"].get(key).is_some(), || format!("{what}: the error object has no `{key}`: {}", shown(&answer.body)))?;
        }
    }
    Ok(())
}

/// The body of an answer that is 200.
fn body(answer: &Answer) -> Result<Value, Difference> {
    ok(answer)?;
    serde_json::from_str(&answer.body).map_err(|fault| format!("the answer is no JSON: {fault}"))
}

fn ok(answer: &Answer) -> Result<(), Difference> {
    is(answer.status == 200, || format!("expected 200, found {} {}", answer.status, shown(&answer.body)))
}

fn same(what: &str, wanted: &Value, found: &Value) -> Result<(), Difference> {
    is(wanted == found, || format!("{what}: expected {wanted}, found {found}"))
}

fn is(holds: bool, difference: impl FnOnce() -> Difference) -> Result<(), Difference> {
    if holds { Ok(()) } else { Err(difference()) }
}

fn is_object(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object())
}

fn shown(text: &str) -> String {
    const MOST: usize = 200;
    let line: String = text.chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() > MOST { format!("{line}…") } else { line }
}
