//! The register tile of the weight gradient: outer products summed over pixels.
//!
//! ```text
//! dw[o, t * depth + d] += sum over pixels p of  dy[dy(p) + o] * x[x(p) + tap[t] + d]
//! ```
//!
//! A tile is some output channels (broadcast) by some vectors along `d`, both contiguous in NHWC, so
//! neither operand is packed. Each element is one chain of multiply-adds in the order of the pixels.

use super::{
    isa::Isa,
    vector::{Op, Vector, dispatch, load_all, unroll},
};

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

/// Pixels that pass at once: what a tile reads of them stays in L1 for the next tiles of the same input channels.
const BLOCK: usize = 128;

/// Some of the pixels: whole images, or rows of one.
struct Block {
    /// images and rows before it
    first: [usize; 2],
    count: [usize; 3],
}

impl Block {
    fn at(&self, step: [usize; 3]) -> usize {
        self.first[0] * step[0] + self.first[1] * step[1]
    }
}

impl Pixels {
    /// All pixels in blocks of about [`BLOCK`].
    fn blocks(&self) -> impl Iterator<Item = Block> + use<> {
        let [images, rows, columns] = self.count;
        let (at_once, height) = match BLOCK / (rows * columns).max(1) {
            0 => (1, (BLOCK / columns.max(1)).clamp(1, rows.max(1))),
            images => (images, rows.max(1)),
        };
        (0..images).step_by(at_once).flat_map(move |image| {
            (0..rows).step_by(height).map(move |row| Block {
                first: [image, row],
                count: [at_once.min(images - image), height.min(rows - row), columns],
            })
        })
    }

    fn last(&self, step: [usize; 3]) -> usize {
        self.count.iter().zip(step).map(|(n, s)| (n - 1) * s).sum()
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
    let width = sum.taps.len() * sum.depth;
    if width == 0 || dw.is_empty() || sum.pixels.count.contains(&0) {
        return;
    }
    assert!(dw.len().is_multiple_of(width));
    let channels = dw.len() / width;
    let tap = sum.taps.iter().copied().max().unwrap_or(0);
    assert!(sum.pixels.last(sum.pixels.x) + tap + sum.depth + SLACK <= sum.x.len(), "input too short");
    assert!(sum.pixels.last(sum.pixels.dy) + channels <= sum.dy.len(), "gradient too short");
    // SAFETY: the farthest pixel's channels lie inside `dy`, its elements with a vector more inside `x`.
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
        // 8 x 3 sums, 3 vectors and a broadcast need 28 registers; 4 x 3 need all 16.
        let max_rows = if V::LANES == 16 { 8 } else { 4 };
        for (t, &tap) in sum.taps.iter().enumerate() {
            let mut d = 0;
            while d < sum.depth {
                let left = (sum.depth - d).div_ceil(V::LANES);
                // Four vectors are better split evenly.
                let vectors = if left == 4 { 2 } else { left.min(3) };
                let lanes = (sum.depth - d).min(vectors * V::LANES);
                for block in sum.pixels.blocks() {
                    let mut o = 0;
                    while o < channels {
                        let rows = (channels - o).min(max_rows);
                        // SAFETY: `outer_sum` checked the farthest pixel, tap and channel.
                        let tile = unsafe {
                            Tile {
                                x: sum.x.as_ptr().add(block.at(sum.pixels.x) + tap + d),
                                dy: sum.dy.as_ptr().add(block.at(sum.pixels.dy) + o),
                                pixels: &Pixels { count: block.count, ..sum.pixels },
                                dw: dw.as_mut_ptr().add(o * stride + t * sum.depth + d),
                                stride,
                                lanes,
                            }
                        };
                        // SAFETY: as above.
                        unsafe { tile.call::<V>(rows, vectors) };
                        o += rows;
                    }
                }
                d += vectors * V::LANES;
            }
        }
    }
}

struct Tile<'a> {
    x: *const f32,
    dy: *const f32,
    pixels: &'a Pixels,
    dw: *mut f32,
    stride: usize,
    /// valid elements of a row of the tile
    lanes: usize,
}

impl Tile<'_> {
    /// Enters the instance for this many rows and vectors.
    ///
    /// # Safety
    /// `dy` is readable for `rows` channels and `x` for `vectors` vectors at every pixel, `dw` is
    /// valid for `rows` rows of `lanes` elements.
    #[inline(always)]
    unsafe fn call<V: Vector>(&self, rows: usize, vectors: usize) {
        macro_rules! instances {
            ($($r:literal)*) => {
                match (rows, vectors) {
                    // SAFETY: the caller's promise.
                    $(($r, 1) => unsafe { V::invoke(Sized::<'_, $r, 1>(self)) },)*
                    // SAFETY: the caller's promise.
                    $(($r, 2) => unsafe { V::invoke(Sized::<'_, $r, 2>(self)) },)*
                    // SAFETY: the caller's promise.
                    $(($r, 3) => unsafe { V::invoke(Sized::<'_, $r, 3>(self)) },)*
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
            let Pixels { count: [images, rows, columns], x: x_step, dy: dy_step } = *t.pixels;
            for image in 0..images {
                for row in 0..rows {
                    let mut x = t.x.add(image * x_step[0] + row * x_step[1]);
                    let mut dy = t.dy.add(image * dy_step[0] + row * dy_step[1]);
                    for _ in 0..columns {
                        let xv: [V; NV] = load_all(x);
                        unroll!(i < MR => {
                            let g = V::splat(*dy.add(i));
                            unroll!(j < NV => { acc[i][j] = g.mul_add(xv[j], acc[i][j]); });
                        });
                        // The last step may leave the slice.
                        x = x.wrapping_add(x_step[2]);
                        dy = dy.wrapping_add(dy_step[2]);
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
