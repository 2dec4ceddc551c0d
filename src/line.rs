//! Who chooses the line of a recipient that nobody has written to yet.

/// Which line takes an unknown recipient (`OUTBOX_LINE_CHOICE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LineChoice {
    /// Chert chooses: no line is named, because Chert may know the recipient from before, and naming another line would
    /// move that person's pin. Budgets are exact for all lines together.
    Chert,
    /// The line whose turn it is, by name: budgets are exact a line. Right where recipients are new.
    Name,
}

/// The stand-in for "any line", in `outbox.lines` and as the queue of recipients without a pin.
pub const ANY_LINE: &str = "*";
