//! int8 networks from and to TensorFlow Lite files (schema 3).
//!
//! [`import`] reads a residual network: CONV_2D, ADD, AVERAGE_POOL_2D over the whole map, MAX_POOL_2D,
//! FULLY_CONNECTED, RESHAPE to a vector, PAD, STRIDED_SLICE and a SOFTMAX at the end. [`export`] writes the
//! same operators. The reference kernels of LiteRT compute the same bytes as this library, with one exception:
//! they rescale FULLY_CONNECTED with a single rounding, this library with the definition's two, so that an
//! output may differ by 1. Networks of the quantizer have a 1x1 convolution there instead.

mod export;
mod flat;
mod import;
mod schema;
mod tensor;

#[cfg(test)]
mod tests;

pub use export::{ExportError, export};
pub use import::{Imported, TfliteError, import};
pub use residual_core::quant::Softmax;

/// Whether bytes are a TensorFlow Lite file.
pub fn is_tflite(bytes: &[u8]) -> bool {
    bytes.get(4..8) == Some(schema::IDENTIFIER.as_bytes())
}
