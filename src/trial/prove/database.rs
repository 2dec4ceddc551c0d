//! Postgres goes away, restarts, fills up, fails over.

use crate::trial::prove::Scenario;

pub const SCENARIOS: &[Scenario] = &[];
