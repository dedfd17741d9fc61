//! Winograd's transforms in plain Rust; [`super::winograd`] gives the matrices.
#![allow(clippy::needless_range_loop)] // rows and columns of small matrices

use super::{
    unpack,
    winograd::{Rescale, Sum},
};

/// Keeps the compiler from holding a whole matrix in registers: between the two passes of a transform
/// it has none to spare, and its spills cost more than going through memory once.
#[inline(always)]
fn in_memory<T>(matrix: &mut T) -> &mut T {
    core::hint::black_box(matrix)
}

#[inline(always)]
fn sub(a: u32, b: u32) -> u32 {
    a.wrapping_sub(b)
}

#[inline(always)]
fn add(a: u32, b: u32) -> u32 {
    a.wrapping_add(b)
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

/// Half `HALF` of a word of four channels.
#[inline(always)]
fn half<const HALF: usize>(word: u32) -> u32 {
    let (even, odd) = unpack(word);
    if HALF == 0 { even } else { odd }
}

/// [`weights_of_quad`] for the channels of half `HALF`: taps are `stride` words apart, results 2.
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

/// [`input_of_quad`] for the channels of half `HALF` of word `q`: results are 4 words apart.
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

/// Transforms the 3x3 weights of four input channels of one output channel into two pairs.
///
/// # Safety
/// `w` is readable at multiples of `stride` up to 8, `u` writable at even indices up to 142.
#[inline(always)]
pub unsafe fn weights_of_quad(w: *const u32, stride: usize, u: *mut u32) {
    // SAFETY: the caller's promise; a pair takes 72 words.
    unsafe {
        weights_of_pair::<0>(w, stride, u);
        weights_of_pair::<1>(w, stride, u.add(72));
    }
}

/// Transforms word `q` (four channels) of a patch of 6x6 pixels into two pairs.
///
/// # Safety
/// Every pointer is readable at `q`, `v` writable at multiples of 4 up to 284.
#[inline(always)]
pub unsafe fn input_of_quad(pixels: &[[*const u32; 6]; 6], q: usize, constant: u32, v: *mut u32) {
    // SAFETY: the caller's promise; a pair takes 144 words.
    unsafe {
        input_of_pair::<0>(pixels, q, constant, v);
        input_of_pair::<1>(pixels, q, constant, v.add(144));
    }
}

/// `A^T` times a column.
#[inline(always)]
fn at(m: [i32; 6]) -> [i32; 4] {
    let [y0, y1, y2, y3] = at_reduced(m);
    [y0, y1 << 1, y2 << 2, y3 << 2]
}

/// [`at`], its rows divided by 1, 2, 4 and 4: see [`REDUCED`].
#[inline(always)]
fn at_reduced(m: [i32; 6]) -> [i32; 4] {
    let s = |a: i32, b: i32| a.wrapping_add(b);
    let d = |a: i32, b: i32| a.wrapping_sub(b);
    let (p, q) = (s(m[1], m[2]), d(m[1], m[2]));
    let (r, t) = (s(m[3], m[4]), d(m[3], m[4]));
    [d(s(r, m[0] << 1), p << 2), d(t, q << 1), d(r, p), d(s(t, m[5]) << 1, q)]
}

/// Binary logarithms of what [`at_reduced`] divides by.
const REDUCED: [u32; 4] = [0, 1, 2, 2];

/// 9 times this is 1 modulo 2^32.
const INVERSE_OF_9: i32 = 0x38e3_8e39;

/// How the tiles of one channel become bytes.
pub struct Finish<'t> {
    twice_bias: i32,
    rescale: Rescale,
    sum: Option<Sum<'t>>,
    pixel_stride: usize,
    row_stride: usize,
}

impl<'t> Finish<'t> {
    /// For a map whose neighbouring pixels and rows lie so many elements apart. With a `sum`, rescalings must
    /// be offset by 128 ([`Sum::apply`]).
    pub fn new(sum: Option<Sum<'t>>, pixel_stride: usize, row_stride: usize) -> Self {
        Finish { twice_bias: 0, rescale: Rescale { mult: 0, half: 0, shift: 0 }, sum, pixel_stride, row_stride }
    }

    /// Sets what differs between channels.
    #[inline(always)]
    pub fn set(&mut self, bias: i32, rescale: Rescale) {
        (self.twice_bias, self.rescale) = (bias << 1, rescale);
    }

    /// Transforms the sums `m[position][lane]` of a tile into 16 outputs, the first at `y[start]`; with a
    /// sum, the bytes there are the shortcut. A second channel's, if there is one, are 4 lanes and one output
    /// further. `false` if one lies outside `y`.
    #[inline(always)]
    pub fn store(channels: &[Self], m: &[[i32; 8]; 36], lane: usize, y: &mut [i8], start: usize) -> bool {
        channels.iter().enumerate().all(|(j, channel)| channel.store_one(m, lane + 4 * j, y, start + j))
    }

    #[inline(never)]
    fn store_one(&self, m: &[[i32; 8]; 36], lane: usize, y: &mut [i8], start: usize) -> bool {
        let last = start + 3 * self.row_stride + 3 * self.pixel_stride;
        if lane >= 8 || last >= y.len() {
            return false;
        }
        let column = |x: usize| {
            let m = |y: usize| m[6 * y + x][lane];
            at([m(0), m(1), m(2), m(3), m(4), m(5)])
        };
        let mut t = [column(0), column(1), column(2), column(3), column(4), column(5)];
        let t = in_memory(&mut t);
        for r in 0..4 {
            let row = [t[0][r], t[1][r], t[2][r], t[3][r], t[4][r], t[5][r]];
            for (c, value) in at_reduced(row).into_iter().enumerate() {
                // 576 sum, times the inverse of 9, is 64 sum; a shift by 5 leaves twice the sum.
                let twice = (value.wrapping_mul(INVERSE_OF_9) >> (5 - REDUCED[c])).wrapping_add(self.twice_bias);
                let value = self.rescale.apply(twice);
                // SAFETY: `r, c <= 3`, so the index is at most `last`, which is inside `y`.
                let out = unsafe { y.get_unchecked_mut(start + r * self.row_stride + c * self.pixel_stride) };
                *out = match &self.sum {
                    None => value.clamp(-128, 127) as i8,
                    Some(sum) => sum.apply(value, *out),
                };
            }
        }
        true
    }
}
