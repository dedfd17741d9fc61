//! The layers, each a forward and a backward with its formula. There is no automatic differentiation:
//! [`crate::engine`] calls them in order.
//!
//! ReLU has no file: forward it is the `max(0, .)` at the end of batch norm's pass, backward the gate
//! of the pass that takes batch norm's sums.

pub(crate) mod batch_norm;
pub(crate) mod conv;
pub(crate) mod linear;
pub(crate) mod pool;
pub(crate) mod shortcut;
pub mod softmax;

use residual_core::Isa;

/// What a training network and its layers are made for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// the most images of a step
    pub batch: usize,
    /// threads that share the work; results do not depend on it
    pub threads: usize,
    /// instruction set
    pub isa: Isa,
    /// allow Winograd's convolutions: faster, and they round more
    pub winograd: bool,
}
