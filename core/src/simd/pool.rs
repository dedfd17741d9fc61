//! Max pool and global average pool, vectors of channels at a time.

use super::{
    isa::Isa,
    vector::{Op, Vector, dispatch},
};
use crate::geom::{Shape, Window};

/// Output rows `rows` of one image's max pool.
///
/// # Panics
/// When the geometry is not valid, `x` is not one input map or `y` not these output rows.
pub fn max_pool(isa: Isa, g: &Window, x: &[f32], rows: core::ops::Range<usize>, y: &mut [f32]) {
    let out = g.output;
    assert!(g.is_valid(), "a pool of {} by windows of {} cannot be computed", g.input, g.kernel);
    assert!(x.len() == g.input.elements() && rows.start <= rows.end && rows.end <= out.h);
    assert!(y.len() == rows.len() * out.w * out.c);
    // SAFETY: the geometry is valid, so no product below overflows; windows are clipped to the input map, which is `x`,
    // and `y` holds exactly the rows asked for.
    unsafe { dispatch(isa, MaxPool { g, x, rows, y }) }
}

struct MaxPool<'a> {
    g: &'a Window,
    x: &'a [f32],
    rows: core::ops::Range<usize>,
    y: &'a mut [f32],
}

impl Op for MaxPool<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let MaxPool { g, x, rows, y } = self;
        let Shape { h, w, c } = g.input;
        let clip = |o: usize, pad: usize, extent: usize| {
            (o * g.stride).saturating_sub(pad)..(o * g.stride + g.kernel).saturating_sub(pad).min(extent)
        };
        let out_w = g.output.w;
        for (oy, y_row) in rows.zip(y.chunks_exact_mut(out_w * c)) {
            for (ox, pixel) in y_row.chunks_exact_mut(c).enumerate() {
                let (ys, xs) = (clip(oy, g.pad_top, h), clip(ox, g.pad_left, w));
                let mut ch = 0;
                while ch < c {
                    let n = (c - ch).min(V::LANES);
                    // SAFETY: the clipped window lies inside the map, `ch + n <= c`.
                    unsafe {
                        let mut best = V::splat(f32::NEG_INFINITY);
                        for iy in ys.clone() {
                            for ix in xs.clone() {
                                let p = x.as_ptr().add((iy * w + ix) * c + ch);
                                best = best.max(if n == V::LANES { V::load(p) } else { V::load_first(p, n) });
                            }
                        }
                        best.store_first(pixel.as_mut_ptr().add(ch), n);
                    }
                    ch += n;
                }
            }
        }
    }
}

/// The mean of every channel of one image: `y[c] = sum over pixels of x[p, c] / pixels`, summed in
/// pixel order.
///
/// # Panics
/// When `x` is not whole pixels of `y.len()` channels, or empty.
pub fn average_pool(isa: Isa, x: &[f32], y: &mut [f32]) {
    assert!(!y.is_empty() && !x.is_empty() && x.len().is_multiple_of(y.len()));
    // SAFETY: `x` holds whole pixels of `y.len()` channels: every read ends with a pixel, every write with `y`.
    unsafe { dispatch(isa, AveragePool { x, y }) }
}

struct AveragePool<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Op for AveragePool<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let AveragePool { x, y } = self;
        let c = y.len();
        let pixels = x.len() / c;
        let mut ch = 0;
        while ch < c {
            let n = (c - ch).min(V::LANES);
            // SAFETY: `ch + n <= c`, and every pixel has `c` channels.
            unsafe {
                let mut sum = V::splat(0.0);
                for p in 0..pixels {
                    let at = x.as_ptr().add(p * c + ch);
                    sum = sum.add(if n == V::LANES { V::load(at) } else { V::load_first(at, n) });
                }
                sum.mul(V::splat(1.0 / pixels as f32)).store_first(y.as_mut_ptr().add(ch), n);
            }
            ch += n;
        }
    }
}
