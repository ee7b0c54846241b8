//! The table: every method of the protocol and what serves it. A new verb does not compile until it stands here.

use super::connection::{After, Lines};
use super::fault::Answer;
use super::{
    Control, Peer, accounts, agents, approvals, audit, budgets, check, compact, config, daemon, events, explain, export, groups, ledger,
    metrics, models, permissions, policies, runs, tokens, tools,
};
use aex_core::event::By;
use aex_proto::method::{self as m, Method, Verb};
use aex_proto::rpc::{ErrorObject, Id, Request, Response, Standard};

/// Serves one request; a notification has no response. What is to follow its reply is added to `after`.
pub(super) async fn serve(control: &Control, peer: &Peer, lines: &Lines, request: Request, after: &mut Vec<After>) -> Option<Response> {
    let is_notification = request.id.is_none();
    let response = match Verb::parse(&request.method) {
        Some(verb) => match control.is_a_persons(&peer.by, peer.process, verb).await {
            Ok(()) => dispatch(control, (peer.by.clone(), lines), verb, request, after).await,
            Err(refusal) => Response::error(request.id.clone().unwrap_or(Id::Null), refusal),
        },
        None => Response::error(request.id.clone().unwrap_or(Id::Null), unknown(&request.method)),
    };
    (!is_notification).then_some(response)
}

/// Whether a method only waits for others on its client's behalf: it ends when the client leaves. One that changes something is done to its end.
pub(super) fn ends_with_client(method: &str) -> bool {
    matches!(Verb::parse(method), Some(Verb::ToolCall | Verb::ToolReview | Verb::ModelCheck))
}

fn unknown(method: &str) -> ErrorObject {
    // A name is at most as long as its line; what is shown of it is not.
    let shown: String = method.chars().take(64).collect();
    ErrorObject::standard(Standard::MethodNotFound, &format!("no method `{}`", shown.escape_debug()))
}

async fn dispatch(control: &Control, (by, lines): (By, &Lines), verb: Verb, request: Request, after: &mut Vec<After>) -> Response {
    let (gate, keeper, facts, started) = (&control.gate, &control.gatekeeper, &*control.facts, &control.started);
    match verb {
        Verb::DaemonHello => reply::<m::DaemonHello, _>(request, async |_| Ok(daemon::hello(gate, facts))).await,
        Verb::DaemonStatus => reply::<m::DaemonStatus, _>(request, async |_| daemon::status(keeper, facts).await).await,
        Verb::DaemonStop => reply::<m::DaemonStop, _>(request, async |_| Ok(then(daemon::stop(gate, started, &by), after))).await,
        Verb::AgentCreate => reply::<m::AgentCreate, _>(request, async |wanted| agents::create(gate, by, wanted).await).await,
        Verb::AgentList => reply::<m::AgentList, _>(request, async |_| agents::list(gate).await).await,
        Verb::AgentInspect => reply::<m::AgentInspect, _>(request, async |named| agents::inspect(gate, named).await).await,
        Verb::AgentUpdate => reply::<m::AgentUpdate, _>(request, async |wanted| agents::update(gate, by, wanted).await).await,
        Verb::AgentDelete => reply::<m::AgentDelete, _>(request, async |named| agents::delete(gate, by, named).await).await,
        Verb::AgentRotateToken => {
            reply::<m::AgentRotateToken, _>(request, async |wanted| agents::rotate_token(gate, by, wanted).await).await
        }
        Verb::AgentPause => reply::<m::AgentPause, _>(request, async |wanted| agents::pause(gate, by, wanted).await).await,
        Verb::AgentResume => reply::<m::AgentResume, _>(request, async |named| agents::resume(gate, by, named).await).await,
        Verb::GroupCreate => reply::<m::GroupCreate, _>(request, async |wanted| groups::create(gate, by, wanted).await).await,
        Verb::GroupList => reply::<m::GroupList, _>(request, async |_| groups::list(gate).await).await,
        Verb::GroupUpdate => reply::<m::GroupUpdate, _>(request, async |wanted| groups::update(gate, by, wanted).await).await,
        Verb::GroupDelete => reply::<m::GroupDelete, _>(request, async |wanted| groups::delete(gate, by, wanted).await).await,
        Verb::BudgetSet => reply::<m::BudgetSet, _>(request, async |wanted| budgets::set(gate, by, wanted).await).await,
        Verb::BudgetAdd => reply::<m::BudgetAdd, _>(request, async |wanted| budgets::add(gate, by, wanted).await).await,
        Verb::BudgetTransfer => reply::<m::BudgetTransfer, _>(request, async |wanted| budgets::transfer(gate, by, wanted).await).await,
        Verb::BudgetRemove => reply::<m::BudgetRemove, _>(request, async |wanted| budgets::remove(gate, by, wanted).await).await,
        Verb::BudgetShow => reply::<m::BudgetShow, _>(request, async |query| budgets::show(gate, query).await).await,
        Verb::AccountPause => reply::<m::AccountPause, _>(request, async |wanted| accounts::pause(gate, by, wanted).await).await,
        Verb::AccountResume => reply::<m::AccountResume, _>(request, async |wanted| accounts::resume(gate, by, wanted).await).await,
        Verb::AccountKill => reply::<m::AccountKill, _>(request, async |wanted| accounts::kill(gate, by, wanted).await).await,
        Verb::TokenCreate => reply::<m::TokenCreate, _>(request, async |wanted| tokens::create(gate, by, wanted).await).await,
        Verb::TokenList => reply::<m::TokenList, _>(request, async |query| tokens::list(gate, query).await).await,
        Verb::TokenRevoke => reply::<m::TokenRevoke, _>(request, async |wanted| tokens::revoke(gate, by, wanted).await).await,
        Verb::ModelList => reply::<m::ModelList, _>(request, async |_| Ok(models::list(&gate.active()))).await,
        Verb::ModelReload => reply::<m::ModelReload, _>(request, async |_| models::reload(&control.gatekeeper, started, by).await).await,
        Verb::ModelCheck => reply::<m::ModelCheck, _>(request, async |_| Ok(check::check(&gate.active()).await)).await,
        Verb::ConfigGet => reply::<m::ConfigGet, _>(request, async |_| Ok(config::show(gate, started))).await,
        Verb::PolicyShow => reply::<m::PolicyShow, _>(request, async |named| policies::show(gate, named).await).await,
        Verb::PolicyCheck => reply::<m::PolicyCheck, _>(request, async |wanted| policies::check(gate, wanted).await).await,
        Verb::PolicyTest => reply::<m::PolicyTest, _>(request, async |wanted| policies::test(gate, wanted).await).await,
        Verb::PermissionShow => reply::<m::PermissionShow, _>(request, async |query| permissions::show(gate, query).await).await,
        Verb::PermissionCheck => reply::<m::PermissionCheck, _>(request, async |wanted| permissions::check(keeper, wanted).await).await,
        Verb::ToolAdd => reply::<m::ToolAdd, _>(request, async |wanted| tools::add(control, by, wanted).await).await,
        Verb::ToolImport => reply::<m::ToolImport, _>(request, async |wanted| tools::import(control, by, wanted).await).await,
        Verb::ToolRemove => reply::<m::ToolRemove, _>(request, async |named| tools::remove(control, by, named).await).await,
        Verb::ToolEnable => reply::<m::ToolEnable, _>(request, async |named| tools::enable(control, by, named).await).await,
        Verb::ToolDisable => reply::<m::ToolDisable, _>(request, async |named| tools::disable(control, by, named).await).await,
        Verb::ToolRestart => reply::<m::ToolRestart, _>(request, async |named| tools::restart(control, by, named).await).await,
        Verb::ToolList => reply::<m::ToolList, _>(request, async |_| Ok(tools::list(control))).await,
        Verb::ToolShow => reply::<m::ToolShow, _>(request, async |named| tools::show(control, named).await).await,
        Verb::ToolLogs => {
            let logs = async |wanted| {
                let (lines, step) = tools::logs(control, &wanted)?;
                after.extend(step);
                Ok(lines)
            };
            reply::<m::ToolLogs, _>(request, logs).await
        }
        Verb::ToolReview => reply::<m::ToolReview, _>(request, async |wanted| tools::review(control, wanted).await).await,
        Verb::ToolApprove => reply::<m::ToolApprove, _>(request, async |wanted| tools::approve(control, by, wanted).await).await,
        Verb::ToolCall => reply::<m::ToolCall, _>(request, async |wanted| tools::call(control, lines, wanted).await).await,
        Verb::ApprovalList => {
            let list = async |query| {
                let (list, step) = approvals::list(control, &query);
                after.extend(step);
                Ok(list)
            };
            reply::<m::ApprovalList, _>(request, list).await
        }
        Verb::ApprovalShow => reply::<m::ApprovalShow, _>(request, async |wanted| approvals::show(control, &wanted)).await,
        Verb::ApprovalApprove => {
            reply::<m::ApprovalApprove, _>(request, async |wanted| approvals::approve(control, by, wanted).await).await
        }
        Verb::ApprovalDeny => reply::<m::ApprovalDeny, _>(request, async |wanted| approvals::deny(control, by, wanted).await).await,
        Verb::ApprovalRevoke => reply::<m::ApprovalRevoke, _>(request, async |wanted| approvals::revoke(control, by, wanted).await).await,
        Verb::RunOpen => {
            let open = async |wanted| {
                control.may_tie()?;
                Ok(then(runs::open(gate, facts, by, wanted).await?, after))
            };
            reply::<m::RunOpen, _>(request, open).await
        }
        Verb::RunAttach => {
            let attach = async |wanted| {
                control.may_tie()?;
                Ok(then(runs::attach(gate, facts, wanted).await?, after))
            };
            reply::<m::RunAttach, _>(request, attach).await
        }
        Verb::RunClose => reply::<m::RunClose, _>(request, async |wanted| runs::close(gate, by, wanted).await).await,
        Verb::StatusGet => reply::<m::StatusGet, _>(request, async |_| daemon::figures(keeper, facts).await).await,
        Verb::MetricsGet => reply::<m::MetricsGet, _>(request, async |_| metrics::get(gate).await).await,
        Verb::AuditRun => reply::<m::AuditRun, _>(request, async |query| audit::run(gate, query).await).await,
        Verb::LedgerHead => reply::<m::LedgerHead, _>(request, async |_| export::head(gate).await).await,
        Verb::LedgerExport => {
            let number = control.next_subscription();
            reply::<m::LedgerExport, _>(request, async |wanted| Ok(then(export::begin(gate, number, wanted).await?, after))).await
        }
        Verb::LedgerBackup => reply::<m::LedgerBackup, _>(request, async |wanted| ledger::backup(gate, &by, wanted).await).await,
        Verb::LedgerCompact => reply::<m::LedgerCompact, _>(request, async |wanted| compact::run(control, by, wanted).await).await,
        Verb::EventList => reply::<m::EventList, _>(request, async |query| events::list(gate, query).await).await,
        Verb::ExplainGet => reply::<m::ExplainGet, _>(request, async |wanted| explain::get(gate, wanted).await).await,
        Verb::EventTail => {
            let subscription = control.next_subscription();
            reply::<m::EventTail, _>(request, async |wanted| Ok(then(events::tail(gate, subscription, wanted).await?, after))).await
        }
    }
}

/// Keeps what is to follow the reply.
fn then<R>((reply, step): (R, After), after: &mut Vec<After>) -> R {
    after.push(step);
    reply
}

async fn reply<M: Method, F: AsyncFnOnce(M::Params) -> Answer<M::Reply>>(request: Request, serve: F) -> Response {
    let params = request.params::<M::Params>();
    let id = request.id.unwrap_or(Id::Null);
    let answer = match params {
        Ok(params) => serve(params).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(answer) => Response::reply::<M>(id, &answer),
        Err(error) => Response::error(id, error),
    }
}
