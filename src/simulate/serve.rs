//! The accept loop. It is our own, and not axum's, because a fault must be able to close the socket under a request.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::wire::Hangup;

/// Most connections at once; more wait in the listener's backlog.
const CONNECTION_LIMIT: u32 = 4096;
/// Pause after a failed accept, which is most often a lack of file descriptors that only time cures.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Serves until `stop`, then closes every connection, answered or not, and returns when all are closed.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(CONNECTION_LIMIT as usize));
    let service = TowerToHyperService::new(router);
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                tokio::spawn(converse(stream, service.clone(), Hangup::new(&stop), permit));
            }
            Err(error) => {
                warn!("Accepting a connection failed: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let _all = permits.acquire_many(CONNECTION_LIMIT).await.expect("the semaphore is never closed");
}

/// The next connection. The permit comes first, so that a connection is never accepted only to wait.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.expect("the semaphore is never closed");
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

/// Serves one connection until either side closes it.
async fn converse(
    stream: TcpStream,
    service: TowerToHyperService<Router>,
    hangup: Hangup,
    _permit: OwnedSemaphorePermit,
) {
    let (stream, closed) = (hangup.over(stream), hangup.now.clone());
    let with_hangup = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(hangup.clone());
        service.call(request)
    });
    // No header time-out: it would also close idle connections, which a caller could not tell from a fault.
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), with_hangup);
    tokio::select! {
        biased;
        () = closed.cancelled() => {}
        ended = connection => {
            if let Err(error) = ended {
                debug!("A connection ended early: {error}");
            }
        }
    }
}
