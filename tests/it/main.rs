//! The system from outside: a real Postgres, a real simulator, real processes. `iNN_` names the invariant that a test
//! holds (see ARCHITECTURE.md).

mod campaign;
mod campaigns;
mod claim;
mod clock;
mod commands;
mod crash;
mod database;
mod delivery;
mod enqueue;
mod explain;
mod guards;
mod harness;
mod inbound;
mod model;
mod notify;
mod outcomes;
mod people;
mod plans;
mod replies;
mod schema;
mod wakeups;
