//! The definition of every int8 op: TFLite's reference kernels, written plainly.
//!
//! Fast kernels are tested against these functions byte for byte. Maps are NHWC, one image.

use super::{Conv, Mean, Op, Requant, Window};
use crate::{Error, geom::Shape};

fn check(what: &'static str, need: usize, got: usize) -> Result<(), Error> {
    if need == got { Ok(()) } else { Err(Error::BufferLength { what, need, got }) }
}

/// Computes one op: `x` is its input, `shortcut` the map a convolution adds (unused otherwise).
pub fn execute(op: &Op<'_>, x: &[i8], shortcut: &[i8], y: &mut [i8]) -> Result<(), Error> {
    match op {
        Op::Conv(conv) => convolve(conv, x, shortcut, y),
        Op::MaxPool(window) => max_pool(window, x, y),
        Op::GlobalAveragePool(shape) => global_average_pool(*shape, x, y),
        Op::Mean(op) => mean(op, x, y),
    }
}

/// `y[o] = clamp(rescale_o(bias_o + sum w[o][tap] (x[tap] - zero)) + zero')`, then the shortcut's ADD.
pub fn convolve(conv: &Conv<'_>, x: &[i8], shortcut: &[i8], y: &mut [i8]) -> Result<(), Error> {
    let Window { input, output, kernel, pad_top, pad_left, .. } = conv.window;
    check("convolution input", input.elements(), x.len())?;
    check("convolution output", output.elements(), y.len())?;
    check("weights", conv.window.weight_len(), conv.weights.len())?;
    check("bias", output.c, conv.bias.len())?;
    check("multipliers", output.c, conv.mult.len())?;
    check("shifts", output.c, conv.shift.len())?;
    if let Some(add) = &conv.add {
        check("shortcut", add.shortcut.elements(), shortcut.len())?;
    }
    let zero = i32::from(conv.input_zero);
    for (p, pixel) in y.chunks_exact_mut(output.c).enumerate() {
        let (oy, ox) = (p / output.w, p % output.w);
        for (o, out) in pixel.iter_mut().enumerate() {
            let mut acc = conv.bias[o];
            for ky in 0..kernel {
                for kx in 0..kernel {
                    let rows = conv.window.source(oy, ky, pad_top, input.h);
                    let columns = conv.window.source(ox, kx, pad_left, input.w);
                    let (Some(iy), Some(ix)) = (rows, columns) else { continue };
                    let weights = &conv.weights[((o * kernel + ky) * kernel + kx) * input.c..][..input.c];
                    let pixel = &x[(iy * input.w + ix) * input.c..][..input.c];
                    for (w, x) in weights.iter().zip(pixel) {
                        acc = acc.wrapping_add(i32::from(*w) * (i32::from(*x) - zero));
                    }
                }
            }
            let scale = Requant { mult: conv.mult[o], shift: conv.shift[o] };
            let value = conv.output.encode(scale.rescale_as(conv.rounding, acc));
            *out = match &conv.add {
                None => value,
                Some(add) => {
                    let other = match o.checked_sub(add.before) {
                        Some(c) if c < add.shortcut.c => {
                            let pixel = oy * add.stride * add.shortcut.w + ox * add.stride;
                            shortcut[pixel * add.shortcut.c + c]
                        }
                        _ => add.shortcut_zero,
                    };
                    let sum = add.conv_term(value, conv.output.zero_point).wrapping_add(add.shortcut_term(other));
                    add.encode(sum)
                }
            };
        }
    }
    Ok(())
}

/// `y = max` over each window.
pub fn max_pool(window: &Window, x: &[i8], y: &mut [i8]) -> Result<(), Error> {
    let Window { input, output, kernel, pad_top, pad_left, .. } = *window;
    check("max pool input", input.elements(), x.len())?;
    check("max pool output", output.elements(), y.len())?;
    for (p, pixel) in y.chunks_exact_mut(output.c).enumerate() {
        pixel.fill(i8::MIN);
        for ky in 0..kernel {
            for kx in 0..kernel {
                let rows = window.source(p / output.w, ky, pad_top, input.h);
                let columns = window.source(p % output.w, kx, pad_left, input.w);
                let (Some(iy), Some(ix)) = (rows, columns) else { continue };
                let source = &x[(iy * input.w + ix) * input.c..][..input.c];
                pixel.iter_mut().zip(source).for_each(|(y, x)| *y = (*y).max(*x));
            }
        }
    }
    Ok(())
}

/// `y[c] = round(sum x[.., c] / (h w))`, half away from zero; the encoding does not change.
pub fn global_average_pool(shape: Shape, x: &[i8], y: &mut [i8]) -> Result<(), Error> {
    check("average pool input", shape.elements(), x.len())?;
    check("average pool output", shape.c, y.len())?;
    for (c, out) in y.iter_mut().enumerate() {
        let sum: i64 = x.iter().skip(c).step_by(shape.c).map(|x| i64::from(*x)).sum();
        *out = rounded_mean(sum, (shape.h * shape.w) as i64) as i8;
    }
    Ok(())
}

/// `y[c] = clamp(rescale(sum (x[.., c] - zero)) + zero')`.
pub fn mean(op: &Mean, x: &[i8], y: &mut [i8]) -> Result<(), Error> {
    check("mean input", op.input.elements(), x.len())?;
    check("mean output", op.input.c, y.len())?;
    let zero = i32::from(op.input_zero);
    for (c, out) in y.iter_mut().enumerate() {
        let values = x.iter().skip(c).step_by(op.input.c);
        *out = op.encode(values.fold(0i32, |sum, x| sum.wrapping_add(i32::from(*x) - zero)));
    }
    Ok(())
}

/// `sum / count`, half away from zero.
pub(crate) const fn rounded_mean(sum: i64, count: i64) -> i64 {
    let half = count / 2;
    (if sum > 0 { sum + half } else { sum - half }) / count
}
