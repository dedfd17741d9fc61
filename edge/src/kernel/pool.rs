//! Pools.

use residual_core::{
    geom::Shape,
    quant::{Mean, Window},
};

use super::direct::Rows;

/// `y[c] = round(sum x[.., c] / (h w))`, half away from zero.
pub fn global_average(shape: Shape, input: &[i8], output: &mut [i8]) -> Option<()> {
    let count = (shape.h * shape.w) as u64;
    for (c, y) in output.iter_mut().enumerate() {
        // A view admits fewer than 2^30 elements a map, so 64 bits are enough for any sum and its half.
        let sum: i64 = input.get(c..)?.iter().step_by(shape.c.max(1)).map(|x| i64::from(*x)).sum();
        let mean = divide(sum.unsigned_abs() + count / 2, count);
        *y = if sum < 0 { -mean } else { mean } as i8;
    }
    Some(())
}

/// `y[c] = clamp(rescale(sum (x[.., c] - zero)) + zero')`.
pub fn mean(op: &Mean, input: &[i8], output: &mut [i8]) -> Option<()> {
    let zero = i32::from(op.input_zero);
    for (c, y) in output.iter_mut().enumerate() {
        // A view admits no more pixels than 32 bits are enough for.
        let values = input.get(c..)?.iter().step_by(op.input.c.max(1));
        *y = op.encode(values.fold(0i32, |sum, x| sum.wrapping_add(i32::from(*x) - zero)));
    }
    Some(())
}

/// `n / count` where it is at most 128, digit by digit: cores have no 64-bit division.
fn divide(mut n: u64, count: u64) -> i32 {
    let mut quotient = 0;
    for bit in (0..8).rev() {
        if n >= count << bit {
            n -= count << bit;
            quotient |= 1 << bit;
        }
    }
    quotient
}

/// The maximum of each window, for output row `y`.
pub fn max_row(window: &Window, rows: &Rows<'_>, y: usize, output: &mut [i8]) -> Option<()> {
    let Window { input: map, output: out, kernel, pad_top, pad_left, .. } = *window;
    output.fill(i8::MIN);
    for (x, pixel) in output.chunks_exact_mut(out.c.max(1)).enumerate() {
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
