//! Every int8 kernel on every instruction set against the definition, byte for byte.

use std::{vec, vec::Vec};

use super::{Affine, Int8};
use crate::{
    Isa,
    conv::Band,
    geom::{Shape, Window},
    memory::MatMut,
    quant::{Add, Conv, Encoding, Rounding, reference},
    testing::Uniform,
};

fn bytes(seed: u64, n: usize) -> Vec<i8> {
    Uniform::new(seed).take(n).map(|v| (v * 128.0).floor() as i8).collect()
}

/// How weights and inputs are drawn.
#[derive(Clone, Copy, Debug)]
enum Drawn {
    /// anything
    Uniform,
    /// most of them small, as in trained networks: few pairs of products leave 16 bits
    Small,
    /// the largest sums there can be
    Extreme,
}

impl Drawn {
    fn weights(self, seed: u64, n: usize) -> Vec<i8> {
        let mut weights = bytes(seed, n);
        weights.iter_mut().enumerate().for_each(|(i, w)| {
            *w = match self {
                Drawn::Uniform => (*w).max(-127),
                Drawn::Small => (*w >> 3) + if i % 97 == 0 { 100 } else { 0 },
                Drawn::Extreme => 127,
            }
        });
        weights
    }

    fn input(self, seed: u64, n: usize) -> Vec<i8> {
        match self {
            Drawn::Extreme => (0..n).map(|i| if (i + seed as usize).is_multiple_of(41) { 127 } else { -128 }).collect(),
            _ => bytes(seed, n),
        }
    }
}

fn window(
    (h, w, c_in, c_out): (usize, usize, usize, usize),
    kernel: usize,
    stride: usize,
    pad: (usize, usize),
) -> Window {
    let out = |n: usize, pad: usize| (n + pad - 1) / stride + 1;
    let (input, output) = (Shape::new(h, w, c_in), Shape::new(out(h, pad.0), out(w, pad.1), c_out));
    Window { input, output, kernel, stride, pad_top: pad.0, pad_left: pad.1 }
}

/// Runs every kernel of an instruction set, whole and in bands, and compares. How many there were.
fn matches_the_definition(isa: Isa, conv: &Conv<'_>, batch: usize, x: &[i8], shortcut: &[i8], want: &[i8]) -> usize {
    let g = &conv.window;
    let mut ran = 0;
    for kernel in Int8::all(isa).into_iter().filter(|kernel| kernel.supports(g)) {
        let mut packed = vec![i32::MIN; kernel.packed_len(g)];
        kernel.prepack(g, *conv, &mut packed).unwrap();
        let mut scratch = vec![i32::MIN; kernel.scratch_len(g)];
        let (row_step, channel_step) = kernel.granularity(g);
        let rows = batch * g.output.h;
        let cut = rows / 2 / g.output.h * g.output.h + rows / 2 % g.output.h / row_step * row_step;
        for (cut, step) in [(rows, g.output.c), (cut, channel_step)] {
            let mut y = vec![99; want.len()];
            if conv.add.is_some() {
                y.copy_from_slice(shortcut);
            }
            let mut matrix = MatMut::new(&mut y, g.output.c);
            for rows in [0..cut, cut..rows] {
                for channels in (0..g.output.c).step_by(step).map(|c| c..(c + step).min(g.output.c)) {
                    let pixels = rows.start * g.output.w..rows.end * g.output.w;
                    let part = matrix.part(pixels, channels.clone());
                    let band = Band { rows: rows.clone(), channels };
                    kernel.run(g, x, &packed, conv.epilogue(), &band, part, &mut scratch);
                }
            }
            let wrong = y.iter().zip(want).position(|(got, want)| got != want);
            assert!(wrong.is_none(), "{} {g}: element {wrong:?}, in steps of {step}", kernel.name());
        }
        ran += 1;
    }
    ran
}

#[test]
fn every_kernel_equals_the_definition_on_every_isa() {
    let isas: Vec<Isa> = Isa::available().collect();
    let mut ran = vec![0; isas.len()];
    let mut seed = 1;
    for map in
        [(7, 7, 3, 10), (8, 9, 16, 16), (5, 13, 17, 33), (14, 6, 24, 48), (1, 1, 70, 5), (3, 5, 200, 20), (9, 4, 64, 8)]
    {
        for (kernel, stride, pad) in
            [(1, 1, (0, 0)), (1, 2, (0, 0)), (3, 1, (1, 1)), (3, 1, (0, 2)), (3, 2, (0, 1)), (7, 2, (3, 3))]
        {
            for drawn in [Drawn::Uniform, Drawn::Small, Drawn::Extreme] {
                seed += 7;
                let g = window(map, kernel, stride, pad);
                if !g.is_valid() {
                    continue;
                }
                let c = g.output.c;
                let weights = drawn.weights(seed, g.weight_len());
                let bias: Vec<i32> = bytes(seed + 1, c).iter().map(|b| i32::from(*b) * 4321).collect();
                let mult: Vec<i32> = (0..c).map(|o| (1 << 30) + o as i32 * 19_999_999).collect();
                // Factors without and with a left shift, whose sums are rescaled in different ways.
                let shift: Vec<i8> = (0..c).map(|o| (o % 12) as i8 - if seed % 2 == 0 { 10 } else { 14 }).collect();
                let rescale = Add::factors(0.3, 0.2, 0.4).unwrap();
                let add = Add {
                    shortcut: g.output,
                    stride: 1,
                    before: 0,
                    shortcut_zero: -9,
                    rescale_conv: rescale[0],
                    rescale_shortcut: rescale[1],
                    rescale_sum: rescale[2],
                    output: Encoding { zero_point: 3, min: -90, max: 127 },
                };
                let conv = Conv {
                    window: g,
                    input_zero: (seed * 37) as i8,
                    weights: &weights,
                    bias: &bias,
                    mult: &mult,
                    shift: &shift,
                    rounding: if seed % 5 == 0 { Rounding::Once } else { Rounding::Twice },
                    output: Encoding { zero_point: -7, min: -100, max: 120 },
                    add: (seed % 3 == 0).then_some(add),
                };
                let (input, output) = (g.input.elements(), g.output.elements());
                let x = drawn.input(seed + 2, 2 * input);
                let shortcut = bytes(seed + 3, 2 * output);
                let mut want = vec![0; 2 * output];
                for i in 0..2 {
                    let (from, to) = (i * input..(i + 1) * input, i * output..(i + 1) * output);
                    let shortcut = if conv.add.is_some() { &shortcut[to.clone()] } else { &[] };
                    reference::convolve(&conv, &x[from], shortcut, &mut want[to]).unwrap();
                }
                for (isa, ran) in isas.iter().zip(&mut ran) {
                    *ran += matches_the_definition(*isa, &conv, 2, &x, &shortcut, &want);
                }
            }
        }
    }
    for (isa, ran) in isas.iter().zip(ran) {
        println!("{isa}: {ran} combinations of kernel, shape and weights");
        assert!(ran > 100);
    }
}

/// A 1x1 convolution whose weights are zero, so that its sums are the biases.
fn sums<'a>(
    side: usize,
    zeros: &'a [i8],
    bias: &'a [i32],
    factor: (&'a [i32], &'a [i8]),
    add: Option<Add>,
) -> Conv<'a> {
    let (input, output) = (Shape::new(side, side, 1), Shape::new(side, side, bias.len()));
    Conv {
        window: Window { input, output, kernel: 1, stride: 1, pad_top: 0, pad_left: 0 },
        input_zero: 5,
        weights: zeros,
        bias,
        mult: factor.0,
        shift: factor.1,
        rounding: Rounding::Twice,
        output: Encoding { zero_point: -11, min: -128, max: 127 },
        add,
    }
}

fn compare(conv: &Conv<'_>, shortcut: &[i8]) {
    let x = vec![1; conv.window.input.elements()];
    let mut want = vec![0; conv.window.output.elements()];
    reference::convolve(conv, &x, shortcut, &mut want).unwrap();
    for isa in Isa::available() {
        matches_the_definition(isa, conv, 1, &x, shortcut, &want);
    }
}

#[test]
fn sums_next_to_every_tie_are_rounded_as_the_definition_says() {
    let mut random = Uniform::new(3);
    let mut draw = |n: u64| (random.next().unwrap().abs() * n as f32) as i64;
    for i in 0..200 {
        // A factor of one bit has true ties.
        let mult = if i % 4 == 0 { 1 << 30 } else { (1 << 30) + draw(1 << 30) };
        let right = 1 + i % 16;
        let mut bias: Vec<i32> = (-140..=140)
            .flat_map(|k| {
                let tie = (2 * k + 1) * (1i64 << (30 + right)) / mult;
                (tie - 3..=tie + 3).filter_map(|v| i32::try_from(v).ok()).collect::<Vec<_>>()
            })
            .chain([i32::MIN, i32::MIN / 3, i32::MAX, i32::MAX / 3, 0, 1, -1])
            .collect();
        bias.resize(bias.len().next_multiple_of(16), 0);
        let (mult, shift) = (vec![mult as i32; bias.len()], vec![-(right as i8); bias.len()]);
        compare(&sums(1, &vec![0; bias.len()], &bias, (&mult, &shift), None), &[]);
    }
}

#[test]
fn shortcuts_are_added_as_the_definition_says_for_every_pair_of_bytes() {
    let mut random = Uniform::new(4);
    let mut scale = || f64::from(random.next().unwrap()).exp2() / 50.0;
    let mut affine = 0;
    for i in 0..24i32 {
        // Scales of a simple ratio make true ties, which no affine function rounds away from zero on both sides.
        let (conv, shortcut, output) = if i % 4 == 0 { (0.3, 0.2, 0.4) } else { (scale(), scale(), scale()) };
        let [rescale_conv, rescale_shortcut, rescale_sum] = Add::factors(conv, shortcut, output).unwrap();
        let add = Add {
            shortcut: Shape::new(16, 16, 256),
            stride: 1,
            before: 0,
            shortcut_zero: (7 * i - 80) as i8,
            rescale_conv,
            rescale_shortcut,
            rescale_sum,
            output: Encoding { zero_point: 3, min: -100, max: 127 },
        };
        // Half of the bias, so that channel by channel the convolution makes every byte.
        let bias: Vec<i32> = (-128..128).map(|d| 2 * (d + 11)).collect();
        let conv = sums(16, &[0; 256], &bias, (&[1 << 30; 256], &[0; 256]), Some(add));
        // The same where sums are rescaled by a plain factor.
        let quarter: Vec<i32> = bias.iter().map(|b| 2 * b).collect();
        let plain = sums(16, &[0; 256], &quarter, (&[1 << 30; 256], &[-1; 256]), Some(add));
        let shortcut: Vec<i8> = (-128..=127).flat_map(|x: i8| [x; 256]).collect();
        compare(&conv, &shortcut);
        compare(&plain, &shortcut);
        affine += usize::from(Affine::of(plain.output, &add).is_some());
    }
    println!("{affine} of 24 additions are affine");
    assert!((12..24).contains(&affine), "both ways must be tried: {affine} of 24 are affine");
}
