//! The wire to the Chert Messaging API: who we are (`auth`), what we say (`request`), what we hear (`reply`), the call itself
//! (`client`), and all that is asked beside it (`ask`, `lines`, `messages`, `events`, `subscriptions`). Usable without the rest of
//! the crate.

pub mod ask;
pub mod auth;
pub mod client;
pub mod events;
pub mod lines;
pub mod messages;
pub mod reply;
pub mod request;
pub mod subscriptions;
