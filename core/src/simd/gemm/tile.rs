//! Register tiles, and what they fetch ahead.

use core::cmp::min;

use super::super::vector::{LINE, Op, Vector, load_all, unroll};
use super::{Position, RowMap};

/// Weights to ask for: reading them only when they are due would add the time memory needs to that of the
/// multiply-adds. So while the tiles pass over one panel, they fetch what lies behind it (the next panel or layer), each
/// a share.
pub(super) struct Ahead {
    next: *const f32,
    end: *const f32,
    /// cache lines per turn of the inner loop
    lines: usize,
}

impl Ahead {
    /// For a panel of `depth` rows of `width` weights, in a number of tiles.
    pub(super) fn new(weights: *const f32, depth: usize, width: usize, tiles: usize) -> Self {
        // A single tile streams through the weights: it must stay near itself, by the latency of memory.
        let distance = if tiles > 1 { depth * width } else { NEAR * width };
        let next = weights.wrapping_add(distance);
        let lines = (UNROLL * width).div_ceil(LINE).div_ceil(tiles);
        Ahead { next, end: next.wrapping_add(depth * width), lines }
    }
}

/// Register tiles one below the other: each some pixels by up to four vectors of output channels.
pub(super) struct Run<'a> {
    pub a: *const f32,
    pub map: &'a RowMap,
    /// the first pixel of the next tile
    pub at: Position,
    pub taps: &'a [usize],
    pub depth: usize,
    pub bias: *const f32,
    /// whether what `y` holds is added
    pub add: bool,
    pub weights: *const f32,
    pub ahead: Ahead,
    /// the next tile's output
    pub y: *mut f32,
    pub stride: usize,
    pub cols: usize,
    /// no result is below
    pub floor: f32,
}

impl Run<'_> {
    /// Computes the next `count` tiles, in the instance for this many rows and vectors.
    ///
    /// # Safety
    /// `a` is readable at all `rows + tap + c`, `weights` is a panel of this width, `y` is valid for
    /// `count * rows` rows of `cols` elements.
    #[inline(always)]
    pub(super) unsafe fn tiles<V: Vector>(&mut self, count: usize, rows: usize, vectors: usize) {
        if count == 0 {
            return;
        }
        macro_rules! instances {
            ($($r:literal)*) => {
                match (rows, vectors) {
                    // SAFETY: the caller's promise.
                    $(($r, 1) if $r <= V::MAX_ROWS[0] => unsafe { V::invoke(Sized::<'_, '_, $r, 1>(self, count)) },)*
                    // SAFETY: the caller's promise.
                    $(($r, 2) if V::PANEL >= 2 && $r <= V::MAX_ROWS[1] => unsafe { V::invoke(Sized::<'_, '_, $r, 2>(self, count)) },)*
                    // SAFETY: the caller's promise.
                    $(($r, 3) if V::PANEL >= 3 && $r <= V::MAX_ROWS[2] => unsafe { V::invoke(Sized::<'_, '_, $r, 3>(self, count)) },)*
                    // SAFETY: the caller's promise.
                    $(($r, 4) if V::PANEL >= 4 && $r <= V::MAX_ROWS[3] => unsafe { V::invoke(Sized::<'_, '_, $r, 4>(self, count)) },)*
                    _ => unreachable!("a tile of {rows} rows and {vectors} vectors"),
                }
            };
        }
        instances!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    }
}

/// Rows of weights a single tile asks for ahead of their use: a few hundred cycles.
const NEAR: usize = 48;

/// Turns of the inner loop between those where more than a line each is asked for.
const TURNS: usize = 8;

/// Channels per turn of the inner loop: counters and branches compete with multiply-adds for ports.
const UNROLL: usize = 4;

struct Sized<'t, 'a, const MR: usize, const NV: usize>(&'t mut Run<'a>, usize);

impl<const MR: usize, const NV: usize> Op for Sized<'_, '_, MR, NV> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Sized(t, count) = self;
        let valid = t.cols - (NV - 1) * V::LANES;
        for _ in 0..count {
            // SAFETY: the promise of `Run::tiles` covers every pointer below: rows at tap + c, a panel of
            // depth + 1 rows of NV vectors, and MR rows of `cols` elements of y.
            unsafe {
                let offsets = t.at.take::<MR>(t.map);
                let rows: [*const f32; MR] = core::array::from_fn(|i| t.a.add(offsets[i]));
                let mut w = t.weights;
                let mut ahead = t.ahead.next;
                let (step, more) = if ahead < t.ahead.end { (LINE, t.ahead.lines - 1) } else { (0, 0) };
                let y = t.y;
                t.y = y.wrapping_add(MR * t.stride);
                // Outputs are often beyond L2: asked for now, they are at hand when the sums are done.
                for i in 0..MR {
                    for j in (0..NV * V::LANES).step_by(LINE) {
                        V::prefetch(y.cast_const().wrapping_add(i * t.stride + j));
                    }
                }
                let bias: [V; NV] = load_all(t.bias);
                let mut acc = [bias; MR];
                for &tap in t.taps {
                    let mut c = tap;
                    let mut turns = t.depth / UNROLL;
                    while turns > 0 {
                        let some = min(turns, TURNS);
                        turns -= some;
                        for _ in 0..some * more {
                            V::prefetch(ahead);
                            ahead = ahead.wrapping_add(LINE);
                        }
                        for _ in 0..some {
                            V::prefetch(ahead);
                            ahead = ahead.wrapping_add(step);
                            unroll!(u < UNROLL => {
                                let at = w.add(u * NV * V::LANES);
                                let wv: [V; NV] = load_all(at);
                                unroll!(i < MR => {
                                    let a = V::splat(*rows[i].add(c + u));
                                    unroll!(j < NV => { acc[i][j] = a.mul_add(wv[j], acc[i][j]); });
                                });
                            });
                            w = w.add(UNROLL * NV * V::LANES);
                            c += UNROLL;
                        }
                    }
                    for _ in 0..t.depth % UNROLL {
                        let wv: [V; NV] = load_all(w);
                        unroll!(i < MR => {
                            let a = V::splat(*rows[i].add(c));
                            unroll!(j < NV => { acc[i][j] = a.mul_add(wv[j], acc[i][j]); });
                        });
                        w = w.add(NV * V::LANES);
                        c += 1;
                    }
                }
                t.ahead.next = ahead;
                if t.add {
                    unroll!(i < MR => { unroll!(j < NV => {
                        let y: V = load_column(y.add(i * t.stride + j * V::LANES), j + 1 == NV, valid);
                        acc[i][j] = acc[i][j].add(y);
                    }); });
                }
                let floor = V::splat(t.floor);
                unroll!(i < MR => { unroll!(j < NV => {
                    let (v, to) = (floor.max(acc[i][j]), y.add(i * t.stride + j * V::LANES));
                    if j + 1 == NV && valid < V::LANES { v.store_first(to, valid) } else { v.store(to) }
                }); });
            }
        }
    }
}

/// Reads a vector; the last one of a row may reach past the columns.
///
/// # Safety
/// As [`Vector::load`], for `valid` elements of a `last` vector.
#[inline(always)]
unsafe fn load_column<V: Vector>(p: *const f32, last: bool, valid: usize) -> V {
    // SAFETY: the caller's promise.
    unsafe { if last && valid < V::LANES { V::load_first(p, valid) } else { V::load(p) } }
}
