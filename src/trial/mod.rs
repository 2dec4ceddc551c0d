//! Rigs that run the product.

pub mod postgres;
