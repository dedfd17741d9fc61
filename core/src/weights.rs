//! Where a network's tensors come from.

/// A named f32 tensor in PyTorch's layout (C order; convolutions OIHW).
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'w> {
    /// extents, outermost first
    pub shape: &'w [usize],
    /// elements in C order
    pub data: &'w [f32],
}

/// A collection of named tensors: a mapped file, flash, or a trainer's parameters.
pub trait Weights: Sync {
    /// The tensor called `name` (torchvision's names), if there is one.
    fn tensor(&self, name: &str) -> Option<Tensor<'_>>;

    /// A hint that these elements of a tensor will hardly be read again. They must stay readable, but memory that only
    /// mirrors a file can be given back to the system.
    fn release(&self, _elements: &[f32]) {}
}
