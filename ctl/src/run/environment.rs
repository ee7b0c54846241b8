//! The environment of a run's command. Computes only.

use aex_proto::run::RunOpened;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

const ANTHROPIC_API_KEY: &str = "ANTHROPIC_API_KEY";

/// Variables in which SDKs look for a provider's key or address; the configuration's own come from the daemon.
const TAKEN_AWAY: [&str; 62] = [
    "AI21_API_KEY",
    "AIDER_ANTHROPIC_API_KEY",
    "AIDER_OPENAI_API_KEY",
    "AI_GATEWAY_API_KEY",
    ANTHROPIC_API_KEY,
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_CUSTOM_HEADERS",
    "AWS_BEARER_TOKEN_BEDROCK",
    "AZURE_API_KEY",
    "AZURE_OPENAI_AD_TOKEN",
    "AZURE_OPENAI_API_KEY",
    "CEREBRAS_API_KEY",
    "CLAUDE_CODE_OAUTH_TOKEN",
    // With one of these Claude Code calls a cloud instead of the address that it is given.
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_VERTEX",
    "CODEX_ACCESS_TOKEN",
    "CODEX_API_KEY",
    "COHERE_API_KEY",
    "CO_API_KEY",
    "CURSOR_API_KEY",
    "DASHSCOPE_API_KEY",
    "DEEPINFRA_API_KEY",
    "DEEPINFRA_API_TOKEN",
    "DEEPSEEK_API_KEY",
    "FIREWORKS_AI_API_KEY",
    "FIREWORKS_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GOOGLE_GENAI_API_KEY",
    "GOOGLE_GENERATIVE_AI_API_KEY",
    "GROQ_API_KEY",
    "HF_TOKEN",
    "HUGGINGFACEHUB_API_TOKEN",
    "HUGGINGFACE_API_KEY",
    "HUGGING_FACE_HUB_TOKEN",
    "MINIMAX_API_KEY",
    "MISTRAL_API_KEY",
    "MOONSHOT_API_KEY",
    "NEBIUS_API_KEY",
    "NVIDIA_API_KEY",
    "NVIDIA_NIM_API_KEY",
    "OPENAI_ADMIN_KEY",
    "OPENAI_API_BASE",
    "OPENAI_API_KEY",
    "OPENAI_CUSTOM_HEADERS",
    "OPENAI_ORGANIZATION",
    "OPENAI_ORG_ID",
    "OPENAI_PROJECT_ID",
    "OPENROUTER_API_KEY",
    "PERPLEXITYAI_API_KEY",
    "PERPLEXITY_API_KEY",
    "REPLICATE_API_KEY",
    "REPLICATE_API_TOKEN",
    "SAMBANOVA_API_KEY",
    "TOGETHERAI_API_KEY",
    "TOGETHER_AI_API_KEY",
    "TOGETHER_API_KEY",
    "VOYAGE_API_KEY",
    "XAI_API_KEY",
    "ZAI_API_KEY",
    "ZHIPUAI_API_KEY",
];

/// Claude Code asks its user at each start whether it may use a key of the environment; the token is enough for it.
const ASKS_ABOUT_KEYS: &str = "claude";

/// Ours, without every provider's key, with the run's token and addresses. `program`: the command's first word.
pub(super) fn of(program: &OsStr, ours: impl Iterator<Item = (OsString, OsString)>, opened: &RunOpened) -> BTreeMap<OsString, OsString> {
    let configured = |name: &OsString| opened.provider_key_variables.iter().any(|variable| name == variable.as_str());
    let known = |name: &OsString| TAKEN_AWAY.iter().any(|variable| name == variable);
    let mut environment: BTreeMap<OsString, OsString> = ours.filter(|(name, _)| !configured(name) && !known(name)).collect();
    let token = opened.token.expose();
    let (origin, openai) = (opened.origin.as_str(), opened.openai_base_url.as_str());
    let run = opened.run.to_string();
    let given = variables(origin, openai, token).into_iter().chain([("AEX_RUN_ID", run.as_str())]);
    let is_taken = Path::new(program).file_name() != Some(OsStr::new(ASKS_ABOUT_KEYS));
    let given = given.filter(|(name, _)| is_taken || *name != ANTHROPIC_API_KEY);
    environment.extend(given.map(|(name, value)| (OsString::from(name), OsString::from(value))));
    spare_the_proxy(&mut environment, origin);
    environment
}

/// What leads SDKs to the daemon.
pub(crate) fn variables<'a>(origin: &'a str, openai: &'a str, token: &'a str) -> [(&'static str, &'a str); 12] {
    [
        ("OPENAI_BASE_URL", openai),
        ("OPENAI_API_KEY", token),
        ("AEX_AGENT_TOKEN", token),
        ("AEX_BASE_URL", origin),
        // Groq's SDK adds /openai/v1, Anthropic's /v1, to the origin.
        ("GROQ_BASE_URL", origin),
        ("GROQ_API_KEY", token),
        // LiteLLM's name for it.
        ("GROQ_API_BASE", openai),
        ("ANTHROPIC_BASE_URL", origin),
        ("ANTHROPIC_AUTH_TOKEN", token),
        // Many know no other.
        (ANTHROPIC_API_KEY, token),
        ("CODEX_API_KEY", token),
        // The agents SDK sends traces to OpenAI itself, with the key that it finds.
        ("OPENAI_AGENTS_DISABLE_TRACING", "1"),
    ]
}

/// Whether a variable holds a provider's key by its name.
pub(crate) fn is_key(name: &str) -> bool {
    TAKEN_AWAY.contains(&name) && (name.ends_with("_KEY") || name.contains("_TOKEN"))
}

/// SDKs would send calls to the daemon through a proxy of the environment, unless its host is excepted.
fn spare_the_proxy(environment: &mut BTreeMap<OsString, OsString>, origin: &str) {
    let set = |name: &str| environment.contains_key(OsStr::new(name));
    if !["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"].into_iter().any(set) {
        return;
    }
    let host = origin.trim_start_matches("http://").rsplit_once(':').map_or(origin, |(host, _)| host);
    // Programs read one of the spellings: one that is missing must not hide what the other excepts.
    let [upper, lower] = ["NO_PROXY", "no_proxy"].map(|name| environment.get(OsStr::new(name)).cloned());
    for (name, own, other) in [("NO_PROXY", &upper, &lower), ("no_proxy", &lower, &upper)] {
        let mut exceptions = own.clone().or_else(|| other.clone()).unwrap_or_default();
        if !exceptions.is_empty() {
            exceptions.push(",");
        }
        exceptions.push(host);
        environment.insert(OsString::from(name), exceptions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_proto::run::RunId;
    use aex_proto::value::{AccountId, NewToken};

    fn opened() -> RunOpened {
        RunOpened {
            run: RunId::new(AccountId::new(17)),
            account: AccountId::new(17),
            agent: "bot".to_owned(),
            token: NewToken::new("aex_t".to_owned()),
            expires_at: None,
            origin: "http://127.0.0.1:9000".to_owned(),
            openai_base_url: "http://127.0.0.1:9000/v1".to_owned(),
            provider_key_variables: vec!["MY_LLMEU_API_KEY".to_owned()],
        }
    }

    fn child(ours: &[&str]) -> Vec<String> {
        child_of("python3", ours)
    }

    fn child_of(program: &str, ours: &[&str]) -> Vec<String> {
        let child = of(OsStr::new(program), ours.iter().map(|name| (OsString::from(name), OsString::from("old"))), &opened());
        child.iter().map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy())).collect()
    }

    #[test]
    fn the_command_gets_the_runs_token_and_no_providers_key() {
        let child = child(&[
            "PATH",
            "MY_LLMEU_API_KEY",
            "OPENAI_API_KEY",
            "ANTHROPIC_API_KEY",
            "GEMINI_API_KEY",
            "OPENAI_API_BASE",
            "OPENAI_BASE_URL",
            "CLAUDE_CODE_USE_BEDROCK",
            "OPENAI_CUSTOM_HEADERS",
            "OTHER_API_KEY",
        ]);
        let wanted = [
            "AEX_AGENT_TOKEN=aex_t",
            "AEX_BASE_URL=http://127.0.0.1:9000",
            "AEX_RUN_ID=run_17",
            "ANTHROPIC_API_KEY=aex_t",
            "ANTHROPIC_AUTH_TOKEN=aex_t",
            "ANTHROPIC_BASE_URL=http://127.0.0.1:9000",
            "CODEX_API_KEY=aex_t",
            "GROQ_API_BASE=http://127.0.0.1:9000/v1",
            "GROQ_API_KEY=aex_t",
            "GROQ_BASE_URL=http://127.0.0.1:9000",
            "OPENAI_AGENTS_DISABLE_TRACING=1",
            "OPENAI_API_KEY=aex_t",
            "OPENAI_BASE_URL=http://127.0.0.1:9000/v1",
            "OTHER_API_KEY=old",
            "PATH=old",
        ];
        assert_eq!(child, wanted);
    }

    #[test]
    fn claude_code_is_not_made_to_ask_about_a_key() {
        for (program, has) in [("claude", false), ("/usr/local/bin/claude", false), ("claude.py", true), ("sh", true)] {
            let child = child_of(program, &["ANTHROPIC_API_KEY"]);
            assert_eq!(child.contains(&"ANTHROPIC_API_KEY=aex_t".to_owned()), has, "{program}");
            assert!(child.contains(&"ANTHROPIC_AUTH_TOKEN=aex_t".to_owned()) && !child.contains(&"ANTHROPIC_API_KEY=old".to_owned()));
        }
    }

    #[test]
    fn calls_to_the_daemon_never_go_through_a_proxy() {
        for (ours, wanted) in [
            (&["http_proxy", "NO_PROXY"][..], "old,127.0.0.1"),
            (&["HTTP_PROXY", "no_proxy"], "old,127.0.0.1"),
            (&["all_proxy"], "127.0.0.1"),
        ] {
            let child = child(ours);
            for name in ["NO_PROXY", "no_proxy"] {
                assert!(child.contains(&format!("{name}={wanted}")), "{child:?}");
            }
        }
        assert_eq!(child(&["NO_PROXY"]).iter().filter(|variable| variable.to_lowercase().starts_with("no_proxy")).count(), 1);
    }

    #[test]
    fn what_other_tools_call_their_keys_is_taken_away_and_told_as_a_key() {
        for name in ["CODEX_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "AWS_BEARER_TOKEN_BEDROCK", "REPLICATE_API_TOKEN", "NVIDIA_API_KEY"] {
            assert!(is_key(name) && !child(&[name]).contains(&format!("{name}=old")), "{name}");
        }
        assert!(
            !is_key("ANTHROPIC_CUSTOM_HEADERS")
                && !child(&["ANTHROPIC_CUSTOM_HEADERS"]).contains(&"ANTHROPIC_CUSTOM_HEADERS=old".to_owned())
        );
    }
}
