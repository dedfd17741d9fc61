use super::{Options, Plan, Shortcut, StepKind};
use crate::{
    Error, Isa,
    conv::{ConvWeights, reference},
    geom::{ConvGeom, Shape},
    graph::{Builder, FoldedConv, ValueId},
    memory::{Buffer, Rect},
    resnet::{Part, ResNet, fold_batch_norm, fold_part},
    testing::{Generated, Uniform},
    threads::Serial,
};

/// `len` words of NaN.
fn buffer(len: usize) -> Buffer {
    let mut buffer = Buffer::new(len);
    buffer.as_mut_slice().fill(f32::NAN);
    buffer
}

/// A shortcut that is read again must survive the first sum; one read for the last time gives its place away.
#[test]
fn shortcuts_lie_in_place_unless_they_are_read_again() {
    const SIDE: usize = 32;
    const C: usize = 3;
    let geom = ConvGeom { input: Shape::new(SIDE, SIDE, C), c_out: C, kernel: 3, stride: 1, pad: 1 };
    let mut random = Uniform::new(9);
    let tensors: Vec<_> = (0..5).map(|_| (random.vec(geom.weight_len()), random.vec(C))).collect();
    let mut net = Builder::new(geom.input);
    let mut values = vec![ValueId::INPUT];
    // The last one adds the input, which is never overwritten.
    let shortcuts = [None, None, Some(1), Some(1), Some(0)];
    for (k, shortcut) in shortcuts.into_iter().enumerate() {
        let (oihw, bias) = &tensors[k];
        let weights = FoldedConv::new(oihw, bias.clone());
        let shortcut = shortcut.map(|v: usize| values[v]);
        values.push(net.conv(format_args!("conv{k}"), values[k], geom, weights, shortcut, k % 2 == 1).unwrap());
    }
    let net = net.finish(&values[5..]).unwrap();

    for batch in [1, 3] {
        let plan = Plan::new(&net, &Options { batch, threads: 2, isa: Isa::best(), winograd: true }).unwrap();
        let kinds: Vec<_> = plan.steps().iter().map(|step| &step.kind).collect();
        assert!(matches!(kinds[2], StepKind::Conv { shortcut: Shortcut::Copied(_), .. }));
        assert!(matches!(kinds[3], StepKind::Conv { shortcut: Shortcut::InPlace, .. }));
        assert!(matches!(kinds[4], StepKind::Conv { shortcut: Shortcut::Copied(_), .. }));

        let (input, mut arena, mut scratch) =
            (random.vec(plan.input_len()), buffer(plan.arena_len()), buffer(plan.scratch_len()));
        let packed = plan.prepack(&net).unwrap();
        plan.execute(&input, &packed, &mut arena, &Serial::new(scratch.as_mut_slice())).unwrap();
        let y: &[f32] = plan.output(&arena, 0).unwrap();
        let n = geom.input.elements();
        for (x, y) in input.chunks(n).zip(y.chunks(n)) {
            let mut maps = vec![x.to_vec()];
            for (k, (oihw, bias)) in tensors.iter().enumerate() {
                let added = shortcuts[k].map(|v| &maps[v][..]);
                let mut map = vec![0.0; n];
                let weights = ConvWeights { oihw, scale: &[], bias };
                reference::conv(&geom, &maps[k], weights, added, k % 2 == 1, |i, v, _| map[i] = v as f32);
                maps.push(map);
            }
            let most = maps[5].iter().fold(0.0f32, |most, v| most.max(v.abs()));
            for (i, (got, want)) in y.iter().zip(&maps[5]).enumerate() {
                assert!((got - want).abs() < 1e-4 * most, "{batch} images, {i}: {got} for {want}");
            }
        }
    }
}

/// Bands of rows, of channels and of both compute what a single band does, bit for bit.
#[test]
fn threads_change_no_bit() {
    let first = ConvGeom { input: Shape::new(32, 32, 3), c_out: 72, kernel: 3, stride: 4, pad: 1 };
    // Not a multiple of any panel.
    let second = ConvGeom { input: first.output(), c_out: 200, ..first };
    let second = ConvGeom { stride: 1, ..second };
    let third = ConvGeom { input: second.output(), ..second };
    let mut random = Uniform::new(3);
    let tensors: Vec<_> = [first, second, third].map(|g| (random.vec(g.weight_len()), random.vec(g.c_out))).into();
    let mut net = Builder::new(first.input);
    let mut value = ValueId::INPUT;
    for (k, geom) in [first, second, third].into_iter().enumerate() {
        let (oihw, bias) = &tensors[k];
        let weights = FoldedConv::new(oihw, bias.clone());
        // The last one adds its own input.
        let shortcut = (k == 2).then_some(value);
        value = net.conv(format_args!("conv{k}"), value, geom, weights, shortcut, true).unwrap();
    }
    let net = net.finish(&[value]).unwrap();
    for isa in Isa::available() {
        let mut mixed = 0;
        for batch in [1, 3] {
            let input = random.vec(batch * first.input.elements());
            let mut run = |threads, winograd| {
                let plan = Plan::new(&net, &Options { batch, threads, isa, winograd }).unwrap();
                let [mut arena, mut scratch] = [plan.arena_len(), plan.scratch_len()].map(buffer);
                let packed = plan.prepack(&net).unwrap();
                let both = |rects: &[Rect]| {
                    rects.windows(2).any(|pair| pair[0].rows == pair[1].rows)
                        && rects.windows(2).any(|pair| pair[0].rows != pair[1].rows)
                };
                mixed += plan.steps().iter().filter(|step| both(&step.rects)).count();
                plan.execute(&input, &packed, &mut arena, &Serial::new(scratch.as_mut_slice())).unwrap();
                plan.output::<f32>(&arena, 0).unwrap().to_vec()
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

/// Weights that are not in memory: every tensor is read when it is asked for, and one of them may be unreadable.
#[cfg(feature = "std")]
mod stored {
    use std::{
        collections::BTreeMap,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::{
        Name,
        weights::{Elements, Stored, Tensor, Weights},
    };

    #[derive(Debug)]
    struct Entry {
        name: Name,
        shape: Vec<usize>,
        data: Result<Vec<f32>, Error>,
        reads: AtomicUsize,
    }

    impl Stored for Entry {
        fn name(&self) -> Name {
            self.name
        }

        fn elements(&self) -> usize {
            self.shape.iter().product()
        }

        fn read(&self, into: &mut [f32]) -> Result<(), Box<dyn core::error::Error + Send + Sync>> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            into.copy_from_slice(self.data.as_ref().map_err(|error| error.to_string())?);
            Ok(())
        }
    }

    struct File(BTreeMap<String, Entry>);

    impl File {
        fn new(weights: &Generated) -> Self {
            let entry = |name: &str| {
                let Tensor { shape, data } = weights.tensor(name).unwrap();
                let data = Ok(data.to_vec().unwrap());
                (name.into(), Entry { name: Name::new(name), shape: shape.into(), data, reads: AtomicUsize::new(0) })
            };
            File(weights.names().map(entry).collect())
        }

        fn reads(&self) -> Vec<usize> {
            self.0.values().map(|entry| entry.reads.swap(0, Ordering::Relaxed)).collect()
        }
    }

    impl Weights for File {
        fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
            self.0.get(name).map(|entry| Tensor { shape: &entry.shape, data: Elements::Stored(entry) })
        }
    }

    #[test]
    fn they_pack_to_the_same_bits_on_any_number_of_threads_and_are_read_once() {
        let memory = Generated::new("resnet18".parse().unwrap());
        let mut file = File::new(&memory);
        let spec = memory.spec();
        let plan = Plan::new(&fold_batch_norm(spec, &memory).unwrap(), &Options { threads: 2, ..Options::default() });
        let plan = plan.unwrap();
        let bits = |packed: super::super::Packed| packed.words().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let want = bits(plan.prepack(&fold_batch_norm(spec, &memory).unwrap()).unwrap());

        let net = fold_batch_norm(spec, &file).unwrap();
        let is_weight = |entry: &Entry| entry.shape.len() > 1;
        let (weights, vectors): (Vec<usize>, Vec<usize>) =
            file.0.values().map(|entry| (usize::from(is_weight(entry)), usize::from(!is_weight(entry)))).unzip();
        assert_eq!(file.reads(), vectors, "folding reads what is small");
        for packing in [Plan::prepack, Plan::prepack_in_parallel] {
            assert!(bits(packing(&plan, &net).unwrap()) == want);
            assert_eq!(file.reads(), weights, "packing reads every weight once");
        }
        assert_eq!(net.conv(0).unwrap().scaled().unwrap().len(), 64 * 3 * 49);

        let name = "layer3.0.conv2.weight";
        file.0.get_mut(name).unwrap().data = Err(Error::NotRun);
        let net = fold_batch_norm(spec, &file).unwrap();
        for packing in [Plan::prepack, Plan::prepack_in_parallel] {
            assert_eq!(packing(&plan, &net).unwrap_err(), Error::Unreadable(Name::new(name)));
        }
        file.0.get_mut("bn1.bias").unwrap().data = Err(Error::NotRun);
        assert_eq!(fold_batch_norm(spec, &file).unwrap_err(), Error::Unreadable(Name::new("bn1.bias")));
    }
}

fn run(plan: &Plan, packed: &super::Packed, input: &[f32]) -> Result<Buffer, Error> {
    let [mut arena, mut scratch] = [plan.arena_len(), plan.scratch_len()].map(buffer);
    plan.execute(input, packed, &mut arena, &Serial::new(scratch.as_mut_slice()))?;
    Ok(arena)
}

#[test]
fn weights_packed_for_other_kernels_are_refused_and_those_of_other_inputs_are_not() {
    let weights = Generated::new("resnet8-cifar-w8".parse().unwrap());
    let net = fold_batch_norm(weights.spec(), &weights).unwrap();
    let plan = |winograd| Plan::new(&net, &Options { winograd, isa: Isa::PORTABLE, ..Options::default() }).unwrap();
    let (fast, plain) = (plan(true), plan(false));
    let packed = plain.prepack(&net).unwrap();
    let input = Uniform::new(1).vec(plain.input_len());
    assert!(run(&plain, &packed, &input).is_ok());
    assert!(matches!(run(&fast, &packed, &input), Err(Error::PackedForOtherKernel)));
    assert!(matches!(run(&plain, &packed, &input[1..]), Err(Error::BufferLength { .. })));

    // A rectangle, on the same packing: the same bits as with a packing of its own.
    let wide = weights.spec().with_input(24, 40).unwrap();
    let net = fold_batch_norm(&wide, &weights).unwrap();
    let own = Plan::new(&net, &Options { winograd: false, isa: Isa::PORTABLE, ..Options::default() }).unwrap();
    let shared = Plan::for_packed(&net, own.options(), &packed).unwrap();
    let input = Uniform::new(2).vec(own.input_len());
    let logits = |plan: &Plan, packed| plan.output::<f32>(&run(plan, packed, &input).unwrap(), 0).unwrap().to_vec();
    assert_eq!(logits(&own, &own.prepack(&net).unwrap()), logits(&shared, &packed));
    let other = Generated::new("resnet8-cifar-w9".parse().unwrap());
    let other = fold_batch_norm(other.spec(), &other).unwrap();
    assert!(matches!(Plan::for_packed(&other, own.options(), &packed), Err(Error::PackedForOtherKernel)));
}

/// A trunk and a head compute what the whole network does; a whole network can give a stage's output besides its logits.
#[test]
fn parts_of_a_network_and_several_outputs_give_the_bits_of_the_whole() {
    for (name, stage) in [("resnet8-cifar-w8", 2), ("resnet18-w4", 1), ("plain34-w4", 3)] {
        let spec = name.parse::<ResNet>().unwrap().with_input(48, 33).unwrap();
        let weights = Generated::new(spec);
        let options = Options { batch: 2, ..Options::default() };
        let plan = |net: &crate::graph::Net<'_>| {
            let plan = Plan::new(net, &options).unwrap();
            let packed = plan.prepack(net).unwrap();
            (plan, packed)
        };
        let mut whole = fold_batch_norm(&spec, &weights).unwrap();
        let last = whole.ops().iter().rev().find(|op| op.name.starts_with(&format!("layer{stage}."))).unwrap().output;
        let logits = whole.outputs()[0];
        whole.set_outputs(&[logits, last]).unwrap();
        let input = Uniform::new(5).vec(2 * spec.input().elements());
        let (plan_of_whole, packed) = plan(&whole);
        let arena = run(&plan_of_whole, &packed, &input).unwrap();
        let (logits, features) =
            (plan_of_whole.output::<f32>(&arena, 0).unwrap(), plan_of_whole.output::<f32>(&arena, 1).unwrap());

        let (trunk, packed) = plan(&fold_part(&spec, &weights, Part::trunk(stage)).unwrap());
        let arena = run(&trunk, &packed, &input).unwrap();
        assert!(trunk.output::<f32>(&arena, 0).unwrap() == features, "{name}: trunk");
        let (head, packed) = plan(&fold_part(&spec, &weights, Part::head(stage)).unwrap());
        let arena = run(&head, &packed, features).unwrap();
        assert!(head.output::<f32>(&arena, 0).unwrap() == logits, "{name}: head");
        assert!(fold_part(&spec, &weights, Part { skip: 2, until: Some(2) }).is_err());
        assert!(matches!(head.output::<i8>(&arena, 0), Err(Error::ElementType { .. })));
        assert!(head.output::<f32>(&arena, 1).is_err());
    }
}
