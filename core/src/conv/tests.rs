//! Every kernel on every instruction set against the definition, at odd sizes.

use std::panic::catch_unwind;

use proptest::prelude::*;

use super::{Band, ConvWeights, DataGradient, Epilogue, Kernel, WeightGradient, reference};
use crate::{
    Error,
    geom::{ConvGeom, PoolGeom, Shape},
    memory::MatMut,
    plan::fastest,
    simd::{Isa, Tile, max_pool},
    testing::Uniform,
};

pub(super) fn shapes() -> Vec<ConvGeom> {
    let mut shapes = Vec::new();
    for (kernel, stride, pad) in [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (7, 2, 3), (5, 3, 0)] {
        for (h, w, c_in, c_out) in [
            (7, 7, 3, 10),
            (8, 9, 16, 16),
            (5, 13, 17, 33),
            (14, 14, 24, 48),
            (1, 1, 70, 5),
            (9, 6, 512, 35),
            (3, 29, 1, 1),
        ] {
            let input = Shape::new(h, w, c_in);
            if h + 2 * pad >= kernel && w + 2 * pad >= kernel {
                shapes.push(ConvGeom { input, c_out, kernel, stride, pad });
            }
        }
    }
    shapes
}

/// Every kernel computes `n` products and `n + 2` additions one after another at worst, so by
/// Higham, *Accuracy and Stability of Numerical Algorithms*, section 3.1, the error is at most
/// `gamma(n + 4) * sum of magnitudes`, the scale's rounding included.
pub(super) fn direct_bound(g: &ConvGeom, magnitude: f64) -> f64 {
    let n = (g.input.c * g.kernel * g.kernel + 4) as f64;
    let u = f64::from(f32::EPSILON) / 2.0;
    n * u / (1.0 - n * u) * magnitude
}

/// Derived in NUMERICS.md: `gamma(c + 40)` times the sum of the magnitudes of all terms of the
/// transformed products, `|A'| ((|G| |g| |G'|) . (|B'| |d| |B|)) |A|` over all channels. The bias and
/// shortcut are in the direct bound, which is added.
fn winograd_bound(tile: Tile, g: &ConvGeom, x: &[f32], oihw: &[f32], scale: &[f32], at: usize) -> f64 {
    let (m, n) = (tile.outputs(), tile.inputs());
    let out = g.output();
    let (oy, ox, o) = (at / g.c_out / out.w, at / g.c_out % out.w, at % g.c_out);
    let (ty, tx) = (oy / m * m, ox / m * m);
    let (a, b) = (tile.a_abs(), tile.b_abs());
    let mut sum = 0.0;
    for c in 0..g.input.c {
        let d = |i: usize, j: usize| -> f64 {
            let (Some(y), Some(x_)) = ((ty + i).checked_sub(1), (tx + j).checked_sub(1)) else { return 0.0 };
            if y >= g.input.h || x_ >= g.input.w {
                0.0
            } else {
                f64::from(x[(y * g.input.w + x_) * g.input.c + c]).abs()
            }
        };
        let kernel: Vec<f32> = oihw[(o * g.input.c + c) * 9..][..9].iter().map(|w| w.abs()).collect();
        for (i, j) in (0..n * n).map(|p| (p / n, p % n)) {
            let product = a[oy - ty][i] * a[ox - tx][j];
            if product == 0.0 {
                continue;
            }
            let v: f64 = (0..n * n).map(|q| b[i][q / n] * b[j][q % n] * d(q / n, q % n)).sum();
            let gg = tile.g();
            let u: f64 = (0..9).map(|k| (gg[i][k / 3] * gg[j][k % 3]).abs() * f64::from(kernel[k])).sum();
            sum += product * u * v;
        }
    }
    let k = (g.input.c + 40) as f64 * f64::from(f32::EPSILON) / 2.0;
    k / (1.0 - k) * sum * f64::from(scale[o]).abs()
}

/// The same for stride 2: `gamma(4 c + 40)` times the sum of the magnitudes of all terms of its sums.
fn strided_bound(g: &ConvGeom, x: &[f32], oihw: &[f32], scale: &[f32], at: usize) -> f64 {
    // Of an output along one side: inputs and weights whose sums are multiplied.
    const TERMS: [[(&[usize], &[usize]); 3]; 2] =
        [[(&[0, 2], &[0]), (&[1], &[1]), (&[2], &[0, 2])], [(&[2], &[0, 2]), (&[4, 2], &[2]), (&[3], &[1])]];
    let out = g.output();
    let (oy, ox, o) = (at / g.c_out / out.w, at / g.c_out % out.w, at % g.c_out);
    let (top, left) = (oy / 2 * 4, ox / 2 * 4);
    let mut sum = 0.0;
    for c in 0..g.input.c {
        let kernel = &oihw[(o * g.input.c + c) * 9..][..9];
        let d = |i: usize, j: usize| match ((top + i).checked_sub(1), (left + j).checked_sub(1)) {
            (Some(y), Some(x_)) if y < g.input.h && x_ < g.input.w => {
                f64::from(x[(y * g.input.w + x_) * g.input.c + c]).abs()
            }
            _ => 0.0,
        };
        for ((rows, down), (columns, across)) in
            TERMS[oy % 2].iter().flat_map(|vertical| TERMS[ox % 2].iter().map(move |level| (vertical, level)))
        {
            let v: f64 = rows.iter().flat_map(|i| columns.iter().map(move |j| (*i, *j))).map(|(i, j)| d(i, j)).sum();
            let taps = down.iter().flat_map(|i| across.iter().map(move |j| 3 * i + j));
            sum += v * taps.map(|k| f64::from(kernel[k]).abs()).sum::<f64>();
        }
    }
    let k = (4 * g.input.c + 40) as f64 * f64::from(f32::EPSILON) / 2.0;
    k / (1.0 - k) * sum * f64::from(scale[o]).abs()
}

#[test]
fn every_kernel_matches_the_definition_on_every_isa() {
    for isa in Isa::available() {
        let mut ran = 0;
        for g in shapes() {
            for kernel in Kernel::all(isa).into_iter().filter(|k| k.supports(&g)) {
                [true, false].into_iter().for_each(|relu| matches_the_definition(&kernel, &g, 2, relu));
                ran += 1;
            }
        }
        println!("{isa}: {ran} combinations of kernel and shape");
        assert!(ran > 0);
    }
}

/// Runs a kernel on random numbers, with a shortcut where there is ReLU, and compares.
fn matches_the_definition(kernel: &Kernel, g: &ConvGeom, batch: usize, relu: bool) {
    let out = g.output();
    let mut random = Uniform::new(g.input.c as u64 * 31 + g.kernel as u64);
    let x = random.vec(batch * g.input.elements());
    let (oihw, scale, bias) = (random.vec(g.weight_len()), random.vec(g.c_out), random.vec(g.c_out));
    let w = ConvWeights { oihw: &oihw, scale: &scale, bias: &bias };
    let shortcut = random.vec(batch * out.elements());
    let mut packed = vec![f32::NAN; kernel.packed_len(g)];
    kernel.prepack(g, w, &mut packed).unwrap();
    let mut scratch = vec![f32::NAN; kernel.scratch_len(g)];
    let mut y = vec![f32::NAN; batch * out.elements()];
    let ep = Epilogue { add: relu, relu };
    if relu {
        y.copy_from_slice(&shortcut);
    }
    kernel.run(g, &x, &packed, ep, &Band::whole(g, batch), MatMut::new(&mut y, g.c_out), &mut scratch);
    for image in 0..batch {
        let from = &x[image * g.input.elements()..][..g.input.elements()];
        let at = image * out.elements()..(image + 1) * out.elements();
        let added = relu.then_some(&shortcut[at.clone()]);
        reference::conv(g, from, w, added, relu, |i, want, magnitude| {
            let got = f64::from(y[at.start + i]);
            let error = (got - want).abs();
            let direct = direct_bound(g, magnitude);
            let allowed = match kernel {
                // Costly, and most errors are within the smaller bound anyway.
                Kernel::Winograd(w) if error > direct => direct + winograd_bound(w.tile(), g, from, &oihw, &scale, i),
                Kernel::WinogradStrided(_) if error > direct => direct + strided_bound(g, from, &oihw, &scale, i),
                _ => direct,
            };
            assert!(error <= allowed, "{} {g} at {i}: {got} for {want}, {allowed:e} allowed", kernel.name());
        });
    }
    let before = if relu { shortcut } else { vec![f32::NAN; y.len()] };
    bands_give_the_same_bits(&**kernel, g, &x, &packed, ep, before, &y);
}

/// Sizes of every kind: none, few, and so many that their products overflow.
fn size(few: core::ops::Range<usize>) -> impl Strategy<Value = usize> {
    let huge = (0..usize::BITS).prop_map(|bit| 1usize << bit);
    prop_oneof![12 => few, 1 => Just(0), 1 => huge, 1 => usize::MAX - 9..=usize::MAX]
}

prop_compose! {
    fn geometry()(
        (h, w, c_in) in (size(1..20), size(1..20), prop_oneof![size(1..40), Just(16), Just(32), Just(64)]),
        (c_out, kernel) in (size(1..70), prop_oneof![size(1..8), Just(1), Just(3)]),
        (stride, pad) in (size(1..4), prop_oneof![size(0..4), Just(1)]),
    ) -> ConvGeom {
        ConvGeom { input: Shape::new(h, w, c_in), c_out, kernel, stride, pad }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// A kernel computes a geometry by its definition, or refuses it, whatever it is.
    #[test]
    fn any_geometry_is_computed_or_refused(g in geometry(), batch in 1..3usize, relu: bool) {
        for kernel in Isa::available().flat_map(Kernel::all) {
            if kernel.supports(&g) {
                // Others take too long, or more memory than there is.
                if g.macs() < 1 << 20 && g.input.elements() < 1 << 16 {
                    matches_the_definition(&kernel, &g, batch, relu);
                }
                continue;
            }
            prop_assert_eq!((kernel.packed_len(&g), kernel.scratch_len(&g)), (usize::MAX, usize::MAX));
            let weights = ConvWeights { oihw: &[], scale: &[], bias: &[] };
            prop_assert_eq!(kernel.prepack(&g, weights, &mut []), Err(Error::Unsupported(g)));
            let run = || {
                let y = MatMut::new(&mut [], 1);
                kernel.run(&g, &[], &[], Epilogue::default(), &Band { rows: 0..1, channels: 0..1 }, y, &mut []);
            };
            // Where a panic ends the program nothing can be asked after it.
            prop_assert!(cfg!(not(panic = "unwind")) || catch_unwind(run).is_err());
            kernel.products(&g);
        }
        prop_assert!(g.is_valid() || DataGradient::new(Isa::best(), g, |g| fastest(g, Isa::best(), true)).is_err());
        prop_assert!(g.is_valid() || WeightGradient::new(Isa::best(), g, true).is_none());
    }
}

/// Splits the output, which is `y` before, in three bands of rows and every possible pair of channel ranges.
fn bands_give_the_same_bits(
    kernel: &dyn super::ConvKernel<f32>,
    g: &ConvGeom,
    x: &[f32],
    packed: &[f32],
    ep: Epilogue,
    mut y: Vec<f32>,
    whole: &[f32],
) {
    let out = g.output();
    let rows = whole.len() / (out.w * out.c);
    let (row_step, channel_step) = kernel.granularity(g);
    let cut = |k: usize| {
        let row = rows * k / 3;
        (row / out.h * out.h + row % out.h / row_step * row_step).min(rows)
    };
    let mut scratch = vec![f32::NAN; kernel.scratch_len(g)];
    let mut matrix = MatMut::new(&mut y, g.c_out);
    for channels in (0..g.c_out).step_by(channel_step).map(|c| c..(c + channel_step).min(g.c_out)) {
        for rows in [0..cut(1), cut(1)..cut(2), cut(2)..rows] {
            let band = Band { rows: rows.clone(), channels: channels.clone() };
            let part = matrix.part(rows.start * out.w..rows.end * out.w, channels.clone());
            kernel.run(g, x, packed, ep, &band, part, &mut scratch);
        }
    }
    assert_eq!(y, whole, "{} {g}", kernel.name());
}

#[test]
fn max_pool_matches_its_definition_on_every_isa() {
    for isa in Isa::available() {
        for (h, w, c) in [(7, 7, 3), (8, 5, 16), (112, 113, 33), (1, 2, 70)] {
            let g = PoolGeom { input: Shape::new(h, w, c), kernel: 3, stride: 2, pad: 1 };
            let out = g.output();
            let x: Vec<f32> = Uniform::new(5).vec(g.input.elements()).iter().map(|v| v - 2.0).collect();
            let mut y = vec![f32::NAN; out.elements()];
            let half = out.h / 2;
            let (top, bottom) = y.split_at_mut(half * out.w * c);
            max_pool(isa, &g.into(), &x, 0..half, top);
            max_pool(isa, &g.into(), &x, half..out.h, bottom);
            for (i, got) in y.iter().enumerate() {
                let (oy, ox, ch) = (i / c / out.w, i / c % out.w, i % c);
                let window = |o: usize, n: usize| (o * 2).saturating_sub(1)..(o * 2 + 2).min(n);
                let want = window(oy, h)
                    .flat_map(|iy| window(ox, w).map(move |ix| (iy * w + ix) * c + ch))
                    .map(|at| x[at])
                    .fold(f32::NEG_INFINITY, f32::max);
                assert_eq!(*got, want, "{isa} {h}x{w}x{c} at {i}");
            }
        }
    }
}
