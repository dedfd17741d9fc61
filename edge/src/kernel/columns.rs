//! 3x3 convolutions of stride 1 over ten columns of three rows, interleaved once for the windows of 8 pixels.

use residual_core::quant::{Conv, Window};

use super::{ADD_TABLES, direct::Rows, direct::blank, fast_sum, is_full};
use crate::arch::{Eight, has_window, interleave, winograd::Rescale};

/// Columns under 8 windows.
const COLUMNS: usize = 10;

/// Bytes of interleaved columns, if `conv` can be computed here; less than [`super::direct::tile_bytes`].
pub fn bytes(conv: &Conv<'_>) -> Option<usize> {
    let Window { input, output, kernel, stride, .. } = conv.window;
    let fast = |shift: &i8| (-22..=-1).contains(shift);
    let supported = kernel == 3
        && stride == 1
        && has_window(input.c)
        && output.w.is_multiple_of(8)
        && is_full(conv.output)
        && conv.shift.iter().all(fast)
        && conv.add.is_none_or(|add| is_full(add.output) && fast(&add.rescale_sum.shift));
    supported.then_some(3 * COLUMNS * 2 * input.c)
}

/// Computes output row `oy` of `conv`; `output` holds the shortcut's row if there is one. `work` begins with the
/// tables of an addition, `tiles` has as many bytes as [`bytes`] says.
#[inline(never)]
pub fn run(
    conv: &Conv<'_>,
    rows: &Rows<'_>,
    oy: usize,
    output: &mut [i8],
    work: &mut [u8],
    tiles: &mut [u8],
) -> Option<()> {
    let Window { input, output: out, pad_top, pad_left, .. } = conv.window;
    let c = input.c;
    let sum = match &conv.add {
        Some(add) => Some(fast_sum(add, bytemuck::try_cast_slice(work.get(..ADD_TABLES)?).ok()?)?),
        None => None,
    };
    // Tables are indexed by the value + 128.
    let zero = i32::from(conv.output.zero_point) + if sum.is_some() { 128 } else { 0 };
    let mut eight = Eight::new(sum, out.c);
    let x: &mut [u32] = bytemuck::try_cast_slice_mut(tiles).ok()?;
    let x = x.get_mut(..3 * COLUMNS * c / 2)?;
    for ox in (0..out.w).step_by(8) {
        let mut rest = &mut *x;
        for ky in 0..3 {
            let (x, below) = rest.split_at_mut_checked(COLUMNS * c / 2)?;
            rest = below;
            let Some(y) = conv.window.source(oy, ky, pad_top, input.h) else {
                x.fill(0);
                continue;
            };
            let row: &[u32] = bytemuck::try_cast_slice(rows.get(y)?).ok()?;
            let from = pad_left.saturating_sub(ox).min(COLUMNS);
            let to = (input.w + pad_left).saturating_sub(ox).min(COLUMNS).max(from);
            let mut pixels = row.get((ox + from).saturating_sub(pad_left) * (c / 4)..)?;
            for column in (0..from).chain(to..COLUMNS) {
                blank(column, COLUMNS, x);
            }
            for column in from..to {
                let (pixel, others) = pixels.split_at_checked(c / 4)?;
                interleave(pixel, conv.input_zero, column, COLUMNS, x);
                pixels = others;
            }
        }
        let mut y = output.get_mut(ox * out.c..)?;
        let mut weights = conv.weights;
        for ((bias, mult), shift) in conv.bias.iter().zip(conv.mult).zip(conv.shift) {
            let (own, others) = weights.split_at_checked(9 * c)?;
            weights = others;
            eight.window(own, x, *bias, &Rescale::new(*mult, *shift, zero)?, y).then_some(())?;
            y = y.get_mut(1..)?;
        }
    }
    Some(())
}
