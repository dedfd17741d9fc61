//! The register tile of the weight gradient: outer products summed over pixels.
//!
//! ```text
//! dw[o, t * depth + d] += sum over pixels p of  dy[dy(p) + o] * x[x(p) + tap[t] + d]
//! ```
//!
//! A tile is some output channels (broadcast) by some vectors along `d`. Pixels pass in blocks; of each the gradients of
//! some channels are copied together, for a column of pixels hundreds of elements apart would meet in few sets of L1.
//! Within a block each element is one chain of multiply-adds in the order of the pixels.

use core::{cmp::min, mem::MaybeUninit};

use super::{
    isa::Isa,
    vector::{Op, Vector, dispatch, load_all, unroll},
};
use crate::geom::reach;

/// How pixels are walked: images, rows, columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pixels {
    /// how many of each
    pub count: [usize; 3],
    /// elements from one to the next in `x`
    pub x: [usize; 3],
    /// elements from one to the next in `dy`
    pub dy: [usize; 3],
}

/// Most pixels that pass at once: what a tile reads of them stays in L1 for the next tiles of the same input channels.
const BLOCK: usize = 128;

/// Output channels whose gradients are copied together: the copy stays near L1 while all input channels pass over it.
const CHANNELS: usize = 64;

/// Some of the pixels: whole images, rows of one, or a part of a row.
struct Block {
    /// images, rows and columns before it
    first: [usize; 3],
    count: [usize; 3],
}

impl Block {
    fn at(&self, step: [usize; 3]) -> usize {
        self.first.iter().zip(step).map(|(n, s)| n * s).sum()
    }
}

impl Pixels {
    /// All pixels in blocks of up to [`BLOCK`].
    fn blocks(&self) -> impl Iterator<Item = Block> + use<> {
        let [images, rows, columns] = self.count;
        let width = columns.min(BLOCK);
        let height = (BLOCK / width).min(rows);
        let depth = if (height, width) == (rows, columns) { (BLOCK / (rows * columns)).min(images) } else { 1 };
        (0..images).step_by(depth).flat_map(move |image| {
            (0..rows).step_by(height).flat_map(move |row| {
                (0..columns).step_by(width).map(move |column| Block {
                    first: [image, row, column],
                    count: [depth.min(images - image), height.min(rows - row), width.min(columns - column)],
                })
            })
        })
    }

    /// Elements before the last pixel; saturates.
    fn last(&self, step: [usize; 3]) -> usize {
        reach(core::array::from_fn::<_, 3, _>(|i| (self.count[i] - 1, step[i])))
    }
}

/// One sum of outer products.
pub(crate) struct OuterSum<'a> {
    pub x: &'a [f32],
    pub dy: &'a [f32],
    pub pixels: Pixels,
    pub taps: &'a [usize],
    /// contiguous elements of `x` per tap
    pub depth: usize,
}

/// Elements that must be readable behind the last element of `x` a pixel uses.
pub(crate) const SLACK: usize = 16;

/// Adds to `dw`, whose rows are the first output channels of `dy` and hold `taps.len() * depth` elements.
///
/// # Panics
/// When a slice is too short for what the other fields say; checked once, before the loops.
pub(crate) fn outer_sum(isa: Isa, sum: &OuterSum<'_>, dw: &mut [f32]) {
    let width = sum.taps.len().saturating_mul(sum.depth);
    if width == 0 || dw.is_empty() || sum.pixels.count.contains(&0) {
        return;
    }
    assert!(dw.len().is_multiple_of(width));
    let channels = dw.len() / width;
    let tap = sum.taps.iter().copied().max().unwrap_or(0);
    let (x, dy) = (sum.pixels.last(sum.pixels.x), sum.pixels.last(sum.pixels.dy));
    assert!(reach([(x, 1), (tap, 1), (sum.depth, 1), (SLACK, 1)]) <= sum.x.len(), "input too short");
    assert!(dy.saturating_add(channels) <= sum.dy.len(), "gradient too short");
    // SAFETY: the farthest pixel's channels lie inside `dy`, its elements with a vector more inside `x`, and `dw` is
    // `channels` whole rows. No sum or product overflowed: the ends would be `usize::MAX`.
    unsafe { dispatch(isa, Loops { sum, dw, channels }) }
}

struct Loops<'s, 'a> {
    sum: &'s OuterSum<'a>,
    dw: &'s mut [f32],
    channels: usize,
}

impl Op for Loops<'_, '_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Loops { sum, dw, channels } = self;
        let stride = sum.taps.len() * sum.depth;
        let (most_rows, most_vectors) = largest::<V>();
        let mut copy = [MaybeUninit::<f32>::uninit(); BLOCK * CHANNELS];
        let copy = copy.as_mut_ptr().cast::<f32>();
        for block in sum.pixels.blocks() {
            let pixels = block.count.iter().product::<usize>();
            // SAFETY: `outer_sum` checked the farthest pixel of both.
            let (x, dy) =
                unsafe { (sum.x.as_ptr().add(block.at(sum.pixels.x)), sum.dy.as_ptr().add(block.at(sum.pixels.dy))) };
            for first in (0..channels).step_by(CHANNELS) {
                let some = min(CHANNELS, channels - first);
                let tiles = some.div_ceil(most_rows);
                // The channels of tile `i`: tiles of nearly equal height.
                let tile_at = |i: usize| i * some / tiles;
                for i in 0..tiles {
                    let (from, to) = (tile_at(i), tile_at(i + 1));
                    // SAFETY: `outer_sum` checked the farthest pixel's channels; the copies of all tiles fill
                    // `pixels * some` elements, at most the array's.
                    unsafe {
                        gather(dy.add(first + from), &block.count, &sum.pixels.dy, to - from, copy.add(pixels * from));
                    }
                }
                for (t, &tap) in sum.taps.iter().enumerate() {
                    let mut d = 0;
                    while d < sum.depth {
                        let left = (sum.depth - d).div_ceil(V::LANES);
                        // Four vectors are better split evenly.
                        let vectors = if left == 4 { 2 } else { left.min(most_vectors) };
                        let lanes = (sum.depth - d).min(vectors * V::LANES);
                        for i in 0..tiles {
                            let (o, rows) = (tile_at(i), tile_at(i + 1) - tile_at(i));
                            // SAFETY: `outer_sum` checked the farthest pixel and tap and all rows of `dw`; this tile's
                            // gradients were copied above.
                            unsafe {
                                let tile = Tile {
                                    x: x.add(tap + d),
                                    dy: copy.add(pixels * o),
                                    count: &block.count,
                                    step: &sum.pixels.x,
                                    dw: dw.as_mut_ptr().add((first + o) * stride + t * sum.depth + d),
                                    stride,
                                    lanes,
                                };
                                tile.call::<V>(rows, vectors);
                            }
                        }
                        d += vectors * V::LANES;
                    }
                }
            }
        }
    }
}

/// Rows and vectors of the largest tile: with 32 registers 8 x 3 sums, 3 vectors and a broadcast; with 16 of them 6 x 2,
/// 2 and 1.
const fn largest<V: Vector>() -> (usize, usize) {
    if V::PANEL > 2 { (8, 3) } else { (6, 2) }
}

/// Copies `rows` channels of every pixel of a block side by side.
///
/// # Safety
/// All of them are readable from `dy` on, and `to` is writable for as many.
#[inline(always)]
unsafe fn gather(dy: *const f32, count: &[usize; 3], step: &[usize; 3], rows: usize, mut to: *mut f32) {
    for image in 0..count[0] {
        for row in 0..count[1] {
            for column in 0..count[2] {
                // SAFETY: the caller's promise.
                unsafe {
                    let from = dy.add(image * step[0] + row * step[1] + column * step[2]);
                    for i in 0..rows {
                        *to.add(i) = *from.add(i);
                    }
                    to = to.add(rows);
                }
            }
        }
    }
}

struct Tile<'a> {
    x: *const f32,
    /// the gradients of this tile's channels, pixel after pixel
    dy: *const f32,
    /// of images, rows and columns, and the elements from one to the next in `x`
    count: &'a [usize; 3],
    step: &'a [usize; 3],
    dw: *mut f32,
    stride: usize,
    /// valid elements of a row of the tile
    lanes: usize,
}

impl Tile<'_> {
    /// Enters the instance for this many rows and vectors.
    ///
    /// # Safety
    /// `dy` holds `rows` channels and `x` is readable for `vectors` vectors at every pixel, `dw` is valid for `rows`
    /// rows of `lanes` elements; neither is more than [`largest`] says.
    #[inline(always)]
    unsafe fn call<V: Vector>(&self, rows: usize, vectors: usize) {
        macro_rules! instances {
            ($($r:literal)*) => {
                match (rows, vectors) {
                    // SAFETY: the caller's promise.
                    $(($r, 1) if $r <= largest::<V>().0 => unsafe { V::invoke(Sized::<'_, $r, 1>(self)) },)*
                    // SAFETY: the caller's promise.
                    $(($r, 2) if $r <= largest::<V>().0 => unsafe { V::invoke(Sized::<'_, $r, 2>(self)) },)*
                    // SAFETY: the caller's promise.
                    $(($r, 3) if largest::<V>().1 >= 3 && $r <= largest::<V>().0 => unsafe { V::invoke(Sized::<'_, $r, 3>(self)) },)*
                    _ => unreachable!("a tile of {rows} rows and {vectors} vectors"),
                }
            };
        }
        instances!(1 2 3 4 5 6 7 8)
    }
}

struct Sized<'t, const MR: usize, const NV: usize>(&'t Tile<'t>);

impl<const MR: usize, const NV: usize> Op for Sized<'_, MR, NV> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let t = self.0;
        // SAFETY: `Tile::call`'s promise covers every pointer below.
        unsafe {
            let mut acc = [[V::splat(0.0); NV]; MR];
            let (&[images, rows, columns], step, mut dy) = (t.count, t.step, t.dy);
            for image in 0..images {
                for row in 0..rows {
                    let mut x = t.x.add(image * step[0] + row * step[1]);
                    for _ in 0..columns {
                        let xv: [V; NV] = load_all(x);
                        unroll!(i < MR => {
                            let g = V::splat(*dy.add(i));
                            unroll!(j < NV => { acc[i][j] = g.mul_add(xv[j], acc[i][j]); });
                        });
                        // The last step may leave the slice.
                        x = x.wrapping_add(step[2]);
                        dy = dy.add(MR);
                    }
                }
            }
            let last = t.lanes - (NV - 1) * V::LANES;
            unroll!(i < MR => {
                unroll!(j < NV => {
                    let to = t.dw.add(i * t.stride + j * V::LANES);
                    if j + 1 < NV || last == V::LANES {
                        acc[i][j].add(V::load(to)).store(to);
                    } else {
                        acc[i][j].add(V::load_first(to, last)).store_first(to, last);
                    }
                });
            });
        }
    }
}
