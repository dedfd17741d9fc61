//! Training and quantization for the networks of [`residual_core`].
#![deny(unsafe_code)]

pub mod bench;
pub mod data;
pub mod engine;
pub mod layer;
pub mod optim;
pub mod parameters;
pub mod quantize;
pub mod random;
#[cfg(test)]
mod reference;
pub mod topology;
pub mod trainer;
