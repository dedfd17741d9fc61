//! The host's face: models from files, pictures, threads.

#[allow(unsafe_code)]
pub(crate) mod error;
#[allow(unsafe_code)]
mod image;
mod int8;
#[allow(unsafe_code)]
mod model;
mod registry;
#[allow(unsafe_code)]
mod session;

pub use error::residual_last_error;
pub use image::*;
pub use model::*;
pub use session::*;
