//! Weights, data sets, image transforms and training for the networks of [`residual_core`].
#![deny(unsafe_code)]

mod atomic;
pub mod bench;
pub mod data;
pub mod import;
pub mod layer;
pub mod network;
pub mod optim;
pub mod parameters;
pub mod quantize;
pub mod random;
mod read;
#[cfg(test)]
mod reference;
mod text;
pub mod tflite;
pub mod trainer;
mod workers;

pub use atomic::write_atomic;
pub use data::DataError;
pub use import::ImportError;
pub use read::{open_regular, read_regular, read_text};
pub use text::printable;
