//! int8 networks from and to TensorFlow Lite files (schema 3).
//!
//! [`import`] reads a residual network: CONV_2D, ADD, MAX_POOL_2D, AVERAGE_POOL_2D or MEAN over the whole map,
//! FULLY_CONNECTED, PAD and PADV2, STRIDED_SLICE, RESHAPE to a vector with the operators that compute its shape (SHAPE,
//! STRIDED_SLICE, PACK), and a SOFTMAX at the end. QUANTIZE first and DEQUANTIZE or QUANTIZE last become the file's
//! [`End`]s. [`export`] writes the same operators, with int8 ends. The reference kernels of LiteRT compute the same
//! bytes as this library.

mod ends;
mod export;
mod flat;
mod import;
mod names;
mod schema;
mod tensor;

#[cfg(test)]
mod foreign;
#[cfg(test)]
mod tests;

pub use ends::{End, Numbers, Rescaled};
pub use export::{ExportError, export};
pub use import::{Imported, TfliteError, import};
pub use residual_core::quant::Softmax;

/// Whether bytes are a TensorFlow Lite file.
pub fn is_tflite(bytes: &[u8]) -> bool {
    bytes.get(4..8) == Some(schema::IDENTIFIER.as_bytes())
}
