//! Shapes of feature maps, convolutions and pools. Everything is square-kernelled and NHWC.

use core::fmt;

/// One image's feature map: `h` x `w` pixels of `c` channels, channels contiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// rows
    pub h: usize,
    /// columns
    pub w: usize,
    /// channels
    pub c: usize,
}

impl Shape {
    /// A shape from its three extents.
    pub const fn new(h: usize, w: usize, c: usize) -> Self {
        Shape { h, w, c }
    }

    /// Elements of one image.
    pub const fn elements(self) -> usize {
        self.h * self.w * self.c
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.h, self.w, self.c)
    }
}

/// A convolution of one image: square kernel, equal stride and zero padding on both axes, no groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvGeom {
    /// input map
    pub input: Shape,
    /// output channels
    pub c_out: usize,
    /// kernel side
    pub kernel: usize,
    /// stride of both axes
    pub stride: usize,
    /// zero rows and columns on every side
    pub pad: usize,
}

impl ConvGeom {
    /// The output map: `(h + 2 pad - kernel) / stride + 1` rows, and columns alike.
    pub const fn output(&self) -> Shape {
        let (h, w) = pooled(self.input, self.kernel, self.stride, self.pad);
        Shape { h, w, c: self.c_out }
    }

    /// Weights, in OIHW order `c_out * c_in * kernel * kernel`.
    pub const fn weight_len(&self) -> usize {
        self.c_out * self.input.c * self.kernel * self.kernel
    }

    /// Multiply-adds for one image.
    pub const fn macs(&self) -> u64 {
        let out = self.output();
        out.h as u64 * out.w as u64 * self.weight_len() as u64
    }
}

impl fmt::Display for ConvGeom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConvGeom { input, c_out, kernel, stride, pad } = self;
        write!(f, "{kernel}x{kernel}/{stride} pad {pad}, {input} to {c_out} channels")
    }
}

/// A pooling window; padding never wins a maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolGeom {
    /// input map
    pub input: Shape,
    /// window side
    pub kernel: usize,
    /// stride of both axes
    pub stride: usize,
    /// rows and columns of padding on every side
    pub pad: usize,
}

impl PoolGeom {
    /// The output map, by the same formula as a convolution's.
    pub const fn output(&self) -> Shape {
        let (h, w) = pooled(self.input, self.kernel, self.stride, self.pad);
        Shape { h, w, c: self.input.c }
    }
}

const fn pooled(input: Shape, kernel: usize, stride: usize, pad: usize) -> (usize, usize) {
    let h = (input.h + 2 * pad).saturating_sub(kernel) / stride + 1;
    let w = (input.w + 2 * pad).saturating_sub(kernel) / stride + 1;
    (h, w)
}
