//! Files of deep residual networks: weights, int8 models, pictures and labelled sets of them.
//!
//! [`image`] decodes, resizes and crops pictures; [`preprocessing`] makes a network's input of them; [`dataset`] finds
//! labelled pictures in folders. [`weights`] reads trained weights, [`tflite`] int8 networks of TensorFlow Lite.
#![forbid(unsafe_code)]

mod atomic;
pub mod dataset;
mod error;
pub mod image;
pub mod preprocessing;
pub mod quantized;
mod read;
mod size;
mod text;
pub mod tflite;
pub mod weights;

pub use atomic::{remove_leftovers, write_atomic};
pub use error::DataError;
pub use image::Image;
pub use preprocessing::Preprocessing;
pub use read::{open_regular, read_regular, read_text};
pub use size::Size;
pub use text::{listed, printable};
pub use weights::ImportError;
