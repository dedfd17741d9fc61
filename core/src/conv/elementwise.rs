//! Passes that move elements and compute nothing.

use crate::geom::Shape;

/// Option A's shortcut where the shape changes: every `stride`-th pixel, between `before` channels of `zero`
/// and as many after as fill `y`'s pixels. `y` is output rows `first_row..` of one image.
///
/// # Panics
/// When the slices do not fit the shapes, or a stride or number of channels is zero.
#[allow(clippy::too_many_arguments)] // a shape, its changes and two maps
pub fn subsample<T: Copy>(
    input: Shape,
    stride: usize,
    before: usize,
    c_out: usize,
    zero: T,
    x: &[T],
    first_row: usize,
    y: &mut [T],
) {
    assert!(stride > 0 && c_out > 0 && input.is_valid() && x.len() == input.elements());
    let w_out = input.w.div_ceil(stride);
    for (i, pixel) in y.chunks_exact_mut(c_out).enumerate() {
        let (oy, ox) = (first_row + i / w_out, i % w_out);
        let at = (oy * stride * input.w + ox * stride) * input.c;
        pixel[..before].fill(zero);
        pixel[before..before + input.c].copy_from_slice(&x[at..at + input.c]);
        pixel[before + input.c..].fill(zero);
    }
}
