//! Exact integer Winograd F(4x4, 3x3) (Lavin & Gray 2016): the three transforms.
//!
//! With every row of the weight transform scaled to the smallest integers,
//!
//! ```text
//!     [ 3  0  0 ]                                    [ 2 -4 -4  1  1  0 ]
//!     [ 1  1  1 ]      the usual B^T (+-1, 2, 4, 5),  [ 0 -4  4  2 -2  0 ]
//! G = [ 1 -1  1 ]                               A^T = [ 0 -4 -4  4  4  0 ]
//!     [ 1  2  4 ]                                    [ 0 -4  4  8 -8  8 ]
//!     [ 1 -2  4 ]
//!     [ 0  0  3 ]
//! ```
//!
//! a 4x4 tile of outputs is `A^T [(G w G^T) * (B^T x B)] A = 576 sum w x`, and transformed weights and
//! inputs fit 16 bits: `|U| <= 7 * 7 * 128`, `|V| <= 68 * 255`. Sums may wrap modulo 2^32: they are
//! multiples of 576 = 9 * 64, so multiplying by the inverse of 9 and shifting by 6 recovers the exact
//! sum as long as it is below 2^25, which up to 112 channels it is (`9 * 112 * 128 * 255 < 2^25`).
//!
//! Transforms work on linear pairs, two channels at a time.

#![allow(clippy::needless_range_loop)] // rows and columns of small matrices

use super::{multiply_high, unpack};

/// Most input channels whose sums are recovered exactly.
pub const MAX_CHANNELS: usize = 112;

/// Words of transformed weights (two output channels) for `channels` inputs.
pub const fn weight_words(channels: usize) -> usize {
    channels / 2 * 72
}

/// Words of four transformed tiles.
pub const fn tile_words(channels: usize) -> usize {
    channels / 2 * 144
}

#[inline(always)]
fn sub(a: u32, b: u32) -> u32 {
    a.wrapping_sub(b)
}

#[inline(always)]
fn add(a: u32, b: u32) -> u32 {
    a.wrapping_add(b)
}

/// Keeps the compiler from holding a whole matrix in registers: between the two passes of a transform
/// it has none to spare, and its spills cost more than going through memory once.
#[inline(always)]
pub(super) fn in_memory<T>(matrix: &mut T) -> &mut T {
    core::hint::black_box(matrix)
}

/// `G` times a column, plus `bias`.
#[inline(always)]
fn g([a, b, c]: [u32; 3], bias: u32) -> [u32; 6] {
    let t = add(add(a, c), bias);
    let e = add(add(a, c << 2), bias);
    let three = |v: u32| add(add(v, bias), v << 1);
    [three(a), add(t, b), sub(t, b), add(e, b << 1), sub(e, b << 1), three(c)]
}

/// `B^T` times a column.
#[inline(always)]
fn bt(d: [u32; 6]) -> [u32; 6] {
    let t1 = sub(d[4], d[2] << 2);
    let t2 = sub(d[3], d[1] << 2);
    let t3 = sub(d[4], d[2]);
    let t4 = sub(d[3], d[1]);
    let last = sub(sub(d[5], d[3]), t4 << 2);
    [add(t3, sub(d[0], d[2]) << 2), add(t1, t2), sub(t1, t2), add(t3, t4 << 1), sub(t3, t4 << 1), last]
}

/// Transforms the 3x3 weights of two output channels, `[9][channels]` each, into
/// `u[pair][36][2]`. `false` if a length does not fit.
#[inline(never)]
pub fn transform_weights(weights: [&[u32]; 2], channels: usize, u: &mut [u32]) -> bool {
    let quads = channels / 4;
    if weights.iter().any(|w| w.len() != 9 * quads) || u.len() != quads * 144 {
        return false;
    }
    for (j, w) in weights.iter().enumerate() {
        for q in 0..quads {
            // SAFETY: the last tap is `8 quads + q < 9 quads`, the length of `w`; the pairs begin at
            // `72 (2 q + half) + j` and reach 70 further, below `144 quads`, the length of `u`.
            unsafe {
                let (w, u) = (w.as_ptr().add(q), u.as_mut_ptr().add(144 * q + j));
                weights_of_pair::<0>(w, quads, u);
                weights_of_pair::<1>(w, quads, u.add(72));
            }
        }
    }
    true
}

/// Half `HALF` of a word of four channels.
#[inline(always)]
fn half<const HALF: usize>(word: u32) -> u32 {
    let (even, odd) = unpack(word);
    if HALF == 0 { even } else { odd }
}

/// [`transform_weights`] for the channels of half `HALF`: taps are `stride` words apart, results 2.
///
/// # Safety
/// `w` is readable at multiples of `stride` up to 8, `u` writable at even indices up to 70.
#[inline(always)]
unsafe fn weights_of_pair<const HALF: usize>(w: *const u32, stride: usize, u: *mut u32) {
    // SAFETY: `t <= 8`.
    let tap = |t: usize| sub(half::<HALF>(unsafe { *w.add(t * stride) }), 0x0080_0080);
    let (c0, c1, c2) = (g([tap(0), tap(3), tap(6)], 0), g([tap(1), tap(4), tap(7)], 0), g([tap(2), tap(5), tap(8)], 0));
    let mut t = [
        [c0[0], c1[0], c2[0]],
        [c0[1], c1[1], c2[1]],
        [c0[2], c1[2], c2[2]],
        [c0[3], c1[3], c2[3]],
        [c0[4], c1[4], c2[4]],
        [c0[5], c1[5], c2[5]],
    ];
    for (y, row) in in_memory(&mut t).iter().enumerate() {
        for (x, value) in g(*row, 0x8000_8000).into_iter().enumerate() {
            // SAFETY: `2 (6 y + x) <= 70`.
            unsafe { *u.add(2 * (6 * y + x)) = value ^ 0x8000_8000 };
        }
    }
}

/// The 36 pixels under a tile, `[column][row]`: where each one's channels begin in a map of words, or
/// `None` in the padding.
pub type Patch = [[Option<usize>; 6]; 6];

/// Transforms one patch of `map` into slot `tile` of `v[pair][36][4]`. `zero` is the input's zero
/// point and stands in the padding. `false` if a length or an index does not fit.
#[inline(never)]
pub fn transform_input(map: &[u32], patch: &Patch, channels: usize, zero: i8, tile: usize, v: &mut [u32]) -> bool {
    let quads = channels / 4;
    let inside = |start: &Option<usize>| start.is_none_or(|s| s <= map.len() && quads <= map.len() - s);
    if channels > MAX_CHANNELS || tile >= 4 || v.len() != quads * 288 || !patch.as_flattened().iter().all(inside) {
        return false;
    }
    let padding = [u32::from(zero as u8) * 0x0101_0101; MAX_CHANNELS / 4];
    let pixels = patch.map(|column| {
        column.map(|start| match start {
            // SAFETY: `start <= map.len()`, checked above.
            Some(start) => unsafe { map.as_ptr().add(start) },
            None => padding.as_ptr(),
        })
    });
    // The transform of a constant is 36 times it at position (1, 1) and 0 elsewhere.
    let constant = (36 * (i32::from(zero) + 128) as u32).wrapping_mul(0x0001_0001);
    for q in 0..quads {
        // SAFETY: every pointer has `quads` words behind it (`start + quads <= map.len()`, checked
        // above; `padding` has `MAX_CHANNELS / 4 >= quads`), and `q < quads`; the pairs begin at
        // `144 (2 q + half) + tile` and reach 140 further, below `288 quads`, the length of `v`.
        unsafe {
            let v = v.as_mut_ptr().add(288 * q + tile);
            input_of_pair::<0>(&pixels, q, constant, v);
            input_of_pair::<1>(&pixels, q, constant, v.add(144));
        }
    }
    true
}

/// [`transform_input`] for the channels of half `HALF` of word `q`: results are 4 words apart.
///
/// # Safety
/// Every pointer is readable at `q`, `v` writable at multiples of 4 up to 140.
#[inline(always)]
unsafe fn input_of_pair<const HALF: usize>(pixels: &[[*const u32; 6]; 6], q: usize, constant: u32, v: *mut u32) {
    let column = |x: usize| {
        // SAFETY: the caller's promise.
        let word = |y: usize| half::<HALF>(unsafe { *pixels[x][y].add(q) });
        bt([word(0), word(1), word(2), word(3), word(4), word(5)])
    };
    let mut t = [column(0), column(1), column(2), column(3), column(4), column(5)];
    let t = in_memory(&mut t);
    for y in 0..6 {
        // One of the last two enters every result once: the bias of the split into signed halves,
        // added twice instead of six times.
        let (d4, d5) = (add(t[4][y], 0x8000_8000), add(t[5][y], 0x8000_8000));
        let mut r = bt([t[0][y], t[1][y], t[2][y], t[3][y], d4, d5]);
        if y == 1 {
            r[1] = sub(r[1], constant);
        }
        for (x, value) in r.into_iter().enumerate() {
            // SAFETY: `4 (6 y + x) <= 140`.
            unsafe { *v.add(4 * (6 * y + x)) = value ^ 0x8000_8000 };
        }
    }
}

/// What turns a sum into a stored byte: `((high(2 sum) - [negative]) + half) >> shift`, which is
/// [`residual_core::quant::Requant::rescale`] plus the zero point for shifts of -1 to -22.
#[derive(Clone, Copy, Debug)]
pub struct Rescale {
    pub(super) mult: i32,
    pub(super) half: i32,
    pub(super) shift: u32,
}

impl Rescale {
    /// The fast form of a rescaling that adds `zero`, if it has one.
    #[inline(always)]
    pub fn new(mult: i32, shift: i8, zero: i32) -> Option<Self> {
        let right = shift.unsigned_abs().into();
        // With `right <= 22` the zero point's `256 << 22` and the product's 2^30 do not overflow.
        let fits = (-22..=-1).contains(&shift);
        fits.then(|| Rescale { mult, half: (2 * zero + 1) << (right - 1), shift: right })
    }

    /// Rescales half of `twice`.
    #[inline(always)]
    pub fn apply(&self, twice: i32) -> i32 {
        let x = multiply_high(twice, self.mult);
        x.wrapping_add(x >> 31).wrapping_add(self.half) >> self.shift
    }
}

/// The shortcut's addition as two tables, indexed by `value + 128` of the convolution's result and by
/// the shortcut's byte.
#[derive(Clone, Copy)]
pub struct Sum<'t> {
    /// twice the terms of the convolution's result
    pub conv: &'t [i32; 256],
    /// twice the terms of the shortcut
    pub shortcut: &'t [i32; 256],
    /// the sum's rescaling and zero point
    pub rescale: Rescale,
}

impl Sum<'_> {
    /// The byte stored for convolution result `value + 128` over the shortcut's byte.
    #[inline(always)]
    pub fn apply(&self, value: i32, shortcut: i8) -> i8 {
        let index = value.clamp(0, 255) as u8;
        let sum = self.conv[usize::from(index)].wrapping_add(self.shortcut[usize::from(shortcut as u8)]);
        self.rescale.apply(sum).clamp(-128, 127) as i8
    }
}

/// Where a tile's outputs go: `y[start + row * row_stride + column * pixel_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// index of the first output
    pub start: usize,
    /// elements from one pixel to the next
    pub pixel_stride: usize,
    /// elements from one row to the next
    pub row_stride: usize,
}

impl Place {
    /// Index of the last output.
    pub fn last(&self) -> usize {
        self.start + 3 * self.row_stride + 3 * self.pixel_stride
    }
}
