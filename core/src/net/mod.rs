//! Networks: their specification ([`ResNet`]), the walk over it, and the folded list of ops.

mod resnet;
mod walk;

pub use resnet::{Block, ResNet, Shortcut, Stem, StridePlacement, ZeroChannels};
pub use walk::{BlockSpec, ConvSpec, HeadSpec, ShortcutSpec, StemSpec, TensorSpec};

#[cfg(test)]
mod tests;
