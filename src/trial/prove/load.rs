//! A million rows, one recipient, open transactions, many workers, many lines.

use crate::trial::prove::Scenario;

pub const SCENARIOS: &[Scenario] = &[];
