//! Gradient kernels and batch norm passes on every instruction set against their definitions.

use super::{
    super::{Kernel, reference::ConvF64, tests::shapes},
    DataGradient, WeightGradient,
};
use crate::{
    Error,
    geom::ConvGeom,
    simd::{Addend, Gate, Isa, affine, combine, gradient_sums, moments},
    testing::Uniform,
};

fn f64s(v: &[f32]) -> Vec<f64> {
    v.iter().map(|&v| f64::from(v)).collect()
}

fn magnitudes(v: &[f32]) -> Vec<f64> {
    v.iter().map(|&v| f64::from(v).abs()).collect()
}

/// Higham, *Accuracy and Stability of Numerical Algorithms*, section 3.1: `n` roundings one after
/// another change a sum by at most `gamma(n)` times the sum of the magnitudes of its terms.
fn gamma(n: usize) -> f64 {
    let nu = n as f64 * f64::from(f32::EPSILON) / 2.0;
    nu / (1.0 - nu)
}

fn assert_close(got: &[f32], want: &[f64], magnitude: &[f64], n: usize, what: &str) {
    assert!(got.len() == want.len() && want.len() == magnitude.len(), "{what}");
    for (i, (&got, (want, magnitude))) in got.iter().zip(want.iter().zip(magnitude)).enumerate() {
        let error = (f64::from(got) - want).abs();
        assert!(error <= gamma(n) * magnitude, "{what} at {i}: {got} for {want}, bound {}", gamma(n) * magnitude);
    }
}

/// The gradients of `images` images and the magnitudes of their terms: `(dx, |dx|, dw, |dw|)`.
fn reference(g: &ConvGeom, x: &[f32], w: &[f32], dy: &[f32]) -> [Vec<f64>; 4] {
    let run = |x: &[f64], w: &[f64], dy: &[f64]| {
        let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
        let (n, m) = (g.input.elements(), g.output().elements());
        for ((x, dy), dx) in x.chunks(n).zip(dy.chunks(m)).zip(dx.chunks_mut(n)) {
            ConvF64 { x, w }.backward(g, dy, dx, &mut dw);
        }
        (dx, dw)
    };
    let (dx, dw) = run(&f64s(x), &f64s(w), &f64s(dy));
    let (dx_magnitude, dw_magnitude) = run(&magnitudes(x), &magnitudes(w), &magnitudes(dy));
    [dx, dx_magnitude, dw, dw_magnitude]
}

/// The kernels whose error the bounds here are for; Winograd's have theirs beside them.
fn direct(isa: Isa) -> impl Fn(&ConvGeom) -> Result<Kernel, Error> {
    move |g| Kernel::all(isa).into_iter().find(|kernel| kernel.supports(g)).ok_or(Error::Unsupported(*g))
}

#[test]
fn convolution_gradients_match_their_definition_on_every_isa() {
    let images = 3;
    for isa in Isa::available() {
        let (mut weight_gradients, mut data_gradients) = (0, 0);
        for g in shapes() {
            let (input, out) = (g.input, g.output());
            let mut random = Uniform::new(g.weight_len() as u64);
            let x = random.vec(images * input.elements());
            let w = random.vec(g.weight_len());
            let dy = random.vec(images * out.elements());
            let [dx, dx_magnitude, dw, dw_magnitude] = reference(&g, &x, &w, &dy);

            let gradient = WeightGradient::new(isa, g, false).unwrap();
            let strip = gradient.strip_len();
            let mut strips = vec![f32::NAN; images * strip];
            for (strip, image) in strips.chunks_mut(strip).zip(x.chunks(input.elements())) {
                gradient.fill(image, strip);
            }
            let row = gradient.len() / g.c_out;
            let split = g.c_out / 2;
            let mut ohwi = vec![0.0; gradient.len()];
            let (first, second) = ohwi.split_at_mut(split * row);
            gradient.accumulate(&strips, &dy, images, 0..split, first, &mut []);
            gradient.accumulate(&strips, &dy, images, split..g.c_out, second, &mut []);
            let area = g.kernel * g.kernel;
            let oihw: Vec<f32> = (0..g.weight_len())
                .map(|i| ohwi[(i / area / input.c * area + i % area) * input.c + i / area % input.c])
                .collect();
            // Products and sums over all pixels, and a sum for every block of rows.
            let n = images * out.h * (out.w + 1) + 1;
            assert_close(&oihw, &dw, &dw_magnitude, n, &format!("dw {isa} {g}"));
            weight_gradients += 1;

            let Ok(gradient) = DataGradient::new(isa, g, direct(isa)) else { continue };
            let mut packed = vec![f32::NAN; gradient.packed_len()];
            let mut scratch = vec![f32::NAN; gradient.scratch_len()];
            gradient.prepack(&w, &mut packed, &mut scratch).unwrap();
            let shortcut = random.vec(input.elements());
            for image in 0..images {
                let range = image * input.elements()..(image + 1) * input.elements();
                let dy = &dy[image * out.elements()..(image + 1) * out.elements()];
                for shortcut in [None, Some(&shortcut[..])] {
                    let mut got = shortcut.map_or(vec![f32::NAN; input.elements()], <[f32]>::to_vec);
                    gradient.run(dy, &packed, shortcut.is_some(), &mut got, &mut scratch);
                    let added = |i: usize| shortcut.map_or(0.0, |s| f64::from(s[i]));
                    let want: Vec<f64> = dx[range.clone()].iter().enumerate().map(|(i, v)| v + added(i)).collect();
                    let magnitude: Vec<f64> =
                        dx_magnitude[range.clone()].iter().enumerate().map(|(i, v)| v + added(i).abs()).collect();
                    let n = g.c_out * g.kernel * g.kernel + 2;
                    assert_close(&got, &want, &magnitude, n, &format!("dx {isa} {g}"));
                }
            }
            data_gradients += 1;
        }
        println!("{isa}: {weight_gradients} weight gradients, {data_gradients} data gradients");
        assert!(weight_gradients > 0 && data_gradients > 0);
    }
}

/// Widths that tile a group, fill groups, and leave remainders.
const CHANNELS: [usize; 9] = [1, 3, 8, 16, 32, 33, 64, 70, 144];

#[test]
fn batch_norm_passes_match_their_definition_on_every_isa() {
    for isa in Isa::available() {
        for (c, pixels) in CHANNELS.into_iter().flat_map(|c| [(c, 64), (c, 1), (c, 1300), (c, 49)]) {
            let mut random = Uniform::new((c * pixels) as u64);
            let (x, other) = (random.vec(c * pixels), random.vec(c * pixels));
            let [a, b, d]: [Vec<f32>; 3] = std::array::from_fn(|_| random.vec(c));
            let what = format!("{isa} {pixels} pixels of {c}");

            for (relu, added) in [(false, 0), (true, 0), (true, 1), (false, 1), (true, 2)] {
                let mut y = other.clone();
                let addend = match added {
                    0 => Addend::None,
                    1 => Addend::Map(&other),
                    _ => Addend::Output,
                };
                affine(isa, &x, &a, &b, addend, relu, &mut y, c);
                for (i, &got) in y.iter().enumerate() {
                    let plus = if added > 0 { f64::from(other[i]) } else { 0.0 };
                    let product = f64::from(x[i]) * f64::from(a[i % c]);
                    let sum = product + f64::from(b[i % c]) + plus;
                    let want = if relu { sum.max(0.0) } else { sum };
                    let bound = gamma(3) * (product.abs() + f64::from(b[i % c].abs()) + plus.abs());
                    assert!((f64::from(got) - want).abs() <= bound, "affine {what} at {i}: {got} for {want}");
                }
            }
            let mut spread = vec![7.0; pixels * (c + 3)];
            affine(isa, &x, &a, &b, Addend::None, false, &mut spread, c + 3);
            let mut dense = vec![0.0; x.len()];
            affine(isa, &x, &a, &b, Addend::None, false, &mut dense, c);
            for (spread, dense) in spread.chunks(c + 3).zip(dense.chunks(c)) {
                assert!(spread[..c] == *dense && spread[c..] == [7.0; 3], "{what}");
            }

            let (mut sum, mut square) = (vec![1.0; c], vec![2.0; c]);
            moments(isa, &x, &a, &mut sum, &mut square);
            let centred = |ch: usize| {
                let centre = f64::from(a[ch]);
                x[ch..].iter().step_by(c).map(move |&v| f64::from(v) - centre)
            };
            for ch in 0..c {
                let want = [1.0 + centred(ch).sum::<f64>(), 2.0 + centred(ch).map(|v| v * v).sum::<f64>()];
                let magnitude = [centred(ch).map(f64::abs).sum::<f64>(), want[1]];
                for (got, (want, magnitude)) in [sum[ch], square[ch]].into_iter().zip(want.into_iter().zip(magnitude)) {
                    // The f32 sums are at most 512 pixels long; then f64.
                    assert!((got - want).abs() <= gamma(515) * magnitude, "moments {what} channel {ch}: {got} {want}");
                }
            }

            for gate in [Gate::Open, Gate::Map(&other), Gate::Affine(&d, &b)] {
                let dy: Vec<f32> = Uniform::new(3).vec(x.len());
                let mut g = dy.clone();
                let (mut sum, mut product) = (vec![0.0; c], vec![0.0; c]);
                gradient_sums(isa, &mut g, gate, &x, &a, &b, &mut sum, &mut product);
                for i in 0..x.len() {
                    let open = match gate {
                        Gate::Open => true,
                        Gate::Map(map) => map[i] > 0.0,
                        // Inputs of 24 bits: the product is exact in f64, and the sum has the sign of the rounded one.
                        Gate::Affine(s, t) => f64::from(x[i]) * f64::from(s[i % c]) + f64::from(t[i % c]) > 0.0,
                    };
                    assert_eq!(g[i], if open { dy[i] } else { 0.0 }, "gate {what} at {i}");
                }
                for ch in 0..c {
                    let terms = || (ch..x.len()).step_by(c).map(|i| (f64::from(g[i]), f64::from(x[i])));
                    let (scale, offset) = (f64::from(a[ch]), f64::from(b[ch]));
                    let want: f64 = terms().map(|(g, _)| g).sum();
                    let magnitude: f64 = terms().map(|(g, _)| g.abs()).sum();
                    assert!((sum[ch] - want).abs() <= gamma(513) * magnitude, "{what}");
                    let want: f64 = terms().map(|(g, x)| g * (x * scale + offset)).sum();
                    let magnitude: f64 = terms().map(|(g, x)| (g * x * scale).abs() + (g * offset).abs()).sum();
                    assert!((product[ch] - want).abs() <= gamma(516) * magnitude, "{what}");
                }
            }

            let mut dx = vec![f32::NAN; x.len()];
            combine(isa, &other, &x, [&a, &b, &d], &mut dx);
            for (i, &got) in dx.iter().enumerate() {
                let [a, b, d] = [&a, &b, &d].map(|v| f64::from(v[i % c]));
                let (g, x) = (f64::from(other[i]), f64::from(x[i]));
                let bound = gamma(3) * ((a * g).abs() + (b * x).abs() + d.abs());
                assert!((f64::from(got) - (a * g + b * x + d)).abs() <= bound, "combine {what} at {i}");
            }
        }
        println!("{isa}: checked");
    }
}
