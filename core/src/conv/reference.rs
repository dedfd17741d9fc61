//! Plain definitions, to test the kernels against and to read.

use super::ConvWeights;
use crate::geom::ConvGeom;

/// A convolution by its definition, accumulated in f64, together with the sum of the magnitudes of
/// all terms of every output (error bounds are proportional to it).
///
/// `x` is one NHWC image, and so is the shortcut that is added. Returns `(y, magnitude)` through `emit(index, y, magnitude)`, so that it
/// needs no allocation.
pub fn conv(
    g: &ConvGeom,
    x: &[f32],
    w: ConvWeights<'_>,
    shortcut: Option<&[f32]>,
    relu: bool,
    mut emit: impl FnMut(usize, f64, f64),
) {
    let (input, out) = (g.input, g.output());
    for oy in 0..out.h {
        for ox in 0..out.w {
            for o in 0..g.c_out {
                let scale = w.scale.get(o).map_or(1.0, |&s| f64::from(s));
                let bias = f64::from(w.bias[o]);
                let (mut sum, mut magnitude) = (bias, bias.abs());
                for ky in 0..g.kernel {
                    for kx in 0..g.kernel {
                        let (iy, ix) = (oy * g.stride + ky, ox * g.stride + kx);
                        let (Some(iy), Some(ix)) = (iy.checked_sub(g.pad), ix.checked_sub(g.pad)) else { continue };
                        if iy >= input.h || ix >= input.w {
                            continue;
                        }
                        for c in 0..input.c {
                            let a = f64::from(x[(iy * input.w + ix) * input.c + c]);
                            let b = f64::from(w.oihw[((o * input.c + c) * g.kernel + ky) * g.kernel + kx]);
                            sum += a * b * scale;
                            magnitude += (a * b * scale).abs();
                        }
                    }
                }
                let at = (oy * out.w + ox) * g.c_out + o;
                if let Some(shortcut) = shortcut {
                    sum += f64::from(shortcut[at]);
                    magnitude += f64::from(shortcut[at]).abs();
                }
                if relu {
                    sum = sum.max(0.0);
                }
                emit(at, sum, magnitude);
            }
        }
    }
}

/// A convolution and its gradients by their definitions, in f64. Maps are one NHWC image each,
/// weights OIHW.
///
/// Called with the magnitudes of its operands it adds up the magnitudes of all terms, which error
/// bounds are proportional to.
pub struct ConvF64<'a> {
    /// one image
    pub x: &'a [f64],
    /// weights
    pub w: &'a [f64],
}

impl ConvF64<'_> {
    /// `y += conv(x, w)`.
    pub fn forward(&self, g: &ConvGeom, y: &mut [f64]) {
        each_product(g, |x, w, at| y[at] += self.x[x] * self.w[w]);
    }

    /// `dx += dy * w` and `dw += dy * x`, over all products of the convolution.
    pub fn backward(&self, g: &ConvGeom, dy: &[f64], dx: &mut [f64], dw: &mut [f64]) {
        each_product(g, |x, w, at| {
            dx[x] += dy[at] * self.w[w];
            dw[w] += dy[at] * self.x[x];
        });
    }
}

/// Calls `f(index in x, index in w, index in y)` for every product of a convolution.
fn each_product(g: &ConvGeom, mut f: impl FnMut(usize, usize, usize)) {
    let (input, out) = (g.input, g.output());
    for (oy, ox) in (0..out.h).flat_map(|oy| (0..out.w).map(move |ox| (oy, ox))) {
        for (ky, kx) in (0..g.kernel).flat_map(|ky| (0..g.kernel).map(move |kx| (ky, kx))) {
            let (iy, ix) = (oy * g.stride + ky, ox * g.stride + kx);
            let (Some(iy), Some(ix)) = (iy.checked_sub(g.pad), ix.checked_sub(g.pad)) else { continue };
            if iy >= input.h || ix >= input.w {
                continue;
            }
            for o in 0..g.c_out {
                for c in 0..input.c {
                    let w = ((o * input.c + c) * g.kernel + ky) * g.kernel + kx;
                    f((iy * input.w + ix) * input.c + c, w, (oy * out.w + ox) * g.c_out + o);
                }
            }
        }
    }
}
