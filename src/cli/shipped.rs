//! The model this project trained itself, inside the program: it classifies wherever the program lies.

use residual::{Given, Model};

/// What messages call it.
pub const NAME: &str = "the built-in resnet20-cifar10.safetensors";

/// Classes of CIFAR-10; about a megabyte.
const BYTES: &[u8] = include_bytes!("../../models/resnet20-cifar10.safetensors");

/// The model, with what the caller knows better.
pub fn open(given: &Given) -> Result<Model, residual::Error> {
    Model::from_bytes(NAME, BYTES.to_vec(), given)
}
