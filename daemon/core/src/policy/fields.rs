//! The fields of a policy: what an agent or a profile states, and what holds once all of it is put together.

use crate::price::ModelCard;
use serde::{Deserialize, Serialize};

/// What an agent, or a profile, states about its calls. `None`: it states nothing. Fields are in alphabetical order, so that
/// its JSON is canonical; a text that does not parse denies every call, it never opens one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// `tool_choice` and `function_call` may be stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_function_calling: Option<bool>,
    /// The agent may bring its own provider key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_passthrough: Option<bool>,
    /// Streams may be asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_streaming: Option<bool>,
    /// Tools may be offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_tools: Option<bool>,
    /// Images may be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_vision: Option<bool>,
    /// Names of models as in models.yaml.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_models: Option<Vec<String>>,
    /// Names of functions that may be offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_tool_names: Option<Vec<String>>,
    /// Largest input, in estimated tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_input_tokens: Option<u64>,
    /// Largest output, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// Unknown top-level fields and tools that the provider runs are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

/// Who states the value of a field that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stated {
    /// The agent itself.
    Agent,
    /// Its profile.
    Profile,
    /// Nobody: the built-in default.
    Default,
}

impl Fields {
    /// The names of all fields.
    pub const NAMES: [&'static str; 10] = [
        "allow_function_calling",
        "allow_passthrough",
        "allow_streaming",
        "allow_tools",
        "allow_vision",
        "allowed_models",
        "allowed_tool_names",
        "max_input_tokens",
        "max_output_tokens",
        "strict",
    ];

    /// Its canonical JSON and the digest of that.
    #[must_use]
    pub fn snapshot(&self) -> (String, aex_proto::value::Digest) {
        crate::canon::snapshot(self)
    }

    /// What these state, and where they state nothing, what the others do.
    #[must_use]
    pub fn over(self, other: Fields) -> Fields {
        Fields {
            allow_function_calling: self.allow_function_calling.or(other.allow_function_calling),
            allow_passthrough: self.allow_passthrough.or(other.allow_passthrough),
            allow_streaming: self.allow_streaming.or(other.allow_streaming),
            allow_tools: self.allow_tools.or(other.allow_tools),
            allow_vision: self.allow_vision.or(other.allow_vision),
            allowed_models: self.allowed_models.or(other.allowed_models),
            allowed_tool_names: self.allowed_tool_names.or(other.allowed_tool_names),
            max_input_tokens: self.max_input_tokens.or(other.max_input_tokens),
            max_output_tokens: self.max_output_tokens.or(other.max_output_tokens),
            strict: self.strict.or(other.strict),
        }
    }

    /// What holds: the built-in default where nothing is stated.
    #[must_use]
    pub fn resolve(self) -> Policy {
        let seed = Policy::seed();
        Policy {
            allow_function_calling: self.allow_function_calling.unwrap_or(seed.allow_function_calling),
            allow_passthrough: self.allow_passthrough.unwrap_or(seed.allow_passthrough),
            allow_streaming: self.allow_streaming.unwrap_or(seed.allow_streaming),
            allow_tools: self.allow_tools.unwrap_or(seed.allow_tools),
            allow_vision: self.allow_vision.unwrap_or(seed.allow_vision),
            allowed_models: self.allowed_models,
            allowed_tool_names: self.allowed_tool_names,
            max_input_tokens: self.max_input_tokens,
            max_output_tokens: self.max_output_tokens,
            strict: self.strict.unwrap_or(seed.strict),
        }
    }

    /// Which fields are stated, in the order of [`Fields::NAMES`].
    #[must_use]
    pub const fn stated(&self) -> [bool; 10] {
        [
            self.allow_function_calling.is_some(),
            self.allow_passthrough.is_some(),
            self.allow_streaming.is_some(),
            self.allow_tools.is_some(),
            self.allow_vision.is_some(),
            self.allowed_models.is_some(),
            self.allowed_tool_names.is_some(),
            self.max_input_tokens.is_some(),
            self.max_output_tokens.is_some(),
            self.strict.is_some(),
        ]
    }

    /// Takes back what is stated about a field. `false`: there is no such field.
    pub fn clear(&mut self, name: &str) -> bool {
        match name {
            "allow_function_calling" => self.allow_function_calling = None,
            "allow_passthrough" => self.allow_passthrough = None,
            "allow_streaming" => self.allow_streaming = None,
            "allow_tools" => self.allow_tools = None,
            "allow_vision" => self.allow_vision = None,
            "allowed_models" => self.allowed_models = None,
            "allowed_tool_names" => self.allowed_tool_names = None,
            "max_input_tokens" => self.max_input_tokens = None,
            "max_output_tokens" => self.max_output_tokens = None,
            "strict" => self.strict = None,
            _ => return false,
        }
        true
    }
}

/// Where the value of each field comes from, when an agent states some and its profile others.
#[must_use]
pub fn sources(agent: &Fields, profile: &Fields) -> Vec<(&'static str, Stated)> {
    let stated = agent.stated().into_iter().zip(profile.stated());
    let source = |(own, profiles)| match (own, profiles) {
        (true, _) => Stated::Agent,
        (false, true) => Stated::Profile,
        (false, false) => Stated::Default,
    };
    Fields::NAMES.into_iter().zip(stated.map(source)).collect()
}

/// The fields that hold for a call. `None` means that the field restricts nothing. Fields are in alphabetical order, so that its
/// JSON is canonical.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// `tool_choice` and `function_call` may be stated.
    pub allow_function_calling: bool,
    /// The agent may bring its own provider key.
    pub allow_passthrough: bool,
    /// Streams may be asked for.
    pub allow_streaming: bool,
    /// Tools may be offered.
    pub allow_tools: bool,
    /// Images may be sent.
    pub allow_vision: bool,
    /// Names of models as in models.yaml.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_models: Option<Vec<String>>,
    /// Names of functions that may be offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_tool_names: Option<Vec<String>>,
    /// Largest input, in estimated tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_input_tokens: Option<u64>,
    /// Largest output, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// Unknown top-level fields and tools that the provider runs are refused.
    pub strict: bool,
}

impl From<Policy> for Fields {
    /// States all of it.
    fn from(policy: Policy) -> Fields {
        Fields {
            allow_function_calling: Some(policy.allow_function_calling),
            allow_passthrough: Some(policy.allow_passthrough),
            allow_streaming: Some(policy.allow_streaming),
            allow_tools: Some(policy.allow_tools),
            allow_vision: Some(policy.allow_vision),
            allowed_models: policy.allowed_models,
            allowed_tool_names: policy.allowed_tool_names,
            max_input_tokens: policy.max_input_tokens,
            max_output_tokens: policy.max_output_tokens,
            strict: Some(policy.strict),
        }
    }
}

impl Policy {
    /// The seed's defaults: all is allowed but images and passthrough.
    #[must_use]
    pub const fn seed() -> Policy {
        Policy {
            allow_function_calling: true,
            allow_passthrough: false,
            allow_streaming: true,
            allow_tools: true,
            allow_vision: false,
            allowed_models: None,
            allowed_tool_names: None,
            max_input_tokens: None,
            max_output_tokens: None,
            strict: false,
        }
    }

    /// The largest output that a call may have under this policy and model: what is sent when the request states none.
    #[must_use]
    pub fn output_limit(&self, card: &ModelCard) -> u64 {
        self.max_output_tokens.map_or(card.max_tokens, |own| own.min(card.max_tokens))
    }
}
