//! Option A's shortcut where the shape changes: every `stride`-th pixel, between zero channels.
//!
//! ```text
//! forward    y[oy, ox, before + c] = x[oy * stride, ox * stride, c], other channels 0
//! backward   dx[oy * stride, ox * stride, c] = dy[oy, ox, before + c], other pixels 0
//! ```
//!
//! The identity's backward is the identity, and a projection is a convolution with batch norm.

use residual_core::geom::Shape;

/// The backward of [`residual_core::conv::subsample`] for one image.
pub(crate) fn subsample_backward(input: Shape, stride: usize, before: usize, c_out: usize, dy: &[f32], dx: &mut [f32]) {
    dx.fill(0.0);
    let w_out = input.w.div_ceil(stride);
    for (i, pixel) in dy.chunks_exact(c_out).enumerate() {
        let at = (i / w_out * stride * input.w + i % w_out * stride) * input.c;
        dx[at..at + input.c].copy_from_slice(&pixel[before..before + input.c]);
    }
}
