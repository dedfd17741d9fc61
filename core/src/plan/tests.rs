use super::{Options, Plan, Serial, Shortcut, StepKind};
use crate::{
    Error, Isa,
    arch::Rect,
    geom::{ConvGeom, Shape},
    kernel::{ConvWeights, reference},
    net::{FoldedConv, Net, OpKind, ValueId, fold_batch_norm},
    testing::Uniform,
};

/// A shortcut that is read again must survive the first sum; one read for the last time gives its place away.
#[test]
fn shortcuts_lie_in_place_unless_they_are_read_again() {
    const SIDE: usize = 32;
    const C: usize = 3;
    let spec: crate::net::ResNet = "resnet8-cifar".parse().unwrap();
    let geom = ConvGeom { input: Shape::new(SIDE, SIDE, C), c_out: C, kernel: 3, stride: 1, pad: 1 };
    let mut random = Uniform::new(9);
    let tensors: Vec<_> = (0..4).map(|_| (random.vec(geom.weight_len()), random.vec(C))).collect();
    let mut net = Net::new(spec);
    let mut values = vec![ValueId::INPUT];
    for (k, shortcut) in [None, None, Some(1), Some(1)].into_iter().enumerate() {
        let (oihw, bias) = &tensors[k];
        let weights = FoldedConv { oihw, scale: Vec::new(), bias: bias.clone() };
        let kind = OpKind::Conv { geom, weights, shortcut: shortcut.map(|v: usize| values[v]), relu: k % 2 == 1 };
        values.push(net.push(crate::Name::new(format_args!("conv{k}")), values[k], kind));
    }

    for batch in [1, 3] {
        let plan = Plan::new(&net, &Options { batch, threads: 2, isa: Isa::best(), winograd: true }).unwrap();
        let shortcuts: Vec<_> = plan.steps().iter().map(|step| &step.kind).collect();
        assert!(matches!(shortcuts[2], StepKind::Conv { shortcut: Shortcut::Copied(_), .. }));
        assert!(matches!(shortcuts[3], StepKind::Conv { shortcut: Shortcut::InPlace, .. }));

        let (mut packed, mut arena) = (vec![f32::NAN; plan.packed_len()], vec![f32::NAN; plan.arena_len()]);
        let (input, mut scratch) = (random.vec(plan.input_len()), vec![f32::NAN; plan.scratch_len()]);
        plan.prepack(&net, &mut packed).unwrap();
        let y = plan.execute(&input, &packed, &mut arena, &Serial::new(&mut scratch)).unwrap();
        let n = geom.input.elements();
        for (x, y) in input.chunks(n).zip(y.chunks(n)) {
            let mut maps = vec![x.to_vec()];
            for (k, (oihw, bias)) in tensors.iter().enumerate() {
                let added = (k >= 2).then(|| &maps[1][..]);
                let mut map = vec![0.0; n];
                let weights = ConvWeights { oihw, scale: &[], bias };
                reference::conv(&geom, &maps[k], weights, added, k % 2 == 1, |i, v, _| map[i] = v as f32);
                maps.push(map);
            }
            let most = maps[4].iter().fold(0.0f32, |most, v| most.max(v.abs()));
            for (i, (got, want)) in y.iter().zip(&maps[4]).enumerate() {
                assert!((got - want).abs() < 1e-4 * most, "{batch} images, {i}: {got} for {want}");
            }
        }
    }
}

#[test]
fn weights_packed_for_another_plan_are_refused() {
    let weights = crate::testing::Generated::new("resnet8-cifar-w4".parse().unwrap());
    let net = fold_batch_norm(weights.spec(), &weights).unwrap();
    // The classifier by another kernel, whose packed weights are as long.
    let other = Plan::candidates(
        &ConvGeom { input: Shape::new(1, 1, 16), c_out: 10, kernel: 1, stride: 1, pad: 0 },
        &Options::default(),
    );
    let plan = Plan::new(&net, &Options::default()).unwrap();
    let chosen = plan.steps().last().unwrap().kernel_name();
    let mut changed = net.clone();
    assert!(changed.prefer("fc", other.iter().find(|name| **name != chosen).unwrap().as_str()));
    let changed = Plan::new(&changed, &Options::default()).unwrap();
    assert_eq!(changed.packed_len(), plan.packed_len());

    let [mut arena, mut scratch] = [plan.arena_len(), plan.scratch_len()].map(|n| vec![0.0; n]);
    let (input, mut packed) = (vec![0.5; plan.input_len()], vec![0.0; plan.packed_len()]);
    let mut run = |packed: &[f32]| plan.execute(&input, packed, &mut arena, &Serial::new(&mut scratch)).map(|_| ());
    assert_eq!(run(&packed), Err(Error::PackedForOtherKernel));
    changed.prepack(&net, &mut packed).unwrap();
    assert_eq!(run(&packed), Err(Error::PackedForOtherKernel));
    plan.prepack(&net, &mut packed).unwrap();
    assert_eq!(run(&packed), Ok(()));
}

/// Bands of rows, of channels and of both compute what a single band does, bit for bit.
#[test]
fn threads_change_no_bit() {
    let spec: crate::net::ResNet = "resnet8-cifar".parse().unwrap();
    let first = ConvGeom { input: Shape::new(32, 32, 3), c_out: 72, kernel: 3, stride: 4, pad: 1 };
    // Not a multiple of any panel.
    let second = ConvGeom { input: first.output(), c_out: 200, ..first };
    let second = ConvGeom { stride: 1, ..second };
    let third = ConvGeom { input: second.output(), ..second };
    let mut random = Uniform::new(3);
    let tensors: Vec<_> = [first, second, third].map(|g| (random.vec(g.weight_len()), random.vec(g.c_out))).into();
    let mut net = Net::new(spec);
    let mut value = ValueId::INPUT;
    for (k, geom) in [first, second, third].into_iter().enumerate() {
        let (oihw, bias) = &tensors[k];
        let weights = FoldedConv { oihw, scale: Vec::new(), bias: bias.clone() };
        // The last one adds its own input.
        let kind = OpKind::Conv { geom, weights, shortcut: (k == 2).then_some(value), relu: true };
        value = net.push(crate::Name::new(format_args!("conv{k}")), value, kind);
    }
    for isa in Isa::available() {
        let mut mixed = 0;
        for batch in [1, 3] {
            let input = random.vec(batch * first.input.elements());
            let mut run = |threads, winograd| {
                let plan = Plan::new(&net, &Options { batch, threads, isa, winograd }).unwrap();
                let mut buffers = [plan.packed_len(), plan.arena_len(), plan.scratch_len()].map(|n| vec![f32::NAN; n]);
                let [packed, arena, scratch] = &mut buffers;
                plan.prepack(&net, packed).unwrap();
                let both = |rects: &[Rect]| {
                    rects.windows(2).any(|pair| pair[0].rows == pair[1].rows)
                        && rects.windows(2).any(|pair| pair[0].rows != pair[1].rows)
                };
                mixed += plan.steps().iter().filter(|step| both(&step.rects)).count();
                plan.execute(&input, packed, arena, &Serial::new(scratch)).unwrap().to_vec()
            };
            let alone = run(1, true);
            for threads in [2, 3, 4, 5, 8] {
                assert!(run(threads, true) == alone, "{isa}, {batch} images: {threads} threads change bits");
            }
            let most = alone.iter().fold(0.0f32, |most, v| most.max(v.abs()));
            for (got, want) in alone.iter().zip(run(2, false)) {
                assert!((got - want).abs() < 1e-4 * most, "{isa}: {got} for {want}");
            }
        }
        assert!(mixed > 0, "{isa}: no layer is divided by rows and by channels");
    }
}

#[cfg(feature = "std")]
#[test]
fn packing_on_several_threads_gives_the_same_bits_and_releases_every_tensor() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::{testing::Generated, weights::Weights};

    struct Watched(Generated, AtomicUsize);
    impl Weights for Watched {
        fn tensor(&self, name: &str) -> Option<crate::weights::Tensor<'_>> {
            self.0.tensor(name)
        }
        fn release(&self, elements: &[f32]) {
            self.1.fetch_add(elements.len(), Ordering::Relaxed);
        }
    }

    let weights = Watched(Generated::new("resnet18".parse().unwrap()), AtomicUsize::new(0));
    let net = fold_batch_norm(weights.0.spec(), &weights).unwrap();
    let plan = Plan::new(&net, &Options { threads: 2, ..Options::default() }).unwrap();
    let pack = |parallel| {
        let mut packed = vec![f32::NAN; plan.packed_len()];
        let packing = if parallel { Plan::prepack_in_parallel } else { Plan::prepack };
        packing(&plan, &net, &mut packed).unwrap();
        // What lies between is never read and never written.
        (weights.1.swap(0, Ordering::Relaxed), packed.iter().map(|v| v.to_bits()).collect::<Vec<_>>())
    };
    let (alone, together) = (pack(false), pack(true));
    let elements: usize =
        net.ops().iter().map(|op| if let OpKind::Conv { geom, .. } = &op.kind { geom.weight_len() } else { 0 }).sum();
    assert!(alone.0 == elements && alone == together);
}
