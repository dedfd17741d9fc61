//! Pools.
//!
//! ```text
//! max        y[o] = max over the window of x       dx[i] = sum of dy[o] over the windows whose first maximum is i
//! average    y = sum x / n                         dx = dy / n, the same for every pixel
//! ```

use residual_core::geom::PoolGeom;

/// Max pool's backward for one image, behind a ReLU: gradients pass to the first element of a window
/// that equals its maximum, where that is positive.
pub(crate) fn max_pool_backward(g: &PoolGeom, x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]) {
    let (input, out) = (g.input, g.output());
    let c = input.c;
    dx.fill(0.0);
    let mut open = vec![0.0f32; c];
    let window = |o: usize, n: usize| {
        let start = o * g.stride;
        start.saturating_sub(g.pad)..(start + g.kernel).saturating_sub(g.pad).min(n)
    };
    for (i, (y, dy)) in y.chunks_exact(c).zip(dy.chunks_exact(c)).enumerate() {
        for ((open, &y), &dy) in open.iter_mut().zip(y).zip(dy) {
            *open = if y > 0.0 { dy } else { 0.0 };
        }
        for (iy, ix) in window(i / out.w, input.h).flat_map(|iy| window(i % out.w, input.w).map(move |ix| (iy, ix))) {
            let at = (iy * input.w + ix) * c;
            let pixels = dx[at..at + c].iter_mut().zip(&x[at..at + c]);
            for (((dx, &x), &y), open) in pixels.zip(y).zip(&mut open) {
                let passed = if x == y { *open } else { 0.0 };
                *dx += passed;
                *open -= passed;
            }
        }
    }
}

/// Average pool's backward for one image.
pub(crate) fn average_pool_backward(dy: &[f32], dx: &mut [f32]) {
    let pixels = dx.len() / dy.len();
    for pixel in dx.chunks_exact_mut(dy.len()) {
        pixel.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = dy / pixels as f32);
    }
}
