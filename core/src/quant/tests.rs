use super::{Add, Conv, Encoding, Mean, Requant, Rounding, Window, reference};
use crate::{
    Isa,
    geom::Shape,
    plan::Options,
    resnet::ResNet,
    rsd::{Builder, View, synthetic},
    session::Session,
    testing::Uniform,
};

const FULL: Encoding = Encoding { zero_point: 0, min: -128, max: 127 };

/// The real-number ADD, for a bound: fixed point may be off by one step at a tie only.
#[test]
fn add_is_the_real_sum_within_a_step_for_every_pair_of_bytes() {
    let (s1, s2, so) = (0.037, 0.081, 0.09);
    let [rescale_conv, rescale_shortcut, rescale_sum] = Add::factors(s1, s2, so).unwrap();
    let add = Add {
        shortcut: Shape::new(1, 1, 1),
        stride: 1,
        before: 0,
        shortcut_zero: -20,
        rescale_conv,
        rescale_shortcut,
        rescale_sum,
        output: Encoding { zero_point: -128, min: -128, max: 127 },
    };
    assert!(add.is_valid(Shape::new(1, 1, 1)));
    for a in i8::MIN..=i8::MAX {
        for b in i8::MIN..=i8::MAX {
            let got = add.encode(add.conv_term(a, 7) + add.shortcut_term(b));
            let real = (s1 * (f64::from(a) - 7.0) + s2 * (f64::from(b) + 20.0)) / so - 128.0;
            let want = real.clamp(-128.0, 127.0);
            assert!((f64::from(got) - want).abs() <= 0.5001, "{a} + {b}: {got} for {want}");
        }
    }
}

/// One output by hand: 2x2 input, 3x3 window, uneven padding and a shortcut of fewer channels.
#[test]
fn convolution_by_hand() {
    let window = Window {
        input: Shape::new(2, 2, 1),
        output: Shape::new(1, 1, 2),
        kernel: 3,
        stride: 2,
        pad_top: 0,
        pad_left: 1,
    };
    assert!(window.is_valid());
    // Taps (0,1) (0,2) (1,1) (1,2) lie on the map; the rest is padding.
    let weights: Vec<i8> = (1..=18).collect();
    let x = [10, 20, 30, 40];
    let unit = Requant { mult: 1 << 30, shift: 1 }; // exactly 1
    let mut conv = Conv {
        window,
        input_zero: 5,
        weights: &weights,
        bias: &[-100, 1],
        mult: &[unit.mult; 2],
        shift: &[unit.shift - 4; 2], // exactly 1/16
        rounding: Rounding::Twice,
        output: FULL,
        add: None,
    };
    let acc0 = -100 + 2 * 5 + 3 * 15 + 5 * 25 + 6 * 35; // 290 / 16 = 18.1
    let acc1 = 1 + 11 * 5 + 12 * 15 + 14 * 25 + 15 * 35; // 1111 / 16 = 69.4; rounded twice 555.5, 556, 69.5, 70
    assert_eq!((acc0, acc1), (290, 1111));
    let mut y = [0; 2];
    reference::convolve(&conv, &x, &[], &mut y).unwrap();
    assert_eq!(y, [18, 70]);

    let [rescale_conv, rescale_shortcut, rescale_sum] = Add::factors(1.0, 1.0, 1.0).unwrap();
    let output = Encoding { zero_point: -10, min: -10, max: 60 };
    let add = Add {
        shortcut: Shape::new(2, 2, 1),
        stride: 2,
        before: 1,
        shortcut_zero: 3,
        rescale_conv,
        rescale_shortcut,
        rescale_sum,
        output,
    };
    assert!(add.is_valid(window.output));
    conv.add = Some(add);
    reference::convolve(&conv, &x, &[1, 2, 3, 4], &mut y).unwrap();
    // Channel 0 has no shortcut; channel 1 adds 1 - 3 and is clamped to 60.
    assert_eq!(y, [18 - 10, 58]);
    let short = reference::convolve(&conv, &x[1..], &[1, 2, 3, 4], &mut y).unwrap_err();
    assert_eq!(short.to_string(), "convolution input holds 3 elements, 4 needed");
}

/// What LiteRT's reference kernel gave for these maps, and the same from the session.
#[test]
fn means_rescale_as_tflite_does() {
    let x = [-128, 5, 7, -9, 100, 127, 3, -4, 50, 60, -70, 80];
    let cases = [
        (0.5f32, 3, 0.125f32, -7, [-44, 127]),
        (0.0625, -128, 0.0625, -128, [-6, 43]),
        (0.03, -20, 0.011, 40, [77, 127]),
    ];
    for (from, input_zero, to, output_zero, want) in cases {
        let input = Shape::new(3, 2, 2);
        let factor = Mean::factor(f64::from(from) / f64::from(to), 6).unwrap();
        let mean = Mean { input, input_zero, factor, output_zero };
        let mut y = [0; 2];
        reference::mean(&mean, &x, &mut y).unwrap();
        assert_eq!(y, want, "{mean:?}");
        let mut model = Builder::new(input, from, input_zero);
        model.mean("mean", 0, &mean, to).unwrap();
        let model = model.finish().unwrap();
        let view = View::new_checked(&model).unwrap();
        let mut session = Session::new(&view.net().unwrap(), &Options::default()).unwrap();
        assert_eq!(session.run::<i8>(&x).unwrap(), want);
    }
    // Sums at their largest, on the largest map, do not overflow; larger maps are refused.
    let largest = Mean::factor(1.0, Mean::MOST_PIXELS).unwrap();
    let input = Shape::new(1 << 11, 1 << 12, 1);
    let mean = Mean { input, input_zero: -128, factor: largest, output_zero: -128 };
    assert_eq!((mean.is_valid(), mean.encode(255 << 23)), (true, 127));
    assert_eq!(Mean::factor(1.0, Mean::MOST_PIXELS + 1), None);
    assert!(!Mean { input: Shape::new(1 << 12, 1 << 12, 1), ..mean }.is_valid());
}

#[test]
fn pools_round_and_pad_as_tflite_does() {
    let mut y = [0];
    for (x, want) in [([1, 2], 2), ([-1, -2], -2), ([127, 127], 127), ([-128, -128], -128), ([-1, 0], -1)] {
        reference::global_average_pool(Shape::new(1, 2, 1), &x, &mut y).unwrap();
        assert_eq!(y, [want], "{x:?}");
    }
    let window = Window {
        input: Shape::new(2, 2, 1),
        output: Shape::new(1, 1, 1),
        kernel: 3,
        stride: 2,
        pad_top: 1,
        pad_left: 1,
    };
    reference::max_pool(&window, &[-128, -9, -7, -8], &mut y).unwrap();
    assert_eq!(y, [-7]);
}

#[test]
fn windows_that_miss_the_map_are_invalid() {
    let good = Window {
        input: Shape::new(8, 8, 3),
        output: Shape::new(4, 4, 2),
        kernel: 3,
        stride: 2,
        pad_top: 0,
        pad_left: 0,
    };
    assert!(good.is_valid());
    assert!(!Window { output: Shape::new(5, 4, 2), ..good }.is_valid());
    assert!(!Window { pad_left: 3, ..good }.is_valid());
    assert!(!Window { stride: 0, ..good }.is_valid());
    assert!(!Window { input: Shape::new(8, 8, 0), ..good }.is_valid());
    assert!(!Window { input: Shape::new(usize::MAX, 8, 3), ..good }.is_valid());
}

/// Every op of a model, by the definition.
fn definition(view: &View<'_>, input: &[i8]) -> Vec<Vec<i8>> {
    let mut values = vec![input.to_vec()];
    for i in 0..view.ops() {
        let op = view.op(i).unwrap();
        let mut y = vec![0; op.output().elements()];
        let shortcut = view.shortcut(i).map_or(&[][..], |s| &values[s]);
        reference::execute(&op, &values[view.source(i).unwrap()], shortcut, &mut y).unwrap();
        values.push(y);
    }
    values
}

fn bytes(seed: u64, n: usize) -> Vec<i8> {
    Uniform::new(seed).take(n).map(|v| (v * 128.0).floor() as i8).collect()
}

#[test]
fn every_instruction_set_equals_the_definition_on_whole_networks() {
    for (name, h, w) in [
        ("resnet8-cifar", 32, 32),
        ("resnet8-cifar-w5-Ac", 13, 9),
        ("resnet8-cifar-B-w7", 17, 11),
        ("resnet11-cifar-bottleneck-w9", 9, 15),
        ("resnet18-w6", 37, 41),
        ("plain8-cifar-w33", 8, 8),
        ("resnet8-cifar-w120-C", 5, 5),
    ] {
        let net: ResNet = name.parse().unwrap();
        let model = synthetic(&net.with_input(h, w).unwrap(), 7).unwrap();
        let view = View::new_checked(&model).unwrap();
        let model_of = view.net().unwrap();
        let input: Vec<i8> = (0..3).flat_map(|seed| extremes(seed, view.input().unwrap().shape.elements())).collect();
        let wanted: Vec<_> = input.chunks(input.len() / 3).map(|input| definition(&view, input)).collect();
        for isa in Isa::available() {
            for (batch, threads) in [(1, 1), (1, 2), (3, 1), (3, 3)] {
                let mut session =
                    Session::new(&model_of, &Options { batch, threads, isa, ..Options::default() }).unwrap();
                for (images, wanted) in input.chunks(batch * input.len() / 3).zip(wanted.chunks(batch)) {
                    // Layers with large maps run on some images at a time.
                    let mut seen: Vec<usize> = vec![0; view.ops()];
                    let output = session.run_with(images, |step, y: &[i8]| {
                        let op = (0..view.ops()).find(|op| view.name(*op) == Some(step.name.as_str()));
                        let Some(op) = op else { return };
                        for y in y.chunks_exact(view.value(op + 1).unwrap().shape.elements()) {
                            let want = &wanted[seen[op]][op + 1];
                            assert!(y == want, "{isa}, {batch} images, {threads} threads: {} of {net}", step.name);
                            seen[op] += 1;
                        }
                    });
                    let output = output.unwrap();
                    assert!(seen.iter().all(|&n| n == batch));
                    assert!(output.chunks(output.len() / batch).zip(wanted).all(|(y, want)| y == want.last().unwrap()));
                }
            }
        }
    }
}

/// Bytes at random, many of them at the ends: they are where a 16-bit sum of two products would saturate.
fn extremes(seed: u64, n: usize) -> Vec<i8> {
    let mut input = bytes(seed, n);
    input.iter_mut().step_by(3).for_each(|x| *x = if *x < 0 { -128 } else { 127 });
    input
}

/// One convolution of every odd size, with uneven padding, every shift and full-range values.
#[test]
fn every_instruction_set_equals_the_definition_at_odd_sizes() {
    let mut seed = 100;
    for (h, w, c_in, c_out) in
        [(1, 1, 1, 1), (3, 2, 3, 5), (5, 7, 4, 16), (6, 5, 9, 17), (4, 4, 33, 35), (2, 9, 66, 70), (4, 5, 19, 19)]
    {
        for (kernel, stride, pad_top, pad_left) in
            [(1, 1, 0, 0), (1, 2, 0, 0), (3, 1, 1, 1), (3, 2, 0, 1), (5, 3, 4, 2)]
        {
            seed += 1;
            let out = |n: usize, pad: usize| (n + pad - 1) / stride + 1;
            let (input, output) = (Shape::new(h, w, c_in), Shape::new(out(h, pad_top), out(w, pad_left), c_out));
            let window = Window { input, output, kernel, stride, pad_top, pad_left };
            assert!(window.is_valid());
            let weights: Vec<i8> = bytes(seed, window.weight_len()).iter().map(|w| (*w).max(-127)).collect();
            let bias: Vec<i32> = bytes(seed + 1, c_out).iter().map(|b| i32::from(*b) * 4321).collect();
            let shift: Vec<i8> = (0..c_out).map(|o| (o % 14) as i8 - 11).collect();
            let mult: Vec<i32> =
                (0..c_out).map(|o| if o % 7 == 3 { 0 } else { (1 << 30) + o as i32 * 9_999_999 }).collect();
            let encoding = Encoding { zero_point: -7, min: -100, max: 120 };
            let mut conv = Conv {
                window,
                input_zero: (seed * 37) as i8,
                weights: &weights,
                bias: &bias,
                mult: &mult,
                shift: &shift,
                rounding: Rounding::Twice,
                output: encoding,
                add: None,
            };
            let connected = input.h * input.w == 1 && kernel == 1;
            for added in [false, input == output] {
                conv.rounding = if connected && !added { Rounding::Once } else { Rounding::Twice };
                let [rescale_conv, rescale_shortcut, rescale_sum] = Add::factors(0.3, 0.2, 0.4).unwrap();
                conv.add = added.then_some(Add {
                    shortcut: input,
                    stride: 1,
                    before: 0,
                    shortcut_zero: conv.input_zero,
                    rescale_conv,
                    rescale_shortcut,
                    rescale_sum,
                    output: Encoding { zero_point: 3, min: -90, max: 127 },
                });
                let mut model = Builder::new(input, 0.1, conv.input_zero);
                let x = bytes(seed + 2, input.elements());
                model.conv("conv", 0, &conv, 0.3, added.then_some((0, 0.4))).unwrap();
                let model = model.finish().unwrap();
                let view = View::new_checked(&model).unwrap();
                let want = definition(&view, &x).pop().unwrap();
                for isa in Isa::available() {
                    let mut session =
                        Session::new(&view.net().unwrap(), &Options { isa, threads: 2, ..Options::default() }).unwrap();
                    assert!(session.run(&x).unwrap() == want, "{isa} {window:?} add {added}");
                    assert!(session.run(&x[1..]).is_err() && session.run(&vec![0.0f32; x.len()]).is_err());
                }
            }
        }
    }
}
