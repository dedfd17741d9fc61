//! The int8 definition: TFLite's int8 specification with its reference rounding.
//!
//! Weights are symmetric per output channel, activations asymmetric per tensor, biases and
//! accumulators 32 bits, rescaling rounds twice ([`Requant::rescale`]) but in fully connected layers ([`Rounding`]). [`mod@reference`] computes every
//! op plainly; whatever computes the same op elsewhere must give the same bytes.

mod op;
pub mod reference;
mod requantize;
#[cfg(feature = "alloc")]
mod session;
mod softmax;

pub use op::{Add, Conv, Encoding, Mean, Op, Window};
pub use requantize::{Requant, Rounding, saturate};
#[cfg(feature = "alloc")]
pub use session::{Model, Session};
pub use softmax::Softmax;

#[cfg(feature = "alloc")]
pub use crate::simd::DotIsa;

#[cfg(all(test, feature = "alloc"))]
mod tests;
