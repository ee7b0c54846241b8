//! The demo's agent where there is no python3: the same calls, over a socket of the standard library.

use crate::exit::{Attempt, Exit, Failure};
use crate::http;
use crate::view::View;
use serde_json::{Value, json};
use std::time::Duration;

const TOPICS: [&str; 5] = ["the tides", "old maps", "slow trains", "night skies", "sourdough"];
const ANSWER: Duration = Duration::from_secs(10);

/// An answer, or the refusal with its status and error object.
enum Answer {
    Text(String),
    Refused(u16, Value),
}

pub(crate) fn run(view: &View) -> Result<Exit, Failure> {
    let variable = |name: &str| std::env::var(name).map_err(|_| Failure::new(format!("{name} is not set")).hint("aexctl demo"));
    let (base, token) = (variable("OPENAI_BASE_URL")?, variable("OPENAI_API_KEY")?);
    for (number, topic) in (1..=50).zip(TOPICS.iter().cycle().skip(1)) {
        match ask(&base, &token, &format!("Tell me about {topic}, please."))? {
            Answer::Text(text) => view.line(&format!("  agent   {number}: {text}"))?,
            Answer::Refused(status, error) => {
                let said = |key: &str| error["error"][key].as_str().unwrap_or_default().to_owned();
                view.line(&format!("  agent   {number}: {status} {}: {}", said("code"), said("message")))?;
                return Ok(if status == 402 && number > 1 { Exit::Done } else { Exit::Failed });
            }
        }
    }
    Err(Failure::new("the budget never stopped the agent"))
}

fn ask(base: &str, token: &str, question: &str) -> Result<Answer, Failure> {
    let body = json!({"model": "demo", "stream": true, "max_tokens": 32, "messages": [{"role": "user", "content": question}]}).to_string();
    let answer = http::ask(&format!("{base}/chat/completions"), token, Some(&body), ANSWER).attempt(|| format!("call {base}"))?;
    Ok(match answer.status {
        200 => Answer::Text(spoken(&answer.body)),
        status => Answer::Refused(status, serde_json::from_str(&answer.body).unwrap_or_default()),
    })
}

fn spoken(stream: &str) -> String {
    let mut text = String::new();
    for line in stream.lines() {
        let chunk: Value = line.strip_prefix("data: ").and_then(|chunk| serde_json::from_str(chunk).ok()).unwrap_or_default();
        text.push_str(chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    fn serve(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|fault| unreachable!("{fault}"));
        let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
        std::thread::spawn(move || {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let mut lines = BufReader::new(&stream).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            stream.write_all(answer.as_bytes()).ok();
        });
        format!("http://{address}/v1")
    }

    #[test]
    fn an_answer_is_put_together_from_its_stream() {
        let base = serve(
            "HTTP/1.0 200 OK\r\nx: y\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"echo: \"}}]}\n\n\
             data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: {\"choices\":[]}\n\ndata: [DONE]\n\n",
        );
        assert!(matches!(ask(&base, "aex_t", "hi"), Ok(Answer::Text(text)) if text == "echo: hi"));
        let base = serve("HTTP/1.1 402 Payment Required\r\n\r\n{\"error\":{\"code\":\"insufficient_quota\",\"message\":\"m\"}}");
        assert!(matches!(ask(&base, "aex_t", "hi"), Ok(Answer::Refused(402, error)) if error["error"]["code"] == "insufficient_quota"));
    }
}
