//! Addresses and what answers on them.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::{App, HttpServer, web};
use socket2::SockRef;

use super::StartError;
use crate::http;
use crate::http::connections::Connections;
use crate::http::state::{State, Worker};
use crate::limits;
use crate::settings::{HttpSettings, Settings, WORKERS_MAX};
use crate::tls;

/// Which addresses a listener answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Surface {
    /// Everything.
    All,
    /// Everything but the operator's.
    Public,
    /// The operator's, on a thread of its own.
    Admin,
}

/// Listens on the address of a table of the settings. One of the network needs keys, or the operator's word that something before it checks who
/// calls.
pub(super) fn listen(
    table: &str,
    host: &str,
    port: u16,
    settings: &Settings,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let address = format!("{host}:{port}");
    let fail = |source: std::io::Error| {
        let remedy = remedy(table, source.kind());
        StartError::Listen { address: address.clone(), source, remedy }
    };
    let listener = TcpListener::bind((host, port)).map_err(fail)?;
    let bound = listener.local_addr().map_err(fail)?;
    let guarded = !settings.security.keys.as_os_str().is_empty() || settings.security.allow_without_keys;
    if !bound.ip().to_canonical().is_loopback() && !guarded {
        return Err(StartError::Open { address });
    }
    // By itself it has room for 128 that are not accepted yet; a moment's halt fills that, and who comes then waits a second for a second try.
    SockRef::from(&listener).listen(limits::CONNECTIONS_WAITING_MAX).map_err(fail)?;
    cut_off_slow_readers(&listener, &settings.http);
    Ok((listener, bound))
}

/// What to do about an address that cannot be listened on.
fn remedy(table: &str, kind: ErrorKind) -> String {
    match kind {
        ErrorKind::AddrInUse => format!("choose another {table}.port, or stop the program that has it"),
        ErrorKind::PermissionDenied => {
            format!("choose a {table}.port from 1024 on, or let the program have this one (CAP_NET_BIND_SERVICE)")
        }
        ErrorKind::AddrNotAvailable => {
            format!("set {table}.host to an address that this machine has, or to 0.0.0.0 for all of them")
        }
        _ => format!("look at {table}.host and {table}.port"),
    }
}

/// A client that does not take its answer would hold a connection for ever: the server waits for room in the socket, without a timer. The
/// kernel has one, which connections take over from their listener.
fn cut_off_slow_readers(listener: &TcpListener, settings: &HttpSettings) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let timeout = Duration::from_millis(settings.client_write_timeout_ms);
        if let Err(error) = SockRef::from(listener).set_tcp_user_timeout(Some(timeout)) {
            tracing::warn!(%error, "clients that do not take their answers are not cut off");
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (SockRef::from(listener), settings.client_write_timeout_ms);
}

/// Data, limits and routes of one listener, and its workers.
pub(super) fn serve(
    settings: &HttpSettings,
    surface: Surface,
    listener: TcpListener,
    tls: Option<&tls::Listener>,
    state: &web::Data<State>,
) -> Result<Server, StartError> {
    let workers = workers(settings);
    let threads = workers + usize::from(state.admin_apart);
    let connections = connections(settings.max_connections_per_worker, threads, files_max());
    if connections < settings.max_connections_per_worker && surface != Surface::Admin {
        tracing::info!(
            connections_per_worker = connections,
            set = settings.max_connections_per_worker,
            "fewer connections are held than are set, because the system lets this process have few files open: for more of them raise the limit \
             (ulimit -n, LimitNOFILE= of systemd, --ulimit nofile= of Docker)"
        );
    }
    let state = state.clone();
    let body_timeout = Duration::from_millis(settings.client_body_timeout_ms);
    let factory = move || {
        App::new()
            .app_data(state.clone())
            // Made once per worker, so its buffers are never shared.
            .app_data(web::Data::new(Worker::start(&state)))
            .wrap_fn(http::middleware::observe)
            .configure(|config| routes(config, surface))
            .configure(|config| http::bounds(config, body_timeout))
    };
    let workers = if surface == Surface::Admin { 1 } else { workers };
    let places = Connections::new(connections * workers);
    let server = HttpServer::new(factory)
        .workers(workers)
        .on_connect(move |_, connection| {
            connection.insert(places.open());
        })
        .max_connections(connections)
        .keep_alive(Duration::from_secs(settings.keep_alive_seconds))
        .client_request_timeout(Duration::from_millis(settings.client_request_timeout_ms))
        .tcp_nodelay(settings.tcp_nodelay)
        .shutdown_timeout(settings.shutdown_timeout_seconds)
        .disable_signals();
    let server = match tls {
        Some(tls) => server.listen_rustls_0_23(listener, tls.clone()),
        None => server.listen(listener),
    };
    let server = server.map_err(|source| StartError::System { what: "listening", source })?;
    Ok(server.run())
}

/// Worker threads: as many as are set, or one per core.
fn workers(settings: &HttpSettings) -> usize {
    match settings.workers {
        0 => std::thread::available_parallelism().map_or(2, NonZeroUsize::get).min(WORKERS_MAX),
        set => set,
    }
}

/// Connections that each of so many threads holds: as many as are set, and all together no more than two thirds of the files that may be open. Where
/// connections took them all the store could write nothing, and no artifact could be opened.
fn connections(set: usize, threads: usize, files_max: Option<usize>) -> usize {
    let share = files_max.map_or(usize::MAX, |files| (files - files / 3) / threads.max(1));
    set.min(share).max(1)
}

/// Files that this process may have open at once; none where the system sets no limit, or does not say so (it is asked on Linux).
fn files_max() -> Option<usize> {
    soft_limit(&std::fs::read_to_string("/proc/self/limits").ok()?)
}

fn soft_limit(limits: &str) -> Option<usize> {
    let numbers = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    numbers.split_whitespace().next()?.parse().ok()
}

fn routes(config: &mut web::ServiceConfig, surface: Surface) {
    match surface {
        Surface::All => config.configure(http::routes).configure(http::admin_routes),
        Surface::Public => config.configure(http::routes),
        Surface::Admin => config.configure(http::health_routes).configure(http::admin_routes),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_a_third_of_the_files_to_the_rest() {
        assert_eq!(connections(4_096, 3, Some(1_024)), 227);
        assert_eq!(connections(100, 3, Some(1_024)), 100);
        assert_eq!((connections(4_096, 5, Some(4)), connections(4_096, 3, None)), (1, 4_096));
        let says = |soft: &str| format!("Limit  Soft Limit  Hard Limit\nMax open files  {soft}  524288  files\n");
        assert_eq!(["1024", "unlimited"].map(|soft| soft_limit(&says(soft))), [Some(1_024), None]);
    }

    #[test]
    fn what_is_named_to_be_changed_is_what_is_in_the_way() {
        for (kind, setting) in [
            (ErrorKind::AddrInUse, "admin.port"),
            (ErrorKind::PermissionDenied, "admin.port"),
            (ErrorKind::AddrNotAvailable, "admin.host"),
            (ErrorKind::Other, "admin.host"),
        ] {
            assert!(remedy("admin", kind).contains(setting), "{kind}");
        }
    }
}
