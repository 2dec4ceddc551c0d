//! The wire to the Chert Messaging API: who we are (`auth`), what we say (`request`), what we hear (`reply`), and the
//! call itself (`client`). Usable without the rest of the crate.

pub mod auth;
pub mod client;
pub mod reply;
pub mod request;
