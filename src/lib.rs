//! A durable, paced outbound send queue on Postgres for the Chert Messaging API.

pub mod chert;
pub mod simulate;
