//! Weights, data sets and image transforms for the networks of [`residual_core`].
#![deny(unsafe_code)]

mod atomic;
pub mod data;
pub mod import;

pub use atomic::write_atomic;
pub use data::DataError;
pub use import::ImportError;
