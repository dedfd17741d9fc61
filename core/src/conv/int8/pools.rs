//! The pools, in int8.

use core::ops::Range;

use crate::{
    geom::{Shape, Window},
    quant::{self, Mean},
};

/// Output rows `rows` of one image's max pool.
pub(crate) fn max_pool_int8(window: &Window, x: &[i8], rows: Range<usize>, y: &mut [i8]) {
    let Window { input, output, kernel, pad_top, pad_left, .. } = *window;
    for (oy, line) in rows.zip(y.chunks_exact_mut(output.w * output.c)) {
        line.fill(i8::MIN);
        for iy in (0..kernel).filter_map(|ky| window.source(oy, ky, pad_top, input.h)) {
            for (ox, pixel) in line.chunks_exact_mut(output.c).enumerate() {
                for ix in (0..kernel).filter_map(|kx| window.source(ox, kx, pad_left, input.w)) {
                    let source = &x[(iy * input.w + ix) * input.c..][..input.c];
                    pixel.iter_mut().zip(source).for_each(|(y, x)| *y = (*y).max(*x));
                }
            }
        }
    }
}

/// One image's mean over all pixels, rounded half away from zero.
pub(crate) fn average_pool_int8(shape: Shape, x: &[i8], y: &mut [i8]) {
    let pixels = (shape.h * shape.w) as i64;
    add_up(shape.c, x, y, |sum| quant::reference::rounded_mean(sum, pixels) as i8);
}

/// One image's mean over all pixels, rescaled.
pub(crate) fn mean_int8(mean: &Mean, x: &[i8], y: &mut [i8]) {
    let zeros = (mean.input.h * mean.input.w) as i64 * i64::from(mean.input_zero);
    // A map has at most `Mean::MOST_PIXELS`, so the difference fits.
    add_up(mean.input.c, x, y, |sum| mean.encode((sum - zeros) as i32));
}

/// `y[c] = finish(sum x[.., c])`.
fn add_up(channels: usize, x: &[i8], y: &mut [i8], finish: impl Fn(i64) -> i8) {
    const LANES: usize = 64;
    for (first, y) in (0..channels).step_by(LANES).zip(y.chunks_mut(LANES)) {
        let mut sums = [0i64; LANES];
        for pixel in x.chunks_exact(channels) {
            sums.iter_mut().zip(&pixel[first..][..y.len()]).for_each(|(sum, x)| *sum += i64::from(*x));
        }
        y.iter_mut().zip(sums).for_each(|(y, sum)| *y = finish(sum));
    }
}
