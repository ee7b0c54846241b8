//! The demo's agent with tools: it asks its model, makes the calls that the model asks for, and tells the model what came of them.
//!
//! A small loop over plain HTTP, as any agent has one. Must not: know what the daemon allows.

use crate::exit::{Attempt, Exit, Failure};
use crate::http;
use crate::view::View;
use serde_json::{Value, json};
use std::time::Duration;

/// What the user asks of the model; `echo` calls the tool that it is told to.
const WISHES: [(&str, &str, Outcome); 2] =
    [("mock__calculate_sum", r#"{"a": 2, "b": 3}"#, Outcome::Done("The sum is 5")), ("mock__delete_system32", "{}", Outcome::Denied)];
const ANSWER: Duration = Duration::from_secs(40);

/// What has to come of a call.
enum Outcome {
    Done(&'static str),
    Denied,
}

pub(crate) fn run(view: &View) -> Result<Exit, Failure> {
    let variable = |name: &str| std::env::var(name).map_err(|_| Failure::new(format!("{name} is not set")).hint("aexctl demo"));
    let (base, token) = (variable("OPENAI_BASE_URL")?, variable("OPENAI_API_KEY")?);
    let root = base.trim_end_matches("/v1").to_owned();
    let post = |url: &str, body: &Value| {
        let answer = http::ask(url, &token, Some(&body.to_string()), ANSWER).attempt(|| format!("call {url}"))?;
        Ok::<_, Failure>((answer.status, serde_json::from_str::<Value>(&answer.body).unwrap_or_default()))
    };
    for (tool, arguments, outcome) in WISHES {
        let wish = json!({"role": "user", "content": format!("call {tool} {arguments}")});
        let function = json!({"type": "function", "function": {"name": tool, "parameters": {"type": "object"}}});
        let chat = |messages: Vec<Value>| {
            post(&format!("{base}/chat/completions"), &json!({"model": "demo", "messages": messages, "tools": [function]}))
        };
        let (status, answer) = chat(vec![wish.clone()])?;
        let said = answer["choices"][0]["message"].clone();
        let call = said["tool_calls"][0].clone();
        let (name, wanted) =
            (call["function"]["name"].as_str().unwrap_or_default(), call["function"]["arguments"].as_str().unwrap_or_default());
        if status != 200 || name != tool {
            return Err(Failure::new(format!("the model did not ask for {tool}: {status} {answer}")));
        }
        view.line(&format!("  model   asks for {name} {wanted}"))?;
        let wanted: Value = serde_json::from_str(wanted).attempt(|| format!("read the arguments of {name}"))?;
        let (status, result) = post(&format!("{root}/aex/v1/tools/execute"), &json!({"tool": name, "arguments": wanted}))?;
        let text = match (&outcome, status) {
            (Outcome::Done(expected), 200) if result["result"] == **expected => (*expected).to_owned(),
            (Outcome::Denied, 403) => format!("Error: {}", result["error"]["message"].as_str().unwrap_or_default()),
            _ => return Err(Failure::new(format!("{name} came to {status} {result}"))),
        };
        view.line(&format!("  tool    {text}"))?;
        let told = json!({"role": "tool", "tool_call_id": call["id"], "content": text});
        let (status, answer) = chat(vec![wish, said, told])?;
        let content = answer["choices"][0]["message"]["content"].as_str().filter(|_| status == 200);
        let content = content.ok_or_else(|| Failure::new(format!("the model did not go on: {status} {answer}")))?;
        view.line(&format!("  model   {content}"))?;
    }
    Ok(Exit::Done)
}
