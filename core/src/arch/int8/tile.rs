//! The tile, written once over [`Lanes`].

use core::cmp::min;

use super::super::vector::unroll;
use crate::quant::{Encoding, Requant, Rounding, Window};

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

/// The padded copy of an input, in words, and the output pixels that read it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Map {
    window: Window,
    /// words of a pixel
    pixel: usize,
    /// padded rows and pixels of a row
    rows: usize,
    columns: usize,
    /// output channels
    pub(super) channels: usize,
}

impl Map {
    pub(super) fn new(window: &Window, pixel: usize) -> Self {
        let extent = |out: usize| (out - 1) * window.stride + window.kernel;
        let Window { output, .. } = *window;
        Map { window: *window, pixel, rows: extent(output.h), columns: extent(output.w), channels: output.c }
    }

    /// Words of the copy; saturates, so that a copy too large for 32 bits finds no memory.
    pub(super) fn len(&self) -> usize {
        self.rows.saturating_mul(self.columns).saturating_mul(self.pixel)
    }

    pub(super) fn pixels(&self) -> usize {
        self.window.output.h * self.window.output.w
    }

    /// Calls `put(row of the copy, row of the input)` with the elements of both that correspond, `each`
    /// elements a pixel of the copy.
    fn rows<'s, T>(
        &self,
        x: &'s [i8],
        copy: &'s mut [T],
        each: usize,
    ) -> impl Iterator<Item = (&'s mut [T], &'s [i8])> {
        let Window { input, pad_top, pad_left, .. } = self.window;
        let columns = min(input.w, self.columns.saturating_sub(pad_left));
        let lines = copy.chunks_exact_mut(self.columns * each).skip(pad_top);
        lines.zip(x.chunks_exact(input.w * input.c)).map(move |(line, row)| {
            (&mut line[min(pad_left, self.columns) * each..][..columns * each], &row[..columns * input.c])
        })
    }

    fn is_padded(&self) -> bool {
        let Window { input, pad_top, pad_left, .. } = self.window;
        pad_top > 0 || pad_left > 0 || self.rows > input.h || self.columns > input.w
    }

    /// `x + 128` as bytes, `pad` where there is no pixel.
    pub(super) fn copy_bytes(&self, x: &[i8], pad: u8, scratch: &mut [i32]) {
        assert_eq!(x.len(), self.window.input.elements());
        let (c, each) = (self.window.input.c, 4 * self.pixel);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(scratch);
        if self.is_padded() {
            bytes.fill(pad);
        }
        for (to, from) in self.rows(x, bytes, each) {
            if c == each {
                to.iter_mut().zip(from).for_each(|(to, from)| *to = *from as u8 ^ 0x80);
                continue;
            }
            for (to, from) in to.chunks_exact_mut(each).zip(from.chunks_exact(c)) {
                let (head, tail) = to.split_at_mut(c);
                head.iter_mut().zip(from).for_each(|(to, from)| *to = *from as u8 ^ 0x80);
                tail.fill(0);
            }
        }
    }

    /// `x - zero` as 16-bit integers, 0 where there is no pixel.
    pub(super) fn copy_halves(&self, x: &[i8], zero: i16, scratch: &mut [i32]) {
        assert_eq!(x.len(), self.window.input.elements());
        let (c, each) = (self.window.input.c, 2 * self.pixel);
        let halves: &mut [i16] = bytemuck::cast_slice_mut(scratch);
        if self.is_padded() {
            halves.fill(0);
        }
        for (to, from) in self.rows(x, halves, each) {
            for (to, from) in to.chunks_exact_mut(each).zip(from.chunks_exact(c)) {
                let (head, tail) = to.split_at_mut(c);
                head.iter_mut().zip(from).for_each(|(to, from)| *to = i16::from(*from) - zero);
                tail.fill(0);
            }
        }
    }
}

/// A factor whose shift is not positive, in every lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rescale {
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

/// The addition of a shortcut; see [`crate::quant::Add`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sum {
    pub shortcut_zero: i8,
    pub conv: Rescale,
    pub shortcut: Rescale,
    pub sum: Rescale,
    pub output: Encoding,
}

/// What happens to an accumulator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub rounding: Rounding,
    pub encoding: Encoding,
    pub sum: Option<Sum>,
}

/// One convolution. `lanes` hold bias, multiplier, left and right shift for `c_out` channels rounded up to
/// whole vectors, `words` the panels; `x` holds `map.len()` words.
pub(super) struct Tile<'a> {
    pub map: &'a Map,
    pub x: &'a [i32],
    pub words: &'a [i32],
    pub lanes: [&'a [i32]; 4],
    pub output: &'a Output,
    pub added: Option<&'a [i8]>,
    pub y: &'a mut [i8],
    /// channels of a full panel
    pub width: usize,
}

impl Tile<'_> {
    /// Computes everything.
    ///
    /// # Safety
    /// The CPU has the instruction set of `L`, and the lengths are as the fields say.
    #[inline(always)]
    pub(super) unsafe fn run<L: Lanes>(&mut self) {
        let Window { kernel, .. } = self.map.window;
        let (depth, c_out) = (kernel * kernel * self.map.pixel, self.lanes[0].len());
        debug_assert!(self.words.len() == depth * c_out && c_out.is_multiple_of(L::LANES));
        for first in (0..c_out).step_by(self.width) {
            let vectors = min(self.width, c_out - first) / L::LANES;
            let words = self.words[first * depth..].as_ptr();
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
        let pixels = self.map.pixels();
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
        let Window { output, kernel, stride, .. } = self.map.window;
        const { assert!(MR * NV * L::LANES <= MOST_LANES || MR > L::MAX_ROWS[NV - 1]) };
        let (pixel, row) = (self.map.pixel, self.map.columns * self.map.pixel);
        let mut begin = [0; MR];
        let (mut line, mut column) = (at / output.w, at % output.w);
        for begin in &mut begin {
            *begin = line * stride * row + column * stride * pixel;
            column += 1;
            if column == output.w {
                (line, column) = (line + 1, 0);
            }
        }
        // SAFETY: the last word read is that of the last pixel's last tap, which `Map` holds by its definition
        // `(out - 1) * stride + kernel`; the panel holds `NV * LANES` words for each step of the depth; the
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
        let c = self.map.channels;
        let at = p * c + channel;
        let valid = min(c - channel, L::LANES);
        let Output { rounding, encoding, sum } = *self.output;
        // SAFETY: `y` and `added` hold `pixels * c` bytes, of which `at..at + valid` are this vector's; the lanes
        // hold whole vectors.
        unsafe {
            let [_, mult, left, right] = self.lanes.map(|l| L::load(l.as_ptr().add(channel)));
            let bound = |e: Encoding, v: i8| L::splat(i32::from(v) - i32::from(e.zero_point));
            let v = match rounding {
                Rounding::Twice => acc.shl(left).rescale(mult, right),
                Rounding::Once => acc.rescale_once(mult, left, right),
            };
            let mut v = v.clamp(bound(encoding, encoding.min), bound(encoding, encoding.max));
            let mut zero = encoding.zero_point;
            let y = self.y.as_mut_ptr().add(at);
            if let Some(sum) = sum {
                let from = self.added.map_or(y.cast_const(), |a| a.as_ptr().add(at));
                let mut part = [0; 16];
                let other = if valid == L::LANES {
                    L::load_bytes(from)
                } else {
                    core::ptr::copy_nonoverlapping(from, part.as_mut_ptr(), valid);
                    L::load_bytes(part.as_ptr())
                };
                let twenty = L::splat(crate::quant::Add::LEFT_SHIFT as i32);
                let other = other.sub(L::splat(i32::from(sum.shortcut_zero))).shl(twenty);
                let terms = sum.conv.apply(v.shl(twenty)).add(sum.shortcut.apply(other));
                let e = sum.output;
                v = sum.sum.apply(terms).clamp(bound(e, e.min), bound(e, e.max));
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
