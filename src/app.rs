//! One server, assembled on one page: settings in, a port out, stopped by a handle or a signal.
//!
//! Stopping drains: changes whose callers have gone away are waited for, then the listener closes and requests in progress are finished, both
//! together for `http.shutdown_timeout_seconds` at most; what is queued for the history store is committed, then the threads end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix_web::dev::{Server, ServerHandle};
use actix_web::web;
use tokio::signal::unix::SignalKind;
use tokio::sync::watch::Sender;

use self::listen::{Surface, listen, serve};
use self::rotation::Rotation;
use self::signals::{obey, watch};
pub use self::stores::Stores;
use self::upkeep::{prune, tell_of_rules};
use crate::audit::Audit;
use crate::clock::{Clock, system_now_ms};
use crate::http::state::{Names, State};
use crate::keys::{KeyRing, KeysError, Rate};
use crate::live_catalog::{ChangeError, LiveCatalog};
use crate::overload::Placement;
use crate::people::People;
use crate::people::shown::{ShownLog, ShownOptions};
use crate::recall_audit::RecallAudit;
use crate::reload::Reloader;
use crate::settings::{SecuritySettings, Settings, SettingsError};
use crate::store::StoreError;
use crate::telemetry::{Metrics, TelemetryError, Traces, from_root};
use crate::tls::{self, TlsError};
use crate::trending::{Refresher, Trending};
use crate::user_vector::Weighting;

mod listen;
mod rotation;
mod signals;
mod stores;
mod upkeep;

/// How often a stop looks whether there is still something to wait for.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

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
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address of the network without keys.
    #[error(
        "{address} can be reached from the network and there are no API keys, so anyone could read and change everything; \
         make a key with `kindred key new --role admin >> keys` and set security.keys = \"keys\", listen on 127.0.0.1, \
         or set security.allow_without_keys = true if something before this server checks who calls"
    )]
    Open {
        /// The address.
        address: String,
    },
    /// The audit log.
    #[error("cannot write the audit log {path}: {source}; choose another admin.audit_log", path = path.display())]
    Audit {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The changes of the catalogue.
    #[error(transparent)]
    Catalog(#[from] ChangeError),
    /// The address, or the operator's.
    #[error("cannot listen on {address}: {source}; {remedy}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: std::io::Error,
        /// What to do about it.
        remedy: String,
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

/// A server that is listening, and serves while [`Application::run_until_stopped`] is awaited.
pub struct Application {
    server: Server,
    /// The operator's server, where it has an address of its own.
    admin: Option<Server>,
    port: u16,
    admin_port: Option<u16>,
    handle: ApplicationHandle,
}

/// Stops a server from anywhere.
#[derive(Clone)]
pub struct ApplicationHandle {
    server: ServerHandle,
    admin: Option<ServerHandle>,
    /// Tells the thread that takes keys and certificates anew.
    rotation: SyncSender<()>,
    /// How long a stop may take, and until when one may that has begun.
    patience: Duration,
    deadline: Sender<Option<Instant>>,
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
        let stores = stores::open(&settings.history)?;
        Self::build_with_stores(settings, stores).await
    }

    /// [`Application::build`] with stores of the caller's.
    ///
    /// # Errors
    /// [`StartError`], with the remedy in its message.
    pub async fn build_with_stores(settings: Settings, stores: Stores) -> Result<Self, StartError> {
        settings.validate()?;
        let (listener, address) = listen("http", &settings.http.host, settings.http.port, &settings)?;
        let own = settings
            .admin
            .separate
            .then(|| listen("admin", &settings.admin.host, settings.admin.port, &settings))
            .transpose()?;
        let admin_port = own.as_ref().map(|(_, address)| address.port());
        let tls = settings.tls.is_on().then(|| tls::listener(&settings.tls)).transpose()?;
        let keys = open_keys(&settings.security)?;
        let audit = Audit::open(&settings.admin.audit_log)
            .map_err(|source| StartError::Audit { path: settings.admin.audit_log.clone(), source })?;
        let metrics = Arc::new(Metrics::new()?.with_scenarios(settings.scenarios.keys()));
        let traces = Traces::start(&settings.traces)?;
        let commits = metrics.commit_seconds.clone();
        stores.history.watch_commits(Box::new(move |took| commits.observe(took.as_secs_f64())));
        let poll = (settings.artifacts.poll_ms > 0).then(|| Duration::from_millis(settings.artifacts.poll_ms));
        let catalog = LiveCatalog::load(Arc::clone(&stores.documents))?;
        let catalog = Arc::new(catalog.with_trends_every(settings.trending.refresh_ms));
        let kept = Arc::clone(&catalog);
        let reloader = Reloader::start(
            &settings.artifacts.dir,
            settings.artifacts.memory.into(),
            poll,
            Arc::clone(&metrics),
            system_now_ms,
            kept,
        )
        .map_err(|source| StartError::System { what: "starting the reload thread", source })?;
        let reloader = Arc::new(reloader);
        let people = People::open(&settings.people, stores.history.clone(), stores.documents.clone())?;
        let trending = Arc::new(Trending::new(settings.trending));
        // Who has refused since it was kept is not counted any more.
        trending.count_again(&*stores.history, &reloader, |names| people.counted(names), system_now_ms());
        let clock = Clock::new(settings.http.clock);
        let refresher =
            Refresher::start(Arc::clone(&trending), Arc::clone(&reloader), clock.clone()).map_err(|source| {
                StartError::System { what: "starting the thread that counts what is trending", source }
            })?;
        let recall = RecallAudit::start(
            settings.recall_audit,
            settings.scenarios.keys(),
            Arc::clone(&reloader),
            Arc::clone(&metrics),
        )
        .map_err(|source| StartError::System { what: "starting the thread that measures recall", source })?;
        let log = &settings.recommendation_log;
        let keep_ms = i64::from(log.days_kept(settings.history.retention())) * 86_400_000;
        let options = ShownOptions { sample: log.sample, history: log.history, keep_ms };
        let state = web::Data::new(State {
            people,
            shown: ShownLog::new(stores.documents.clone(), options),
            recall,
            experiments: settings.experiments,
            reloader,
            trending,
            refresher,
            catalog,
            history: stores.history,
            metrics,
            traces,
            scenarios: settings.scenarios.into_iter().map(|(name, one)| (name, Placement::new(one))).collect(),
            keys: keys.clone(),
            cors_origins: settings.security.cors_origins,
            hosts: settings.security.hosts,
            admin_apart: own.is_some(),
            audit,
            wait_target: settings.overload.wait_target(),
            read_timeout: Duration::from_millis(settings.history.read_timeout_ms),
            kept_for_ms: stores::kept_for_ms(&settings.history),
            slow_request: Duration::from_millis(settings.http.slow_request_ms),
            retry_after_seconds: settings.http.retry_after_seconds,
            max_in_flight: settings.http.max_in_flight,
            draining: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            keeping: AtomicUsize::new(0),
            left_alone: AtomicUsize::new(0),
            clock,
            default_weighting: Weighting::default(),
            names: Names::default(),
        });
        let surface = if own.is_some() { Surface::Public } else { Surface::All };
        let speaks = tls.as_ref().map(|(speaks, _)| speaks);
        let server = serve(&settings.http, surface, listener, speaks, &state)?;
        let admin =
            own.map(|(listener, _)| serve(&settings.http, Surface::Admin, listener, speaks, &state)).transpose()?;
        actix_web::rt::spawn(prune(state.clone()));
        actix_web::rt::spawn(tell_of_rules(state.clone()));
        let (tls_on, keys_on) = (tls.is_some(), keys.as_ref().map_or(0, |keys| keys.len()));
        tracing::info!(
            host = settings.http.host,
            port = address.port(),
            tls = tls_on,
            keys = keys_on,
            admin_port,
            artifacts = from_root(&settings.artifacts.dir),
            arithmetic = kindred_index::arithmetic(),
            "listening"
        );
        let rotation = Rotation { keys, certificates: tls.map(|(_, certificates)| certificates) };
        let rotation = rotation.start(settings.security.reload_ms, &state);
        let what = "starting the thread that takes keys and certificates anew";
        let rotation = rotation.map_err(|source| StartError::System { what, source })?;
        let patience = Duration::from_secs(settings.http.shutdown_timeout_seconds);
        let admin_handle = admin.as_ref().map(Server::handle);
        let (server_handle, deadline) = (server.handle(), Sender::new(None));
        let handle =
            ApplicationHandle { server: server_handle, admin: admin_handle, rotation, patience, deadline, state };
        Ok(Self { server, admin, port: address.port(), admin_port, handle })
    }

    /// The port it listens on, also when the setting was 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of the operator's routes, where they have one of their own.
    #[must_use]
    pub fn admin_port(&self) -> Option<u16> {
        self.admin_port
    }

    /// A handle that stops it.
    #[must_use]
    pub fn handle(&self) -> ApplicationHandle {
        self.handle.clone()
    }

    /// Serves until it is stopped, then commits what is queued and ends the threads.
    ///
    /// # Errors
    /// [`StartError::System`] if the server itself fails.
    pub async fn run_until_stopped(self) -> Result<(), StartError> {
        // The operator's server goes on while requests in progress are finished, and is stopped after it.
        let admin = self.admin.map(actix_web::rt::spawn);
        let outcome = tokio::select! {
            biased;
            outcome = self.server => outcome,
            // Let go of, the server closes them.
            () = self.handle.time_is_over() => {
                tracing::warn!("http.shutdown_timeout_seconds are over: connections that are still open are closed");
                Ok(())
            }
        };
        if let Some((server, handle)) = admin.zip(self.handle.admin.clone()) {
            handle.stop(false).await;
            // It has been told to stop, and nothing is served by it any more.
            let _ = server.await;
        }
        let state = self.handle.state.clone();
        // Beside this thread, which goes on heeding signals: a reload in progress or a slow disk takes its time.
        let closing = web::block(move || {
            state.history.close();
            state.refresher.stop();
            state.recall.stop();
            state.reloader.stop();
            state.traces.stop();
        });
        // What ends badly has said so itself.
        let _ = closing.await;
        tracing::info!("stopped");
        outcome.map_err(|source| StartError::System { what: "serving", source })
    }
}

impl ApplicationHandle {
    /// Stops the server gracefully; resolves when requests in progress have finished or their time is over.
    pub async fn stop(&self) {
        self.begin_to_stop();
        while self.waits() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        self.server.stop(true).await;
    }

    /// The time of a stop runs from when it is first told.
    fn begin_to_stop(&self) {
        self.state.draining.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + self.patience;
        self.deadline.send_if_modified(|told| told.is_none() && told.replace(deadline).is_none());
    }

    /// Whether there are changes whose callers have gone away: a worker stays for connections, and these have none.
    fn waits(&self) -> bool {
        let is_in_time = self.deadline.borrow().is_some_and(|deadline| Instant::now() < deadline);
        is_in_time && self.state.left_alone.load(Ordering::Relaxed) > 0
    }

    /// Resolves when a stop has taken as long as it may.
    async fn time_is_over(&self) {
        let mut deadline = self.deadline.subscribe();
        let told = deadline.wait_for(Option::is_some).await.ok().and_then(|told| *told);
        match told {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    }

    /// What SIGHUP does: the operator has changed something.
    fn hang_up(&self) {
        self.state.reloader.nudge();
        // Where it has been told already, that look is yet to come.
        let _ = self.rotation.try_send(());
    }
}

/// Runs a server in this thread until a signal stops it.
///
/// # Errors
/// [`StartError`], with the remedy in its message.
pub fn run(settings: Settings) -> Result<(), StartError> {
    actix_web::rt::System::new().block_on(async move {
        // Not only once all is open, which may take minutes: unwatched, SIGHUP ends the process, and who publishes sends it whenever that is.
        let hangup = watch(SignalKind::hangup())?;
        let application = Application::build(settings).await?;
        obey(application.handle(), hangup)?;
        application.run_until_stopped().await
    })
}

/// A server in a thread of its own.
pub struct RunningApplication {
    port: u16,
    admin_port: Option<u16>,
    handle: ApplicationHandle,
    thread: JoinHandle<Result<(), StartError>>,
}

/// Starts a server in a thread of its own and returns when it is listening.
///
/// # Errors
/// [`StartError`], with the remedy in its message.
pub fn spawn(settings: Settings) -> Result<RunningApplication, StartError> {
    settings.validate()?;
    let stores = stores::open(&settings.history)?;
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
            let _ = sender.send((application.port(), application.admin_port(), application.handle()));
            application.run_until_stopped().await
        })
    };
    let thread = std::thread::Builder::new()
        .name("kindred-server".to_owned())
        .spawn(serve)
        .map_err(|source| StartError::System { what: "starting the server's thread", source })?;
    match receiver.recv() {
        Ok((port, admin_port, handle)) => Ok(RunningApplication { port, admin_port, handle, thread }),
        Err(_) => Err(joined(thread).err().unwrap_or(StartError::Ended)),
    }
}

impl RunningApplication {
    /// The port of the operator's routes, where they have one of their own.
    #[must_use]
    pub fn admin_port(&self) -> Option<u16> {
        self.admin_port
    }

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
        self.handle.begin_to_stop();
        while self.handle.waits() {
            std::thread::sleep(LOOK_AGAIN);
        }
        // The order to stop is sent by the call; the thread's end says that it is done.
        drop(self.handle.server.stop(true));
        joined(self.thread)
    }
}

fn joined(thread: JoinHandle<Result<(), StartError>>) -> Result<(), StartError> {
    thread.join().unwrap_or(Err(StartError::Ended))
}

fn open_keys(settings: &SecuritySettings) -> Result<Option<Arc<KeyRing>>, KeysError> {
    if settings.keys.as_os_str().is_empty() {
        return Ok(None);
    }
    let usual = Rate { per_second: settings.requests_per_second, burst: settings.burst };
    Ok(Some(Arc::new(KeyRing::open(&settings.keys, usual)?)))
}
