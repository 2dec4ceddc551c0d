//! The local Chert: an HTTP server that answers as the contract says, fails when asked to, and remembers what each
//! phone received.
//!
//! ```text
//! serve ─▶ send ─▶ caller ─▶ rate ─▶ checks ─▶ state ─▶ answer
//!                                               │ fault, key, dedup window, line, ledger: one lock
//!                                               ▼
//!                           fate, recipients ─▶ timetable ─▶ inbound ─▶ events ─▶ list, stream, webhooks
//!          lookup, admin: what happened, and what shall go wrong
//!          by_hand: who writes, reacts and reads now
//! ```
//!
//! Its open questions and its faults are `Options`; faults also change while it runs (`Handle::set_faults`, `/_sim`).

mod admin;
mod answer;
mod by_hand;
mod caller;
mod calls;
mod checks;
mod clock;
mod error;
mod events;
mod fate;
mod fault;
mod inbound;
mod ledger;
mod lines;
mod lookup;
mod memory;
mod options;
mod rate;
mod recipients;
mod request;
mod send;
mod serve;
mod state;
#[cfg(test)]
mod tests;
mod timetable;
mod webhooks;
mod wire;

use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use caller::Account;
use clock::{Clock, Stamp, retry_after_secs, system_time};
use error::Refusal;
use events::StreamRules;
use rate::RequestRate;
use state::State;
use webhooks::{Deliverer, QUEUE_LIMIT};

pub use caller::AccountChange;
pub use calls::Calls;
pub use events::{Attempt, Event, EventDelivery, EventStatus};
pub use fate::MessageState;
pub use fault::{Fault, Faults, FaultsChange, FaultsError};
pub use inbound::{Inbound, InboundError, Reaction};
pub use ledger::{Attachment, LedgerEntry};
pub use options::{
    Cap, ConcurrentKey, DEFAULT_SECRET, ErrorShape, EventOptions, EventShape, MessageOptions, MessageShape, Options,
    Rate, Recipients, SameKeyOtherBody, WebhookOptions,
};
pub use recipients::{Habit, STOPS};
pub use webhooks::WebhookFaults;

/// Largest request body, in bytes.
const BODY_LIMIT_BYTES: usize = 1024 * 1024;
/// Most connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Why the simulator does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("reading the fault probabilities")]
    Faults(#[source] FaultsError),
    #[error("listening on {addr}")]
    Listen {
        addr: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("making the HTTP client for webhooks")]
    Webhooks(#[source] reqwest::Error),
}

/// Starts a simulator on the current tokio runtime; it answers when this returns.
/// Errors: `StartError::Faults` if the probabilities add up to more than 1, `Listen` if the address is not free, `Webhooks`
/// without TLS.
pub async fn start(options: Options) -> Result<Simulator, StartError> {
    let faults = Faults::of(&options).checked().map_err(StartError::Faults)?;
    let asked = SocketAddr::new(options.host, options.port);
    let listen_error = |source| StartError::Listen { addr: asked, source };
    let listener = TcpListener::bind(asked).await.map_err(listen_error)?;
    let addr = listener.local_addr().map_err(listen_error)?;

    let clock = Clock::start(options.time_scale, options.calendar_ahead);
    let (dispatches, queue) = mpsc::channel(QUEUE_LIMIT);
    let shared = Arc::new(Shared {
        clock,
        line_count: options.lines as usize,
        error_shape: options.error_shape,
        rate: options.request_rate.map(RequestRate::new),
        account: RwLock::new(Account {
            tenant: options.tenant.clone(),
            secret: options.secret.clone(),
            is_suspended: false,
            clock_ahead_secs: 0,
        }),
        deliverer: Deliverer::new(&options.webhooks).map_err(StartError::Webhooks)?,
        stream: StreamRules {
            life: options.events.stream_life,
            heartbeat: options.events.stream_heartbeat,
            shape: options.events.stream_shape,
        },
        state: Mutex::new(State::new(&options, clock, faults, dispatches)),
    });
    let stop = CancellationToken::new();
    tokio::spawn(webhooks::run(Arc::clone(&shared), queue, stop.clone()));
    tokio::spawn(timetable::run(Arc::clone(&shared), stop.clone()));
    let accepting = Some(Accepting::start(listener, &shared));
    info!("Simulator listens on {addr}");
    Ok(Simulator { addr, handle: Handle { shared }, accepting, kept_port: None, _running: StopOnDrop(stop) })
}

/// A running simulator; dropping it stops it.
pub struct Simulator {
    addr: SocketAddr,
    handle: Handle,
    accepting: Option<Accepting>,
    /// Keeps the port while nobody listens there.
    kept_port: Option<TcpSocket>,
    /// Ends the timetable and the webhooks.
    _running: StopOnDrop,
}

impl Simulator {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base URL of the API, e.g. `http://127.0.0.1:9900/api/v1`: the value of `CHERT_BASE_URL`.
    pub fn base_url(&self) -> String {
        format!("{}/api/v1", self.origin())
    }

    /// The base URL of the admin routes, e.g. `http://127.0.0.1:9900/_sim`.
    pub fn admin_url(&self) -> String {
        format!("{}/_sim", self.origin())
    }

    /// A way to look into it from the same process.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// What `Handle::ledger` returns.
    pub fn ledger(&self) -> Vec<LedgerEntry> {
        self.handle.ledger()
    }

    /// What `Handle::set_faults` does.
    pub fn set_faults(&self, faults: Faults) -> Result<(), FaultsError> {
        self.handle.set_faults(faults)
    }

    /// Closes the port and every connection, as if its server were down: callers are refused until it opens again. It
    /// forgets nothing, and the port stays its own. Errors: the port could not be kept.
    pub async fn close(&mut self) -> std::io::Result<()> {
        self.stop_accepting().await;
        let port = if self.addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // Connections that were closed a moment ago still have its address.
        port.set_reuseaddr(true)?;
        port.bind(self.addr)?;
        self.kept_port = Some(port);
        Ok(())
    }

    /// Opens the port that was closed. Errors: nobody can listen there.
    pub fn open(&mut self) -> std::io::Result<()> {
        if let Some(port) = self.kept_port.take() {
            self.accepting = Some(Accepting::start(port.listen(BACKLOG)?, &self.handle.shared));
        }
        Ok(())
    }

    /// Closes the listener and every connection, without waiting for answers; returns when all are closed.
    /// What it knew can still be read through a `Handle`.
    pub async fn shutdown(mut self) {
        self.stop_accepting().await;
    }

    async fn stop_accepting(&mut self) {
        if let Some(Accepting { task, stop }) = self.accepting.take() {
            drop(stop);
            if let Err(error) = task.await {
                warn!("The accept loop ended badly: {error}");
            }
        }
    }

    fn origin(&self) -> String {
        // An unspecified address can be listened on but not called.
        let ip = if self.addr.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { self.addr.ip() };
        format!("http://{}", SocketAddr::new(ip, self.addr.port()))
    }
}

/// Reads and steers a simulator from the same process; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// All messages on all phones, in order of acceptance.
    pub fn ledger(&self) -> Vec<LedgerEntry> {
        self.shared.state().ledger.entries().cloned().collect()
    }

    /// The messages that carried this key, in order of acceptance.
    pub fn ledger_of_key(&self, idempotency_key: &str) -> Vec<LedgerEntry> {
        self.shared.state().ledger.with_key(idempotency_key).cloned().collect()
    }

    /// How many messages there are on all phones, without copying them.
    pub fn ledger_len(&self) -> usize {
        self.shared.state().ledger.entries().len()
    }

    /// This moment on the clock of [`LedgerEntry::at_us`].
    pub fn now_us(&self) -> i64 {
        self.shared.clock.stamp().at_us
    }

    /// The counters.
    pub fn calls(&self) -> Calls {
        self.shared.state().calls.clone()
    }

    /// The faults as they stand; `next` holds those not taken yet.
    pub fn faults(&self) -> Faults {
        self.shared.state().faults.clone()
    }

    /// Puts these faults in place of all others. Errors: `FaultsError`, and nothing changes.
    pub fn set_faults(&self, faults: Faults) -> Result<(), FaultsError> {
        let faults = faults.checked()?;
        self.shared.state().faults = faults;
        Ok(())
    }

    /// Changes the tenant, as its administrator would at Chert.
    pub fn change_account(&self, change: AccountChange) {
        self.shared.account_mut().change(change);
    }
}

/// What all requests share.
struct Shared {
    clock: Clock,
    line_count: usize,
    error_shape: ErrorShape,
    rate: Option<RequestRate>,
    account: RwLock<Account>,
    deliverer: Deliverer,
    stream: StreamRules,
    state: Mutex<State>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the state panics")
    }

    fn account_mut(&self) -> RwLockWriteGuard<'_, Account> {
        self.account.write().expect("no holder of the account panics")
    }

    fn account(&self) -> RwLockReadGuard<'_, Account> {
        self.account.read().expect("no holder of the account panics")
    }

    /// The first two checks of every route: who calls, and how often. Errors: 2xxx, then 1007.
    fn admit(&self, arrival: Stamp, headers: &HeaderMap, raw_body: &[u8]) -> Result<(), Refusal> {
        let account = self.account();
        caller::check(&account, headers, raw_body, system_time().timestamp())?;
        drop(account);
        let taken = self.rate.as_ref().map_or(Ok(()), |rate| rate.take(arrival.at_us));
        taken.map_err(|wait_us| Refusal::new(1007).retry_after(retry_after_secs(wait_us)))
    }
}

/// The accept loop; dropping its `stop` ends it, and with it every connection.
struct Accepting {
    task: JoinHandle<()>,
    stop: StopOnDrop,
}

impl Accepting {
    fn start(listener: TcpListener, shared: &Arc<Shared>) -> Accepting {
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve::serve(listener, routes(Arc::clone(shared)), stop.clone()));
        Accepting { task, stop: StopOnDrop(stop) }
    }
}

struct StopOnDrop(CancellationToken);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/api/v1/send", post(send::send))
        .route("/api/v1/phone-numbers", get(lookup::phone_numbers))
        .route("/api/v1/messages/{id}", get(lookup::message))
        .merge(events::routes())
        .merge(webhooks::routes())
        .merge(admin::routes())
        .fallback(lookup::unknown_route)
        .method_not_allowed_fallback(lookup::unknown_method)
        .with_state(shared)
}

/// A hash for telling bodies apart. Not cryptographic: nobody attacks a simulator.
fn fingerprint(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
