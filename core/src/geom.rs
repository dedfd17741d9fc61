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

/// A sliding window over a map. TFLite's `SAME` padding can be uneven, so the output is given and
/// the padding after the last row and column follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// input map
    pub input: Shape,
    /// output map
    pub output: Shape,
    /// side of the square window
    pub kernel: usize,
    /// stride of both axes
    pub stride: usize,
    /// padding rows above the map
    pub pad_top: usize,
    /// padding columns left of the map
    pub pad_left: usize,
}

impl Window {
    /// Weights that enter one output: `kernel * kernel * c_in`.
    pub const fn taps(&self) -> usize {
        self.kernel * self.kernel * self.input.c
    }

    /// Weights of a convolution over this window, in OHWI order.
    pub const fn weight_len(&self) -> usize {
        self.taps() * self.output.c
    }

    /// Multiply-adds of a convolution over this window, for one image.
    pub const fn macs(&self) -> u64 {
        self.output.h as u64 * self.output.w as u64 * self.weight_len() as u64
    }

    /// Whether every window touches the map, and every size is small enough that nothing computed
    /// from it overflows 32 bits.
    pub fn is_valid(&self) -> bool {
        let Window { input, output, kernel, stride, pad_top, pad_left } = *self;
        let axis = |n: usize, out: usize, pad: usize| {
            let small = |n: usize| (1..=1 << 14).contains(&n);
            small(n) && small(out) && pad < kernel && (out - 1) * stride < n + pad
        };
        let elements = |s: Shape| s.h as u64 * s.w as u64 * s.c as u64;
        let channels = |c: usize| (1..=1 << 16).contains(&c);
        (1..=64).contains(&kernel)
            && (1..=64).contains(&stride)
            && axis(input.h, output.h, pad_top)
            && axis(input.w, output.w, pad_left)
            && channels(input.c)
            && channels(output.c)
            && elements(input) < 1 << 30
            && elements(output) < 1 << 30
            && self.taps() as u64 * (output.c as u64) < 1 << 30
    }

    /// The input row or column that tap `k` of output `out` reads, `None` in the padding.
    pub const fn source(&self, out: usize, k: usize, pad: usize, extent: usize) -> Option<usize> {
        match (out * self.stride + k).checked_sub(pad) {
            Some(i) if i < extent => Some(i),
            _ => None,
        }
    }
}

impl From<ConvGeom> for Window {
    fn from(g: ConvGeom) -> Self {
        let ConvGeom { input, kernel, stride, pad, .. } = g;
        Window { input, output: g.output(), kernel, stride, pad_top: pad, pad_left: pad }
    }
}

impl From<PoolGeom> for Window {
    fn from(g: PoolGeom) -> Self {
        let PoolGeom { input, kernel, stride, pad } = g;
        Window { input, output: g.output(), kernel, stride, pad_top: pad, pad_left: pad }
    }
}

const fn pooled(input: Shape, kernel: usize, stride: usize, pad: usize) -> (usize, usize) {
    let h = (input.h + 2 * pad).saturating_sub(kernel) / stride + 1;
    let w = (input.w + 2 * pad).saturating_sub(kernel) / stride + 1;
    (h, w)
}
