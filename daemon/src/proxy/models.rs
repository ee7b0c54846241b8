//! The models that a caller may use, in OpenAI's shape, or in Anthropic's for a client that names a version of that API.

use super::headers;
use super::pages::{Here, Peer, error_page};
use crate::gate::Evidence;
use crate::ledger::AccountView;
use crate::wire::denial::{self, Addressee};
use crate::wire::dialect::Shape;
use aex_core::decision::Denial;
use aex_core::price::ModelCard;
use aex_proto::value::RequestId;
use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response as Page};
use serde_json::{Value, json};
use std::sync::Arc;

/// Models on a page of Anthropic's list when nothing is said (docs.claude.com, "List Models").
const PAGE: usize = 20;
/// The most that may be asked for.
const MAX_PAGE: usize = 1_000;

/// Whose list a client reads.
pub(super) fn shape(headers: &HeaderMap) -> Shape {
    if headers.contains_key("anthropic-version") { Shape::Anthropic } else { Shape::OpenAi }
}

/// Who asks, and what for.
struct Caller<'a> {
    here: &'a Here,
    to: Addressee,
    view: Option<Arc<AccountView>>,
}

impl<'a> Caller<'a> {
    fn new(here: &'a Here, headers: &HeaderMap) -> Caller<'a> {
        Caller { here, to: Addressee::of_page(here.gate.next_request(), shape(headers)), view: None }
    }

    fn deny(&self, denial: &Denial) -> Page {
        let id: RequestId = self.to.request;
        self.here.gate.refused(id, self.view.as_deref(), denial, Evidence::default());
        error_page(&denial::worded(denial, self.to), self.to)
    }

    /// The models that the caller may use; a read-only token may look too.
    fn usable(&mut self, peer: Peer, headers: &HeaderMap) -> Result<Vec<ModelCard>, Box<Page>> {
        let (view, _) = self.here.gate.authenticate(headers::token(headers), peer.0).map_err(|denial| Box::new(self.deny(&denial)))?;
        self.view = Some(Arc::clone(&view));
        if let Some(stopped) = &view.stopped {
            return Err(Box::new(self.deny(stopped)));
        }
        let active = self.here.gate.active();
        let policy = active.policy_of(&view).ok();
        let may_use = |card: &&ModelCard| match policy.as_ref().map(|policy| &policy.effective.fields.allowed_models) {
            None => false,
            Some(None) => true,
            Some(Some(names)) => names.contains(&card.name),
        };
        Ok(active.config.catalog.models.iter().filter(may_use).cloned().collect())
    }

    fn told(&self, card: &ModelCard) -> Value {
        let since = self.here.facts.started_at;
        match self.to.shape {
            Shape::Anthropic => json!({"type": "model", "id": card.name, "display_name": card.name, "created_at": since}),
            Shape::OpenAi | Shape::Codex => {
                json!({"id": card.name, "object": "model", "created": since.micros() / 1_000_000, "owned_by": card.provider})
            }
        }
    }
}

/// `GET /v1/models`.
pub(super) async fn list(State(here): State<Here>, Extension(peer): Extension<Peer>, uri: Uri, headers: HeaderMap) -> Page {
    let mut caller = Caller::new(&here, &headers);
    let cards = match caller.usable(peer, &headers) {
        Ok(cards) => cards,
        Err(page) => return *page,
    };
    let told: Vec<Value> = cards.iter().map(|card| caller.told(card)).collect();
    if caller.to.shape != Shape::Anthropic {
        return Json(json!({"object": "list", "data": told})).into_response();
    }
    match Cursor::read(&uri).and_then(|cursor| cursor.page(&told)) {
        Ok((page, has_more)) => {
            let id = |model: Option<&Value>| model.map_or(Value::Null, |model| model["id"].clone());
            Json(json!({"data": page, "has_more": has_more, "first_id": id(page.first()), "last_id": id(page.last())})).into_response()
        }
        Err(param) => {
            let message = format!("`{param}` is none that this list has: see `limit`, `after_id` and `before_id` of the API");
            caller.deny(&Denial::Malformed { message, param: Some(param.to_owned()) })
        }
    }
}

/// `GET /v1/models/{id}`. A name may hold slashes, written as they are or encoded.
pub(super) async fn one(State(here): State<Here>, Extension(peer): Extension<Peer>, Path(id): Path<String>, headers: HeaderMap) -> Page {
    let mut caller = Caller::new(&here, &headers);
    match caller.usable(peer, &headers) {
        Ok(cards) => match cards.iter().find(|card| card.name == id) {
            Some(card) => Json(caller.told(card)).into_response(),
            None => caller.deny(&Denial::UnknownModel { model: id }),
        },
        Err(page) => *page,
    }
}

/// Which page of Anthropic's list is asked for.
#[derive(Debug, Default, PartialEq)]
struct Cursor {
    limit: Option<usize>,
    after: Option<String>,
    before: Option<String>,
}

impl Cursor {
    /// Reads a query; the parameter at fault as an error. Others are not looked at.
    fn read(uri: &Uri) -> Result<Cursor, &'static str> {
        let mut cursor = Cursor::default();
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|_| "limit")?;
        for (name, value) in pairs {
            match name.as_str() {
                "limit" => cursor.limit = Some(value.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit)).ok_or("limit")?),
                "after_id" => cursor.after = Some(value),
                "before_id" => cursor.before = Some(value),
                _ => {}
            }
        }
        if cursor.after.is_some() && cursor.before.is_some() { Err("before_id") } else { Ok(cursor) }
    }

    /// The page, and whether more lie in its direction.
    fn page<'m>(&self, models: &'m [Value]) -> Result<(&'m [Value], bool), &'static str> {
        let limit = self.limit.unwrap_or(PAGE);
        let place = |id: &String, param| models.iter().position(|model| model["id"] == id.as_str()).ok_or(param);
        if let Some(before) = &self.before {
            let end = place(before, "before_id")?;
            let start = end.saturating_sub(limit);
            return Ok((models.get(start..end).unwrap_or_default(), start > 0));
        }
        let start = self.after.as_ref().map_or(Ok(0), |after| place(after, "after_id").map(|at| at.saturating_add(1)))?;
        let end = start.saturating_add(limit).min(models.len());
        Ok((models.get(start..end).unwrap_or_default(), end < models.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_anthropics_list_is_cut_where_its_cursor_says() {
        let models: Vec<Value> = ["a", "b/1", "c", "d"].iter().map(|id| json!({"id": id})).collect();
        #[track_caller]
        fn row(models: &[Value], query: &str, expected: Result<(&[&str], bool), &'static str>) {
            let uri: Uri = format!("/v1/models?{query}").parse().unwrap();
            let found = Cursor::read(&uri).and_then(|cursor| cursor.page(models).map(|(page, more)| (page.to_vec(), more)));
            let names = found
                .map(|(page, more)| (page.iter().filter_map(|model| model["id"].as_str().map(str::to_owned)).collect::<Vec<_>>(), more));
            assert_eq!(names, expected.map(|(ids, more)| (ids.iter().map(|id| (*id).to_owned()).collect(), more)), "{query}");
        }
        row(&models, "", Ok((&["a", "b/1", "c", "d"], false)));
        row(&models, "limit=2&beta=true", Ok((&["a", "b/1"], true)));
        row(&models, "limit=2&after_id=b%2F1", Ok((&["c", "d"], false)));
        row(&models, "limit=1&after_id=a", Ok((&["b/1"], true)));
        row(&models, "after_id=d", Ok((&[], false)));
        row(&models, "limit=2&before_id=d", Ok((&["b/1", "c"], true)));
        row(&models, "before_id=c", Ok((&["a", "b/1"], false)));
        for (query, param) in [
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=x", "limit"),
            ("after_id=z", "after_id"),
            ("before_id=z", "before_id"),
            ("after_id=a&before_id=d", "before_id"),
        ] {
            row(&models, query, Err(param));
        }
    }
}
