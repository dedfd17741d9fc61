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

#[cfg(feature = "alloc")]
pub use zeros::Zeros;

#[cfg(feature = "alloc")]
mod zeros {
    use alloc::{collections::BTreeMap, string::String, vec::Vec};

    use super::{Tensor, Weights};
    use crate::resnet::ResNet;

    /// All tensors of a network, every value 0: enough to plan it, at the cost of its largest tensor.
    ///
    /// ```
    /// use residual_core::{resnet::{ResNet, fold_batch_norm}, plan::{Options, Plan}, weights::Zeros};
    /// let spec: ResNet = "resnet50".parse()?;
    /// let plan = Plan::new(&fold_batch_norm(&spec, &Zeros::new(&spec))?, &Options::default())?;
    /// assert!(plan.arena_len() > 0);
    /// # Ok::<(), residual_core::Error>(())
    /// ```
    #[derive(Clone, Debug)]
    pub struct Zeros {
        shapes: BTreeMap<String, Vec<usize>>,
        data: Vec<f32>,
    }

    impl Zeros {
        /// The tensors of `spec`.
        pub fn new(spec: &ResNet) -> Self {
            let longest = spec.tensors().map(|t| t.elements()).max().unwrap_or_default();
            let shapes = spec.tensors().map(|t| (String::from(t.name.as_str()), t.shape().to_vec()));
            Zeros { shapes: shapes.collect(), data: alloc::vec![0.0; longest] }
        }
    }

    impl Weights for Zeros {
        fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
            let shape = self.shapes.get(name)?;
            Some(Tensor { shape, data: self.data.get(..shape.iter().product())? })
        }
    }
}
