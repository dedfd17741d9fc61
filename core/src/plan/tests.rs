use super::{Options, Plan, Serial, Shortcut, StepKind};
use crate::{
    Isa,
    geom::{ConvGeom, Shape},
    kernel::{ConvWeights, reference},
    net::{FoldedConv, Net, OpKind, ValueId},
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
