//! What runs: a flat list of ops on numbered values.

mod ops;

pub(crate) use ops::Source;
pub use ops::{FoldedConv, Net, Op, OpKind, ValueId};
