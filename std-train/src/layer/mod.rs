//! The layers, each a forward and a backward with its formula. There is no automatic differentiation: an engine calls
//! them in order.
//!
//! ReLU has no file: forward it is the `max(0, .)` at the end of batch norm's pass, backward the gate
//! of the pass that takes batch norm's sums.

pub(crate) mod batch_norm;
pub(crate) mod conv;
pub(crate) mod linear;
pub(crate) mod pool;
pub(crate) mod shortcut;
pub mod softmax;
