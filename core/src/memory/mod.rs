//! Memory: aligned buffers, and disjoint views of matrices.

mod buffer;
#[allow(unsafe_code)]
mod view;

pub use buffer::Buffer;
pub use view::{MatMut, Parts, Rect};
