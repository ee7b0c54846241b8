//! The demo's agent where there is no python3: the same calls, over a socket of the standard library.

use crate::exit::{Attempt, Exit, Failure};
use crate::view::View;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
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

/// HTTP/1.0, so that the answer ends with the connection and has no chunks to undo.
fn ask(base: &str, token: &str, question: &str) -> Result<Answer, Failure> {
    let (host, path) = base.trim_start_matches("http://").split_once('/').unwrap_or((base, ""));
    let body = json!({"model": "demo", "stream": true, "max_tokens": 32, "messages": [{"role": "user", "content": question}]}).to_string();
    let head = format!(
        "POST /{path}/chat/completions HTTP/1.0\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let read = || -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(format!("{head}{body}").as_bytes())?;
        let mut answer = BufReader::new(stream);
        let status = read_head(&mut answer)?;
        if status == 200 { read_stream(answer).map(Answer::Text) } else { read_error(answer).map(|error| Answer::Refused(status, error)) }
    };
    read().attempt(|| format!("call {base}"))
}

fn read_head(answer: &mut impl BufRead) -> std::io::Result<u16> {
    let mut line = String::new();
    answer.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    while !line.trim().is_empty() {
        line.clear();
        answer.read_line(&mut line)?;
    }
    Ok(status)
}

fn read_stream(answer: impl BufRead) -> std::io::Result<String> {
    let mut text = String::new();
    for line in answer.lines() {
        let line = line?;
        let chunk: Value = line.strip_prefix("data: ").and_then(|chunk| serde_json::from_str(chunk).ok()).unwrap_or_default();
        text.push_str(chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
    }
    Ok(text)
}

fn read_error(mut answer: impl Read) -> std::io::Result<Value> {
    let mut body = String::new();
    answer.read_to_string(&mut body)?;
    Ok(serde_json::from_str(&body).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
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
