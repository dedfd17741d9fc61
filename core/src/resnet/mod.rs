//! What a residual network is: its specification ([`ResNet`]), the walk over its layers, and the way from trained
//! weights to a [`Net`](crate::graph::Net).

#[cfg(feature = "alloc")]
mod fold;
mod spec;
mod walk;

#[cfg(feature = "alloc")]
pub(crate) use fold::sqrt;
#[cfg(feature = "alloc")]
pub use fold::{BN_EPSILON, Part, fold_batch_norm, fold_part, graph};
pub use spec::{Block, ResNet, Shortcut, Stem, StridePlacement, ZeroChannels};
pub use walk::{BlockSpec, ConvSpec, HeadSpec, ShortcutSpec, StemSpec, TensorSpec};

#[cfg(test)]
mod tests;
