//! The connection that a request came in on, which a fault can break: at once, or in the middle of the answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::response::Response;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Closes the connection that a request came in on.
#[derive(Clone)]
pub struct Hangup {
    pub now: CancellationToken,
    bytes_left: Arc<AtomicUsize>,
}

impl Hangup {
    /// For a new connection, which also closes when `stop` is cancelled.
    pub fn new(stop: &CancellationToken) -> Hangup {
        Hangup { now: stop.child_token(), bytes_left: Arc::new(AtomicUsize::new(usize::MAX)) }
    }

    /// Closes the connection without an answer. Never returns: the caller ends with its connection.
    pub async fn hang_up(self) -> Response {
        self.now.cancel();
        std::future::pending().await
    }

    /// Closes the connection as soon as this many more bytes have left, whatever they are part of.
    pub fn hang_up_after(&self, bytes: usize) {
        self.bytes_left.store(bytes, Ordering::Relaxed);
    }

    /// The stream as its fault wants it.
    pub fn over(&self, stream: TcpStream) -> Breakable {
        Breakable { stream, bytes_left: Arc::clone(&self.bytes_left) }
    }
}

/// A stream that breaks when its bytes are used up. What left before arrives: closing it afterwards is in good order.
pub struct Breakable {
    stream: TcpStream,
    /// Read and written by the connection's one task; `usize::MAX` for no end.
    bytes_left: Arc<AtomicUsize>,
}

impl AsyncWrite for Breakable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let left = self.bytes_left.load(Ordering::Relaxed);
        if left == 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, &bytes[..bytes.len().min(left)]);
        if let Poll::Ready(Ok(written)) = written
            && left != usize::MAX
        {
            self.bytes_left.store(left - written, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Breakable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}
