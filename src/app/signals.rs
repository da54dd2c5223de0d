//! What signals do: SIGTERM or SIGINT stops a server, another one while it stops ends the process, and SIGHUP makes it look for what has changed.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{ApplicationHandle, StartError};

/// SIGTERM and SIGINT.
struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    /// Waits for the next of them.
    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}

/// From now on a signal is kept until it is heeded, and does not end the process by itself.
pub(super) fn watch(kind: SignalKind) -> Result<Signal, StartError> {
    signal(kind).map_err(|source| StartError::System { what: "watching signals", source })
}

/// Lets a server heed signals; `hangup` may have been watched for longer.
pub(super) fn obey(handle: ApplicationHandle, hangup: Signal) -> Result<(), StartError> {
    let stops = Stops { terminate: watch(SignalKind::terminate())?, interrupt: watch(SignalKind::interrupt())? };
    actix_web::rt::spawn(heed(handle, stops, hangup));
    Ok(())
}

async fn heed(handle: ApplicationHandle, mut stops: Stops, mut hangup: Signal) {
    loop {
        tokio::select! {
            _ = stops.next() => break,
            _ = hangup.recv() => handle.hang_up(),
        }
    }
    tracing::info!("stopping: requests in progress are finished first");
    actix_web::rt::spawn(async move { handle.stop().await });
    let again = stops.next().await;
    tracing::warn!("told to stop once more: ending at once, requests in progress are not finished");
    // As a shell says that a signal has ended a program. The store is what a kill leaves: all that was acknowledged has been synced.
    std::process::exit(128 + again.as_raw_value());
}
