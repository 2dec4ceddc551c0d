//! The listener of webhooks. It is our own, and not axum's, because everybody can reach it: connections are few, and whoever is
//! slow is cut off.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::inbound::{InboundError, stopped};

/// The most connections at once; more wait in the listener's backlog.
const MOST_CONNECTIONS: u32 = 256;
/// How long the head of a request may take to arrive, and how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept, which is most often a lack of file descriptors that only time cures.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long requests in flight may take to end when the listener stops.
const GRACE: Duration = Duration::from_secs(5);

/// Listens on the address. Errors: `InboundError::Listen`.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, InboundError> {
    TcpListener::bind(addr).await.map_err(|source| InboundError::Listen { addr, source })
}

/// Serves until it is told to stop; then answers what is in flight, and returns.
pub async fn serve(listener: TcpListener, router: Router, mut stopping: watch::Receiver<bool>) {
    if let Ok(addr) = listener.local_addr() {
        info!("Webhooks are received on http://{addr}{}", super::webhook::PATH);
    }
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS as usize));
    let service = TowerToHyperService::new(router);
    loop {
        let accepted = tokio::select! {
            () = stopped(&mut stopping) => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                tokio::spawn(converse(stream, service.clone(), stopping.clone(), place));
            }
            Err(error) => {
                warn!("Accepting a webhook's connection failed: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    // A moment longer than each connection gives itself.
    if timeout(2 * GRACE, places.acquire_many(MOST_CONNECTIONS)).await.is_err() {
        warn!("Some webhooks were not answered in time");
    }
}

/// The next connection. Its place comes first, so that none is accepted only to wait.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

async fn converse(
    stream: TcpStream,
    service: TowerToHyperService<Router>,
    mut stopping: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            timeout(GRACE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        debug!("A webhook's connection ended early: {error}");
    }
}
