//! `aexctl models`.

use clap::Subcommand;
use std::path::PathBuf;

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Models {
    /// List the models with their prices
    List,
    /// Show a model with all its prices: caches, sound, images, long contexts, service tiers, tools that the provider runs
    Show {
        /// The model's name
        name: String,
    },
    /// Take prices and limits over from LiteLLM's public price file into models.yaml
    Import(ModelsImport),
    /// Look for wrong prices, missing keys and providers that cannot be reached; spends nothing
    Check,
    /// Read models.yaml and the keys again; a bad file leaves the old ones in force
    Reload,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ModelsImport {
    /// LiteLLM's model_prices_and_context_window.json
    pub(crate) file: PathBuf,
    /// Only models of this provider, as LiteLLM or models.yaml calls it; may be given several times [default: those of models.yaml]
    #[arg(long, value_name = "NAME")]
    pub(crate) provider: Vec<String>,
    /// Only models whose name in the file, or in models.yaml, fits this pattern; `*` stands for any characters
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Option<String>,
    /// Take the next pico-USD above a price that is not exact, and mark it; otherwise its model is skipped
    #[arg(long)]
    pub(crate) round_up: bool,
    /// Write this file instead of the daemon's own models.yaml, which is read all the same
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    pub(crate) out: Option<PathBuf>,
    /// Print what would be added, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}
