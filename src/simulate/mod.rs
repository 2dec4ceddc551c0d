//! The local Chert.
