//! The engine against the definition, byte for byte, on every kind of network.

use residual_core::{
    geom::Shape,
    quant::{Mean, Op, reference},
    resnet::ResNet,
    rsd::{AlignedBytes, Builder, View, synthetic},
};
use residual_edge::{ARENA_ALIGN, Engine, Error, Fast, Mode, Progress, Small, arena_bytes};

fn picture(len: usize, seed: u32) -> Vec<i8> {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    let draw = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as i8
    };
    (0..len).map(draw).collect()
}

fn definition(view: &View<'_>, input: &[i8]) -> Vec<i8> {
    let mut values = vec![input.to_vec()];
    for i in 0..view.ops() {
        let op = view.op(i).unwrap();
        let mut y = vec![0; op.output().elements()];
        let shortcut = view.shortcut(i).map_or(&[][..], |s| &values[s]);
        reference::execute(&op, &values[view.source(i).unwrap()], shortcut, &mut y).unwrap();
        values.push(y);
    }
    values.pop().unwrap()
}

fn check<M: Mode>(model: &[u8], label: &str, pictures: u32) {
    let view = View::new_checked(model).unwrap();
    let need = arena_bytes::<M>(model).unwrap();
    let mut arena = AlignedBytes::zeroed(need + 16);
    arena.fill(0xa5);
    for seed in 0..pictures {
        let input = picture(view.input().unwrap().shape.elements(), seed + 1);
        let want = definition(&view, &input);
        let (used, canary) = arena.split_at_mut(need);
        let mut engine = Engine::<M>::new(model, used).unwrap();
        engine.input_mut().copy_from_slice(&input);
        assert_eq!(engine.run().unwrap().values, want, "{label}, picture {seed}");
        assert!(canary.iter().all(|b| *b == 0xa5));
    }
}

fn both(name: &str, h: usize, w: usize) {
    let net = name.parse::<ResNet>().unwrap().with_input(h, w).unwrap();
    let model = synthetic(&net, 11).unwrap();
    let label = format!("{name} {h}x{w}");
    check::<Fast>(&model, &label, 1);
    check::<Small>(&model, &label, 1);
}

#[test]
fn the_cifar_networks() {
    for name in [
        "resnet20-cifar",
        "resnet20-cifar-Ac",
        "resnet14-cifar-B",
        "resnet8-cifar-C",
        "plain14-cifar",
        "resnet32-cifar",
    ] {
        both(name, 32, 32);
    }
}

#[test]
fn odd_sizes_and_odd_widths() {
    for name in [
        "resnet8-cifar-w1",
        "resnet8-cifar-w3-B",
        "resnet8-cifar-w5",
        "resnet8-cifar-w6-Ac",
        "resnet8-cifar-w20",
        "resnet8-cifar-w13-C",
        "resnet8-cifar-w4-in1",
        "resnet8-cifar-w3-B-in5",
    ] {
        for (h, w) in [(9, 7), (13, 32), (4, 4), (1, 1), (17, 18)] {
            both(name, h, w);
        }
    }
}

#[test]
fn more_channels_than_winograd_and_than_a_byte_count() {
    both("resnet8-cifar-w29", 12, 12); // 29, 58 and 116
    both("resnet8-cifar-w80", 10, 10); // 80, 160 and 320
    both("resnet11-cifar-bottleneck", 16, 16); // 64 to 256
    both("resnet11-cifar-bottleneck-v1-B", 16, 16);
    both("resnet18", 32, 40);
}

#[test]
fn pictures_and_steps() {
    let model = synthetic(&"resnet8-cifar".parse().unwrap(), 3).unwrap();
    check::<Fast>(&model, "resnet8", 10);
    check::<Small>(&model, "resnet8", 10);
    // A roomier arena changes the schedule, not the bytes.
    let view = View::new_checked(&model).unwrap();
    let input = picture(32 * 32 * 3, 99);
    let want = definition(&view, &input);
    let mut arena = AlignedBytes::zeroed(400_000);
    let mut engine = Engine::<Fast>::new(&model, &mut arena).unwrap();
    for round in 0..2 {
        engine.input_mut().copy_from_slice(&input);
        // An abandoned inference leaves no trace.
        for _ in 0..5 * round {
            assert_eq!(engine.step(), Ok(Progress::Busy));
        }
        engine.input_mut().copy_from_slice(&input);
        let mut times = vec![0; view.ops()];
        let mut now = 0;
        let clock = || {
            now += 1;
            now
        };
        assert_eq!(engine.run_timed(clock, |op, t| times[op] += t).unwrap().values, want);
        assert!(times.iter().all(|t| *t > 0), "{times:?}");
    }
}

#[test]
fn bad_arenas_and_models_are_errors() {
    let model = synthetic(&"resnet8-cifar".parse().unwrap(), 3).unwrap();
    let need = arena_bytes::<Fast>(&model).unwrap();
    let mut arena = AlignedBytes::zeroed(need + ARENA_ALIGN);
    let got = need - 1;
    assert_eq!(Engine::<Fast>::new(&model, &mut arena[..got]).unwrap_err(), Error::ArenaTooSmall { need, got });
    assert_eq!(Engine::<Fast>::new(&model, &mut arena[4..]).unwrap_err(), Error::ArenaMisaligned { by: 4 });
    assert!(Engine::<Fast>::new(&model, &mut []).is_err());
    assert!(matches!(Engine::<Fast>::new(&model[..100], &mut arena), Err(Error::Model(_))));
    assert!(matches!(Engine::<Fast>::new(&[], &mut arena), Err(Error::Model(_))));
}

/// A mean with an encoding of its own, between a convolution's map and a classifier, and alone.
#[test]
fn means_that_rescale() {
    for (h, w, c, zero) in [(1, 1, 1, -128), (3, 5, 7, 9), (8, 8, 16, -128), (16, 9, 4, 127)] {
        let input = Shape::new(h, w, c);
        let mut model = Builder::new(input, 0.04, zero);
        let factor = Mean::factor(0.04 / 0.017, h * w).unwrap();
        let mean = Mean { input, input_zero: zero, factor, output_zero: -11 };
        let pooled = model.mean("mean", 0, &mean, 0.017).unwrap();
        model.global_average_pool("again", pooled).unwrap();
        let model = model.finish().unwrap();
        assert_eq!(View::new_checked(&model).unwrap().op(0), Some(Op::Mean(mean)));
        check::<Fast>(&model, &format!("mean of {input}"), 3);
        check::<Small>(&model, &format!("mean of {input}"), 3);
    }
}
