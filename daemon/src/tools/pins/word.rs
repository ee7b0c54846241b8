//! A person's part in what is trusted: a look at tools in quarantine, the word that trusts them, and the end of a server's pins.

use super::{NotApproved, Pending, Pin, Pins, Review};
use crate::os::clock;
use crate::tools::lock;
use aex_proto::value::Digest;
use std::collections::BTreeMap;

impl Pins {
    /// The tools of a server that are in quarantine for their definitions, and those that it has no more.
    #[must_use]
    pub fn review(&self, server: &str, tool: Option<&str>) -> Vec<Review> {
        let state = lock(&self.0.state);
        let own = state.pins.as_ref().ok().and_then(|pins| pins.get(server));
        let wanted = |(of, name): &(String, String)| of == server && tool.is_none_or(|tool| tool == name);
        let review = |((_, name), pending): (&(String, String), &Pending)| {
            let pin = own.and_then(|own| own.get(name));
            Review {
                tool: name.clone(),
                digest: pending.digest,
                bytes: pending.bytes,
                reason: pending.reason.clone(),
                old: pin.and_then(|pin| pin.definition.clone()),
                pinned_at: pin.map(|pin| pin.at),
                new: pending.definition.clone(),
            }
        };
        state.pending.iter().filter(|(place, _)| wanted(place)).map(review).collect()
    }

    /// Trusts definitions that a person has looked at, all or none: by tool, the digest of what was shown.
    ///
    /// # Errors
    /// Why nothing was approved.
    pub async fn approve(&self, server: &str, shown: &BTreeMap<String, Digest>) -> Result<(), NotApproved> {
        let (server, shown) = (server.to_owned(), shown.clone());
        let approve = move |pins: &Pins| {
            let pinned = lock(&pins.0.state).pins.clone().map_err(NotApproved::File)?;
            let fresh = pins.seen(&server, &shown)?;
            let new = pins.pin(&pinned, &server, fresh)?;
            let mut state = lock(&pins.0.state);
            state.pins = Ok(new);
            state.screened.remove(&server);
            shown.keys().for_each(|tool| drop(state.pending.remove(&(server.clone(), tool.clone()))));
            Ok(())
        };
        self.change(approve).await.unwrap_or_else(|| Err(NotApproved::File("they could not be looked at".to_owned())))
    }

    /// Pins for what was shown, if it is what the server says still.
    fn seen(&self, server: &str, shown: &BTreeMap<String, Digest>) -> Result<BTreeMap<String, Pin>, NotApproved> {
        let state = lock(&self.0.state);
        let pin = |(tool, digest): (&String, &Digest)| {
            let pending = state.pending.get(&(server.to_owned(), tool.clone())).filter(|pending| pending.digest == *digest);
            let pending = pending.ok_or_else(|| NotApproved::Otherwise(tool.clone()))?;
            Ok((tool.clone(), Pin { at: clock::wall(), definition: pending.definition.clone(), digest: *digest }))
        };
        shown.iter().map(pin).collect()
    }

    /// Forgets a server that is removed: one of its name that is added again is seen for the first time.
    ///
    /// # Errors
    /// Why its pins stay.
    pub async fn forget(&self, server: &str) -> Result<(), String> {
        let server = server.to_owned();
        let forget = move |pins: &Pins| {
            let mut pinned = lock(&pins.0.state).pins.clone()?;
            if pinned.contains_key(&server) {
                let mut left = (*pinned).clone();
                left.remove(&server);
                pinned = pins.write(left)?;
            }
            let mut state = lock(&pins.0.state);
            state.pins = Ok(pinned);
            state.screened.remove(&server);
            state.told.remove(&server);
            state.full.remove(&server);
            state.pending.retain(|(of, _), _| *of != server);
            Ok(())
        };
        self.change(forget).await.unwrap_or_else(|| Err("they could not be looked at".to_owned()))
    }
}
