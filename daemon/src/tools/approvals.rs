//! Calls that wait for a person's word, and the words that last.
//!
//! Owns the file of the lasting ones, `tools/approvals.json`. Must not: decide which call needs a word, or who may give one.

use super::{keep, lock};
use aex_core::event::By;
use aex_core::tool::{DecidedBy, ToolName};
use aex_proto::value::{AccountId, Digest, RequestId, Stamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

/// Calls that may wait at once.
pub const MAX_WAITING: usize = 64;
/// Of them, those of one agent and its runs.
pub const MAX_OF_AGENT: usize = 8;
/// Words that last.
const MAX_LASTING: usize = 1_000;
/// The largest file of them, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// How long a word that was given in the last moment is waited for: it is recorded first.
const LAST_WORD: Duration = Duration::from_secs(10);

/// A handle on them. Clones share them.
#[derive(Clone)]
pub struct Approvals(Arc<Inner>);

struct Inner {
    path: PathBuf,
    state: Mutex<State>,
    /// One change of the file at a time.
    writing: tokio::sync::Mutex<()>,
    changed: watch::Sender<u64>,
}

struct State {
    waiting: BTreeMap<RequestId, (Arc<Waiting>, oneshot::Sender<Word>)>,
    /// Or why the file cannot be used: then nothing lasts.
    lasting: Result<Vec<Lasting>, String>,
}

/// A call that waits.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The request.
    pub request: RequestId,
    /// The agent's account.
    pub account: AccountId,
    /// The agent's name.
    pub agent: String,
    /// The run, when it is one's.
    pub run: Option<AccountId>,
    /// The tool.
    pub tool: ToolName,
    /// Its arguments in canonical JSON.
    pub arguments: String,
    /// What it answers to questions of the server, likewise.
    pub answers: Option<String>,
    /// Bytes of all that it says.
    pub bytes: u64,
    /// The digest of that.
    pub input: Digest,
    /// The rule that asks.
    pub by: DecidedBy,
    /// What all rules say that ask; `None`: no word for it lasts.
    pub stated: Option<Digest>,
    /// When it began to wait.
    pub asked_at: Stamp,
    /// When nobody's answer is a no.
    pub expires_at: Stamp,
}

/// A person's word for a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// It may pass.
    Yes {
        /// Who says so.
        by: By,
        /// For later ones too.
        always: bool,
    },
    /// It may not.
    No,
}

/// A word that lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lasting {
    /// The agent's account: its name may become another's.
    pub account: AccountId,
    /// The agent's name.
    pub agent: String,
    /// When it was given.
    pub at: Stamp,
    /// Who gave it.
    pub by: By,
    /// The event that tells of it. The ledger may be another's by now, or have been set back behind it.
    pub event: i64,
    /// The ledger's name.
    pub ledger: String,
    /// The rule that asked.
    pub rule: String,
    /// What all rules said that asked. When they say something else, it does not hold.
    pub stated: Digest,
    /// The tool.
    pub tool: ToolName,
}

impl Lasting {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> Digest {
        Digest::of(format!("{}\n{}\n{}", self.account, self.tool, self.stated).as_bytes())
    }
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    always: Vec<Lasting>,
}

/// A call's place among those that wait, which it leaves when this is dropped.
pub struct Turn {
    approvals: Approvals,
    request: RequestId,
    word: oneshot::Receiver<Word>,
}

impl Approvals {
    /// With this file, of which nothing holds before [`Approvals::load`].
    #[must_use]
    pub fn new(path: PathBuf) -> Approvals {
        let state = Mutex::new(State { waiting: BTreeMap::new(), lasting: Err("they have not been read yet".to_owned()) });
        Approvals(Arc::new(Inner { path, state, writing: tokio::sync::Mutex::default(), changed: watch::Sender::new(0) }))
    }

    /// Who gave a lasting word for an agent's calls of a tool for which these rules ask.
    #[must_use]
    pub fn lasting_by(&self, account: AccountId, tool: &ToolName, stated: Digest) -> Option<By> {
        let state = lock(&self.0.state);
        let fits = |lasting: &&Lasting| lasting.account == account && lasting.tool == *tool && lasting.stated == stated;
        state.lasting.as_ref().ok()?.iter().find(fits).map(|lasting| lasting.by.clone())
    }

    /// Gives a call a place among those that wait; `None` when none is left.
    #[must_use]
    pub fn wait(&self, waiting: Waiting) -> Option<Turn> {
        let (sender, word) = oneshot::channel();
        let request = waiting.request;
        {
            let mut state = lock(&self.0.state);
            let of_agent = state.waiting.values().filter(|(other, _)| other.account == waiting.account).count();
            if state.waiting.len() >= MAX_WAITING || of_agent >= MAX_OF_AGENT || state.waiting.contains_key(&request) {
                return None;
            }
            state.waiting.insert(request, (Arc::new(waiting), sender));
        }
        self.tell();
        Some(Turn { approvals: self.clone(), request, word })
    }

    /// The calls that wait, the oldest first.
    #[must_use]
    pub fn waiting(&self) -> Vec<Arc<Waiting>> {
        lock(&self.0.state).waiting.values().map(|(waiting, _)| Arc::clone(waiting)).collect()
    }

    /// Takes a call out to answer it. Dropped unanswered, the way is a no.
    #[must_use]
    pub fn take(&self, request: RequestId) -> Option<(Arc<Waiting>, oneshot::Sender<Word>)> {
        let taken = lock(&self.0.state).waiting.remove(&request);
        if taken.is_some() {
            self.tell();
        }
        taken
    }

    /// Changes with each call that begins or ceases to wait.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    fn tell(&self) {
        self.0.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The words that last.
    ///
    /// # Errors
    /// Why their file cannot be used.
    pub fn lasting(&self) -> Result<Vec<Lasting>, String> {
        lock(&self.0.state).lasting.clone()
    }

    /// Whether one more word may last.
    ///
    /// # Errors
    /// Why not.
    pub fn may_last(&self) -> Result<(), String> {
        match self.lasting()?.len() < MAX_LASTING {
            true => Ok(()),
            false => Err(format!("{MAX_LASTING} approvals are lasting already: revoke some")),
        }
    }

    /// Has a word last.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn remember(&self, lasting: Lasting) -> Result<(), String> {
        self.change(|all| {
            all.retain(|other| other.id() != lasting.id());
            all.push(lasting);
        })
        .await
    }

    /// Has a word last no more.
    ///
    /// # Errors
    /// Why it does.
    pub async fn forget(&self, id: Digest) -> Result<(), String> {
        self.change(|all| all.retain(|lasting| lasting.id() != id)).await
    }

    async fn change(&self, change: impl FnOnce(&mut Vec<Lasting>)) -> Result<(), String> {
        let _one_at_a_time = self.0.writing.lock().await;
        let mut always = self.lasting()?;
        change(&mut always);
        self.write(always.clone()).await?;
        lock(&self.0.state).lasting = Ok(always);
        Ok(())
    }

    /// Reads the file, unless it is in use. `told`: leaves the words that the ledger tells of; the others are taken out of the file, too.
    pub async fn load<F>(&self, told: impl FnOnce(Vec<Lasting>) -> F + Send)
    where
        F: Future<Output = Result<Vec<Lasting>, String>> + Send,
    {
        let _one_at_a_time = self.0.writing.lock().await;
        if self.lasting().is_ok() {
            return;
        }
        let lasting = self.read(told).await;
        if let Err(why) = &lasting {
            tracing::error!(why, "lasting approvals cannot be used: every call that a rule asks for waits for a person");
        }
        lock(&self.0.state).lasting = lasting;
    }

    async fn read<F>(&self, told: impl FnOnce(Vec<Lasting>) -> F + Send) -> Result<Vec<Lasting>, String>
    where
        F: Future<Output = Result<Vec<Lasting>, String>> + Send,
    {
        let path = self.0.path.clone();
        let all = tokio::task::spawn_blocking(move || load(&path)).await.map_err(|fault| fault.to_string())??;
        if all.is_empty() {
            return Ok(all);
        }
        let count = all.len();
        let left = told(all).await?;
        if left.len() < count {
            tracing::warn!(count = count - left.len(), "lasting approvals are forgotten of which the ledger does not tell");
            self.write(left.clone()).await?;
        }
        Ok(left)
    }

    async fn write(&self, always: Vec<Lasting>) -> Result<(), String> {
        let (path, kept) = (self.0.path.clone(), Kept { version: 1, always });
        let written = tokio::task::spawn_blocking(move || keep::write(&path, &kept)).await;
        written.map_err(|fault| fault.to_string())?.map_err(|fault| format!("{}: {fault}", self.0.path.display()))
    }
}

impl Turn {
    /// The word for the call; `None` when there is none in time.
    pub async fn word(&mut self, limit: Duration) -> Option<Word> {
        match timeout(limit, &mut self.word).await {
            Ok(word) => word.ok(),
            // Somebody who took it out a moment ago is recorded before the word comes.
            Err(_) if self.approvals.take(self.request).is_none() => timeout(LAST_WORD, &mut self.word).await.ok()?.ok(),
            Err(_) => None,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.approvals.take(self.request));
    }
}

fn load(path: &std::path::Path) -> Result<Vec<Lasting>, String> {
    match keep::read::<Kept>(path, MAX_FILE)? {
        Some(Kept { version: 1, always }) => Ok(always),
        Some(Kept { version, .. }) => Err(format!("{}: version {version} is not known here", path.display())),
        None => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY: By = By { pid: 7, uid: 1 };

    fn waiting(request: u64, account: i64) -> Waiting {
        Waiting {
            request: RequestId::new(1, request),
            account: AccountId::new(account),
            agent: "a".to_owned(),
            run: None,
            tool: ToolName { server: "s".to_owned(), tool: "t".to_owned() },
            arguments: "{}".to_owned(),
            answers: None,
            bytes: 2,
            input: Digest::of(b"{}"),
            by: DecidedBy { file: "p".to_owned(), line: Some(1), reason: None, rule: "r".to_owned(), unclear: None },
            stated: Some(Digest::ZERO),
            asked_at: Stamp::new(0),
            expires_at: Stamp::new(1),
        }
    }

    fn open() -> (tempfile::TempDir, Approvals) {
        let folder = tempfile::tempdir().unwrap();
        let approvals = Approvals::new(folder.path().join("approvals.json"));
        (folder, approvals)
    }

    /// Of a ledger that tells of all words.
    async fn load(path: &std::path::Path) -> Approvals {
        let approvals = Approvals::new(path.to_owned());
        approvals.load(|all| async { Ok(all) }).await;
        approvals
    }

    #[test]
    fn an_agent_takes_no_place_from_the_others_and_all_together_are_bounded() {
        let (_folder, approvals) = open();
        let mut turns = Vec::new();
        for number in 0..200 {
            turns.extend(approvals.wait(waiting(number, i64::try_from(number % 20).unwrap())));
        }
        assert_eq!((turns.len(), approvals.waiting().len()), (MAX_WAITING, MAX_WAITING));
        drop(turns);
        assert!(approvals.waiting().is_empty());
        let of_one: Vec<Turn> = (0..20).filter_map(|number| approvals.wait(waiting(number, 3))).collect();
        assert_eq!(of_one.len(), MAX_OF_AGENT);
        assert!(approvals.wait(waiting(100, 4)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_word_is_heard_once_and_silence_is_none() {
        let (_folder, approvals) = open();
        let mut turn = approvals.wait(waiting(1, 3)).unwrap();
        let (_, way) = approvals.take(RequestId::new(1, 1)).unwrap();
        assert!(approvals.take(RequestId::new(1, 1)).is_none());
        way.send(Word::Yes { by: BY, always: false }).unwrap();
        assert_eq!(turn.word(Duration::from_secs(1)).await, Some(Word::Yes { by: BY, always: false }));
        let mut turn = approvals.wait(waiting(2, 3)).unwrap();
        assert_eq!(turn.word(Duration::from_secs(1)).await, None);
        assert!(approvals.waiting().is_empty());
        // Taken in time and given too late for the call's own limit: it counts.
        let mut turn = approvals.wait(waiting(3, 3)).unwrap();
        let (_, way) = approvals.take(RequestId::new(1, 3)).unwrap();
        let late = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            way.send(Word::No).unwrap();
        };
        assert_eq!(tokio::join!(turn.word(Duration::from_secs(1)), late).0, Some(Word::No));
        // Whoever took it cannot record the word.
        let mut turn = approvals.wait(waiting(4, 3)).unwrap();
        drop(approvals.take(RequestId::new(1, 4)));
        assert_eq!(turn.word(Duration::from_secs(1)).await, None);
    }

    #[tokio::test]
    async fn a_lasting_word_is_bound_to_agent_tool_and_rules_and_a_damaged_file_holds_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("approvals.json");
        let approvals = load(&path).await;
        let call = waiting(1, 3);
        let (account, tool) = (call.account, call.tool.clone());
        let lasting = Lasting {
            account,
            agent: call.agent,
            at: call.asked_at,
            by: BY,
            event: 9,
            ledger: "here".to_owned(),
            rule: call.by.rule,
            stated: Digest::ZERO,
            tool: tool.clone(),
        };
        approvals.remember(lasting.clone()).await.unwrap();
        approvals.remember(lasting.clone()).await.unwrap();
        let again = load(&path).await;
        assert_eq!(again.lasting(), Ok(vec![lasting.clone()]));
        let other = ToolName { tool: "u".to_owned(), ..tool.clone() };
        assert_eq!(again.lasting_by(account, &tool, Digest::ZERO), Some(BY));
        assert_eq!(again.lasting_by(AccountId::new(4), &tool, Digest::ZERO), None);
        assert_eq!(again.lasting_by(account, &other, Digest::ZERO), None);
        assert_eq!(again.lasting_by(account, &tool, Digest::of(b"changed")), None);
        // What the ledger does not tell of is forgotten, in the file too; where it cannot be asked, nothing holds.
        let unheard = Approvals::new(path.clone());
        unheard.load(|_| async { Err("no ledger".to_owned()) }).await;
        assert_eq!((unheard.lasting(), unheard.lasting_by(account, &tool, Digest::ZERO)), (Err("no ledger".to_owned()), None));
        let untold = Approvals::new(path.clone());
        untold.load(|_| async { Ok(Vec::new()) }).await;
        assert_eq!((untold.lasting(), load(&path).await.lasting()), (Ok(Vec::new()), Ok(Vec::new())));
        again.remember(lasting.clone()).await.unwrap();
        again.forget(lasting.id()).await.unwrap();
        assert_eq!(again.lasting_by(account, &tool, Digest::ZERO), None);
        std::fs::write(&path, "{\"version\":1,\"always\":").unwrap();
        let damaged = load(&path).await;
        assert!(damaged.lasting().is_err() && damaged.may_last().is_err());
        assert_eq!(damaged.lasting_by(account, &tool, Digest::ZERO), None);
        assert!(damaged.remember(lasting).await.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"version\":1,\"always\":");
        std::fs::remove_file(&path).unwrap();
        damaged.load(|all| async { Ok(all) }).await;
        assert_eq!(damaged.lasting(), Ok(Vec::new()));
    }
}
