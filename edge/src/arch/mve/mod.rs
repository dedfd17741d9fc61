//! Vector kernels for Cortex-M55 and M85 (MVE, Helium): 16 products an instruction.
//!
//! Kernels compute *blocks* of 8 neighbouring outputs. Inputs are laid out for them in *chunks* of 16 bytes:
//! a [strip](lay) holds, for every block of a row and every chunk of channels, the ten pixels a 3x3 window
//! covers; a patch holds, for every chunk of a window's inputs, those of the 8 outputs.

use core::marker::PhantomData;

use super::winograd::{Rescale, Sum};

/// Module-level assembly does not inherit `-C target-cpu`.
macro_rules! cpu {
    () => {
        ".cpu cortex-m55"
    };
}

mod assembly;
mod layout;

/// Outputs of a block.
pub const BLOCK: usize = 8;

/// Bytes of a chunk.
pub const CHUNK: usize = 16;

/// Most bytes from a pixel to the next: offsets inside a block are 16 bits wide.
pub const MAX_STRIDE: usize = u16::MAX as usize / BLOCK;

/// Pixels of a strip for every block.
const COVERED: usize = BLOCK + 2;

/// Sums of weights, modulo 2^32.
pub fn sum_of(weights: &[i8]) -> i32 {
    // SAFETY: `weights` is readable for its length.
    unsafe { layout::sum_of(weights.as_ptr(), weights.len()) }
}

/// Pieces of 16 bytes to copy.
#[derive(Clone, Copy)]
struct Pieces {
    /// that come to lie one behind the other
    count: usize,
    /// bytes between two of them
    step: usize,
    /// how often, each time 16 bytes further
    chunks: usize,
    /// bytes left out between a chunk's copies and the next's
    gap: usize,
    /// how often all that
    blocks: usize,
    /// bytes from a block to the next
    further: usize,
}

/// Copies pieces. `false` if a length does not fit.
fn gather(from: &[i8], to: &mut [i8], pieces: Pieces) -> bool {
    let Pieces { count, step, chunks, gap, blocks, further } = pieces;
    if count == 0 || chunks == 0 || blocks == 0 {
        return true;
    }
    let read = (count - 1).saturating_mul(step).saturating_add(chunks.saturating_mul(CHUNK));
    let read = (blocks - 1).saturating_mul(further).saturating_add(read);
    let chunk = count.saturating_mul(CHUNK).saturating_add(gap);
    let written = chunks.saturating_mul(blocks).saturating_mul(chunk).saturating_sub(gap);
    if read > from.len() || written > to.len() {
        return false;
    }
    let (from, to, further) = (from.as_ptr(), to.as_mut_ptr(), further.wrapping_sub(CHUNK * chunks));
    let task = layout::Gather { from, to, count, step, chunks, gap, blocks, further };
    // SAFETY: the last piece read ends at `read`, the last one written at `written`; no count is 0.
    unsafe { layout::gather(&task) };
    true
}

/// Copies `bytes` of each of `count` pixels, `step` bytes apart, into the places of a patch from `to` on.
/// `false` if a length does not fit.
pub fn spread(from: &[i8], step: usize, bytes: usize, count: usize, to: &mut [i8]) -> bool {
    let (Some(last), Some(piece)) = (count.checked_sub(1), bytes.checked_sub(1)) else { return true };
    let read = last.saturating_mul(step).saturating_add(bytes);
    let written = (piece / CHUNK * BLOCK).saturating_add(last).saturating_add(1).saturating_mul(CHUNK);
    if read > from.len() || written > to.len() {
        return false;
    }
    let task = layout::Spread { from: from.as_ptr(), to: to.as_mut_ptr(), bytes, step, count };
    // SAFETY: the last byte read is at `read - 1`; the last piece written is number `piece / 16` of the last
    // pixel and ends at `written`; no count is 0.
    unsafe { layout::spread(&task) };
    true
}

/// Bytes of the strip of a row.
pub fn strip_bytes(blocks: usize, channels: usize) -> usize {
    blocks * COVERED * channels
}

/// Fills a strip with padding.
pub fn blank(zero: i8, strip: &mut [i8]) {
    let pieces = Pieces { count: strip.len() / CHUNK, step: 0, chunks: 1, gap: 0, blocks: 1, further: 0 };
    gather(&[zero; CHUNK], strip, pieces);
}

/// Lays a row of pixels out as a strip, `pad` columns further right; what is padding stays as it is. `false` if
/// the channels are not whole chunks or a length does not fit.
pub fn lay(row: &[i8], channels: usize, pad: usize, strip: &mut [i8]) -> bool {
    if channels == 0 || !channels.is_multiple_of(CHUNK) {
        return false;
    }
    let (width, block) = (row.len() / channels + pad, COVERED * channels);
    let blocks = strip.len() / block.max(1);
    // Blocks `from..to` have all their pixels on the map.
    let from = pad.div_ceil(BLOCK).min(blocks);
    let to = (width + BLOCK).saturating_sub(COVERED) / BLOCK;
    let to = to.min(blocks).max(from);
    let mut copy = |at: usize, blocks: usize| {
        let first = pad.saturating_sub(at * BLOCK).min(COVERED);
        let count = width.saturating_sub(at * BLOCK).min(COVERED).saturating_sub(first);
        let pixels = row.get((at * BLOCK + first).saturating_sub(pad) * channels..).unwrap_or_default();
        let inside = strip.get_mut(at * block + first * CHUNK..).unwrap_or_default();
        let gap = (COVERED - count) * CHUNK;
        let (chunks, further) = (channels / CHUNK, BLOCK * channels);
        gather(pixels, inside, Pieces { count, step: channels, chunks, gap, blocks, further })
    };
    (0..from).chain(to..blocks).all(|at| copy(at, 1)) && copy(from, to - from)
}

/// Orders the weights `[channel][tap][input]` of 3x3 windows by chunks: `[channel][chunk][tap][16]`. `false` if
/// the channels are not whole chunks or a length does not fit.
pub fn pack(weights: &[i8], channels: usize, packed: &mut [i8]) -> bool {
    let all = 9 * channels;
    if all == 0 || !channels.is_multiple_of(CHUNK) || packed.len() != weights.len() {
        return false;
    }
    let (chunks, blocks) = (channels / CHUNK, weights.len() / all.max(1));
    gather(weights, packed, Pieces { count: 9, step: channels, chunks, gap: 0, blocks, further: all })
}

/// Fills a table of the terms an addition has for the values from `first` on. `false` if their number is not a
/// multiple of 4.
pub fn terms(first: i32, rescale: Rescale, terms: &mut [i32]) -> bool {
    let count = terms.len() / 4;
    let fits = count > 0 && terms.len().is_multiple_of(4);
    if fits {
        let factor = [rescale.mult, rescale.half, -(rescale.shift as i32)];
        // SAFETY: `terms` holds `4 count` words, `count > 0`.
        unsafe { layout::terms(terms.as_mut_ptr(), count, first, &factor) };
    }
    fits
}

/// How the sums of a channel become bytes: bias, factor, half and shift.
pub type Channel = [i32; 4];

/// Shifts are to the left, after which the result is the highest byte.
const TOP: i32 = 24;

/// For a rescaling whose zero point is the output's.
pub fn channel(bias: i32, rescale: Rescale) -> Channel {
    [bias, rescale.mult, rescale.half, TOP - rescale.shift as i32]
}

/// Where outputs are stored, and what is added to them.
#[derive(Clone, Copy)]
pub struct Store<'t> {
    /// the shortcut's addition: `y` holds the shortcut
    pub sum: Option<Sum<'t>>,
    /// bytes from a pixel to the next
    pub stride: usize,
}

/// Kernels' work on some channels.
pub struct Task<'t> {
    raw: assembly::Task,
    channels: &'t [Channel],
    tables: PhantomData<&'t [i32]>,
}

impl<'t> Task<'t> {
    /// `None` if there are no channels or pixels are too far apart.
    pub fn new(store: Store<'t>, channels: &'t [Channel]) -> Option<Self> {
        let Store { sum, stride } = store;
        if channels.is_empty() || !(1..=MAX_STRIDE).contains(&stride) {
            return None;
        }
        let null = core::ptr::null();
        let (conv_table, shortcut_table) =
            sum.map_or((null, null), |s| (s.conv.as_ptr().wrapping_add(128), s.shortcut.as_ptr()));
        let (sum_mult, sum_half, sum_shift) =
            sum.map_or((0, 0, 0), |s| (s.rescale.mult, s.rescale.half, TOP - s.rescale.shift as i32));
        let span = channels.as_ptr_range();
        let y = core::ptr::null_mut();
        let raw = assembly::Task {
            zeros: [0; 8],
            rows: [core::ptr::null(); 3],
            weights: core::ptr::null(),
            chunks: 0,
            channel: span.start,
            channels_end: span.end,
            y,
            step: BLOCK * stride,
            y_end: y,
            extent: 0,
            conv_table,
            shortcut_table,
            sum_mult,
            sum_half,
            sum_shift,
            stride,
            sums: core::ptr::null_mut(),
            offsets: [0, 1, 2, 3, 4, 5, 6, 7].map(|p| p * stride as u16),
            even_offsets: [0, 2, 4, 6].map(|p| p * stride as u32),
            lines: 0,
            tail: 0,
        };
        Some(Task { raw, channels, tables: PhantomData })
    }

    /// Begins anew, with outputs of `blocks` blocks from the first byte of `y` on. `false` if one lies outside, or
    /// there are none.
    fn aim(&mut self, weights: *const i8, blocks: usize, y: &mut [i8]) -> bool {
        let raw = &mut self.raw;
        let pixels = blocks.saturating_mul(BLOCK);
        let last = pixels.saturating_sub(1).saturating_mul(raw.stride).saturating_add(self.channels.len() - 1);
        if blocks == 0 || last >= y.len() {
            return false;
        }
        raw.weights = weights;
        raw.channel = self.channels.as_ptr();
        raw.y = y.as_mut_ptr();
        raw.extent = pixels * raw.stride;
        raw.y_end = raw.y.wrapping_add(raw.extent);
        true
    }

    /// 3x3 windows of stride 1 over three strips of `blocks` blocks, with [packed](pack) weights. `false` if a
    /// length does not fit.
    pub fn windows(&mut self, strips: [&[i32]; 3], weights: &[i32], blocks: usize, y: &mut [i8]) -> bool {
        // Words of a chunk's nine taps, and of a block's pixels.
        let channels = self.channels.len();
        let chunks = weights.len().checked_div(channels).unwrap_or_default() / (9 * CHUNK / 4);
        let strip = blocks.saturating_mul(chunks).saturating_mul(COVERED * CHUNK / 4);
        if chunks == 0 || weights.len() != chunks * channels * 36 || strips.iter().any(|s| s.len() < strip) {
            return false;
        }
        if !self.aim(weights.as_ptr().cast(), blocks, y) {
            return false;
        }
        self.raw.rows = strips.map(|s| s.as_ptr().cast());
        self.raw.chunks = chunks;
        // SAFETY: `aim` checked all places of outputs, and tables are arrays of 256; strips hold 40 words for each
        // chunk of a block, weights 36 for each of a channel, aligned to words.
        unsafe {
            let adds = !self.raw.conv_table.is_null();
            let kernel = if adds { assembly::windows_sum } else { assembly::windows };
            kernel(&mut self.raw);
        }
        true
    }

    /// A block's windows, collected: `[chunk][8 outputs][16 bytes]`. Every channel has weights for as many chunks,
    /// a multiple of 3. `false` if a length does not fit.
    pub fn threes(&mut self, words: &[i32], weights: &[i32], y: &mut [i8]) -> bool {
        let channels = self.channels.len();
        let threes = weights.len().checked_div(channels).unwrap_or_default() / (3 * CHUNK / 4);
        let fits = words.len() >= threes.saturating_mul(3 * BLOCK * CHUNK / 4);
        if threes == 0 || !fits || weights.len() != threes * channels * 12 {
            return false;
        }
        if !self.aim(weights.as_ptr().cast(), 1, y) {
            return false;
        }
        self.raw.rows[0] = words.as_ptr().cast();
        self.raw.chunks = threes;
        // SAFETY: `aim` checked all places of outputs, and tables are arrays of 256; the patch holds 32 words for
        // each chunk, weights 4 for each of a channel, aligned to words.
        unsafe { assembly::threes(&mut self.raw) };
        true
    }
}

/// The inputs of a block's windows: lines of `line` bytes, each in whole chunks.
#[derive(Clone, Copy)]
pub struct Patch<'p> {
    /// `[line][chunk][8 outputs][16 bytes]`
    pub words: &'p [i32],
    /// how many
    pub lines: usize,
    /// bytes of each
    pub line: usize,
}

impl Patch<'_> {
    /// Aims `task` at this block.
    fn aim(&self, task: &mut Task<'_>, weights: &[i8], y: &mut [i8]) -> bool {
        let Patch { words, lines, line } = *self;
        let chunks = line.div_ceil(CHUNK).saturating_mul(lines);
        let taps = line.saturating_mul(lines);
        let fits = chunks.saturating_mul(BLOCK * CHUNK / 4) <= words.len();
        if taps == 0 || !fits || taps.saturating_mul(task.channels.len()) != weights.len() {
            return false;
        }
        // Lines of whole chunks are as good as one.
        let (lines, line) = if line.is_multiple_of(CHUNK) { (1, taps) } else { (lines, line) };
        let raw = &mut task.raw;
        raw.rows[0] = words.as_ptr().cast();
        (raw.lines, raw.chunks, raw.tail) = (lines, line / CHUNK, line % CHUNK);
        task.aim(weights.as_ptr(), 1, y)
    }

    /// Stores the block for all `channels`, whose weights are `[channel][line][byte]`. `false` if a length does
    /// not fit.
    #[inline(never)]
    pub fn store(&self, weights: &[i8], channels: &[Channel], store: Store<'_>, y: &mut [i8]) -> bool {
        let Some(mut task) = Task::new(store, channels) else { return false };
        let aimed = self.aim(&mut task, weights, y);
        if aimed {
            // SAFETY: `aim` checked all places of outputs, and the lengths of the patch, which is aligned to words,
            // and of the weights; tables are arrays of 256.
            unsafe { assembly::patch(&mut task.raw) };
        }
        aimed
    }

    /// The sums of one channel. `false` if a length does not fit.
    #[inline(never)]
    pub fn sums(&self, weights: &[i8], sums: &mut [i32; BLOCK]) -> bool {
        let (mut none, mut found) = ([0; BLOCK], [0; BLOCK]);
        let store = Store { sum: None, stride: 1 };
        let Some(mut task) = Task::new(store, &[[0; 4]]) else { return false };
        if !self.aim(&mut task, weights, &mut none) {
            return false;
        }
        task.raw.sums = found.as_mut_ptr();
        // SAFETY: as in `store`; `found` is an array of 8.
        unsafe { assembly::patch(&mut task.raw) };
        let [a, c, e, g, b, d, f, h] = found;
        *sums = [a, b, c, d, e, f, g, h];
        true
    }
}
