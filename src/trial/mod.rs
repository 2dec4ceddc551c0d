//! Rigs that run the product.

pub mod bench;
pub mod postgres;
