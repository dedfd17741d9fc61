//! Element types of activations and weights.

/// An element type together with what its accumulator needs.
pub trait Elem: Copy + Default + Send + Sync + 'static {
    /// Accumulator and bias: f32 for f32.
    type Acc: Copy + Sync;
}

impl Elem for f32 {
    type Acc = f32;
}
