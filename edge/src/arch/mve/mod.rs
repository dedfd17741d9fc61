//! Vector kernels for Cortex-M55 and M85 (MVE, Helium): 16 products an instruction.
//!
//! Kernels compute *blocks* of 8 neighbouring outputs. Inputs are laid out for them in *chunks* of 16 bytes:
//! a [strip](lay) holds, for every block of a row and every chunk of channels, the ten pixels a 3x3 window
//! covers; a patch holds, for every chunk of a window's inputs, those of the 8 outputs.

use core::marker::PhantomData;

use super::winograd::{Rescale, Sum};

mod assembly;

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
    unsafe { assembly::sum_of(weights.as_ptr(), weights.len()) }
}

/// Copies `count` pieces of 16 bytes, `step` bytes apart, one behind the other, and so for each of `chunks`, 16
/// bytes further in `from` and `advance` in `to`. `false` if a length does not fit.
fn gather(from: &[i8], step: usize, to: &mut [i8], advance: usize, count: usize, chunks: usize) -> bool {
    let (Some(last), Some(further)) = (count.checked_sub(1), chunks.checked_sub(1)) else { return true };
    let read = last.saturating_mul(step).saturating_add(chunks.saturating_mul(CHUNK));
    let written = further.saturating_mul(advance).saturating_add(count.saturating_mul(CHUNK));
    if read > from.len() || written > to.len() {
        return false;
    }
    let task = assembly::Gather { from: from.as_ptr(), to: to.as_mut_ptr(), count, step, chunks, advance };
    // SAFETY: the last piece read ends at `read`, the last one written at `written`; no count is 0.
    unsafe { assembly::gather(&task) };
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
    let task = assembly::Spread { from: from.as_ptr(), to: to.as_mut_ptr(), bytes, step, count };
    // SAFETY: the last byte read is at `read - 1`; the last piece written is number `piece / 16` of the last
    // pixel and ends at `written`; no count is 0.
    unsafe { assembly::spread(&task) };
    true
}

/// Bytes of the strip of a row.
pub fn strip_bytes(blocks: usize, channels: usize) -> usize {
    blocks * COVERED * channels
}

/// Lays a row of pixels out as a strip, `pad` columns further right, with `zero` in the padding; `row` is
/// empty for a row of padding. `false` if the channels are not whole chunks or a length does not fit.
pub fn lay(row: &[i8], channels: usize, pad: usize, zero: i8, strip: &mut [i8]) -> bool {
    if channels == 0 || !channels.is_multiple_of(CHUNK) {
        return false;
    }
    let mut at = 0;
    let width = row.len() / channels + pad;
    let chunks = channels / CHUNK;
    let padding = [zero; CHUNK];
    for block in strip.chunks_exact_mut((COVERED * channels).max(1)) {
        let from = pad.saturating_sub(at).min(COVERED);
        let to = width.saturating_sub(at).min(COVERED).max(from);
        if to - from < COVERED {
            for piece in block.chunks_exact_mut(COVERED * CHUNK) {
                let outside = |p: usize| p < from || p >= to;
                let pixels = piece.chunks_exact_mut(CHUNK).enumerate().filter(|(p, _)| outside(*p));
                pixels.for_each(|(_, pixel)| pixel.copy_from_slice(&padding));
            }
        }
        let pixels = row.get((at + from).saturating_sub(pad) * channels..).unwrap_or_default();
        let inside = block.get_mut(from * CHUNK..).unwrap_or_default();
        if !gather(pixels, channels, inside, COVERED * CHUNK, to - from, chunks) {
            return false;
        }
        at += BLOCK;
    }
    true
}

/// Orders the weights `[channel][tap][input]` of 3x3 windows by chunks: `[channel][chunk][tap][16]`. `false` if
/// the channels are not whole chunks or a length does not fit.
pub fn pack(weights: &[i8], channels: usize, packed: &mut [i8]) -> bool {
    let all = 9 * channels;
    if all == 0 || !channels.is_multiple_of(CHUNK) || packed.len() != weights.len() {
        return false;
    }
    let each = weights.chunks_exact(all).zip(packed.chunks_exact_mut(all));
    let mut each = each.map(|(from, to)| gather(from, channels, to, 9 * CHUNK, 9, channels / CHUNK));
    each.all(|fits| fits)
}

/// How the sums of a channel become bytes: bias, factor, half and shift.
pub type Channel = [i32; 4];

/// With an addition, `rescale` must be offset by 128 ([`Sum`]).
pub fn channel(bias: i32, rescale: Rescale) -> Channel {
    [bias, rescale.mult, rescale.half, -(rescale.shift as i32)]
}

/// Where outputs are stored, and what is added to them.
#[derive(Clone, Copy)]
pub struct Store<'t> {
    /// the shortcut's addition: `y` holds the shortcut
    pub sum: Option<Sum<'t>>,
    /// bytes from a pixel to the next
    pub stride: usize,
}

/// A task, borrowing what it points to.
struct Task<'t> {
    raw: assembly::Task,
    borrowed: PhantomData<&'t [i8]>,
}

impl<'t> Task<'t> {
    /// For `blocks` blocks of the channels, stored from the first byte of `y` on. `None` if one lies outside,
    /// or there is nothing to do.
    fn new(store: Store<'t>, blocks: usize, channels: &'t [Channel], y: &mut [i8]) -> Option<Self> {
        let Store { sum, stride } = store;
        let pixels = blocks.checked_mul(BLOCK)?;
        let last = pixels.checked_sub(1)?.checked_mul(stride)?.checked_add(channels.len().checked_sub(1)?)?;
        if last >= y.len() || !(1..=MAX_STRIDE).contains(&stride) {
            return None;
        }
        let null = core::ptr::null();
        let (conv_table, shortcut_table) = sum.map_or((null, null), |s| (s.conv.as_ptr(), s.shortcut.as_ptr()));
        let (sum_mult, sum_half, sum_shift) =
            sum.map_or((0, 0, 0), |s| (s.rescale.mult, s.rescale.half, -(s.rescale.shift as i32)));
        let span = channels.as_ptr_range();
        let (y, step, extent) = (y.as_mut_ptr(), BLOCK * stride, pixels * stride);
        let y_end = y.wrapping_add(extent);
        let offsets = [0, 1, 2, 3, 4, 5, 6, 7].map(|p| p * stride as u16);
        let even_offsets = [0, 2, 4, 6].map(|p| p * stride as u32);
        let (zeros, rows, weights, sums) = ([0; 8], [core::ptr::null(); 3], core::ptr::null(), core::ptr::null_mut());
        let raw = assembly::Task {
            zeros,
            rows,
            weights,
            chunks: 0,
            channel: span.start,
            channels_end: span.end,
            y,
            step,
            y_end,
            extent,
            conv_table,
            shortcut_table,
            sum_mult,
            sum_half,
            sum_shift,
            stride,
            sums,
            offsets,
            even_offsets,
            lines: 0,
            tail: 0,
        };
        Some(Task { raw, borrowed: PhantomData })
    }
}

/// 3x3 windows of stride 1 over three strips of `blocks` blocks, for all `channels`, whose weights are
/// [packed](pack). `false` if a length does not fit.
pub fn windows(
    strips: [&[i32]; 3],
    weights: &[i32],
    blocks: usize,
    channels: &[Channel],
    store: Store<'_>,
    y: &mut [i8],
) -> bool {
    let Some(mut task) = Task::new(store, blocks, channels, y) else { return false };
    // Words of a chunk's nine taps, and of a block's pixels.
    let chunks = weights.len().checked_div(channels.len()).unwrap_or_default() / (9 * CHUNK / 4);
    let strip = blocks.saturating_mul(chunks).saturating_mul(COVERED * CHUNK / 4);
    if chunks == 0 || weights.len() != chunks * channels.len() * 36 || strips.iter().any(|s| s.len() < strip) {
        return false;
    }
    task.raw.rows = strips.map(|s| s.as_ptr().cast());
    task.raw.weights = weights.as_ptr().cast();
    task.raw.chunks = chunks;
    // SAFETY: `Task::new` checked all places of outputs, and tables are arrays of 256; strips hold 40 words for
    // each chunk of a block, weights 36 for each of a channel, aligned to words.
    unsafe {
        let kernel = if store.sum.is_some() { assembly::windows_sum } else { assembly::windows };
        kernel(&mut task.raw);
    }
    true
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
    fn fill(&self, task: &mut assembly::Task, weights: &[i8], channels: usize) -> bool {
        let Patch { words, lines, line } = *self;
        let chunks = line.div_ceil(CHUNK).saturating_mul(lines);
        let taps = line.saturating_mul(lines);
        let fits = chunks.saturating_mul(BLOCK * CHUNK / 4) <= words.len();
        if taps == 0 || !fits || taps.saturating_mul(channels) != weights.len() {
            return false;
        }
        task.rows = [words.as_ptr().cast(), core::ptr::null(), core::ptr::null()];
        task.weights = weights.as_ptr();
        // Lines of whole chunks are as good as one.
        let (lines, line) = if line.is_multiple_of(CHUNK) { (1, taps) } else { (lines, line) };
        (task.lines, task.chunks, task.tail) = (lines, line / CHUNK, line % CHUNK);
        true
    }

    /// Stores the block for all `channels`, whose weights are `[channel][line][byte]`. `false` if a length does
    /// not fit.
    pub fn store(&self, weights: &[i8], channels: &[Channel], store: Store<'_>, y: &mut [i8]) -> bool {
        let Some(mut task) = Task::new(store, 1, channels, y) else { return false };
        if !self.fill(&mut task.raw, weights, channels.len()) {
            return false;
        }
        // SAFETY: `Task::new` checked all places of outputs, and tables are arrays of 256; `fill` checked the
        // lengths of the patch, which is aligned to words, and of the weights.
        unsafe { assembly::patch(&mut task.raw) };
        true
    }

    /// The sums of one channel. `false` if a length does not fit.
    pub fn sums(&self, weights: &[i8], sums: &mut [i32; BLOCK]) -> bool {
        let (mut none, mut found) = ([0; BLOCK], [0; BLOCK]);
        let store = Store { sum: None, stride: 1 };
        let Some(mut task) = Task::new(store, 1, &[[0; 4]], &mut none) else { return false };
        if !self.fill(&mut task.raw, weights, 1) {
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
