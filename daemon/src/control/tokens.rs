//! Tokens: several per agent, and read-only ones of the root, made, listed and revoked one by one.

use super::agents::{self, because, said, token_view};
use super::fault::{Answer, act, no_agent, read, unfit};
use crate::gate::Gate;
use crate::ledger::{AccountRow, LedgerFault, NewTokenRow, Reader, Refused};
use crate::os::clock;
use aex_core::books::AccountKind;
use aex_core::event::By;
use aex_proto::account::AgentName;
use aex_proto::rpc::{ErrorObject, Fault};
use aex_proto::token::{OwnedToken, Scope, TokenCreate, TokenCreated, TokenList, TokenQuery, TokenRevoke};
use aex_proto::value::{AccountId, TokenHash};

/// What the root is called where agents have names.
const ROOT: &str = "root";
/// Why a token is revoked by hand.
const REVOKED: &str = "revoked";
/// Hex digits of a whole digest.
const DIGEST_DIGITS: usize = 64;

pub(super) async fn create(gate: &Gate, by: By, wanted: TokenCreate) -> Answer<TokenCreated> {
    let TokenCreate { agent, label, scope, ttl_ms, reason } = wanted;
    if agent.is_none() && scope != Scope::ReadOnly {
        return Err(unfit("a token of the root can only read: it would spend without any agent's budget").hint("--scope read-only"));
    }
    let lasts_us = agents::lasts_us(ttl_ms)?;
    let label = said(Some(label), "label")?.unwrap_or_default();
    let reason = said(reason, "reason")?;
    let (token, hash) = agents::new_token()?;
    let row = NewTokenRow { hash, read_only: scope == Scope::ReadOnly, lasts_us, label: label.clone(), reason };
    let name = agent.as_ref().map(ToString::to_string);
    let made = act(gate, move |writer| {
        let account = match &name {
            None => AccountId::ROOT,
            Some(name) => match writer.find(AccountKind::Agent, name) {
                Ok(account) => account.id,
                Err(refused) => return Ok(Err(refused)),
            },
        };
        writer.create_token(account, &row, Some(by)).map(|expires_at| Ok((account, expires_at)))
    });
    let (account_id, expires_at) = made.await.map_err(|error| unknown(error, agent.as_ref()))?;
    let account = agent.map_or_else(|| ROOT.to_owned(), |name| name.to_string());
    Ok(TokenCreated { account, account_id, token, hash_prefix: hash.short(), label, scope, expires_at })
}

fn unknown(error: ErrorObject, agent: Option<&AgentName>) -> ErrorObject {
    match agent {
        Some(name) if error.which() == Some(Fault::NotFound) => no_agent(name.as_str()),
        _ => error,
    }
}

pub(super) async fn list(gate: &Gate, query: TokenQuery) -> Answer<TokenList> {
    let only = match &query.agent {
        Some(name) => Some(agents::find(gate, name).await?),
        None => None,
    };
    let tokens = read(gate, move |reader| {
        let now = clock::wall();
        let rows = owners(reader)?.into_iter().filter(|(id, _)| only.is_none_or(|only| only == *id));
        let mut tokens = Vec::new();
        for (id, account) in rows {
            let row = |row| OwnedToken { account: account.clone(), token: token_view(&row, now) };
            tokens.extend(reader.token_rows(id)?.into_iter().map(row));
        }
        Ok(tokens)
    });
    Ok(TokenList { tokens: tokens.await? })
}

/// Accounts whose tokens a person makes: the root and the living agents. A run has one, which its aexctl keeps.
fn owners(reader: &Reader<'_>) -> Result<Vec<(AccountId, String)>, LedgerFault> {
    let agents = reader.accounts(AccountKind::Agent, clock::wall())?;
    let named = |row: AccountRow| (row.id, row.name);
    Ok(std::iter::once((AccountId::ROOT, ROOT.to_owned())).chain(agents.into_iter().map(named)).collect())
}

pub(super) async fn revoke(gate: &Gate, by: By, wanted: TokenRevoke) -> Answer<OwnedToken> {
    let prefix = prefix(&wanted.hash_prefix)?;
    let reason = because(REVOKED, said(wanted.reason, "reason")?);
    let (account, name, hash) = one(gate, prefix).await?;
    act(gate, move |writer| writer.revoke_token(&hash, &reason, Some(&by))).await?;
    let rows = read(gate, move |reader| reader.token_rows(account)).await?;
    let row = rows.into_iter().find(|row| row.hash == hash);
    let row = row.ok_or_else(|| ErrorObject::fault(Fault::NotFound, format!("no token {}…", hash.short())))?;
    Ok(OwnedToken { account: name, token: token_view(&row, clock::wall()) })
}

/// The beginning of a digest as it is shown, in lower case, the dots behind it left out.
fn prefix(text: &str) -> Answer<String> {
    let digits = text.trim().trim_end_matches(['…', '.']).to_ascii_lowercase();
    if digits.starts_with("aex_") {
        return Err(unfit("that is a token, not its digest, and it stands in the shell's history now").hint("aexctl token list"));
    }
    let fits = (TokenRevoke::MIN_DIGITS..=DIGEST_DIGITS).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if fits {
        return Ok(digits);
    }
    let least = TokenRevoke::MIN_DIGITS;
    Err(unfit(format!("expected the beginning of a token's SHA-256, at least {least} hex digits")).hint("aexctl token list"))
}

/// The one token whose digest begins so.
async fn one(gate: &Gate, prefix: String) -> Answer<(AccountId, String, TokenHash)> {
    let wanted = prefix.clone();
    let found = read(gate, move |reader| {
        let mut found = Vec::new();
        for (id, name) in owners(reader)? {
            let rows = reader.token_rows(id)?.into_iter().filter(|row| hex::encode(row.hash.bytes()).starts_with(&wanted));
            found.extend(rows.map(|row| (id, name.clone(), row.hash)));
        }
        Ok(found)
    })
    .await?;
    match <[_; 1]>::try_from(found) {
        Ok([token]) => Ok(token),
        Err(none) if none.is_empty() => {
            Err(ErrorObject::fault(Fault::NotFound, Refused::NotFound(format!("token {prefix}…")).to_string()).hint("aexctl token list"))
        }
        Err(several) => Err(unfit(format!("{} tokens begin with {prefix}: give more digits", several.len())).hint("aexctl token list")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_named_by_the_beginning_of_its_digest_only() {
        assert_eq!(prefix(" 0123ABcd… ").ok(), Some("0123abcd".to_owned()));
        for text in ["", "012", "xyzw", "aex_", &"0".repeat(65)] {
            assert!(prefix(text).is_err(), "{text}");
        }
        let (token, _) = agents::new_token().unwrap();
        assert!(prefix(token.expose()).unwrap_err().to_string().contains("that is a token"));
    }
}
