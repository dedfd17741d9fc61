//! The int8 definition: TFLite's int8 specification with its reference rounding.
//!
//! Weights are symmetric per output channel, activations asymmetric per tensor, biases and
//! accumulators 32 bits, rescaling rounds twice ([`Requant::rescale`]) but in fully connected layers ([`Rounding`]). [`mod@reference`] computes every
//! op plainly; whatever computes the same op elsewhere must give the same bytes.

mod op;
mod quantization;
pub mod reference;
mod requantize;
mod softmax;

pub use crate::geom::Window;
pub use op::{Add, Conv, Encoding, Epilogue, Mean, Op};
pub use quantization::Quantization;
pub use requantize::{Requant, Rounding, saturate};
#[cfg(feature = "alloc")]
pub(crate) use requantize::{doubling_high, rounding_divide};
pub use softmax::Softmax;

#[cfg(all(test, feature = "alloc"))]
mod tests;
