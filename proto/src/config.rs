//! The settings in force, each with its source.

use crate::model::KeyState;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A setting of aexd.yaml.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name in the file.
    pub name: String,
    /// The value in force, as the file would write it.
    pub value: Value,
    /// Where it came from: `default`, `aexd.yaml:3`, `environment AEX_PORT`, `.env AEX_PORT`, `flag --port`.
    pub source: String,
    /// It differs from what the daemon started with, and takes effect at its next start.
    pub waits_for_restart: bool,
}

/// The key of a provider: whether there is one, never what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderKey {
    /// The provider.
    pub provider: String,
    /// The variable that holds it.
    pub variable: String,
    /// Whether it is set.
    pub state: KeyState,
    /// Where it came from: `environment`, `.env`; `None` when it is not set, or not needed.
    pub source: Option<String>,
}

/// A folder or file of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// What it is: `home`, `config`, `logs`, `ledger`, `socket`, `env`.
    pub name: String,
    /// Where it is.
    pub path: String,
}

/// Reply of `config.get`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigShown {
    /// Folders and files.
    pub places: Vec<Place>,
    /// Settings, in the order of the file.
    pub settings: Vec<Setting>,
    /// Keys of the providers of models.yaml.
    pub keys: Vec<ProviderKey>,
    /// What the configuration was warned of, with file and line.
    pub warnings: Vec<String>,
}
