//! One server, assembled on one page: settings in, a port out, stopped by a handle or a signal.
//!
//! Stopping drains: the listener closes, requests in progress have `http.shutdown_timeout_seconds` to finish, what is queued for the
//! history store is committed, then the threads end.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::dev::{Server, ServerHandle};
use actix_web::{App, HttpServer, web};
use tokio::signal::unix::{SignalKind, signal};

use crate::history::RecentInteractions;
use crate::history::memory::MemoryHistory;
use crate::http;
use crate::http::state::{Names, State, Worker};
use crate::reload::Reloader;
use crate::settings::{HistorySettings, HttpSettings, Settings, SettingsError, StoreKind};
use crate::store::embedded::{EmbeddedOptions, EmbeddedStore};
use crate::store::{Documents, StoreError};
use crate::telemetry::{Metrics, TelemetryError};
use crate::user_vector::Weighting;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is out of range.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Logs or metrics.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address.
    #[error("cannot listen on {address}: {source}; choose another http.port, or stop the program that has it")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread, a signal or the server itself.
    #[error("{what} failed: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The server's thread ended before it served.
    #[error("the server's thread ended before it served; its log says why")]
    Ended,
}

/// What a server keeps things in; usually one store under two names.
#[derive(Clone)]
pub struct Stores {
    /// Interactions.
    pub history: Arc<dyn RecentInteractions>,
    /// Everything else.
    pub documents: Arc<dyn Documents>,
}

impl Stores {
    /// A store that keeps both.
    pub fn one(store: Arc<impl RecentInteractions + Documents>) -> Self {
        Self { history: store.clone(), documents: store }
    }
}

/// A server that is listening, and serves while [`Application::run_until_stopped`] is awaited.
pub struct Application {
    server: Server,
    port: u16,
    handle: ApplicationHandle,
}

/// Stops a server from anywhere.
#[derive(Clone)]
pub struct ApplicationHandle {
    server: ServerHandle,
    state: web::Data<State>,
}

impl Application {
    /// Opens the store and the published artifact, listens, and starts the workers. Must be called inside an actix runtime; [`run`] and
    /// [`spawn`] bring their own. Without a published artifact it starts too, and is ready once one is published.
    ///
    /// # Errors
    /// [`StartError`], with the remedy in its message.
    pub async fn build(settings: Settings) -> Result<Self, StartError> {
        settings.validate()?;
        let stores = open_stores(&settings.history)?;
        Self::build_with_stores(settings, stores).await
    }

    /// [`Application::build`] with stores of the caller's.
    ///
    /// # Errors
    /// [`StartError`], with the remedy in its message.
    pub async fn build_with_stores(settings: Settings, stores: Stores) -> Result<Self, StartError> {
        settings.validate()?;
        let (listener, port) = listen(&settings.http)?;
        let metrics = Arc::new(Metrics::new()?);
        let poll = (settings.artifacts.poll_ms > 0).then(|| Duration::from_millis(settings.artifacts.poll_ms));
        let reloader = Reloader::start(&settings.artifacts.dir, poll, Arc::clone(&metrics), system_now_ms)
            .map_err(|source| StartError::System { what: "starting the reload thread", source })?;
        let state = web::Data::new(State {
            reloader: Arc::new(reloader),
            history: stores.history,
            documents: stores.documents,
            metrics,
            scenarios: settings.scenarios,
            read_timeout: Duration::from_millis(settings.history.read_timeout_ms),
            slow_request: Duration::from_millis(settings.http.slow_request_ms),
            retry_after_seconds: settings.http.retry_after_seconds,
            max_in_flight: settings.http.max_in_flight,
            draining: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            clock: system_now_ms,
            default_weighting: Weighting::default(),
            names: Names::default(),
        });
        let server = serve(&settings.http, listener, state.clone())?;
        tracing::info!(host = settings.http.host, port, "listening");
        let handle = ApplicationHandle { server: server.handle(), state };
        Ok(Self { server, port, handle })
    }

    /// The port it listens on, also when the setting was 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A handle that stops it.
    #[must_use]
    pub fn handle(&self) -> ApplicationHandle {
        self.handle.clone()
    }

    /// From now on SIGTERM and SIGINT stop it gracefully, and SIGHUP makes it look for a new artifact.
    ///
    /// # Errors
    /// [`StartError::System`] if the system does not let signals be watched.
    pub fn stop_on_signals(&self) -> Result<(), StartError> {
        let watch = |kind| signal(kind).map_err(|source| StartError::System { what: "watching signals", source });
        let (mut terminate, mut interrupt) = (watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?);
        let mut hangup = watch(SignalKind::hangup())?;
        let handle = self.handle();
        actix_web::rt::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    _ = hangup.recv() => handle.state.reloader.nudge(),
                }
            }
            tracing::info!("stopping: requests in progress are finished first");
            handle.stop().await;
        });
        Ok(())
    }

    /// Serves until it is stopped, then commits what is queued and ends the threads.
    ///
    /// # Errors
    /// [`StartError::System`] if the server itself fails.
    pub async fn run_until_stopped(self) -> Result<(), StartError> {
        let outcome = self.server.await;
        self.handle.state.history.close();
        self.handle.state.reloader.stop();
        tracing::info!("stopped");
        outcome.map_err(|source| StartError::System { what: "serving", source })
    }
}

impl ApplicationHandle {
    /// Stops the server gracefully; resolves when requests in progress have finished or their time is over.
    pub async fn stop(&self) {
        self.state.draining.store(true, Ordering::Relaxed);
        self.server.stop(true).await;
    }
}

/// Runs a server in this thread until a signal stops it.
///
/// # Errors
/// [`StartError`], with the remedy in its message.
pub fn run(settings: Settings) -> Result<(), StartError> {
    actix_web::rt::System::new().block_on(async move {
        let application = Application::build(settings).await?;
        application.stop_on_signals()?;
        application.run_until_stopped().await
    })
}

/// A server in a thread of its own.
pub struct RunningApplication {
    port: u16,
    handle: ApplicationHandle,
    thread: JoinHandle<Result<(), StartError>>,
}

/// Starts a server in a thread of its own and returns when it is listening.
///
/// # Errors
/// [`StartError`], with the remedy in its message.
pub fn spawn(settings: Settings) -> Result<RunningApplication, StartError> {
    settings.validate()?;
    let stores = open_stores(&settings.history)?;
    spawn_with_stores(settings, stores)
}

/// [`spawn`] with stores of the caller's.
///
/// # Errors
/// [`StartError`], with the remedy in its message.
pub fn spawn_with_stores(settings: Settings, stores: Stores) -> Result<RunningApplication, StartError> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let serve = move || {
        actix_web::rt::System::new().block_on(async move {
            let application = Application::build_with_stores(settings, stores).await?;
            // The one who waits may have given up; then the server serves until its handle is gone with the process.
            let _ = sender.send((application.port(), application.handle()));
            application.run_until_stopped().await
        })
    };
    let thread = std::thread::Builder::new()
        .name("kindred-server".to_owned())
        .spawn(serve)
        .map_err(|source| StartError::System { what: "starting the server's thread", source })?;
    match receiver.recv() {
        Ok((port, handle)) => Ok(RunningApplication { port, handle, thread }),
        Err(_) => Err(joined(thread).err().unwrap_or(StartError::Ended)),
    }
}

impl RunningApplication {
    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A handle that stops it.
    #[must_use]
    pub fn handle(&self) -> ApplicationHandle {
        self.handle.clone()
    }

    /// Stops it gracefully and waits for its end.
    ///
    /// # Errors
    /// What the server ended with.
    pub fn stop(self) -> Result<(), StartError> {
        self.handle.state.draining.store(true, Ordering::Relaxed);
        // The order to stop is sent by the call; the thread's end says that it is done.
        drop(self.handle.server.stop(true));
        joined(self.thread)
    }
}

fn joined(thread: JoinHandle<Result<(), StartError>>) -> Result<(), StartError> {
    thread.join().unwrap_or(Err(StartError::Ended))
}

fn listen(settings: &HttpSettings) -> Result<(TcpListener, u16), StartError> {
    let address = format!("{}:{}", settings.host, settings.port);
    let fail = |source| StartError::Listen { address: address.clone(), source };
    let listener = TcpListener::bind((settings.host.as_str(), settings.port)).map_err(fail)?;
    let port = listener.local_addr().map_err(fail)?.port();
    Ok((listener, port))
}

/// Data, limits and routes of the server, and its workers.
fn serve(settings: &HttpSettings, listener: TcpListener, state: web::Data<State>) -> Result<Server, StartError> {
    let factory = move || {
        App::new()
            .app_data(state.clone())
            // Made once per worker, so its buffers are never shared.
            .app_data(web::Data::new(Worker::default()))
            .wrap_fn(http::middleware::observe)
            .configure(http::routes)
    };
    let mut server = HttpServer::new(factory)
        .max_connections(settings.max_connections_per_worker)
        .keep_alive(Duration::from_secs(settings.keep_alive_seconds))
        .client_request_timeout(Duration::from_millis(settings.client_request_timeout_ms))
        .tcp_nodelay(settings.tcp_nodelay)
        .shutdown_timeout(settings.shutdown_timeout_seconds)
        .disable_signals();
    if settings.workers > 0 {
        server = server.workers(settings.workers);
    }
    let server = server.listen(listener).map_err(|source| StartError::System { what: "listening", source })?;
    Ok(server.run())
}

fn open_stores(settings: &HistorySettings) -> Result<Stores, StoreError> {
    match settings.store {
        StoreKind::Memory => {
            let idle = Duration::from_secs(settings.idle_seconds);
            Ok(Stores::one(Arc::new(MemoryHistory::new(settings.cache_mb, settings.keep_per_actor, idle))))
        }
        StoreKind::Embedded => {
            let options = EmbeddedOptions {
                keep: settings.keep_per_actor,
                cache_mb: settings.cache_mb,
                page_cache_mb: settings.page_cache_mb,
                queue: settings.queue,
                retention_ms: (settings.retention_days > 0).then(|| i64::from(settings.retention_days) * 86_400_000),
            };
            Ok(Stores::one(Arc::new(EmbeddedStore::open(&settings.path, options, system_now_ms)?)))
        }
    }
}

/// The time, in milliseconds since 1970; 0 before it.
fn system_now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
