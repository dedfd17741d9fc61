//! The register tile of direct convolutions, written once over [`Lanes`].

use core::{cmp::min, mem::MaybeUninit};

use super::{
    super::vector::unroll,
    Layout,
    finish::{Block, Finish, Ready},
    lanes::{Lanes, Pass},
};
use crate::memory::MatMut;

/// Pixels whose sums are finished at once: a multiple of every tile's.
const CHUNK: usize = 48;

/// Words of a line of the caches.
const LINE: usize = 16;

/// Lanes of the widest panel.
const MOST_LANES: usize = 64;

/// Output rows of one image and some of its channels.
///
/// `x` holds the padded input rows that these output rows read. `panels` holds the weights of all panels, `depth` rows of
/// their own width each, `panel` channels in all panels but the last; where some steps are masked, as [`Tile::masked`] says.
pub(crate) struct Tile<'a> {
    /// kernel side
    pub kernel: usize,
    /// words of a kernel row: the pixels it reads lie side by side
    pub line: usize,
    /// bytes from an input pixel to that of the next output, and of a padded input row
    pub pixel: usize,
    pub row: usize,
    /// input rows from one output row to the next
    pub stride: usize,
    /// pixels of an output row
    pub width: usize,
    pub x: &'a [u8],
    pub panels: &'a [i32],
    pub finish: Finish<'a>,
    /// the first output channel, where a panel begins
    pub first: usize,
    /// pixels by channels; holds the shortcut where the epilogue adds one
    pub y: MatMut<'a, i8>,
    /// channels of a full panel
    pub panel: usize,
    /// room for the places of a panel's steps: two for each step where there are masks
    pub places: &'a mut [i32],
}

/// The weights of one panel.
#[derive(Clone, Copy)]
struct Panel<'p> {
    /// the steps' places in `x`, in bytes, where they have an order of their own
    places: &'p [i32],
    /// steps without masks
    clean: usize,
    /// rows of weights: of the steps without masks, then of the others
    rows: &'p [i32],
    /// the panels behind it
    ahead: &'p [i32],
}

impl<'a> Tile<'a> {
    /// Words before the rows of a panel of which some steps are masked: rows stay aligned.
    pub(crate) const fn head(depth: usize) -> usize {
        (1 + depth).next_multiple_of(LINE)
    }

    fn depth(&self) -> usize {
        self.kernel * self.line
    }

    /// Makes sure that nothing outside the slices is read or written.
    ///
    /// # Panics
    /// When a slice is too short.
    pub(super) fn check(&self, layout: Layout) {
        let Tile { kernel, line, pixel, row, stride, width, first, .. } = *self;
        let (pixels, channels) = (self.y.rows(), self.y.cols());
        self.finish.check(layout.lanes, first, channels);
        assert!(self.panel == layout.panel && first.is_multiple_of(self.panel));
        assert!(width > 0 && pixels.is_multiple_of(width));
        assert!(layout.masked || self.panels.len() == self.depth() * self.finish.lanes[0].len());
        assert!(!layout.masked || self.places.len() == 2 * self.depth());
        if pixels > 0 {
            let last = (pixels / width - 1) * stride * row + (width - 1) * pixel;
            assert!(kernel > 0 && self.x.len() >= last + (kernel - 1) * row + 4 * line);
        }
    }

    /// The panel of `width` channels that `panels` begin with, and what lies behind it.
    ///
    /// It has the number of its steps without masks, the numbers of all steps in the order in which their rows lie, and
    /// the rows.
    ///
    /// # Panics
    /// When the packed weights are not what packing makes.
    fn masked<'p>(panels: &'p [i32], width: usize, places: &'p mut [i32]) -> Panel<'p> {
        let (steps, places) = places.split_at_mut(places.len() / 2);
        let (head, rows) = panels.split_at(Tile::head(steps.len()));
        let (clean, order) = (head[0] as usize, &head[1..]);
        let (rows, ahead) = rows.split_at(steps.len() * width);
        assert!(clean <= steps.len());
        places.iter_mut().zip(order).for_each(|(place, step)| *place = steps[*step as usize]);
        Panel { places, clean, rows, ahead }
    }

    /// The place in `x` of every step, in bytes.
    fn steps(&mut self) {
        let (line, row) = (self.line, self.row);
        for (ky, places) in self.places[..self.kernel * line].chunks_exact_mut(line).enumerate() {
            places.iter_mut().enumerate().for_each(|(d, place)| *place = (ky * row + 4 * d) as i32);
        }
    }
}

impl<L: Lanes> Pass<L> for Tile<'_> {
    /// Computes everything: [`Tile::check`] has passed for the layout of `L`.
    #[inline(always)]
    unsafe fn run(mut self) {
        let depth = self.depth();
        let (end, c_out) = (self.first + self.y.cols(), self.finish.lanes[0].len());
        if L::MASKED {
            self.steps();
        }
        let places = core::mem::take(&mut self.places);
        // SAFETY: the caller's promise.
        let ready = unsafe { Ready::new(self.finish) };
        for first in (self.first..end).step_by(self.panel) {
            let width = min(self.panel, c_out - first);
            let panel = if L::MASKED {
                let before = first * depth + first / self.panel * Tile::head(depth);
                Tile::masked(&self.panels[before..], width, places)
            } else {
                let (rows, ahead) = self.panels[first * depth..].split_at(width * depth);
                Panel { places: &[], clean: depth, rows, ahead }
            };
            // SAFETY: the panel has `depth` rows of its width, masks included.
            unsafe {
                match width / L::LANES {
                    4 => self.panel::<L, 4>(first, panel, &ready),
                    3 => self.panel::<L, 3>(first, panel, &ready),
                    2 => self.panel::<L, 2>(first, panel, &ready),
                    _ => self.panel::<L, 1>(first, panel, &ready),
                }
            }
        }
    }
}

impl Tile<'_> {
    /// All pixels of the `NV` vectors of channels from `first`.
    #[inline(always)]
    unsafe fn panel<L: Lanes, const NV: usize>(&mut self, first: usize, panel: Panel<'_>, ready: &Ready<'_, L>) {
        if NV > L::PANEL {
            return; // no such panel exists; this keeps the compiler from making one
        }
        let pixels = self.y.rows();
        let mut sums = MaybeUninit::<[i32; CHUNK * MOST_LANES]>::uninit();
        let sums = sums.as_mut_ptr().cast::<i32>();
        let mut place = Place { row: self.x.as_ptr(), column: 0 };
        // While this panel is computed, the next one's weights are fetched, a share of them with every tile.
        let ahead = &panel.ahead[..min(panel.ahead.len(), panel.rows.len())];
        let mut shares = ahead.chunks(ahead.len().div_ceil(pixels.div_ceil(L::MAX_ROWS[NV - 1])).max(1));
        for from in (0..pixels).step_by(CHUNK) {
            let size = min(pixels - from, CHUNK);
            let mut at = 0;
            while at < size {
                let n = min(size - at, L::MAX_ROWS[NV - 1]);
                let to = sums.wrapping_add(at * L::LANES);
                for line in shares.next().unwrap_or_default().iter().step_by(LINE) {
                    L::prefetch(line);
                }
                // SAFETY: pixels from `from + at` on exist, and `sums` has room for a chunk of them.
                at += unsafe {
                    match n {
                        12.. => self.tile::<L, NV, 12>(first, panel, &mut place, to, size),
                        8.. => self.tile::<L, NV, 8>(first, panel, &mut place, to, size),
                        6.. => self.tile::<L, NV, 6>(first, panel, &mut place, to, size),
                        4.. => self.tile::<L, NV, 4>(first, panel, &mut place, to, size),
                        2.. => self.tile::<L, NV, 2>(first, panel, &mut place, to, size),
                        _ => self.tile::<L, NV, 1>(first, panel, &mut place, to, size),
                    }
                };
            }
            let (pixel, column) = (self.y.stride(), first - self.first);
            let block = Block {
                ready,
                sums,
                size,
                columns: size,
                vectors: NV,
                channel: first,
                valid: self.y.cols() - column,
                rows: 1,
                width: size,
                y: self.y.as_mut_ptr().wrapping_add(from * pixel + column),
                pixel,
                row: 0,
            };
            // SAFETY: these sums were just computed, and pixels and channels exist.
            unsafe { L::invoke(block) }
        }
    }

    /// The sums of the next `MR` pixels, vector by vector of `size` pixels. Returns `MR`.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const NV: usize, const MR: usize>(
        &self,
        first: usize,
        panel: Panel<'_>,
        place: &mut Place,
        to: *mut i32,
        size: usize,
    ) -> usize {
        if MR > L::MAX_ROWS[NV - 1] {
            return MR; // as above
        }
        let Tile { kernel, line, row, .. } = *self;
        let mut x = [place.row; MR];
        for x in &mut x {
            *x = self.next(place);
        }
        // SAFETY: the last word read is that of the last pixel's last step, which `check` found in `x`; the panel holds
        // `NV * LANES` words for each step, and as many masks where there are any; the lanes hold `NV * LANES` entries
        // from `first`.
        unsafe {
            let mut acc = [[L::splat(0); NV]; MR];
            unroll!(J < NV => {
                let bias = L::load(self.finish.lanes[0].as_ptr().add(first + J * L::LANES));
                unroll!(I < MR => { acc[I][J] = bias; });
            });
            let mut w = panel.rows.as_ptr();
            if L::MASKED {
                let (clean, masked) = panel.places.split_at(panel.clean);
                for &place in clean {
                    let mut weights = [L::splat(0); NV];
                    unroll!(J < NV => { weights[J] = L::load(w.add(J * L::LANES)); });
                    w = w.add(NV * L::LANES);
                    unroll!(I < MR => {
                        let input = L::splat(x[I].add(place as usize).cast::<i32>().read_unaligned());
                        unroll!(J < NV => { acc[I][J] = acc[I][J].dot(input, weights[J]); });
                    });
                }
                for &place in masked {
                    let (mut weights, mut masks) = ([L::splat(0); NV], [L::splat(0); NV]);
                    unroll!(J < NV => { (weights[J], masks[J]) = L::load(w.add(J * L::LANES)).parts(); });
                    w = w.add(NV * L::LANES);
                    unroll!(I < MR => {
                        let input = L::splat(x[I].add(place as usize).cast::<i32>().read_unaligned());
                        unroll!(J < NV => { acc[I][J] = acc[I][J].dot_masked(input, weights[J], masks[J]); });
                    });
                }
            } else {
                for ky in 0..kernel {
                    for d in 0..line {
                        let mut weights = [L::splat(0); NV];
                        unroll!(J < NV => { weights[J] = L::load(w.add(J * L::LANES)); });
                        w = w.add(NV * L::LANES);
                        unroll!(I < MR => {
                            let input = L::splat(x[I].add(ky * row + 4 * d).cast::<i32>().read_unaligned());
                            unroll!(J < NV => { acc[I][J] = acc[I][J].dot(input, weights[J]); });
                        });
                    }
                }
            }
            unroll!(J < NV => {
                unroll!(I < MR => { acc[I][J].store(to.add((J * size + I) * L::LANES)); });
            });
        }
        MR
    }

    /// Where the window of the next pixel begins.
    #[inline(always)]
    fn next(&self, place: &mut Place) -> *const u8 {
        let x = place.row.wrapping_add(place.column * self.pixel);
        place.column += 1;
        if place.column == self.width {
            *place = Place { row: place.row.wrapping_add(self.stride * self.row), column: 0 };
        }
        x
    }
}

/// The next pixel: the input row its window begins in, and its column.
struct Place {
    row: *const u8,
    column: usize,
}
