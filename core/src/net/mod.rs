//! Networks: their specification ([`ResNet`]), the walk over it, and the folded list of ops.

#[cfg(feature = "alloc")]
mod fold;
#[cfg(feature = "alloc")]
mod ops;
mod resnet;
mod walk;

#[cfg(feature = "alloc")]
pub(crate) use fold::sqrt;
#[cfg(feature = "alloc")]
pub use fold::{BN_EPSILON, fold_batch_norm};
#[cfg(feature = "alloc")]
pub use ops::{FoldedConv, Net, Op, OpKind, ValueId};

pub use resnet::{Block, ResNet, Shortcut, Stem, StridePlacement, ZeroChannels};
pub use walk::{BlockSpec, ConvSpec, HeadSpec, ShortcutSpec, StemSpec, TensorSpec};

#[cfg(test)]
mod tests;
