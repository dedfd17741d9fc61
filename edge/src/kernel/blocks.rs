//! Convolutions of any geometry, four pixels and two channels at a time, where there is memory for widened weights.

use core::ops::Range;

use residual_core::quant::{Conv, Window};

use super::{ADD_TABLES, direct::finish, fast_sum, is_full};
use crate::arch::{Block, Windows, block_words, pack, winograd::Rescale};

/// Pixels at a time.
const PIXELS: usize = 4;

/// How much of a window's axis is before the map and on it, and where it begins there. The window begins at `at` of an
/// axis of `extent` with `pad` before it.
#[inline(always)]
fn clip(at: usize, pad: usize, kernel: usize, extent: usize) -> (usize, usize, usize) {
    let before = pad.saturating_sub(at);
    let first = at.saturating_sub(pad);
    (before, kernel.saturating_sub(before).min(extent.saturating_sub(first)), first)
}

/// Computes output rows `oys` of `conv`; `output` begins at the first of them and holds the shortcut's rows if there is
/// one. Scratch as [`crate::arena`] sizes it; the more there is, the more channels at a time.
#[inline(never)]
pub fn run(
    conv: &Conv<'_>,
    input: &[i8],
    oys: Range<usize>,
    output: &mut [i8],
    work: &mut [u8],
    tiles: &mut [u8],
) -> Option<()> {
    let Window { input: map, output: out, kernel, stride, pad_top, pad_left } = conv.window;
    let taps = conv.window.taps();
    let padded = taps.next_multiple_of(4);
    let tables = if conv.add.is_some() { ADD_TABLES } else { 0 };
    let tables: &[i32] = bytemuck::try_cast_slice(work.get(..tables)?).ok()?;
    let sum = conv.add.as_ref().and_then(|add| fast_sum(add, tables));
    let mut fast = is_full(conv.output) && conv.add.is_some() == sum.is_some();
    // Tables are indexed by the value + 128.
    let zero = i32::from(conv.output.zero_point) + if sum.is_some() { 128 } else { 0 };
    let words = tiles.len() & !3;
    let words: &mut [u32] = bytemuck::try_cast_slice_mut(tiles.get_mut(..words)?).ok()?;
    let (spare, rest) = words.split_at_mut_checked(padded / 4)?;
    let (tile, blocks) = rest.split_at_mut_checked(PIXELS * padded / 2)?;
    let each = block_words(padded / 2);
    // As many channels at a time as there is room for.
    let most = 2 * blocks.len().checked_div(each).filter(|n| *n > 0)?;
    // Columns of outputs whose windows do not reach into the padding.
    let end = (map.w + pad_left + stride).saturating_sub(kernel).checked_div(stride)?;
    let inside = (pad_left + stride - 1).checked_div(stride)?..end;
    let mut windows = Windows::new(padded / 4, kernel * map.c, stride * map.c, map.w * map.c, conv.input_zero);
    let mut task = Block::new(sum, padded / 2, out.c);
    let padding = u32::from(conv.input_zero as u8) * 0x0101_0101;
    let mut from = 0;
    while from < out.c {
        let channels = most.min(out.c - from);
        for channel in from..from + channels {
            let weights = conv.weights.get(channel * taps..)?;
            // The last word may hold some of the next channel's weights; its inputs are 0.
            let weights = match weights.get(..padded) {
                Some(own) => own,
                None => {
                    let copy = bytemuck::cast_slice_mut(spare);
                    copy.iter_mut().zip(weights).for_each(|(to, from)| *to = *from);
                    copy
                }
            };
            let rescale = Rescale::new(*conv.mult.get(channel)?, *conv.shift.get(channel)?, zero);
            fast &= rescale.is_some();
            let block = blocks.get_mut((channel - from) / 2 * each..)?.get_mut(..each)?;
            pack(block, (channel - from) % 2, weights, *conv.bias.get(channel)?, rescale.unwrap_or_default())?;
        }
        // Taps of the padding stay as they are; what is behind the taps has weights but no inputs.
        spare.fill(padding);
        let mut y = &mut *output;
        for oy in oys.clone() {
            let (above, lines, top) = clip(oy * stride, pad_top, kernel, map.h);
            let row = input.get(top * map.w * map.c..)?;
            for ox in (0..out.w).step_by(PIXELS) {
                let count = PIXELS.min(out.w - ox);
                // All at once, if all of them are on the map.
                let run = if inside.start <= ox && ox + count <= inside.end { count } else { 1 };
                let mut p = 0;
                while p < count {
                    let (before, columns, left) = clip((ox + p) * stride, pad_left, kernel, map.w);
                    if lines < kernel || columns < kernel {
                        spare.fill(padding);
                    }
                    let (at, part) = ((above * kernel + before) * map.c, (lines, columns * map.c));
                    windows.collect(part, row.get(left * map.c..)?, at, spare, p..p + run, tile).then_some(())?;
                    p += run;
                }
                let own = y.get_mut(from..)?;
                let stored = if fast && count == PIXELS { channels & !1 } else { 0 };
                if stored > 0 {
                    task.store(blocks.get(..stored / 2 * each)?, tile, own).then_some(())?;
                }
                for channel in stored..channels {
                    let block = blocks.get(channel / 2 * each..)?;
                    let sums = task.sums(block, tile).get(channel % 2 * PIXELS..)?.get(..count)?;
                    finish(conv, tables, from + channel, sums, own.get_mut(channel..)?)?;
                }
                y = y.get_mut(count * out.c..)?;
            }
        }
        from += channels;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use residual_core::{
        geom::Shape,
        quant::{Add, Encoding, Requant, Rounding, reference},
    };

    use super::*;
    use crate::kernel::{ADD_TABLES, fill_tables};

    struct Draw(u32);

    impl Draw {
        fn below(&mut self, n: u32) -> u32 {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (self.0 >> 8) % n
        }

        fn bytes(&mut self, count: usize) -> Vec<i8> {
            (0..count).map(|_| self.below(256) as u8 as i8).collect()
        }
    }

    /// Compares `window` with the definition, with room for `rooms` times two channels.
    fn check(window: Window, added: bool, full: bool, rooms: usize, draw: &mut Draw) {
        let (c, taps) = (window.output.c, window.taps());
        let weights: Vec<i8> = draw.bytes(window.weight_len()).iter().map(|w| (*w).max(-127)).collect();
        let bias: Vec<i32> = (0..c).map(|_| draw.below(20_000) as i32 - 10_000).collect();
        let mult: Vec<i32> = (0..c).map(|_| (1 << 30) + draw.below(1 << 23) as i32 * 100).collect();
        let shift: Vec<i8> = (0..c).map(|_| -6 - draw.below(4) as i8).collect();
        let encoding = |zero_point| Encoding { zero_point, min: if full { -128 } else { zero_point }, max: 127 };
        let [rescale_conv, rescale_shortcut, rescale_sum] = Add::factors(0.5, 0.3, 0.7).unwrap();
        let add = Add {
            shortcut: window.output,
            stride: 1,
            before: 0,
            shortcut_zero: 5,
            rescale_conv,
            rescale_shortcut,
            rescale_sum,
            output: encoding(-3),
        };
        let conv = Conv {
            window,
            input_zero: draw.below(256) as u8 as i8,
            weights: &weights,
            bias: &bias,
            mult: &mult,
            shift: &shift,
            rounding: Rounding::Twice,
            output: encoding(11),
            add: added.then_some(add),
        };
        assert!(window.is_valid() && conv.is_consistent());
        let input = draw.bytes(window.input.elements());
        let shortcut = draw.bytes(window.output.elements());
        let mut wanted = vec![0; shortcut.len()];
        reference::convolve(&conv, &input, &shortcut, &mut wanted).unwrap();

        let mut tables = vec![0i32; ADD_TABLES / 4];
        fill_tables(&conv, &mut tables);
        let padded = taps.next_multiple_of(4);
        let least = 2 * PIXELS * padded + padded + 4 * block_words(padded / 2) * rooms;
        let mut tiles = vec![0x5a5a_5a5au32; least / 4];
        let (mut got, split) = (shortcut, window.output.h / 2);
        let row = window.output.w * c;
        for rows in [0..split, split..window.output.h] {
            let output = &mut got[rows.start * row..rows.end * row];
            let (work, tiles) = (bytemuck::cast_slice_mut(&mut tables), bytemuck::cast_slice_mut(&mut tiles));
            run(&conv, &input, rows, output, work, tiles).unwrap();
        }
        assert_eq!(got, wanted, "{window:?}, added {added}, full {full}, {rooms} rooms");
    }

    #[test]
    fn any_window_equals_the_definition() {
        let mut draw = Draw(7);
        for kernel in 1..=4 {
            for stride in 1..=3 {
                for pad in 0..kernel {
                    for (h, w, from, to) in [(9, 7, 3, 5), (5, 13, 8, 4), (kernel, kernel, 1, 1), (6, 9, 5, 6)] {
                        let axis = |n: usize| (n + 2 * pad - kernel) / stride + 1;
                        let (input, output) = (Shape::new(h, w, from), Shape::new(axis(h), axis(w), to));
                        let window = Window { input, output, kernel, stride, pad_top: pad, pad_left: pad };
                        for (added, full) in [(false, true), (true, true), (false, false), (true, false)] {
                            for rooms in [1, 2, 9] {
                                check(window, added, full, rooms, &mut draw);
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn too_little_room_is_none() {
        let shape = Shape::new(1, 1, 4);
        let window = Window { input: shape, output: shape, kernel: 1, stride: 1, pad_top: 0, pad_left: 0 };
        let requant = Requant::from_scale(0.01).unwrap();
        let conv = Conv {
            window,
            input_zero: 0,
            weights: &[1; 16],
            bias: &[0; 4],
            mult: &[requant.mult; 4],
            shift: &[requant.shift; 4],
            rounding: Rounding::Twice,
            output: Encoding { zero_point: 0, min: -128, max: 127 },
            add: None,
        };
        let least = 2 * PIXELS * 4 + 4 + 4 * block_words(2);
        let mut tiles = vec![0u32; least / 4];
        let (work, tiles): (&mut [u8], &mut [u8]) = bytemuck::cast_slice_mut(&mut tiles).split_at_mut(0);
        assert_eq!(run(&conv, &[1; 4], 0..1, &mut [0; 4], work, tiles), Some(()));
        assert_eq!(run(&conv, &[1; 4], 0..1, &mut [0; 4], work, &mut tiles[..least - 4]), None);
    }
}
