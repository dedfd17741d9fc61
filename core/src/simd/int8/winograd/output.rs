//! From products to outputs.

use core::mem::MaybeUninit;

use super::{
    super::{
        super::{vector::unroll, winograd::Tile},
        finish::{Block, Finish, Ready},
        lanes::Halves,
    },
    HALVES, OfTile, Transform,
};
use crate::{geom::reach, memory::MatMut};

/// Transforms one row of tiles back, and stores what lies inside the map.
pub(crate) struct Output<'a, 'y, 'v> {
    pub tile: Tile,
    /// point `p` of tile `t` at `p * point + (first + t) * width`
    pub m: &'a [i32],
    pub point: usize,
    pub width: usize,
    /// tiles before this row's
    pub first: usize,
    pub finish: Finish<'a>,
    /// of the panel's first channel
    pub channel: usize,
    /// the sums of other parts of the depth, as many as this row's tiles have outputs, and which part this is; `None`
    /// where there is one part only
    pub parts: Option<(&'a mut [i32], Part)>,
    /// the rows of pixels this row of tiles covers, clipped to the map, of the panel's channels
    pub y: &'y mut MatMut<'v, i8>,
    /// pixels in a row
    pub columns: usize,
}

/// A part of the depth.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    First,
    Middle,
    Last,
}

impl Output<'_, '_, '_> {
    pub(in crate::simd::int8) fn check(&self, lanes: usize) {
        let (rows, m) = (self.y.rows(), self.tile.outputs());
        assert!(self.columns > 0 && rows.is_multiple_of(self.columns) && rows / self.columns <= m);
        assert!(self.width.is_multiple_of(lanes) && self.y.cols() <= self.width);
        self.finish.check(lanes, self.channel, self.width);
        let (count, points) = (self.columns.div_ceil(m), self.tile.points());
        assert!(self.m.len() >= reach([(points - 1, self.point), (self.first, self.width), (count, self.width)]));
        assert!(self.parts.as_ref().is_none_or(|(sums, _)| sums.len() >= count * m * m * self.width));
    }
}

impl OfTile for Output<'_, '_, '_> {
    fn tile(&self) -> Tile {
        self.tile
    }

    #[inline(always)]
    unsafe fn each<L: Halves, F: Transform<L, M, N>, const M: usize, const N: usize>(mut self) {
        let (height, pixel) = (self.y.rows() / self.columns, self.y.stride());
        let vectors = self.width / L::LANES;
        let mut own = MaybeUninit::<[i32; 16 * HALVES]>::uninit();
        // SAFETY: the caller's promise.
        let ready = unsafe { Ready::<L>::new(self.finish) };
        for t in 0..self.columns.div_ceil(M) {
            // SAFETY: the tile's points lie in `m`, pixels read and stored inside `y`, sums of parts in theirs: see
            // `check`. No panel has more than `HALVES` lanes.
            unsafe {
                let (sums, part) = match &mut self.parts {
                    Some((sums, part)) => (sums.as_mut_ptr().add(t * M * M * self.width), *part),
                    None => (own.as_mut_ptr().cast(), Part::First),
                };
                for j in 0..vectors {
                    let from = self.m.as_ptr().add((self.first + t) * self.width + j * L::LANES);
                    let bias = L::load(self.finish.lanes[0].as_ptr().add(self.channel + j * L::LANES));
                    let to = sums.add(j * M * M * L::LANES);
                    let mut d = [[L::splat(0); N]; M];
                    unroll!(x < N => {
                        let mut column = [L::splat(0); N];
                        unroll!(y < N => { column[y] = L::load(from.add((y * N + x) * self.point)); });
                        let column = F::output(column);
                        unroll!(y < M => { d[y][x] = column[y]; });
                    });
                    unroll!(y < M => {
                        let row = F::output(d[y]);
                        unroll!(x < M => {
                            let to = to.add((y * M + x) * L::LANES);
                            let before = if part == Part::First { bias } else { L::load(to) };
                            F::unscale(row[x]).add(before).store(to);
                        });
                    });
                }
                if self.parts.as_ref().is_none_or(|(_, part)| *part == Part::Last) {
                    let block = Block {
                        ready: &ready,
                        sums,
                        size: M * M,
                        columns: M,
                        vectors,
                        channel: self.channel,
                        valid: self.y.cols(),
                        rows: height,
                        width: (self.columns - t * M).min(M),
                        y: self.y.as_mut_ptr().wrapping_add(t * M * pixel),
                        pixel,
                        row: self.columns * pixel,
                    };
                    L::invoke(block);
                }
            }
        }
    }
}
