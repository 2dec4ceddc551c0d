//! A durable, paced outbound send queue on Postgres for the Chert Messaging API.

pub mod chert;
pub mod outcome;
pub mod pace;
pub mod phone;
pub mod retry;
pub mod simulate;
pub mod units;
