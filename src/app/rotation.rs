//! Keys and certificates, which are taken anew while the server runs, in a thread of its own: where their files or the audit log lie on a disk that
//! stalls, signals are heeded all the same.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix_web::web;

use crate::audit::Deed;
use crate::clock::system_now_ms;
use crate::http::state::State;
use crate::keys::KeyRing;
use crate::timestamp::rfc3339;
use crate::tls::Certificates;

/// What is replaced while the server runs.
pub(super) struct Rotation {
    pub(super) keys: Option<Arc<KeyRing>>,
    pub(super) certificates: Option<Arc<Certificates>>,
}

impl Rotation {
    /// Looks at the files at a fixed pace, and when it is told to (SIGHUP), until nobody is left who could.
    pub(super) fn start(self, every_ms: u64, state: &web::Data<State>) -> std::io::Result<SyncSender<()>> {
        self.tell_end(state);
        let has_files = self.keys.is_some() || self.certificates.is_some();
        let every = if every_ms == 0 || !has_files { Duration::MAX } else { Duration::from_millis(every_ms) };
        let state = Arc::downgrade(&state.clone().into_inner());
        // Whoever tells it during a look is heeded by the next; one is enough for all of them.
        let (teller, told) = sync_channel(1);
        let looks = move || self.look_again(&told, every, &state);
        std::thread::Builder::new().name("kindred-rotate".to_owned()).spawn(looks)?;
        Ok(teller)
    }

    fn look_again(&self, told: &Receiver<()>, every: Duration, state: &Weak<State>) {
        loop {
            let insists = match told.recv_timeout(every) {
                Ok(()) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if state.strong_count() == 0 {
                return;
            }
            if insists {
                note(state, "signal", "SIGHUP", "taken");
            }
            self.look(state, insists);
        }
    }

    /// Takes what has changed. What cannot be used is logged, once or to whoever insists, and what is in force stays in force.
    fn look(&self, state: &Weak<State>, insist: bool) {
        match self.keys.as_ref().map(|keys| keys.refresh(insist)) {
            Some(Ok(Some(count))) => note(state, "file", "keys replaced", &format!("{count} keys")),
            Some(Err(error)) => tracing::error!(%error, "keys refused; those in force stay"),
            Some(Ok(None)) | None => {}
        }
        match self.certificates.as_ref().map(|certificates| certificates.refresh(insist)) {
            Some(Ok(true)) => {
                note(state, "file", "certificate replaced", "in force");
                if let Some(state) = state.upgrade() {
                    self.tell_end(&state);
                }
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

/// Writes a deed down. The state is not held while a disk is waited for: a server that has stopped gives its store back.
fn note(state: &Weak<State>, who: &str, action: &str, outcome: &str) {
    let Some(state) = state.upgrade() else { return };
    let at_ms = state.now_ms();
    let write = state.audit.log(&Deed { at_ms, who, peer: "", action, outcome, request_id: "" });
    drop(state);
    if let Some(write) = write {
        write();
    }
}
