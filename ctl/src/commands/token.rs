//! `aexctl token`.

use super::{Context, agent};
use crate::cli::{self, Token as Verb};
use crate::exit::{Exit, Failure};
use crate::units::{instant, instant_or};
use crate::view::table;
use aex_proto::method::{TokenCreate as Create, TokenList as List, TokenRevoke as Revoke};
use aex_proto::token::{OwnedToken, TokenCreate, TokenCreated, TokenList, TokenQuery, TokenRevoke};

pub(super) fn run(context: &Context<'_>, verb: Verb) -> Result<Exit, Failure> {
    let mut client = context.connect()?;
    let view = context.view;
    match verb {
        Verb::Create(flags) => {
            let created = client.call::<Create>(&params(flags))?;
            view.show(&created, |_| created_text(&created))?;
        }
        Verb::List { agent } => {
            let list = client.call::<List>(&TokenQuery { agent })?;
            view.show(&list, |_| list_text(&list))?;
        }
        Verb::Revoke { hash_prefix, why } => {
            let revoked = client.call::<Revoke>(&TokenRevoke { hash_prefix, reason: why.reason })?;
            view.show(&revoked, |_| revoked_text(&revoked))?;
        }
    }
    Ok(Exit::Done)
}

/// Without an agent it is the root's: the command line has seen to that.
fn params(flags: cli::TokenCreate) -> TokenCreate {
    TokenCreate { agent: flags.agent, label: flags.label, scope: flags.scope, ttl_ms: flags.ttl, reason: flags.why.reason }
}

fn created_text(created: &TokenCreated) -> String {
    let mut lines = vec![format!("Token: {}", created.token.expose()), format!("Account: {}", created.account)];
    if !created.label.is_empty() {
        lines.push(format!("Label: {}", created.label));
    }
    lines.push(format!("Scope: {}", created.scope.name()));
    lines.extend(created.expires_at.map(|at| format!("Expires: {}", instant(at))));
    lines.push(format!("Revoke it by: aexctl token revoke {}", created.hash_prefix));
    lines.join("\n")
}

fn list_text(list: &TokenList) -> String {
    let row = |owned: &OwnedToken| {
        let [hash, label, scope, created, expires, revoked] = agent::token(&owned.token);
        [owned.account.clone(), hash, label, scope, created, expires, revoked]
    };
    table(["Account", "Token's SHA-256", "Label", "Scope", "Created", "Expires", "Revoked"], list.tokens.iter().map(row))
}

fn revoked_text(revoked: &OwnedToken) -> String {
    let token = &revoked.token;
    let label = if token.label.is_empty() { String::new() } else { format!(" ({})", token.label) };
    format!("Token {}…{label} of {} is revoked since {}.", token.hash_prefix, revoked.account, instant_or(token.revoked_at, "now"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_proto::token::Scope;
    use aex_proto::value::{AccountId, NewToken};

    #[test]
    fn a_new_token_stands_on_the_line_that_scripts_read() {
        let created = TokenCreated {
            account: "root".to_owned(),
            account_id: AccountId::ROOT,
            token: NewToken::new("aex_x".to_owned()),
            hash_prefix: "0123456789ab".to_owned(),
            label: "grafana".to_owned(),
            scope: Scope::ReadOnly,
            expires_at: None,
        };
        let wanted = "Token: aex_x\nAccount: root\nLabel: grafana\nScope: read-only\nRevoke it by: aexctl token revoke 0123456789ab";
        assert_eq!(created_text(&created), wanted);
    }
}
