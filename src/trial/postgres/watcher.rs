//! The watcher, a small shell between us and the server. `PR_SET_PDEATHSIG` would need unsafe code and Linux; the shell holds
//! one end of a pipe from us instead: however we end, the kernel closes our end, the watcher reads the end of its input,
//! stops the server and removes its directory.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::unistd::{Gid, Uid};

use crate::trial::postgres::machine::{account, find_bin, make_root};
use crate::trial::postgres::{Durability, PostgresError, Stop, fake_clock};

/// Runs in the watcher with the bin directory and the root directory as arguments; answers each command with one line.
/// It must outlive us, so it ignores that nobody reads its answers any more.
///
/// A crash halts the server's first process before it looks for the others, so that none is born meanwhile. It takes the
/// lock files away, because until somebody reaps it, a dead server still looks alive to the next one.
const WATCHER: &str = r#"
bin=$1 root=$2
trap '' PIPE
answer() { if "$@" >>"$root/watcher.log" 2>&1 </dev/null; then echo ok; else echo failed; fi; }
stop() { "$bin/pg_ctl" stop -s -w -t 60 -D "$root/data" -m "$1"; }
children() { ps -A -o ppid= -o pid= | while read -r parent pid; do [ "$parent" != "$1" ] || echo "$pid"; done; }
crash() {
    read -r server <"$root/data/postmaster.pid" && kill -STOP "$server" || return 1
    kill -9 $(children "$server") "$server"
    rm -f "$root/data/postmaster.pid" "$root"/.s.PGSQL.*
}
end_pooler() { [ ! -f "$root/pgbouncer.pid" ] || kill -9 "$(cat "$root/pgbouncer.pid")"; }
echo ok
while read -r command argument; do
    case $command in
        initdb) answer "$bin/initdb" -D "$root/data" -U postgres -A trust -E UTF8 --no-locale --no-sync ;;
        copy) answer "$bin/pg_basebackup" -D "$root/data" -h 127.0.0.1 -p "$argument" -U postgres -R -c fast --no-sync ;;
        start) answer "$bin/pg_ctl" start -s -w -t 60 -D "$root/data" -l "$root/server.log" -o "-p $argument" ;;
        stop) answer stop "$argument" ;;
        crash) answer crash ;;
        promote) answer "$bin/pg_ctl" promote -s -w -t 60 -D "$root/data" ;;
        pooler) answer "$argument" -d -q "$root/pgbouncer.ini" ;;
        fill) cat /dev/zero >"$root/small/filler" 2>/dev/null; echo ok ;;
        room) answer rm -f "$root/small/filler" ;;
    esac
done
{ end_pooler; stop immediate; } >/dev/null 2>&1 </dev/null
rm -rf "$root"
"#;

/// Runs the watcher beside a small disk of its own, which only it and its server see: as root of a user namespace it may
/// mount one, and for Postgres, which does not run as root, the watcher is itself again in another. Arguments: our user and
/// group, the watcher, and what the watcher gets.
const ON_A_SMALL_DISK: &str = r#"
uid=$1 gid=$2 watcher=$3 root=$5
mkdir "$root/small" && mount -t tmpfs -o size=32m,mode=777 small "$root/small" || exit 1
unshare -U --map-user="$uid" --map-group="$gid" /bin/sh -c "$watcher" "$0" "$4" "$root"
umount -l "$root/small"
rm -rf "$root"
"#;

/// The shell, our ends of its pipes, and the directory that it removes in the end.
#[derive(Debug)]
pub struct Watcher {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pub root: PathBuf,
}

impl Watcher {
    /// A watcher with an empty directory.
    pub fn start() -> Result<Watcher, PostgresError> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", WATCHER, "chert-outbox-postgres"]);
        Watcher::start_as(shell)
    }

    /// A watcher with an empty directory, and in it a small disk called `small`.
    /// Errors: `PostgresError::NoSmallDisk` where the kernel does not let us make one.
    pub fn start_on_a_small_disk() -> Result<Watcher, PostgresError> {
        let (uid, gid) = account()?.map_or((Uid::effective(), Gid::effective()), |user| (user.uid, user.gid));
        let mut unshare = Command::new("unshare");
        unshare.args(["-Urm", "/bin/sh", "-c", ON_A_SMALL_DISK, "chert-outbox-postgres"]);
        unshare.args([&uid.to_string(), &gid.to_string(), WATCHER]);
        match Watcher::start_as(unshare) {
            Err(PostgresError::Watcher(_) | PostgresError::Talk(_)) => Err(PostgresError::NoSmallDisk),
            started => started,
        }
    }

    /// A watcher with an empty directory, whose server takes its time from a file there. Waits go by the machine's own clock.
    pub fn start_with_a_clock() -> Result<Watcher, PostgresError> {
        let library = fake_clock()?;
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", WATCHER, "chert-outbox-postgres"]);
        let settings = [
            ("LD_PRELOAD", library.as_path()),
            ("FAKETIME_NO_CACHE", Path::new("1")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1")),
        ];
        let watcher = Watcher::start_with(shell, &settings)?;
        write_clock(&watcher.root, 0)?;
        Ok(watcher)
    }

    /// A watcher with an empty directory, whose server's time is so many seconds off the machine's, and stays so.
    pub fn start_off_by(offset_secs: i32) -> Result<Watcher, PostgresError> {
        let library = fake_clock()?;
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", WATCHER, "chert-outbox-postgres"]);
        let offset = PathBuf::from(format!("{offset_secs:+}"));
        let settings = [
            ("LD_PRELOAD", library.as_path()),
            ("FAKETIME", offset.as_path()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1")),
        ];
        Watcher::start_with(shell, &settings)
    }

    fn start_as(shell: Command) -> Result<Watcher, PostgresError> {
        Watcher::start_with(shell, &[])
    }

    fn start_with(mut shell: Command, settings: &[(&str, &Path)]) -> Result<Watcher, PostgresError> {
        let bin = find_bin().ok_or(PostgresError::NoServer)?;
        let account = account()?;
        let root = make_root(account.as_ref()).map_err(PostgresError::Directory)?;
        shell.arg(bin).arg(root.path());
        // A group of its own: the Ctrl-C that lets us finish must not take the server away under us. Nothing of the
        // caller's PG* variables, and English messages, since one of them is looked for below.
        shell.process_group(0).current_dir("/").env_clear().env("LC_ALL", "C");
        shell.envs(settings.iter().copied()).env("FAKETIME_TIMESTAMP_FILE", clock(root.path()));
        shell.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()));
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(user) = &account {
            // The standard library also clears the supplementary groups when root sets a uid.
            shell.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        let mut child = shell.spawn().map_err(PostgresError::Watcher)?;
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let mut watcher = Watcher { child, commands, answers, root: root.path().to_owned() };
        // From its first word on, the watcher is the one that removes the directory.
        watcher.answer().map_err(PostgresError::Talk)?;
        let _ = root.keep();
        Ok(watcher)
    }

    pub fn make_cluster(&mut self, durability: Durability) -> Result<(), PostgresError> {
        if !self.ask("initdb")? {
            return Err(PostgresError::InitDb { log: self.log_tail("watcher.log") });
        }
        self.configure(
            "listen_addresses = '127.0.0.1'\nmax_connections = 300\nshared_buffers = 128MB\nautovacuum = on\n\
             timezone = 'UTC'\nlog_timezone = 'UTC'\n",
        )?;
        match durability {
            Durability::Full => Ok(()),
            // synchronous_commit stays on: without fsync it costs next to nothing, and switched off it would lose commits
            // when a test kills the server.
            Durability::None => self.configure("fsync = off\nfull_page_writes = off\n"),
        }
    }

    /// Makes a standby of the server on this port, with the settings of that one.
    /// Errors: `PostgresError::NoBaseBackup` where the program for it is not installed.
    pub fn copy_cluster(&mut self, primary: u16) -> Result<(), PostgresError> {
        if !find_bin().is_some_and(|bin| bin.join("pg_basebackup").is_file()) {
            return Err(PostgresError::NoBaseBackup);
        }
        if !self.ask(&format!("copy {primary}"))? {
            return Err(PostgresError::Standby { log: self.log_tail("watcher.log") });
        }
        self.configure("")
    }

    /// Adds to the settings, and sees to it that the socket is in our own directory.
    fn configure(&self, settings: &str) -> Result<(), PostgresError> {
        let append = || -> io::Result<()> {
            let mut file = File::options().append(true).open(self.root.join("data/postgresql.conf"))?;
            write!(file, "unix_socket_directories = '{}'\n{settings}", self.root.display())
        };
        append().map_err(PostgresError::Directory)
    }

    /// Somebody else may take the port between our look and the server's: then another one.
    pub fn start_server_on_a_free_port(&mut self) -> Result<u16, PostgresError> {
        let mut tries_left = 5;
        loop {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
            let port = free.map_err(PostgresError::Talk)?.port();
            tries_left -= 1;
            match self.start_server(port) {
                Err(error) if error.is_port_taken() && tries_left > 0 => {}
                result => return result.map(|()| port),
            }
        }
    }

    /// The port must stay, and the system may have lent it to an outgoing connection meanwhile (even to a client that
    /// kept knocking and so reached itself), or a process of a server that crashed is still going: that ends soon.
    pub fn start_server_again(&mut self, port: u16) -> Result<(), PostgresError> {
        let mut tries_left = 25;
        loop {
            tries_left -= 1;
            match self.start_server(port) {
                Err(error) if (error.is_port_taken() || error.is_still_in_use()) && tries_left > 0 => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                result => return result,
            }
        }
    }

    fn start_server(&mut self, port: u16) -> Result<(), PostgresError> {
        match self.ask(&format!("start {port}"))? {
            true => Ok(()),
            false => Err(PostgresError::Start { log: self.log_tail("server.log") }),
        }
    }

    pub fn stop_server(&mut self, how: Stop) -> Result<(), PostgresError> {
        let command = match how {
            Stop::Fast => "stop fast",
            Stop::Immediate => "stop immediate",
            Stop::Kill => "crash",
        };
        if self.ask(command)? { Ok(()) } else { Err(PostgresError::Stop) }
    }

    /// Makes a standby a server of its own.
    pub fn promote(&mut self) -> Result<(), PostgresError> {
        match self.ask("promote")? {
            true => Ok(()),
            false => Err(PostgresError::Standby { log: self.log_tail("watcher.log") }),
        }
    }

    /// Starts this program with `pgbouncer.ini`.
    pub fn start_pooler(&mut self, program: &Path) -> Result<(), PostgresError> {
        match self.ask(&format!("pooler {}", program.display()))? {
            true => Ok(()),
            false => Err(PostgresError::Pooler { log: self.log_tail("watcher.log") }),
        }
    }

    /// Leaves no room on the small disk, or makes room again.
    pub fn fill_disk(&mut self, full: bool) -> Result<(), PostgresError> {
        self.ask(if full { "fill" } else { "room" }).map(drop)
    }

    fn ask(&mut self, command: &str) -> Result<bool, PostgresError> {
        let commands = self.commands.as_mut().expect("the pipe is closed by drop alone");
        writeln!(commands, "{command}").and_then(|()| self.answer()).map_err(PostgresError::Talk)
    }

    fn answer(&mut self) -> io::Result<bool> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        match line.trim() {
            "ok" => Ok(true),
            "failed" => Ok(false),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn log_tail(&self, file: &str) -> String {
        let log = fs::read_to_string(self.root.join(file)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

/// The file that says how far off the server's clock is.
fn clock(root: &Path) -> PathBuf {
    root.join("clock")
}

/// Written beside and moved into place, so that nobody reads half of it.
pub fn write_clock(root: &Path, offset_secs: i32) -> Result<(), PostgresError> {
    let draft = root.join("clock.new");
    let written = fs::write(&draft, format!("{offset_secs:+}\n")).and_then(|()| fs::rename(&draft, clock(root)));
    written.map_err(PostgresError::Clock)
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.child.wait();
    }
}

impl PostgresError {
    fn is_port_taken(&self) -> bool {
        matches!(self, PostgresError::Start { log } if log.contains("Address already in use"))
    }

    fn is_still_in_use(&self) -> bool {
        matches!(self, PostgresError::Start { log } if log.contains("is still in use"))
    }
}
