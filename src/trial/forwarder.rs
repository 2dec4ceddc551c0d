//! A port that leads to another one of this machine and can be made to lead elsewhere, as a virtual address does when the
//! server behind it changes.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const AFTER_ERROR: Duration = Duration::from_millis(50);

/// Leads until it is dropped.
pub struct Forwarder {
    port: u16,
    target: watch::Sender<u16>,
    accepting: JoinHandle<()>,
}

impl Forwarder {
    /// A free port that leads to `target`.
    pub async fn start(target: u16) -> io::Result<Forwarder> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let (target, targets) = watch::channel(target);
        let accepting = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((caller, _)) => drop(tokio::spawn(lead(caller, targets.clone()))),
                    // A caller that has gone again, or too many open files: both pass.
                    Err(_) => tokio::time::sleep(AFTER_ERROR).await,
                }
            }
        });
        Ok(Forwarder { port, target, accepting })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Leads to another port from now on; whoever is connected is cut off.
    pub fn lead_to(&self, target: u16) {
        self.target.send_replace(target);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Ends when one side does, when the target changes, or with the forwarder.
async fn lead(mut caller: TcpStream, mut targets: watch::Receiver<u16>) {
    let target = *targets.borrow_and_update();
    if let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await {
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut caller, &mut server) => {}
            _ = targets.changed() => {}
        }
    }
}
