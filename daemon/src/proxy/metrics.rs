//! `GET /metrics`: who may read it, and in which form it is answered.
//!
//! Any token of an account reads the figures of that account and all below it, also one that may do nothing else, and also
//! while the account is paused. Those of all accounts need a token of the root.

use super::headers;
use super::pages::{Here, Peer, error_page};
use crate::gate::Evidence;
use crate::os::usage;
use crate::web::metrics::{Figures, gather, json, prometheus};
use crate::wire::denial::{self, Addressee};
use crate::wire::dialect::Shape;
use aex_core::decision::Denial;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response as Page};
use http::header;

/// The figures of the caller's account.
pub(super) async fn metrics(State(here): State<Here>, Extension(peer): Extension<Peer>, uri: Uri, headers: HeaderMap) -> Page {
    let request = here.gate.next_request();
    let to = Addressee::of_page(request, Shape::OpenAi);
    let view = match here.gate.authenticate(headers::token(&headers), peer.0) {
        Ok((view, _)) => view,
        Err(denied) => {
            here.gate.refused(request, None, &denied, Evidence::default());
            return error_page(&denial::page::metrics(&denied, to), to);
        }
    };
    let told = gather(&here.gate, view.named.id).await.map_err(|fault| fault.to_string());
    let told = told.and_then(|figures| if wants_json(&uri, &headers) { as_json(&here, &figures) } else { Ok(as_text(&here, &figures)) });
    told.unwrap_or_else(|fault| {
        tracing::error!(fault, %request, "the metrics cannot be told");
        error_page(&denial::page::metrics(&Denial::LedgerUnavailable, to), to)
    })
}

fn as_json(here: &Here, figures: &Figures) -> Result<Page, String> {
    let zone = &here.gate.active().config.settings.zone.value;
    let text = json::text(figures, zone).map_err(|fault| fault.to_string())?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

fn as_text(here: &Here, figures: &Figures) -> Page {
    let process = prometheus::Process {
        started_at: here.facts.started_at,
        connections: here.connections(),
        is_available: here.gate.ledger().is_available(),
        providers: here.gate.active().providers_down(),
        flushes: here.gate.ledger().flushes(),
        usage: usage::read(),
    };
    ([(header::CONTENT_TYPE, prometheus::CONTENT_TYPE)], prometheus::text(figures, &process)).into_response()
}

/// Only who names JSON gets it: `*/*` is what Prometheus sends, too.
fn wants_json(uri: &Uri, headers: &HeaderMap) -> bool {
    let asked = uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("format="));
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let mut kinds = accepts.map(|range| range.split(';').next().unwrap_or_default().trim());
    asked.map_or_else(|| kinds.any(|kind| kind.eq_ignore_ascii_case("application/json")), |form| form == "json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_for_those_who_name_it() {
        let rows = [
            ("/metrics", "", false),
            ("/metrics", "*/*", false),
            ("/metrics", "text/plain;version=0.0.4;q=0.5,*/*;q=0.1", false),
            ("/metrics", "text/html, Application/JSON;q=0.9", true),
            ("/metrics?format=json", "text/plain", true),
            ("/metrics?a=b&format=prometheus", "application/json", false),
        ];
        for (uri, accept, wanted) in rows {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            assert_eq!(wants_json(&uri.parse().unwrap(), &headers), wanted, "{uri} {accept}");
        }
    }
}
