//! The envelope: JSON-RPC 2.0 requests, notifications, batches, responses and error codes.
//!
//! Owns what a line means before its method is looked at. Must not: know any method.

use crate::method::{Method, Notice};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Most requests in one batch.
pub const MAX_BATCH: usize = 100;

/// The member `jsonrpc`, which is always `"2.0"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct V2;

impl Serialize for V2 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("2.0")
    }
}

impl<'de> Deserialize<'de> for V2 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<V2, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "2.0" { Ok(V2) } else { Err(serde::de::Error::custom("`jsonrpc` is not \"2.0\"")) }
    }
}

/// What a client numbers its requests with; the response carries it back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Id {
    /// A whole number.
    Number(i64),
    /// A text.
    Text(String),
    /// `null`: in a response to what had no readable id.
    Null,
}

/// A request; without an id it is a notification and gets no response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Always 2.0.
    pub jsonrpc: V2,
    /// `None`: a notification. `null` is an id.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub id: Option<Id>,
    /// A name of the table in [`crate::method`].
    pub method: String,
    /// An object, or absent for `{}`. Parameters by position are not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Value>,
}

/// Keeps `"id": null` apart from no id.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Id>, D::Error> {
    Id::deserialize(deserializer).map(Some)
}

impl Request {
    /// A call of a method.
    ///
    /// # Errors
    /// When the parameters cannot be serialised; none of this crate fails.
    pub fn call<M: Method>(id: i64, params: &M::Params) -> serde_json::Result<Request> {
        let params = Some(serde_json::to_value(params)?);
        Ok(Request { jsonrpc: V2, id: Some(Id::Number(id)), method: M::NAME.to_owned(), params })
    }

    /// A notification, as the daemon pushes it.
    ///
    /// # Errors
    /// When the parameters cannot be serialised; none of this crate fails.
    pub fn notice<N: Notice>(params: &N::Params) -> serde_json::Result<Request> {
        let params = Some(serde_json::to_value(params)?);
        Ok(Request { jsonrpc: V2, id: None, method: N::NAME.to_owned(), params })
    }

    /// The parameters, typed and checked.
    ///
    /// # Errors
    /// −32602 with what is wrong with them.
    pub fn params<P: serde::de::DeserializeOwned>(&self) -> Result<P, ErrorObject> {
        let params = match &self.params {
            None => Value::Object(serde_json::Map::new()),
            Some(object @ Value::Object(_)) => object.clone(),
            Some(_) => return Err(ErrorObject::standard(Standard::InvalidParams, "`params` is not an object")),
        };
        serde_json::from_value(params).map_err(|fault| ErrorObject::standard(Standard::InvalidParams, &format!("{}: {fault}", self.method)))
    }
}

/// A line from a client, read as far as the envelope goes. What is wrong in it is the response to send.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// One request, or the response that refuses it.
    One(Result<Request, Box<Response>>),
    /// A batch, at least one long. Its responses go out in one array; none at all when all are notifications.
    Batch(Vec<Result<Request, Box<Response>>>),
}

impl Incoming {
    /// Reads a line.
    #[must_use]
    pub fn parse(line: &[u8]) -> Incoming {
        let refuse = |standard: Standard, message: &str| {
            Incoming::One(Err(Box::new(Response::error(Id::Null, ErrorObject::standard(standard, message)))))
        };
        match serde_json::from_slice(line) {
            Err(fault) => refuse(Standard::Parse, &format!("the line is not JSON: {fault}")),
            Ok(Value::Array(batch)) if batch.is_empty() => refuse(Standard::InvalidRequest, "the batch is empty"),
            Ok(Value::Array(batch)) if batch.len() > MAX_BATCH => {
                refuse(Standard::InvalidRequest, &format!("the batch has more than {MAX_BATCH} requests"))
            }
            Ok(Value::Array(batch)) => Incoming::Batch(batch.into_iter().map(Incoming::request).collect()),
            Ok(one) => Incoming::One(Incoming::request(one)),
        }
    }

    /// The answer to a line above the cap.
    #[must_use]
    pub fn too_long() -> Response {
        let message = format!("the line is longer than {} bytes", crate::frame::MAX_LINE);
        Response::error(Id::Null, ErrorObject::standard(Standard::InvalidRequest, &message))
    }

    fn request(value: Value) -> Result<Request, Box<Response>> {
        let id = value.get("id").and_then(|id| serde_json::from_value(id.clone()).ok()).unwrap_or(Id::Null);
        serde_json::from_value(value).map_err(|fault| {
            let message = format!("not a JSON-RPC 2.0 request: {fault}");
            Box::new(Response::error(id, ErrorObject::standard(Standard::InvalidRequest, &message)))
        })
    }
}

/// The response to one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// Always 2.0.
    pub jsonrpc: V2,
    /// The id of the request.
    pub id: Id,
    /// `result` or `error`.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The method's reply.
    Result(Value),
    /// What stood against it.
    Error(ErrorObject),
}

impl Response {
    /// A method's reply.
    #[must_use]
    pub fn reply<M: Method>(id: Id, reply: &M::Reply) -> Response {
        match serde_json::to_value(reply) {
            Ok(value) => Response { jsonrpc: V2, id, outcome: Outcome::Result(value) },
            Err(fault) => {
                Response::error(id, ErrorObject::standard(Standard::Internal, &format!("the reply of {} has no JSON: {fault}", M::NAME)))
            }
        }
    }

    /// A refusal.
    #[must_use]
    pub const fn error(id: Id, error: ErrorObject) -> Response {
        Response { jsonrpc: V2, id, outcome: Outcome::Error(error) }
    }

    /// The reply, typed.
    ///
    /// # Errors
    /// The daemon's error, or −32603 when the reply is not the method's.
    pub fn typed<M: Method>(self) -> Result<M::Reply, ErrorObject> {
        match self.outcome {
            Outcome::Error(error) => Err(error),
            Outcome::Result(value) => serde_json::from_value(value)
                .map_err(|fault| ErrorObject::standard(Standard::Internal, &format!("the reply to {} cannot be read: {fault}", M::NAME))),
        }
    }
}

/// A line from the daemon.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Outgoing {
    /// The response to a request.
    Response(Response),
    /// A notification: a [`Request`] without an id.
    Notice(Request),
    /// The responses to a batch.
    Batch(Vec<Response>),
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ErrorObject {
    /// A [`Standard`] code or that of a [`Fault`].
    pub code: i64,
    /// One line for a person.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<ErrorData>,
}

/// What stands beside an error's message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorData {
    /// The next command to try, or what to change; one line.
    pub hint: String,
}

impl ErrorObject {
    /// An error of JSON-RPC itself.
    #[must_use]
    pub fn standard(standard: Standard, message: &str) -> ErrorObject {
        ErrorObject { code: standard.code(), message: message.to_owned(), data: None }
    }

    /// An error of ours.
    #[must_use]
    pub fn fault(fault: Fault, message: impl Into<String>) -> ErrorObject {
        ErrorObject { code: fault.code(), message: message.into(), data: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> ErrorObject {
        ErrorObject { data: Some(ErrorData { hint: hint.into() }), ..self }
    }

    /// Which of ours it is; `None` for an error of JSON-RPC itself.
    #[must_use]
    pub fn which(&self) -> Option<Fault> {
        Fault::ALL.into_iter().find(|fault| fault.code() == self.code)
    }
}

/// Errors that JSON-RPC 2.0 defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standard {
    /// The line is no JSON.
    Parse,
    /// The JSON is no request.
    InvalidRequest,
    /// No such method.
    MethodNotFound,
    /// The parameters do not fit the method.
    InvalidParams,
    /// A bug or a broken part of the daemon.
    Internal,
}

impl Standard {
    /// Its code.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Standard::Parse => -32700,
            Standard::InvalidRequest => -32600,
            Standard::MethodNotFound => -32601,
            Standard::InvalidParams => -32602,
            Standard::Internal => -32603,
        }
    }
}

/// Errors of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What was named does not exist.
    NotFound,
    /// It exists already, or its state stands against it.
    Conflict,
    /// The peer may not do this.
    Denied,
    /// The daemon cannot do it now: it is starting, draining, or the ledger cannot commit.
    Unavailable,
    /// The parameters have the right form, and their values cannot hold: a budget above the agent's, an unknown model.
    Unfit,
    /// It was, and has ended: a run that is over.
    Gone,
    /// A file of the configuration is wrong; the message names file, line and key. The old configuration stays in force.
    BadConfig,
    /// Too many requests on this connection or from this peer.
    Throttled,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 8] = [
        Fault::NotFound,
        Fault::Conflict,
        Fault::Denied,
        Fault::Unavailable,
        Fault::Unfit,
        Fault::Gone,
        Fault::BadConfig,
        Fault::Throttled,
    ];

    /// Its code; never changes.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Fault::NotFound => -32000,
            Fault::Conflict => -32001,
            Fault::Denied => -32002,
            Fault::Unavailable => -32003,
            Fault::Unfit => -32004,
            Fault::Gone => -32005,
            Fault::BadConfig => -32006,
            Fault::Throttled => -32007,
        }
    }
}
