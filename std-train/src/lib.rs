//! Weights, data sets and image transforms for the networks of [`residual_core`].
#![deny(unsafe_code)]

mod atomic;
pub mod import;

pub use atomic::write_atomic;
pub use import::ImportError;
