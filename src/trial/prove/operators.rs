//! People who pause, cancel, suppress, retry and upgrade while all of it runs.

use crate::trial::prove::Scenario;

pub const SCENARIOS: &[Scenario] = &[];
