//! Weights, data sets, image transforms and training for the networks of [`residual_core`].
#![deny(unsafe_code)]

mod atomic;
pub mod data;
pub mod import;

pub use atomic::write_atomic;
pub use import::ImportError;
