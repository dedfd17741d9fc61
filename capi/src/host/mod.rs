//! The host's face: models from files, pictures, threads.

pub(crate) mod error;
mod image;
mod int8;
mod model;
mod options;
mod registry;
mod session;
mod text;

pub use error::residual_last_error;
pub use image::*;
pub use model::*;
pub use options::*;
pub use session::*;
