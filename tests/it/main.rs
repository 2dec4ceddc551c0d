//! The system from outside: a real Postgres, the real binary.

mod database;
mod enqueue;
mod plans;
