//! The API fails in every way that the contract knows, and in some that it does not.

use crate::trial::prove::Scenario;

pub const SCENARIOS: &[Scenario] = &[];
