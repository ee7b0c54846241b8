//! The files of other hosts as these write them, and what is made of each entry.

use super::*;
use serde_json::json;

const DESKTOP: &str = include_str!("../../../../../tests/fixtures/mcp/claude_desktop_config.json");
const CLAUDE: &str = include_str!("../../../../../tests/fixtures/mcp/claude.json");
const PROJECT: &str = include_str!("../../../../../tests/fixtures/mcp/project/.mcp.json");
const CURSOR: &str = include_str!("../../../../../tests/fixtures/mcp/project/.cursor/mcp.json");
const VSCODE: &str = include_str!("../../../../../tests/fixtures/mcp/project/.vscode/mcp.json");
const SETTINGS: &str = include_str!("../../../../../tests/fixtures/mcp/vscode-settings.json");

/// What is made of each server of a file, by name: the entry, or why not; and the keys that are left out.
#[track_caller]
fn check(path: &str, host: Host, source: &str, wanted: &Value) {
    let place = Place { host, path: PathBuf::from(path) };
    assert_eq!(host_of(&place.path, source), host, "{path}");
    let found = read(&place, source, Path::new("/home/user")).unwrap_or_else(|why| unreachable!("{path}: {why}"));
    let told = found.iter().map(|found| {
        let entry = match &found.entry {
            Ok(entry) => serde_json::to_value(entry).unwrap_or_default(),
            Err(why) => json!(why),
        };
        let entry = if found.left_out.is_empty() { entry } else { json!([entry, found.left_out]) };
        (found.name.clone(), entry)
    });
    assert_eq!(Value::Object(told.collect()), *wanted, "{path}");
}

#[test]
fn claude_desktop_expands_nothing() {
    let wanted = json!({
        "filesystem": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "/home/user/Documents"]},
        "My Weather (beta)": {
            "command": "uv",
            "args": ["--directory", "/home/user/weather", "run", "weather.py"],
            "env": {"STYLE": "$${plain}", "WEATHER_API_KEY": "0123456789abcdef"},
        },
        "off": {"command": "node", "args": ["/home/user/off.js"], "disabled": true},
    });
    check("/home/user/.config/Claude/claude_desktop_config.json", Host::ClaudeDesktop, DESKTOP, &wanted);
}

#[test]
fn claude_code_has_servers_of_the_user_and_of_each_project() {
    let wanted = json!({
        "github": {
            "command": "docker",
            "args": ["run", "-i", "--rm", "-e", "GITHUB_PERSONAL_ACCESS_TOKEN", "ghcr.io/github/github-mcp-server"],
            "env": {"GITHUB_PERSONAL_ACCESS_TOKEN": "${env:GITHUB_TOKEN}"},
        },
        "sentry": "it is a server elsewhere (http), which is not supported",
        "db": "its command line has the variable DSN in it, which any process could read there: pass it in env",
        "local": {"command": "/home/user/app/tools/server", "cwd": "/home/user/app"},
    });
    check("/home/user/.claude.json", Host::ClaudeCode, CLAUDE, &wanted);
    let wanted = json!({
        "airtable": "its variable CACHE: `${CACHE_DIR:-…}` has a default, which mcp.json does not know: write the value, or `${env:NAME}`",
        "shared": {"command": "python3", "args": ["server.py"], "cwd": "/project"},
    });
    check("/project/.mcp.json", Host::ClaudeCode, PROJECT, &wanted);
}

#[test]
fn cursor_knows_folders_and_variables() {
    let local = |folder: &str| {
        json!({
            "command": "python",
            "args": [format!("{folder}/tools/mcp_server.py")],
            "env": {"API_KEY": "${env:API_KEY}", "DATA": "/home/user/data"},
            "cwd": folder,
        })
    };
    let remote = "it is a server elsewhere, which is not supported";
    let wanted = json!({"local-server": [local("/project"), ["envFile"]], "remote-server": remote});
    check("/project/.cursor/mcp.json", Host::Cursor, CURSOR, &wanted);
    // That of the home is of no project.
    let wanted = json!({"local-server": "`${workspaceFolder}` means nothing outside of a project", "remote-server": remote});
    check("/home/user/.cursor/mcp.json", Host::Cursor, CURSOR, &wanted);
    check("/tmp/copied.json", Host::Cursor, CURSOR, &wanted);
}

#[test]
fn vs_code_has_comments_and_asks_its_user() {
    let wanted = json!({
        "memory": {
            "command": "npx",
            "args": ["-y", "@modelcontextprotocol/server-memory"],
            "env": {"MEMORY_FILE_PATH": "/project/memory.json"},
            "cwd": "/project",
        },
        "Perplexity": "its variable PERPLEXITY_API_KEY: VS Code asks its user for `perplexity-key`: put that into .env, and add the server by hand with --env",
        "fetch": [{"command": "uvx", "args": ["mcp-server-fetch"], "cwd": "/project"}, ["dev"]],
        "github": "it is a server elsewhere (http), which is not supported",
    });
    check("/project/.vscode/mcp.json", Host::Vscode, VSCODE, &wanted);
    let time = json!({"time": {"command": "python", "args": ["-m", "mcp_server_time", "--local-timezone=America/Los_Angeles"]}});
    check("/home/user/.config/Code/User/settings.json", Host::Vscode, SETTINGS, &time);
    check("/tmp/x.json", Host::Vscode, SETTINGS, &time);
}

#[test]
fn an_entry_that_means_nothing_is_told() {
    let rows = [
        (json!(5), "it is no object"),
        (json!({}), "it has no command"),
        (json!({"command": 5}), "it has no command"),
        (json!({"command": "c", "args": "x"}), "its args are no list of texts"),
        (json!({"command": "c", "args": [5]}), "its args are no list of texts"),
        (json!({"command": "c", "env": []}), "its env is no object"),
        (json!({"command": "c", "env": {"A": []}}), "its variable A is no text"),
        (json!({"command": "c", "env": {"A": "${command:x}"}}), "its variable A: `${command:x}` is known to that host alone"),
        (json!({"command": "${env:X}"}), "its command line has the variable X in it, which any process could read there: pass it in env"),
    ];
    for (entry, why) in rows {
        check("/w/.cursor/mcp.json", Host::Cursor, &json!({"mcpServers": {"x": entry}}).to_string(), &json!({"x": why}));
    }
    for source in ["[]", "{", "5"] {
        let place = Place { host: Host::Cursor, path: PathBuf::from("/x") };
        assert!(read(&place, source, Path::new("/")).is_err(), "{source}");
    }
}

#[test]
fn a_name_fits_and_stays_readable() {
    for (name, wanted) in [
        ("fs", "fs"),
        ("My Weather (beta)", "My-Weather--beta"),
        ("@scope/pkg", "scope-pkg"),
        ("a__b___c", "a_b_c"),
        ("é", "server"),
        (&"x".repeat(60), &"x".repeat(48)),
    ] {
        assert_eq!(fit(name), wanted);
    }
}

#[test]
fn each_host_has_its_places_and_none_is_looked_at_twice() {
    let home = Path::new("/home/user");
    let paths = |host, here: &str| -> Vec<String> {
        places(host, home, &home.join(".config"), Path::new(here)).iter().map(|place| place.path.display().to_string()).collect()
    };
    assert_eq!(paths(Some(Host::Cursor), "/project"), ["/project/.cursor/mcp.json", "/home/user/.cursor/mcp.json"]);
    assert_eq!(paths(Some(Host::Cursor), "/home/user"), ["/home/user/.cursor/mcp.json"]);
    assert_eq!(paths(None, "/project").len(), 9);
}
