//! A pgbouncer in transaction mode in front of a server: each transaction may meet another of few connections, and nothing
//! of a session stays.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use tokio::net::TcpStream;

use crate::trial::postgres::machine::find_pooler;
use crate::trial::postgres::{Embedded, PostgresError, url};

/// How often, and how many times, it is looked whether it answers.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: u32 = 200;

impl Embedded {
    /// Starts a pgbouncer with its own defaults and at most `connections` to this server, and returns the URL of the
    /// database `postgres` behind it. It ends with the server's directory.
    /// Errors: `PostgresError::NoPooler` where it is not installed.
    pub async fn pooler(&self, connections: u32) -> Result<String, PostgresError> {
        let program = find_pooler().ok_or(PostgresError::NoPooler)?;
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let port = free.map_err(PostgresError::Talk)?.port();
        // Whoever comes is the user `postgres`. Idle connections to the server close soon, so that none seems left behind.
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={server} user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             logfile = {root}/pgbouncer.log\npidfile = {root}/pgbouncer.pid\n\
             pool_mode = transaction\ndefault_pool_size = {connections}\nserver_idle_timeout = 1\n",
            server = self.port,
            root = self.root.display(),
        );
        std::fs::write(self.root.join("pgbouncer.ini"), settings).map_err(PostgresError::Directory)?;
        self.tell(move |watcher| watcher.start_pooler(&program)).await?;
        // It goes into the background before it listens.
        for _ in 0..LOOKS {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
                return Ok(url(port, "postgres"));
            }
            tokio::time::sleep(LOOK).await;
        }
        let log = std::fs::read_to_string(self.root.join("pgbouncer.log")).unwrap_or_default();
        Err(PostgresError::Pooler { log })
    }
}
