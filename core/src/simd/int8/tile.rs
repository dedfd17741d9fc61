//! The tile, written once over [`Lanes`].

use core::cmp::min;

use super::{super::vector::unroll, Layout};
use crate::{
    memory::MatMut,
    quant::{Add, Encoding, Epilogue, Requant, Rounding},
};

/// Vectors of 32-bit lanes: only what the tile needs.
///
/// # Safety
/// Every function asks for the instruction set the implementation belongs to; pointers are valid for
/// [`Lanes::LANES`] elements.
pub(super) trait Lanes: Copy {
    /// Lanes of a vector.
    const LANES: usize;
    /// Products that one lane sums in one step.
    const PER_WORD: usize;
    /// Vectors of the widest panel.
    const PANEL: usize;
    /// Rows of the largest tile, by the panel's vectors less 1.
    const MAX_ROWS: [usize; 4];

    /// `v` in every lane.
    unsafe fn splat(v: i32) -> Self;
    /// Loads.
    unsafe fn load(p: *const i32) -> Self;
    /// Stores.
    unsafe fn store(self, p: *mut i32);
    /// Sign-extended bytes.
    unsafe fn load_bytes(p: *const i8) -> Self;
    /// Lanes, all in `-128..=127`, as bytes.
    unsafe fn store_bytes(self, p: *mut i8);
    /// This plus the sum of products of the words of `x` and `w`.
    unsafe fn dot(self, x: Self, w: Self) -> Self;
    /// Wrapping sum.
    unsafe fn add(self, b: Self) -> Self;
    /// Wrapping difference.
    unsafe fn sub(self, b: Self) -> Self;
    /// `max(low, min(high, self))`.
    unsafe fn clamp(self, low: Self, high: Self) -> Self;
    /// Every lane shifted left by its count.
    unsafe fn shl(self, count: Self) -> Self;
    /// `Requant::rescale` for a factor without its left shift.
    unsafe fn rescale(self, mult: Self, right: Self) -> Self;
    /// `Requant::rescale_once`, lane by lane: only the last layer asks for it.
    #[inline(never)]
    unsafe fn rescale_once(self, mult: Self, left: Self, right: Self) -> Self {
        let mut lanes = [[0; 16]; 4];
        // SAFETY: no vector has more than 16 lanes.
        unsafe {
            for (lanes, v) in lanes.iter_mut().zip([self, mult, left, right]) {
                v.store(lanes.as_mut_ptr());
            }
            let [mut sums, mults, lefts, rights] = lanes;
            for (i, sum) in sums.iter_mut().enumerate() {
                let factor = Requant { mult: mults[i], shift: (lefts[i] - rights[i]) as i8 };
                *sum = factor.rescale_once(*sum);
            }
            Self::load(sums.as_ptr())
        }
    }
}

/// Accumulators of the largest tile: 12 pixels of 2 vectors of 16 lanes, or as many otherwise.
const MOST_LANES: usize = 12 * 2 * 16;

/// A factor whose shift is not positive, in every lane.
#[derive(Clone, Copy, Debug)]
struct Rescale {
    mult: i32,
    right: i32,
}

impl From<Requant> for Rescale {
    fn from(factor: Requant) -> Self {
        Rescale { mult: factor.mult, right: -i32::from(factor.shift) }
    }
}

impl Rescale {
    #[inline(always)]
    unsafe fn apply<L: Lanes>(self, v: L) -> L {
        // SAFETY: the caller's.
        unsafe { v.rescale(L::splat(self.mult), L::splat(self.right)) }
    }
}

/// Output rows of one image and some of its channels.
///
/// `x` holds the padded input rows that these output rows read, `columns * pixel` words each. `panels` holds the weights
/// of all panels, `kernel * kernel * pixel` rows of their own width each, and `lanes` bias, multiplier, left and right
/// shift of every channel; both are rounded up to whole vectors, `panel` channels in all panels but the last.
pub(crate) struct Tile<'a> {
    /// kernel side
    pub kernel: usize,
    /// stride of both axes
    pub stride: usize,
    /// words of an input pixel
    pub pixel: usize,
    /// pixels of a padded input row
    pub columns: usize,
    /// pixels of an output row
    pub width: usize,
    pub x: &'a [i32],
    pub panels: &'a [i32],
    pub lanes: [&'a [i32]; 4],
    /// what happens to sums
    pub epilogue: &'a Epilogue,
    /// the first output channel, where a panel begins
    pub first: usize,
    /// pixels by channels; holds the shortcut where the epilogue adds one
    pub y: MatMut<'a, i8>,
    /// channels of a full panel
    pub panel: usize,
}

impl Tile<'_> {
    /// Makes sure that nothing outside the slices is read or written.
    ///
    /// # Panics
    /// When a slice is too short.
    pub(super) fn check(&self, layout: Layout) {
        let Tile { kernel, stride, pixel, columns, width, first, .. } = *self;
        let (pixels, channels) = (self.y.rows(), self.y.cols());
        let lanes = self.lanes[0].len();
        let depth = kernel * kernel * pixel;
        assert!(self.panel == layout.panel && lanes.is_multiple_of(layout.lanes) && first.is_multiple_of(self.panel));
        assert!(self.lanes.iter().all(|l| l.len() == lanes) && first <= lanes && channels <= lanes - first);
        assert!(width > 0 && pixels.is_multiple_of(width) && self.panels.len() == depth * lanes);
        assert!(columns >= (width - 1) * stride + kernel);
        if pixels > 0 {
            assert!(self.x.len() >= ((pixels / width - 1) * stride + kernel) * columns * pixel);
        }
    }

    /// Computes everything.
    ///
    /// # Safety
    /// The CPU has the instruction set of `L`, and [`Tile::check`] has passed for its layout.
    #[inline(always)]
    pub(super) unsafe fn run<L: Lanes>(&mut self) {
        let depth = self.kernel * self.kernel * self.pixel;
        let (end, c_out) = (self.first + self.y.cols(), self.lanes[0].len());
        for first in (self.first..end).step_by(self.panel) {
            let vectors = min(self.panel, c_out - first) / L::LANES;
            let words = self.panels[first * depth..].as_ptr();
            // SAFETY: panels lie one after the other, `depth` rows of their own width each.
            unsafe {
                match vectors {
                    4 => self.panel::<L, 4>(first, words),
                    3 => self.panel::<L, 3>(first, words),
                    2 => self.panel::<L, 2>(first, words),
                    _ => self.panel::<L, 1>(first, words),
                }
            }
        }
    }

    /// All pixels of the `NV` vectors of channels from `first`.
    #[inline(always)]
    unsafe fn panel<L: Lanes, const NV: usize>(&mut self, first: usize, words: *const i32) {
        if NV > L::PANEL {
            return; // no such panel exists; this keeps the compiler from making one
        }
        let pixels = self.y.rows();
        let largest = L::MAX_ROWS[NV - 1];
        let mut at = 0;
        while at < pixels {
            let n = min(pixels - at, largest);
            // SAFETY: pixels `at..at + n` exist.
            unsafe {
                match n {
                    12.. => self.tile::<L, NV, 12>(first, words, at),
                    8.. => self.tile::<L, NV, 8>(first, words, at),
                    6.. => self.tile::<L, NV, 6>(first, words, at),
                    4.. => self.tile::<L, NV, 4>(first, words, at),
                    2.. => self.tile::<L, NV, 2>(first, words, at),
                    _ => self.tile::<L, NV, 1>(first, words, at),
                }
            }
            at += match n {
                12.. => 12,
                8.. => 8,
                6.. => 6,
                4.. => 4,
                2.. => 2,
                _ => 1,
            };
        }
    }

    /// `MR` pixels from `at`.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const NV: usize, const MR: usize>(&mut self, first: usize, words: *const i32, at: usize) {
        if MR > L::MAX_ROWS[NV - 1] {
            return; // as above
        }
        const { assert!(MR * NV * L::LANES <= MOST_LANES || MR > L::MAX_ROWS[NV - 1]) };
        let Tile { kernel, stride, pixel, width, .. } = *self;
        let row = self.columns * pixel;
        let mut begin = [0; MR];
        let (mut line, mut column) = (at / width, at % width);
        for begin in &mut begin {
            *begin = line * stride * row + column * stride * pixel;
            column += 1;
            if column == width {
                (line, column) = (line + 1, 0);
            }
        }
        // SAFETY: the last word read is that of the last pixel's last tap, which `check` found in `x`; the panel holds `NV * LANES` words for each step of the depth; the
        // lanes hold `NV * LANES` entries from `first`.
        unsafe {
            let mut acc = [[L::splat(0); NV]; MR];
            unroll!(J < NV => {
                let bias = L::load(self.lanes[0].as_ptr().add(first + J * L::LANES));
                unroll!(I < MR => { acc[I][J] = bias; });
            });
            let x = self.x.as_ptr();
            let mut w = words;
            for ky in 0..kernel {
                let line = x.add(ky * row);
                for d in 0..kernel * pixel {
                    let mut weights = [L::splat(0); NV];
                    unroll!(J < NV => { weights[J] = L::load(w.add(J * L::LANES)); });
                    w = w.add(NV * L::LANES);
                    unroll!(I < MR => {
                        let input = L::splat(*line.add(begin[I] + d));
                        unroll!(J < NV => { acc[I][J] = acc[I][J].dot(input, weights[J]); });
                    });
                }
            }
            // Through memory, so that the code behind it exists once a tile and not once an accumulator.
            let mut done = [0; MOST_LANES];
            let to = done.as_mut_ptr();
            unroll!(J < NV => {
                unroll!(I < MR => { acc[I][J].store(to.add((J * MR + I) * L::LANES)); });
            });
            for j in 0..NV {
                for i in 0..MR {
                    self.store(L::load(to.add((j * MR + i) * L::LANES)), first + j * L::LANES, at + i);
                }
            }
        }
    }

    /// Rescales an accumulator of pixel `p`, channels from `channel`, and stores it.
    #[inline(always)]
    unsafe fn store<L: Lanes>(&mut self, acc: L, channel: usize, p: usize) {
        let column = channel - self.first;
        // A panel's last vectors may hold no channel at all.
        let valid = min(self.y.cols().saturating_sub(column), L::LANES);
        if valid == 0 {
            return;
        }
        let Epilogue { rounding, output, add } = *self.epilogue;
        // SAFETY: pixel `p` is a row of `y` and `column..column + valid` are columns of it; the lanes hold whole vectors.
        unsafe {
            let [_, mult, left, right] = self.lanes.map(|l| L::load(l.as_ptr().add(channel)));
            let bound = |e: Encoding, v: i8| L::splat(i32::from(v) - i32::from(e.zero_point));
            let v = match rounding {
                Rounding::Twice => acc.shl(left).rescale(mult, right),
                Rounding::Once => acc.rescale_once(mult, left, right),
            };
            let mut v = v.clamp(bound(output, output.min), bound(output, output.max));
            let mut zero = output.zero_point;
            let y = self.y.as_mut_ptr().add(p * self.y.stride() + column);
            if let Some(add) = add {
                let mut part = [0; 16];
                let other = if valid == L::LANES {
                    L::load_bytes(y)
                } else {
                    core::ptr::copy_nonoverlapping(y, part.as_mut_ptr(), valid);
                    L::load_bytes(part.as_ptr())
                };
                let twenty = L::splat(Add::LEFT_SHIFT as i32);
                let other = other.sub(L::splat(i32::from(add.shortcut_zero))).shl(twenty);
                let (conv, shortcut) = (Rescale::from(add.rescale_conv), Rescale::from(add.rescale_shortcut));
                let terms = conv.apply(v.shl(twenty)).add(shortcut.apply(other));
                let e = add.output;
                v = Rescale::from(add.rescale_sum).apply(terms).clamp(bound(e, e.min), bound(e, e.max));
                zero = e.zero_point;
            }
            let v = v.add(L::splat(i32::from(zero)));
            if valid == L::LANES {
                v.store_bytes(y);
            } else {
                let mut part = [0i8; 16];
                v.store_bytes(part.as_mut_ptr());
                core::ptr::copy_nonoverlapping(part.as_ptr(), y, valid);
            }
        }
    }
}
