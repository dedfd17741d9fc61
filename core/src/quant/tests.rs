use super::{Add, Conv, Encoding, Requant, Window, reference};
use crate::geom::Shape;

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
