//! Sizes that no slice has, passed to everything public that computes with them: refused, never read or written.
#![cfg(panic = "unwind")]

use std::panic::{UnwindSafe, catch_unwind};

use residual_core::{
    Error, Isa,
    conv::{Band, DataGradient, Epilogue, Kernel, WeightGradient, subsample},
    geom::{ConvGeom, PoolGeom, Shape},
    memory::MatMut,
    plan::{Options, Plan, fastest},
    resnet::fold_batch_norm,
    simd::{Addend, Gate, affine, average_pool, combine, gradient_sums, max_pool, moments},
    testing::Generated,
};

/// A side whose square is 0 modulo the size of an address.
const HALF: usize = 1 << (usize::BITS / 2);
/// A factor whose triple is 0 or 1 less than it.
const THIRD: usize = usize::MAX / 3;

fn refused(what: &str, call: impl FnOnce() + UnwindSafe) {
    assert!(catch_unwind(call).is_err(), "{what} was accepted");
}

#[test]
fn pools_of_maps_that_overflow_are_refused() {
    for isa in Isa::available() {
        for (input, kernel, stride, pad) in [
            (Shape::new(HALF, HALF, 1), 1, HALF / 2, 0),
            (Shape::new(HALF, 1, HALF), 1, 1, 0),
            (Shape::new(0, 4, 4), 1, 1, 0),
            (Shape::new(4, 4, 0), 3, 1, 1),
            (Shape::new(2, 2, 1), 0, 1, 0),
            (Shape::new(2, 2, 1), 3, 0, 1),
            (Shape::new(2, 2, 1), 3, 1, 3),
            (Shape::new(2, 2, 1), 3, 1, usize::MAX / 2 + 1),
        ] {
            let g = PoolGeom { input, kernel, stride, pad };
            for n in [0, 2, 4] {
                refused("a pool", || max_pool(isa, &g.into(), &vec![0.0; n], 1..2, &mut [0.0; 2]));
                refused("a pool", || max_pool(isa, &g.into(), &vec![0.0; n], 0..0, &mut []));
            }
        }
        let g = PoolGeom { input: Shape::new(2, 2, 1), kernel: 1, stride: 1, pad: 0 };
        refused("rows that end before they begin", || {
            max_pool(isa, &g.into(), &[0.0; 4], core::ops::Range { start: 2, end: 1 }, &mut []);
        });
        refused("no pixel", || average_pool(isa, &[], &mut [0.0; 2]));
        refused("half a pixel", || average_pool(isa, &[0.0; 3], &mut [0.0; 2]));
    }
}

#[test]
fn passes_over_channels_refuse_what_does_not_fit() {
    for isa in Isa::available() {
        for pixel in [THIRD, usize::MAX, 1 << (usize::BITS - 2), 3] {
            refused("pixels apart", || {
                affine(isa, &[1.0; 4], &[1.0], &[0.0], Addend::None, false, &mut [0.0; 8], pixel);
            });
        }
        refused("no channels", || affine(isa, &[1.0; 4], &[], &[], Addend::None, false, &mut [0.0; 8], 0));
        refused("a short map", || affine(isa, &[1.0; 4], &[1.0], &[0.0], Addend::Map(&[1.0]), false, &mut [0.0; 4], 1));
        refused("short sums", || moments(isa, &[1.0; 4], &[0.0; 2], &mut [0.0; 1], &mut [0.0; 2]));
        refused("a short gradient", || combine(isa, &[1.0; 3], &[1.0; 4], [&[0.0; 2]; 3], &mut [0.0; 4]));
        refused("a short gate", || {
            let (sum, product) = (&mut [0.0; 2], &mut [0.0; 2]);
            gradient_sums(isa, &mut [0.0; 4], Gate::Map(&[0.0; 2]), &[1.0; 4], &[1.0; 2], &[0.0; 2], sum, product);
        });
    }
    refused("a stride of zero", || subsample(Shape::new(2, 2, 1), 0, 0, 1, 0.0, &[0.0; 4], 0, &mut [0.0; 4]));
    refused("a map that overflows", || subsample(Shape::new(HALF, HALF, 1), 1, 0, 1, 0.0, &[], 0, &mut [0.0; 4]));
}

#[test]
fn bands_outside_a_convolution_are_refused() {
    let g = ConvGeom { input: Shape::new(8, 8, 16), c_out: 64, kernel: 3, stride: 1, pad: 1 };
    let point = ConvGeom { kernel: 1, pad: 0, ..g };
    for kernel in Isa::available().flat_map(Kernel::all) {
        for g in [g, ConvGeom { stride: 2, ..g }, point].into_iter().filter(|g| kernel.supports(g)) {
            let (x, packed) = (vec![0.0; g.input.elements()], vec![0.0; kernel.packed_len(&g)]);
            let far = usize::MAX - 63;
            for (rows, channels) in [(0..9, 0..64), (far..far + 8, 0..64), (0..8, far..far + 16), (0..8, 64..128)] {
                let run = || {
                    let (mut y, mut scratch) = (vec![0.0; 9 * 8 * 64], vec![0.0; kernel.scratch_len(&g)]);
                    let columns = channels.len();
                    let y = MatMut::new(&mut y[..rows.len() * g.output().w * columns], columns);
                    let band = Band { rows: rows.clone(), channels: channels.clone() };
                    kernel.run(&g, &x, &packed, Epilogue::default(), &band, y, &mut scratch);
                };
                refused(kernel.name().as_str(), std::panic::AssertUnwindSafe(run));
            }
        }
    }
}

#[test]
fn gradients_refuse_images_whose_lengths_overflow() {
    let isa = Isa::best();
    let g = ConvGeom { input: Shape::new(4, 4, 32), c_out: 32, kernel: 3, stride: 1, pad: 1 };
    for winograd in [true, false] {
        let gradient = WeightGradient::new(isa, g, winograd).unwrap();
        for images in [1 << (usize::BITS - 4), THIRD, 1] {
            refused("images", || {
                let (mut sums, mut scratch) = (vec![0.0; gradient.sum_len()], vec![0.0; gradient.scratch_len()]);
                gradient.accumulate(&[], &[], images, 0..32, &mut sums, &mut scratch);
            });
            refused("images", || {
                let (mut scratch, mut dw) = (vec![0.0; gradient.wide_sum_len(32)], vec![0.0; gradient.len()]);
                gradient.sum_wide(&[], &[], images, 0..32, &mut scratch, &mut dw);
            });
        }
    }
    let zero = ConvGeom { stride: 0, ..g };
    assert!(WeightGradient::new(isa, zero, true).is_none());
    assert!(DataGradient::new(isa, zero, |g| fastest(g, isa, true)).is_err());
    // A kernel that cannot compute what it was chosen for.
    let pointwise = |_: &ConvGeom| Ok(Kernel::all(isa)[0]);
    assert!(matches!(DataGradient::new(isa, g, pointwise), Err(Error::Unsupported(_))));
}

#[test]
fn plans_of_absurd_size_are_refused() {
    let weights = Generated::new("resnet8-cifar".parse().unwrap());
    let net = fold_batch_norm(weights.spec(), &weights).unwrap();
    let plan = |batch, threads| Plan::new(&net, &Options { batch, threads, ..Options::default() }).map(|_| ());
    assert_eq!(plan(1, 64), Ok(()));
    for batch in [usize::MAX / 2, usize::MAX, usize::MAX / (32 * 32 * 3) + 1] {
        assert!(matches!(plan(batch, 1), Err(Error::InvalidNetwork { .. })), "{batch}");
    }
    assert_eq!(plan(1, usize::MAX), Err(Error::Threads { asked: usize::MAX }));
}
