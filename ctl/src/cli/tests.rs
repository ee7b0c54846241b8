//! Lines as a user types them: what they mean, and what is said of a wrong one.

use super::*;

#[track_caller]
fn parse(line: &str) -> Command {
    Cli::try_parse_from(line.split(' ')).unwrap_or_else(|fault| unreachable!("{fault}")).command
}

#[test]
fn the_definition_holds() {
    <Cli as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn an_agent_takes_the_seeds_flags() {
    let line = "aexctl agent create bot 0.25 60 --allowed-models a,b --max-input-tokens 10 --max-output-tokens 20 --no-streaming --no-tools \
                --allowed-tool-names f --no-function-calling --allow-vision --strict --scope read-only --allow-passthrough --ttl 0.5 --per day";
    let Command::Agent(Agent::Create(agent)) = parse(&line.split_whitespace().collect::<Vec<_>>().join(" ")) else {
        unreachable!("{line}")
    };
    assert_eq!((agent.budget, agent.rpm, agent.per, agent.scope), (Pico::new(250_000_000_000), 60, Period::Day, Scope::ReadOnly));
    assert_eq!(agent.allowed_models, Some(Names(vec!["a".to_owned(), "b".to_owned()])));
    assert_eq!(agent.ttl, Some(1_800_000));
}

#[track_caller]
fn run(line: &str, command: &[&str]) -> Run {
    let Command::Run(run) = parse(line) else { unreachable!("{line}") };
    assert_eq!(run.command, command.iter().map(OsString::from).collect::<Vec<_>>(), "{line}");
    run
}

#[test]
fn what_follows_the_command_belongs_to_it_with_and_without_two_dashes() {
    run("aexctl run -- python x.py --json -v", &["python", "x.py", "--json", "-v"]);
    run("aexctl run python x.py --json --home /x", &["python", "x.py", "--json", "--home", "/x"]);
    let run = run("aexctl run -a bot --budget 1.5 --ttl 2 --stop-on-budget sh -c -- --", &["sh", "-c", "--", "--"]);
    assert_eq!(run.agent.map(|name| name.to_string()), Some("bot".to_owned()));
    assert_eq!((run.budget, run.ttl, run.stop_on_budget), (Some(Pico::new(1_500_000_000_000)), Some(7_200_000), true));
}

#[test]
fn a_global_flag_means_the_same_in_every_place() {
    for line in ["aexctl --json agent list -v", "aexctl agent --json list -v", "aexctl agent list -v --json"] {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap_or_else(|fault| unreachable!("{fault}"));
        assert!(cli.global.json, "{line}");
    }
}

#[test]
fn a_wrong_command_line_is_refused() {
    for line in [
        "aexctl",
        "aexctl run",
        "aexctl agent create a -1 60",
        "aexctl agent create a 1 -60",
        "aexctl agent create a 1 60.5",
        "aexctl agent create run-1 1 60",
        "aexctl run --budget -1 true",
        "aexctl agent create a 1e3 60",
        "aexctl agent create a/b 1 60",
        "aexctl agent create a 1 60 --per year",
        "aexctl agent create a 1 60 --allowed-models a,,b",
        "aexctl agent create a 1 60 --ttl 0",
        "aexctl agent rotate-token a --grace 5",
        "aexctl daemon start --port 70000",
        "aexctl token create",
        "aexctl token create bot --root",
        "aexctl token revoke",
        "aexctl completions tcsh",
        "aexctl doctor --token x",
    ] {
        assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
    }
}

#[test]
fn a_wrong_value_is_told_with_what_was_expected() {
    for (line, wanted) in [
        ("aexctl agent create a -1 60", "for '<BUDGET>': a budget cannot be negative"),
        ("aexctl agent create a 1 -60", "for '<RPM>': expected a whole number such as 60"),
        ("aexctl events -n all", "for '--limit <N>': expected a whole number such as 60"),
        ("aexctl run", "Usage: aexctl run [OPTIONS] [--] <CMD> [ARG]..."),
    ] {
        let fault = Cli::try_parse_from(line.split(' ')).err().map(|fault| fault.to_string()).unwrap_or_default();
        assert!(fault.contains(wanted), "{fault}");
    }
}

#[test]
fn the_help_lists_the_exit_codes() {
    let help = <Cli as clap::CommandFactory>::command().render_help().to_string();
    for text in ["3  daemon not reachable", "5  denied", "70  a bug", "125 for a failure of its own"] {
        assert!(help.contains(text), "{help}");
    }
    assert!(!help.contains("demo-agent"));
}

#[test]
fn a_number_below_zero_is_told_what_an_id_is() {
    let Err(fault) = Cli::try_parse_from(["aexctl", "explain", "-1"]) else { unreachable!("-1 is no id") };
    assert!(fault.to_string().contains("`-1` is no id: a request such as"), "{fault}");
    assert!(matches!(parse("aexctl explain 1 --json"), Command::Explain { id: ExplainId::Event(1) }));
}
