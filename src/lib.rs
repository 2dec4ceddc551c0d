//! A durable, paced outbound send queue on Postgres for the Chert Messaging API.

pub mod cli;
pub mod trial;

pub mod campaign;
pub mod inbound;
pub mod notify;
pub mod worker;

pub mod outbox;

pub mod chert;
pub mod database;
pub mod delivery;
pub mod outcome;
pub mod pace;
pub mod retry;

pub mod claim;
pub mod clock;
pub mod config;
pub mod failpoint;
pub mod job;
pub mod line;
pub mod phone;
pub mod scope;
pub mod units;

pub mod simulate;

pub use job::{Class, NewJob};
pub use outbox::enqueue::{EnqueueError, Enqueued, enqueue, enqueue_many};
