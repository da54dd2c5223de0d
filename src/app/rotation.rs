//! Keys and certificates, which are taken anew while the server runs.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;

use crate::audit::Deed;
use crate::clock::system_now_ms;
use crate::http::state::State;
use crate::keys::KeyRing;
use crate::timestamp::rfc3339;
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
        self.tell_end(state);
        if every_ms == 0 || (self.keys.is_none() && self.certificates.is_none()) {
            return;
        }
        let (rotation, state) = (self.clone(), state.clone());
        actix_web::rt::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(every_ms)).await;
                rotation.look(&state, false);
            }
        });
    }

    /// Takes what has changed. What cannot be used is logged, once or to whoever insists, and what is in force stays in force.
    pub(super) fn look(&self, state: &State, insist: bool) {
        let note = |action: &str, outcome: &str| {
            let at_ms = state.now_ms();
            state.audit.record(&Deed { at_ms, who: "file", peer: "", action, outcome, request_id: "" });
        };
        match self.keys.as_ref().map(|keys| keys.refresh(insist)) {
            Some(Ok(Some(count))) => note("keys replaced", &format!("{count} keys")),
            Some(Err(error)) => tracing::error!(%error, "keys refused; those in force stay"),
            Some(Ok(None)) | None => {}
        }
        match self.certificates.as_ref().map(|certificates| certificates.refresh(insist)) {
            Some(Ok(true)) => {
                note("certificate replaced", "in force");
                self.tell_end(state);
            }
            Some(Err(error)) => tracing::error!(%error, "certificate refused; the one in force stays"),
            Some(Ok(false)) | None => {}
        }
    }

    /// Tells when the certificate ends: in `/metrics`, and in the log where it has ended already.
    fn tell_end(&self, state: &State) {
        let ends_ms = self.certificates.as_ref().and_then(|certificates| certificates.ends_ms());
        state.metrics.certificate_ends.set(ends_ms.map_or(0, |ends_ms| ends_ms / 1_000));
        if let Some(ended_ms) = ends_ms.filter(|ends_ms| *ends_ms < system_now_ms()) {
            let ended = rfc3339(ended_ms);
            tracing::error!(ended, "the certificate has expired: clients will not connect");
        }
    }
}
