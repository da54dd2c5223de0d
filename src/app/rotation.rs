//! Keys and certificates, which are taken anew while the server runs.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;

use crate::audit::Deed;
use crate::http::state::State;
use crate::keys::KeyRing;
use crate::tls::Certificates;

/// What is replaced while the server runs.
#[derive(Clone)]
pub(super) struct Rotation {
    pub(super) keys: Option<Arc<KeyRing>>,
    pub(super) certificates: Option<Arc<Certificates>>,
}

impl Rotation {
    /// Looks at the files at a fixed pace, for as long as the runtime lives.
    pub(super) fn watch(&self, every_ms: u64, state: &web::Data<State>) {
        if every_ms == 0 || (self.keys.is_none() && self.certificates.is_none()) {
            return;
        }
        let (rotation, state) = (self.clone(), state.clone());
        actix_web::rt::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(every_ms)).await;
                rotation.look(&state);
            }
        });
    }

    /// Takes what has changed. What cannot be used is logged, and what is in force stays in force.
    pub(super) fn look(&self, state: &State) {
        let note = |action: &str, outcome: &str| {
            let at_ms = state.now_ms();
            state.audit.record(&Deed { at_ms, who: "file", peer: "", action, outcome, request_id: "" });
        };
        match self.keys.as_ref().map(|keys| keys.refresh()) {
            Some(Ok(Some(count))) => note("keys replaced", &format!("{count} keys")),
            Some(Err(error)) => tracing::error!(%error, "keys refused; those in force stay"),
            Some(Ok(None)) | None => {}
        }
        match self.certificates.as_ref().map(|certificates| certificates.refresh()) {
            Some(Ok(true)) => note("certificate replaced", "in force"),
            Some(Err(error)) => tracing::error!(%error, "certificate refused; the one in force stays"),
            Some(Ok(false)) | None => {}
        }
    }
}
