//! Element types of feature maps.

use core::fmt;

/// The type of a feature map's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// 32-bit floating point
    F32,
    /// 8-bit integers with a scale and a zero point
    I8,
}

impl Dtype {
    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::I8 => 1,
        }
    }

    /// `f32` or `int8`.
    pub const fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::I8 => "int8",
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(feature = "alloc")]
pub use typed::Elem;

#[cfg(feature = "alloc")]
mod typed {
    use super::Dtype;

    mod sealed {
        pub trait Sealed {}
        impl Sealed for f32 {}
        impl Sealed for i8 {}
    }

    /// A Rust type that feature maps can consist of.
    pub trait Elem: sealed::Sealed + bytemuck::Pod + Send + Sync {
        /// The type as a value.
        const DTYPE: Dtype;
    }

    impl Elem for f32 {
        const DTYPE: Dtype = Dtype::F32;
    }

    impl Elem for i8 {
        const DTYPE: Dtype = Dtype::I8;
    }
}
