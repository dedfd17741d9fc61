//! Shapes of feature maps, convolutions and pools. Everything is square-kernelled and NHWC.
//!
//! The fields are public and hold what the caller puts there. So that no product of them can pass for another size, all
//! sizes here *saturate*: one too large to count is `usize::MAX`, which no slice is as long as. What computes with a shape
//! asks first whether it `is_valid`; afterwards nothing about it can overflow.

use core::fmt;

/// Most elements of a map, of a padded map, or of a convolution's weights. Packed forms of them, which are up to 40 times
/// as large and padded to whole vectors, can still be counted.
pub const MAX_ELEMENTS: usize = 1 << if usize::BITS < 64 { 25 } else { 40 };

/// Largest side, stride and padding of a window.
pub const MAX_WINDOW: usize = 64;

/// `sum of a * b`, or `usize::MAX` where that is too large: then no slice is that long.
#[cfg(any(test, feature = "alloc"))]
pub(crate) const fn reach<const N: usize>(terms: [(usize, usize); N]) -> usize {
    let (mut sum, mut i) = (0usize, 0);
    while i < N {
        sum = sum.saturating_add(terms[i].0.saturating_mul(terms[i].1));
        i += 1;
    }
    sum
}

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

    /// Elements of one image; saturates.
    pub const fn elements(self) -> usize {
        self.h.saturating_mul(self.w).saturating_mul(self.c)
    }

    /// Whether it has elements, and at most [`MAX_ELEMENTS`].
    pub const fn is_valid(self) -> bool {
        let elements = self.elements();
        // Without a zero among them no partial product is larger than the whole.
        0 < elements && elements <= MAX_ELEMENTS
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

    /// Weights, in OIHW order `c_out * c_in * kernel * kernel`; saturates.
    pub const fn weight_len(&self) -> usize {
        let taps = self.kernel.saturating_mul(self.kernel);
        self.c_out.saturating_mul(self.input.c).saturating_mul(taps)
    }

    /// Multiply-adds for one image; saturates.
    pub const fn macs(&self) -> u64 {
        let out = self.output();
        (out.h as u64).saturating_mul(out.w as u64).saturating_mul(self.weight_len() as u64)
    }

    /// Whether it can be computed with: maps, padded map and weights are not empty and have at most [`MAX_ELEMENTS`],
    /// window, stride and padding are at most [`MAX_WINDOW`], and the window fits the padded map.
    pub const fn is_valid(&self) -> bool {
        let ConvGeom { input, c_out, kernel, stride, pad } = *self;
        let weights = Shape::new(c_out, input.c, kernel.saturating_mul(kernel));
        is_window(input, kernel, stride, pad) && weights.is_valid() && self.output().is_valid()
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

    /// Whether it can be computed with: as for a convolution, and every window meets the map.
    pub const fn is_valid(&self) -> bool {
        let PoolGeom { input, kernel, stride, pad } = *self;
        is_window(input, kernel, stride, pad) && pad < kernel && self.output().is_valid()
    }
}

/// Windows a side of `n` elements holds; none where they do not move on.
const fn windows(n: usize, kernel: usize, stride: usize, pad: usize) -> usize {
    let last = n.saturating_add(pad.saturating_mul(2)).saturating_sub(kernel);
    match last.checked_div(stride) {
        Some(steps) => steps.saturating_add(1),
        None => 0,
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
        self.kernel.saturating_mul(self.kernel).saturating_mul(self.input.c)
    }

    /// Weights of a convolution over this window, in OHWI order.
    pub const fn weight_len(&self) -> usize {
        self.taps().saturating_mul(self.output.c)
    }

    /// Multiply-adds of a convolution over this window, for one image.
    pub const fn macs(&self) -> u64 {
        (self.output.h as u64).saturating_mul(self.output.w as u64).saturating_mul(self.weight_len() as u64)
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

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Window { input, output, kernel, stride, pad_top, pad_left } = self;
        write!(f, "{kernel}x{kernel}/{stride} pad ")?;
        match pad_top == pad_left {
            true => write!(f, "{pad_top}")?,
            false => write!(f, "{pad_top}x{pad_left}")?,
        }
        write!(f, ", {input} to {} channels", output.c)
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
    (windows(input.h, kernel, stride, pad), windows(input.w, kernel, stride, pad))
}

const fn is_window(input: Shape, kernel: usize, stride: usize, pad: usize) -> bool {
    if !input.is_valid() || pad > MAX_WINDOW {
        return false;
    }
    let (h, w) = (input.h + 2 * pad, input.w + 2 * pad);
    let within = 0 < kernel && kernel <= MAX_WINDOW && 0 < stride && stride <= MAX_WINDOW;
    within && kernel <= h && kernel <= w && Shape::new(h, w, input.c).is_valid()
}

#[cfg(test)]
mod tests {
    use super::{ConvGeom, MAX_ELEMENTS, PoolGeom, Shape, reach};

    #[test]
    fn sizes_too_large_to_count_saturate_and_are_invalid() {
        let half = 1 << (usize::BITS / 2);
        for side in [half, usize::MAX, usize::MAX / 2 + 1] {
            let map = Shape::new(side, side, 2);
            assert_eq!((map.elements(), map.is_valid()), (usize::MAX, false));
            let conv = ConvGeom { input: map, c_out: side, kernel: side, stride: 1, pad: side };
            assert_eq!((conv.weight_len(), conv.is_valid()), (usize::MAX, false));
            assert!(conv.macs() >= usize::MAX as u64);
        }
        assert_eq!(reach([(half, half), (1, 1)]), usize::MAX);
        assert_eq!(reach([(usize::MAX, 1), (2, 3)]), usize::MAX);
        assert_eq!(reach([(2, 3), (4, 5)]), 26);
        // A zero must not hide a factor that others are multiplied with.
        assert!(!Shape::new(0, usize::MAX, 8).is_valid());
    }

    #[test]
    fn only_windows_that_move_and_fit_are_valid() {
        let good = ConvGeom { input: Shape::new(5, 7, 3), c_out: 4, kernel: 3, stride: 2, pad: 1 };
        let pool = PoolGeom { input: good.input, kernel: 3, stride: 2, pad: 1 };
        assert!(good.is_valid() && pool.is_valid());
        let input = Shape::new(1, 1, 3);
        for bad in [
            ConvGeom { stride: 0, ..good },
            ConvGeom { kernel: 0, ..good },
            ConvGeom { c_out: 0, ..good },
            ConvGeom { c_out: MAX_ELEMENTS, ..good },
            ConvGeom { kernel: 8, ..good },
            ConvGeom { stride: usize::MAX, ..good },
            ConvGeom { pad: usize::MAX, ..good },
            ConvGeom { input, pad: 0, ..good },
            ConvGeom { input: Shape::new(MAX_ELEMENTS, 1, 1), ..good },
        ] {
            assert!(!bad.is_valid(), "{bad}");
        }
        for bad in [PoolGeom { stride: 0, ..pool }, PoolGeom { kernel: 0, ..pool }, PoolGeom { pad: 3, ..pool }] {
            assert!(!bad.is_valid(), "{bad:?}");
        }
        assert_eq!(PoolGeom { stride: 0, ..pool }.output().elements(), 0);
    }
}
