//! What this machine has: Postgres's programs, an account to run them as, and a directory that it can reach.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use tempfile::TempDir;

use crate::trial::postgres::PostgresError;

/// The directory of the server's programs: on PATH, else where packages put it, the newest version first.
pub fn find_bin() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let packaged = [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/opt/homebrew/opt", "postgresql", "bin"),
        ("/usr/local/opt", "postgresql", "bin"),
    ];
    let packaged = packaged.into_iter().flat_map(|(parent, prefix, bin)| {
        let names = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let names = names.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with(prefix));
        let mut found: Vec<(u32, PathBuf)> =
            names.map(|name| (version(&name), Path::new(parent).join(name).join(bin))).collect();
        found.sort_by(|a, b| b.cmp(a));
        found.into_iter().map(|(_, bin)| bin)
    });
    let programs = ["postgres", "initdb", "pg_ctl"];
    let whole = |bin: &PathBuf| bin.is_absolute() && programs.iter().all(|program| bin.join(program).is_file());
    let bin = std::env::split_paths(&path).chain(packaged).find(whole)?;
    // Where there are links to some of them, all of them are where the links lead.
    let home = bin.join("postgres").canonicalize().ok().and_then(|program| program.parent().map(Path::to_owned));
    Some(home.filter(whole).unwrap_or(bin))
}

/// The program pgbouncer, which packages put where administrators look.
pub fn find_pooler() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let packaged = ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin", "/usr/local/bin"].map(PathBuf::from);
    let mut directories = std::env::split_paths(&path).chain(packaged);
    directories.find_map(|directory| Some(directory.join("pgbouncer")).filter(|program| program.is_file()))
}

/// The library that lets programs see another time, where packages put it.
pub fn find_fake_clock() -> Option<PathBuf> {
    let architectures = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let places = architectures.chain(["/usr/lib".into(), "/usr/lib64".into(), "/usr/local/lib".into()]);
    places.map(|place: PathBuf| place.join("faketime/libfaketimeMT.so.1")).find(|library| library.is_file())
}

/// The number in `17`, `pgsql-17` or `postgresql@17`; 0 if there is none.
fn version(name: &str) -> u32 {
    name.trim_start_matches(|c: char| !c.is_ascii_digit()).split('.').next().unwrap_or_default().parse().unwrap_or(0)
}

/// Whom to run the server as; none is ourselves.
pub fn account() -> Result<Option<User>, PostgresError> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let named = |name| User::from_name(name).ok().flatten();
    named("postgres").or_else(|| named("nobody")).map(Some).ok_or(PostgresError::NoAccount)
}

/// An empty directory that the account owns and can reach; the temporary directory may lie in root's own home.
pub fn make_root(account: Option<&User>) -> io::Result<TempDir> {
    let Some(user) = account else { return tempfile::Builder::new().prefix("chert-outbox-pg-").tempdir() };
    let everybody_may_pass = |dir: &&PathBuf| {
        dir.ancestors().all(|dir| fs::metadata(dir).is_ok_and(|dir| dir.is_dir() && dir.mode() & 0o001 != 0))
    };
    let bases = [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()];
    let base = bases.iter().find(everybody_may_pass).unwrap_or(&bases[0]);
    let root = tempfile::Builder::new().prefix("chert-outbox-pg-").tempdir_in(base)?;
    chown(root.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_names() {
        assert_eq!(["17", "9.6", "pgsql-16", "postgresql@15", "postgresql"].map(version), [17, 9, 16, 15, 0]);
    }
}
