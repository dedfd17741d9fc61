//! Pools.

use residual_core::{geom::Shape, quant::Window};

use super::direct::Rows;

/// `y[c] = round(sum x[.., c] / (h w))`, half away from zero.
pub fn global_average(shape: Shape, input: &[i8], output: &mut [i8]) -> Option<()> {
    let count = i32::try_from(shape.h * shape.w).ok().filter(|n| *n > 0)?;
    for (c, y) in output.iter_mut().enumerate() {
        // At most 2^28 pixels of 2^7 would wrap; a view admits fewer than 2^30 elements a map, and
        // 2^24 pixels fit: beyond, sums are 64 bits wide.
        let channel = input.get(c..)?.iter().step_by(shape.c);
        let sum = if count < 1 << 24 {
            let sum: i32 = channel.map(|x| i32::from(*x)).sum();
            (if sum > 0 { sum + count / 2 } else { sum - count / 2 }).checked_div(count)?
        } else {
            let sum: i64 = channel.map(|x| i64::from(*x)).sum();
            let half = i64::from(count / 2);
            (if sum > 0 { sum + half } else { sum - half }).checked_div(count.into())? as i32
        };
        *y = sum as i8;
    }
    Some(())
}

/// The maximum of each window, for output row `y`.
pub fn max_row(window: &Window, rows: &Rows<'_>, y: usize, output: &mut [i8]) -> Option<()> {
    let Window { input: map, output: out, kernel, pad_top, pad_left, .. } = *window;
    output.fill(i8::MIN);
    for (x, pixel) in output.chunks_exact_mut(out.c).enumerate() {
        for ky in 0..kernel {
            let Some(row) = window.source(y, ky, pad_top, map.h) else { continue };
            let row = rows.get(row)?;
            for kx in 0..kernel {
                let Some(column) = window.source(x, kx, pad_left, map.w) else { continue };
                let source = row.get(column * map.c..)?;
                pixel.iter_mut().zip(source).for_each(|(y, x)| *y = (*y).max(*x));
            }
        }
    }
    Some(())
}
