//! Workers that stand still, and clocks that jump.

use crate::trial::prove::Scenario;

pub const SCENARIOS: &[Scenario] = &[];
