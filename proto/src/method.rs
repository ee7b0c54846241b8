//! The one table of methods and notifications. What is not in it does not exist on the socket.

use crate::{
    account, approval, audit, budget, check, config, daemon, event, explain, group, ledger, metrics, model, permission, policy, run,
    status, token, tool, tree,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What a method does to the daemon. A viewer may only read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Changes nothing.
    Read,
    /// Changes something, or answers with a token.
    Write,
}

/// One method with its types.
pub trait Method {
    /// Its name on the socket: `noun.verb`.
    const NAME: &'static str;
    /// What it does to the daemon.
    const ACCESS: Access;
    /// Its parameters.
    type Params: Serialize + DeserializeOwned;
    /// Its reply.
    type Reply: Serialize + DeserializeOwned;
}

/// One notification that the daemon pushes.
pub trait Notice {
    /// Its name on the socket.
    const NAME: &'static str;
    /// Its parameters.
    type Params: Serialize + DeserializeOwned;
}

/// The parameters of a method that takes none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

macro_rules! methods {
    ($($(#[doc = $doc:literal])+ $access:ident $name:literal $verb:ident($params:ty) -> $reply:ty;)+) => {
        /// Every method, for a server's one `match`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Verb {
            $($(#[doc = $doc])+ $verb,)+
        }

        impl Verb {
            /// All of them, in the order of the table.
            pub const ALL: &[Verb] = &[$(Verb::$verb),+];

            /// Its name on the socket.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Verb::$verb => $name,)+
                }
            }

            /// What it does to the daemon.
            #[must_use]
            pub const fn access(self) -> Access {
                match self {
                    $(Verb::$verb => Access::$access,)+
                }
            }

            /// What it does, in a line.
            #[must_use]
            pub fn doc(self) -> &'static str {
                match self {
                    $(Verb::$verb => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }

        $(
            $(#[doc = $doc])+
            #[derive(Clone, Copy, Debug)]
            pub struct $verb;

            impl Method for $verb {
                const NAME: &'static str = $name;
                const ACCESS: Access = Access::$access;
                type Params = $params;
                type Reply = $reply;
            }
        )+
    };
}

methods! {
    /// Who the daemon is and which protocol it speaks.
    Read "daemon.hello" DaemonHello(Nothing) -> daemon::Hello;
    /// What the daemon is doing, and its health.
    Read "daemon.status" DaemonStatus(Nothing) -> daemon::DaemonStatus;
    /// Stops the daemon: no new calls, those in flight finish, then it exits.
    Write "daemon.stop" DaemonStop(Nothing) -> daemon::Stopping;

    /// Makes an agent and its token.
    Write "agent.create" AgentCreate(account::AgentCreate) -> account::AgentCreated;
    /// All living agents with their balances.
    Read "agent.list" AgentList(Nothing) -> account::AgentList;
    /// One agent with its policy and its tokens' digests.
    Read "agent.inspect" AgentInspect(account::AgentRef) -> account::AgentInspection;
    /// Changes an agent's budget, limits or policy.
    Write "agent.update" AgentUpdate(account::AgentUpdate) -> account::AgentUpdated;
    /// Closes an agent and frees its name; its events stay.
    Write "agent.delete" AgentDelete(account::AgentChange) -> account::AgentDeleted;
    /// Gives an agent a new token and revokes the old ones.
    Write "agent.rotate_token" AgentRotateToken(account::AgentRotateToken) -> token::Rotated;
    /// Denies every call of an agent until it is resumed.
    Write "agent.pause" AgentPause(account::AgentChange) -> account::Agent;
    /// Lifts a pause, a suspension or a kill.
    Write "agent.resume" AgentResume(account::AgentChange) -> account::Agent;

    /// Makes a group, which agents and groups can stand below.
    Write "group.create" GroupCreate(group::GroupCreate) -> group::Group;
    /// All living groups with their balances.
    Read "group.list" GroupList(Nothing) -> group::GroupList;
    /// Changes a group's budget or limits.
    Write "group.update" GroupUpdate(group::GroupUpdate) -> group::GroupUpdated;
    /// Closes a group and frees its name; its events stay.
    Write "group.delete" GroupDelete(group::GroupDelete) -> group::GroupDeleted;

    /// Sets an account's budget of a period.
    Write "budget.set" BudgetSet(budget::BudgetChange) -> budget::BudgetChanged;
    /// Adds to an account's budget of a period.
    Write "budget.add" BudgetAdd(budget::BudgetChange) -> budget::BudgetChanged;
    /// Moves a part of one account's budget to another's.
    Write "budget.transfer" BudgetTransfer(budget::BudgetTransfer) -> budget::BudgetChanged;
    /// Takes an account's budget of a period away.
    Write "budget.remove" BudgetRemove(budget::BudgetRemove) -> budget::BudgetChanged;
    /// Budgets and balances of an account and all below it.
    Read "budget.show" BudgetShow(budget::BudgetQuery) -> budget::BudgetList;

    /// Denies every call of an account and all below it until it is resumed.
    Write "account.pause" AccountPause(tree::AccountChange) -> tree::AccountChanged;
    /// Lifts a pause, a suspension or a kill.
    Write "account.resume" AccountResume(tree::AccountChange) -> tree::AccountChanged;
    /// Denies every call of an account and all below it, cuts those in flight and ends the runs.
    Write "account.kill" AccountKill(tree::AccountChange) -> tree::AccountChanged;

    /// Makes one more token of an agent, or a read-only one of the root.
    Write "token.create" TokenCreate(token::TokenCreate) -> token::TokenCreated;
    /// The tokens of an agent, or of all and the root.
    Read "token.list" TokenList(token::TokenQuery) -> token::TokenList;
    /// Revokes the token that a beginning of its digest names.
    Write "token.revoke" TokenRevoke(token::TokenRevoke) -> token::OwnedToken;

    /// The models of the configuration in force.
    Read "model.list" ModelList(Nothing) -> model::ModelList;
    /// Reads the configuration and the keys again; a bad file leaves the old ones in force.
    Write "model.reload" ModelReload(Nothing) -> model::ModelReloaded;

    /// Looks for what is wrong with models, prices and providers; asks each provider for its models, which costs nothing.
    Read "model.check" ModelCheck(Nothing) -> check::Checked;

    /// The settings in force and where each came from; of keys, only whether they are set.
    Read "config.get" ConfigGet(Nothing) -> config::ConfigShown;
    /// What holds for an agent's calls, and who states it.
    Read "policy.show" PolicyShow(account::AgentRef) -> policy::PolicyShown;
    /// Whether a file of profiles is sound, and whom they bind.
    Read "policy.check" PolicyCheck(policy::PolicyCheck) -> policy::PolicyChecked;
    /// Whether cases come out as expected under the policy in force.
    Read "policy.test" PolicyTest(policy::PolicyTest) -> policy::PolicyTested;

    /// Writes a server of tools into mcp.json, and puts it in force.
    Write "tool.add" ToolAdd(tool::ToolAdd) -> tool::ServerChanged;
    /// Writes servers of another host into mcp.json, those whose names are free.
    Write "tool.import" ToolImport(tool::ToolImport) -> tool::ToolsImported;
    /// Takes a server of tools out of mcp.json, and stops it.
    Write "tool.remove" ToolRemove(tool::ServerRef) -> tool::ServerRemoved;
    /// Lets a server of tools be started again.
    Write "tool.enable" ToolEnable(tool::ServerRef) -> tool::ServerChanged;
    /// Stops a server of tools, and keeps it from being started.
    Write "tool.disable" ToolDisable(tool::ServerRef) -> tool::ServerChanged;
    /// Starts a server of tools anew, also one that has failed.
    Write "tool.restart" ToolRestart(tool::ServerRef) -> tool::ServerChanged;
    /// The servers of tools, and how they are.
    Read "tool.list" ToolList(Nothing) -> tool::ServerList;
    /// One server of tools with what holds for it. Variables are shown as references.
    Read "tool.show" ToolShow(tool::ServerRef) -> tool::ServerShown;
    /// What the processes of a server of tools say beside MCP.
    Read "tool.logs" ToolLogs(tool::ToolLogs) -> tool::LogLines;
    /// Tools in quarantine for what their server says of them, with what changed.
    Read "tool.review" ToolReview(tool::ToolReview) -> tool::ToolsReviewed;
    /// Trusts what a server says of its tools, as a person has seen it.
    Write "tool.approve" ToolApprove(tool::ToolApprove) -> tool::ToolsApproved;
    /// Calls a tool for an agent, as that agent's own call.
    Write "tool.call" ToolCall(tool::ToolInvoke) -> tool::ToolInvoked;
    /// What an agent may call of tools: the rules that mean it.
    Read "permission.show" PermissionShow(permission::PermissionQuery) -> permission::PermissionsShown;
    /// What would come of a call of a tool, which is not made.
    Read "permission.check" PermissionCheck(permission::PermissionCheck) -> permission::PermissionChecked;

    /// Calls of tools that wait for a person, and what passes without a question.
    Read "approval.list" ApprovalList(approval::ApprovalQuery) -> approval::ApprovalList;
    /// All that a call says which waits.
    Read "approval.show" ApprovalShow(approval::ApprovalShow) -> approval::ApprovalShown;
    /// Lets a call pass that waits.
    Write "approval.approve" ApprovalApprove(approval::ApprovalApprove) -> approval::ApprovalAnswered;
    /// Denies a call that waits.
    Write "approval.deny" ApprovalDeny(approval::ApprovalDeny) -> approval::ApprovalAnswered;
    /// Takes a lasting yes back.
    Write "approval.revoke" ApprovalRevoke(approval::ApprovalRevoke) -> approval::Lasting;

    /// Opens a run below an agent, tied to this connection.
    Write "run.open" RunOpen(run::RunOpen) -> run::RunOpened;
    /// Ties an open run to this connection, after the daemon was restarted.
    Write "run.attach" RunAttach(run::RunAttach) -> run::RunAttached;
    /// Ends a run and sums it up.
    Write "run.close" RunClose(run::RunClose) -> run::RunSummary;

    /// The whole in figures.
    Read "status.get" StatusGet(Nothing) -> status::Status;
    /// What was used, by whom and how fast.
    Read "metrics.get" MetricsGet(Nothing) -> metrics::Metrics;
    /// Recomputes the ledger from its events.
    Read "audit.run" AuditRun(audit::AuditQuery) -> audit::Audit;
    /// Where the event chain ends; the daemon notes it in its log, too.
    Read "ledger.head" LedgerHead(Nothing) -> ledger::LedgerHead;
    /// The ledger as a file that proves itself, as notifications on this connection.
    Read "ledger.export" LedgerExport(ledger::ExportQuery) -> ledger::ExportBegun;
    /// Copies the living ledger into a new file, which is read back before the reply.
    Write "ledger.backup" LedgerBackup(ledger::BackupWanted) -> ledger::Backup;
    /// Takes old events out of the ledger into a file that proves them.
    Write "ledger.compact" LedgerCompact(ledger::Compact) -> ledger::Compacted;
    /// A part of the event chain.
    Read "event.list" EventList(event::EventQuery) -> event::EventList;
    /// The story of a request, a run or an event, recomputed from what is stored.
    Read "explain.get" ExplainGet(explain::ExplainGet) -> explain::Story;
    /// The event chain as it grows, as notifications on this connection.
    Read "event.tail" EventTail(event::EventTail) -> event::Subscription;
}

impl Verb {
    /// The method of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Verb> {
        Verb::ALL.iter().copied().find(|verb| verb.name() == name)
    }
}

/// A run was ended from elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct RunEnded;

impl Notice for RunEnded {
    const NAME: &'static str = "run.ended";
    type Params = run::RunEnded;
}

/// An event of a subscription.
#[derive(Clone, Copy, Debug)]
pub struct EventPushed;

impl Notice for EventPushed {
    const NAME: &'static str = "event";
    type Params = event::EventNotice;
}

/// A line of a server's log.
#[derive(Clone, Copy, Debug)]
pub struct ToolLine;

impl Notice for ToolLine {
    const NAME: &'static str = "tool.line";
    type Params = tool::LogPushed;
}

/// A call of a tool began to wait for a person.
#[derive(Clone, Copy, Debug)]
pub struct ApprovalWanted;

impl Notice for ApprovalWanted {
    const NAME: &'static str = "approval.wanted";
    type Params = approval::ApprovalWanted;
}

/// A call that this connection made with `tool.call` waits for a person.
#[derive(Clone, Copy, Debug)]
pub struct ToolWaits;

impl Notice for ToolWaits {
    const NAME: &'static str = "tool.waits";
    type Params = approval::ToolWaits;
}

/// Lines of an export.
#[derive(Clone, Copy, Debug)]
pub struct ExportPushed;

impl Notice for ExportPushed {
    const NAME: &'static str = "export";
    type Params = ledger::ExportPart;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::{ErrorObject, Fault, Id, Incoming, Outgoing, Request, Response};
    use std::collections::BTreeSet;

    #[test]
    fn every_method_is_found_by_its_name_and_has_a_doc() {
        let names: BTreeSet<&str> = Verb::ALL.iter().map(|verb| verb.name()).collect();
        assert_eq!(names.len(), Verb::ALL.len());
        for verb in Verb::ALL {
            assert_eq!(Verb::parse(verb.name()), Some(*verb));
            assert!(verb.name().contains('.') && verb.doc().ends_with('.'), "{verb:?}");
        }
        assert_eq!(Verb::parse("agent.Create"), None);
    }

    #[test]
    fn faults_have_codes_of_their_own_in_the_range_for_servers() {
        let codes: BTreeSet<i64> = Fault::ALL.iter().map(|fault| fault.code()).collect();
        assert_eq!(codes.len(), Fault::ALL.len());
        assert!(codes.iter().all(|code| (-32099..=-32000).contains(code)));
        for fault in Fault::ALL {
            assert_eq!(ErrorObject::fault(fault, "x").which(), Some(fault));
        }
    }

    #[test]
    fn what_is_left_out_of_a_new_agent_has_the_seeds_value() {
        let line =
            br#"{"jsonrpc":"2.0","id":7,"method":"agent.create","params":{"name":"a","budget_pico":"5","rpm":3,"policy":{"strict":true}}}"#;
        let Incoming::One(Ok(request)) = Incoming::parse(line) else { unreachable!("the line is a request") };
        let params: account::AgentCreate = request.params().unwrap_or_else(|fault| unreachable!("{fault}"));
        assert_eq!(params.policy, account::AgentPolicy { strict: Some(true), ..account::AgentPolicy::silent() });
        assert_eq!((params.per, params.scope, params.ttl_ms), (account::Period::Total, token::Scope::Execution, None));
    }

    #[track_caller]
    fn refused(line: &str, code: i64) {
        let error = match Incoming::parse(line.as_bytes()) {
            Incoming::One(Err(response)) => *response,
            Incoming::One(Ok(request)) => match request.params::<account::AgentRef>() {
                Err(error) => Response::error(Id::Null, error),
                Ok(params) => unreachable!("{params:?}"),
            },
            Incoming::Batch(batch) => unreachable!("{batch:?}"),
        };
        assert_eq!(error.typed::<DaemonHello>().map_err(|error| error.code), Err(code), "{line}");
    }

    #[test]
    fn a_bad_line_gets_the_standard_error() {
        refused("{", -32700);
        refused("[]", -32600);
        refused("7", -32600);
        refused(r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#, -32600);
        refused(r#"{"jsonrpc":"2.0","id":1.5,"method":"x"}"#, -32600);
        refused(r#"{"jsonrpc":"2.0","id":1}"#, -32600);
        refused(r#"{"jsonrpc":"2.0","id":1,"method":"x","params":["a"]}"#, -32602);
        refused(r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"name":"a","nam":"b"}}"#, -32602);
        refused(r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"name":"a/b"}}"#, -32602);
        refused(r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#, -32602);
    }

    #[test]
    fn a_batch_is_answered_one_by_one_and_a_null_id_is_an_id() {
        let batch = br#"[{"jsonrpc":"2.0","method":"a"},{"jsonrpc":"2.0","id":null,"method":"b"},3]"#;
        let Incoming::Batch(parts) = Incoming::parse(batch) else { unreachable!("the line is a batch") };
        let ids: Vec<Option<Option<Id>>> = parts.iter().map(|part| part.as_ref().ok().map(|request| request.id.clone())).collect();
        assert_eq!(ids, vec![Some(None), Some(Some(Id::Null)), None]);
    }

    #[test]
    fn a_client_tells_a_response_from_a_notification() {
        let ended = run::RunEnded {
            run: run::RunId::new(crate::value::AccountId::new(17)),
            reason: run::RunEnd::Killed,
            message: "killed".to_owned(),
        };
        let notice = Request::notice::<RunEnded>(&ended).unwrap_or_else(|fault| unreachable!("{fault}"));
        let text = serde_json::to_string(&notice).unwrap_or_default();
        assert_eq!(text, r#"{"jsonrpc":"2.0","method":"run.ended","params":{"message":"killed","reason":"killed","run":"run_17"}}"#);
        assert_eq!(serde_json::from_str::<Outgoing>(&text).ok(), Some(Outgoing::Notice(notice)));
        let error = Response::error(Id::Number(3), ErrorObject::fault(Fault::NotFound, "no agent 'x'").hint("aexctl agent list"));
        let text = serde_json::to_string(&error).unwrap_or_default();
        let wanted = r#"{"jsonrpc":"2.0","id":3,"error":{"code":-32000,"message":"no agent 'x'","data":{"hint":"aexctl agent list"}}}"#;
        assert_eq!(text, wanted);
        assert_eq!(serde_json::from_str::<Outgoing>(&text).ok(), Some(Outgoing::Response(error)));
    }
}
