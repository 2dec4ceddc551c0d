//! Asking whoever sits at the terminal.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use anyhow::Context as _;

/// Whether there is anybody to ask.
pub fn is_anybody_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Asks, and says whether the answer was yes.
pub fn agreed(question: &str) -> anyhow::Result<bool> {
    eprint!("{question} [y/N]? ");
    let mut answer = String::new();
    // A line that is no answer is none however long it is.
    io::stdin().lock().take(1_000).read_line(&mut answer).context("reading the answer")?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
