//! The host's face: models from files, pictures, threads.

#[allow(unsafe_code)]
pub(crate) mod error;
#[allow(unsafe_code)]
mod image;
#[allow(unsafe_code)]
mod model;
#[allow(unsafe_code)]
mod options;
mod registry;
#[allow(unsafe_code)]
mod session;
#[allow(unsafe_code)]
mod text;

pub use error::residual_last_error;
pub use image::*;
pub use model::*;
pub use options::*;
pub use session::*;
