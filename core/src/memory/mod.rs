//! Memory: aligned buffers, and disjoint views of matrices.

mod buffer;
mod view;

pub use buffer::Buffer;
pub use view::{MatMut, Parts, Rect};
