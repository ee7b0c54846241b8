//! A tool that wants out, for `tests/escapes.rs`: `escape NAME TARGETS` makes one attempt, `escape victim WORD` waits to be attacked.

#![expect(clippy::print_stdout, reason = "its one line of output is its interface")]

use aex_tests::escape::{made, victim};
use std::io;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["victim", _] => victim(&mut io::stdout(), &mut io::stdin())?,
        [name, targets] => println!("{}", made(name, &serde_json::from_str(targets)?)),
        _ => anyhow::bail!("expected a name and targets"),
    }
    Ok(())
}
