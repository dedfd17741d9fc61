//! The step against int8 inference, byte for byte, and its gradients against differences of the network whose roundings are
//! held fast.

mod frozen;

use residual_core::{
    Error, Isa,
    resnet::{ResNet, fold_batch_norm},
    rsd::View,
    session::Session,
    testing::Uniform,
};

use self::frozen::Frozen;
use super::{Int8Engine, Maps, Step, StepError, encodings, network, scales::SCALES, with_encodings};
use crate::{
    engine::{
        Loss,
        testing::{options, small_networks, spec, uneven},
    },
    parameters::Parameters,
    quantize::{self, Encodings, Method},
};

fn networks() -> Vec<ResNet> {
    let mut networks = small_networks();
    networks.push(spec("resnet18-w4", 32));
    networks
}

fn batch(spec: &ResNet, n: usize) -> (Vec<f32>, Vec<u32>) {
    let images = Uniform::new(5).vec(n * spec.input().elements());
    (images, (0..n as u32).map(|i| i % 5).collect())
}

/// Parameters where nothing is 0 or 1, and ranges so narrow that a part of the values is clipped.
fn parameters(spec: ResNet) -> Parameters {
    let parameters = uneven(spec, 0.1);
    let pictures: Vec<Vec<f32>> = batch(&spec, 6).0.chunks(spec.input().elements()).map(<[f32]>::to_vec).collect();
    let options = quantize::Options { method: Some(Method::MinMax), equalize: false, ..Default::default() };
    let start = quantize::quantize(&fold_batch_norm(&spec, &parameters).unwrap(), &pictures, &options).unwrap();
    let narrow = |(name, mut q): (&str, crate::quantize::Quantization)| {
        q.scale *= if name == Encodings::INPUT { 1.0 } else { 0.6 };
        (name.to_owned(), q)
    };
    with_encodings(parameters, &Encodings::of(&start.network).iter().map(narrow).collect()).unwrap()
}

/// Calls `f` with what a step has computed of all images going forward.
fn forward<R>(
    parameters: &Parameters,
    images: &[f32],
    isa: Isa,
    f: impl FnOnce(&Int8Engine, &Step<'_>, &Maps<'_>) -> R,
) -> R {
    let n = images.len() / parameters.spec().input().elements();
    let mut engine = Int8Engine::new(parameters, &options(n, 1, isa, true)).unwrap();
    let network = network(parameters).unwrap();
    let model = network.to_model().unwrap();
    let view = View::new_checked(&model).unwrap();
    let Int8Engine { layers, packed, workers, .. } = &mut engine;
    workers.run(|executor| layers.pack(executor, &network, packed)).unwrap();
    let step = Step::new(&engine.layers, &network, &view, &engine.packed).unwrap();
    let mut memory = vec![0.0; n * engine.layers.scratch_len(n)];
    let mut scratch = &mut memory[..];
    let mut maps = Maps::new(&engine.layers, n, &mut scratch);
    engine.layers.forward(&step, images, &mut maps, scratch);
    f(&engine, &step, &maps)
}

#[test]
fn every_value_is_that_of_int8_inference_on_every_isa() {
    for spec in networks() {
        let (parameters, n) = (parameters(spec), 3);
        let (images, _) = batch(&spec, n);
        let network = network(&parameters).unwrap();
        let model = network.to_model().unwrap();
        let net = View::new_checked(&model).unwrap().net().unwrap();
        let mut session = Session::new(&net, &Default::default()).unwrap();
        for isa in Isa::available() {
            forward(&parameters, &images, isa, |_, step, maps| {
                for (i, image) in images.chunks(spec.input().elements()).enumerate() {
                    let bytes: Vec<i8> = image.iter().map(|v| network.quantization.quantize(*v)).collect();
                    let mut seen = 0;
                    let compare = |op: &residual_core::plan::Step, y: &[i8]| {
                        let Some(at) = network.layers.iter().position(|l| *l.name == *op.name) else { return };
                        let zero = i16::from(step.values[at + 1].zero_point);
                        let got = maps.rounded[at + 1][i * y.len()..(i + 1) * y.len()].iter().map(|v| *v as i16 + zero);
                        assert!(got.eq(y.iter().map(|q| i16::from(*q))), "{isa} {spec} {} of image {i}", op.name);
                        seen += 1;
                    };
                    session.run_with(&bytes, compare).unwrap();
                    assert_eq!(seen, network.layers.len(), "{spec}");
                }
            });
        }
    }
}

#[test]
fn gradients_match_differences_of_the_network_with_fixed_roundings() {
    for spec in networks() {
        let (parameters, n) = (parameters(spec), 4);
        let (images, labels) = batch(&spec, n);
        let frozen = forward(&parameters, &images, Isa::best(), |engine, step, maps| {
            Frozen::new(engine, step, maps, &parameters, &images, &labels)
        });
        let clipped = frozen.clipped();
        assert!((0.001..0.5).contains(&clipped), "{spec}: {clipped} of all values are clipped");
        let mut slopes = Vec::new();
        for entry in parameters.entries().iter().filter(|e| e.tensor.learned) {
            let every = if entry.tensor.name.as_str() == SCALES { 1 } else { entry.range.len() / 3 + 1 };
            for i in entry.range.clone().step_by(every) {
                let h = 1e-4 * frozen.size(i);
                slopes.push((entry, i, (frozen.loss(i, h) - frozen.loss(i, -h)) / (2.0 * h) * frozen.damping(i)));
            }
        }
        for winograd in [false, true] {
            let mut engine = Int8Engine::new(&parameters, &options(n, 1, Isa::best(), winograd)).unwrap();
            let mut gradients = vec![0.0; parameters.values().len()];
            let loss = Loss { smoothing: 0.1, count: n };
            let score = engine.step(&parameters, &images, &labels, loss, &mut gradients).unwrap();
            let want = frozen.loss(0, 0.0);
            assert!((score.mean_loss() / want - 1.0).abs() < 1e-6, "{spec}: {} for {want}", score.mean_loss());
            for (entry, i, slope) in &slopes {
                let largest = gradients[entry.range.clone()].iter().fold(0.0f64, |m, g| m.max(f64::from(g.abs())));
                let got = f64::from(gradients[*i]);
                let error = (got - slope).abs() / largest;
                let (name, at) = (entry.tensor.name, i - entry.range.start);
                assert!(error <= 1e-5, "{spec} {name} {at}: {got} for {slope} of {largest}");
            }
        }
    }
}

#[test]
fn a_step_gives_the_same_bits_for_any_number_of_threads() {
    for spec in networks() {
        let parameters = parameters(spec);
        let (images, labels) = batch(&spec, 19);
        let run = |threads| {
            let mut engine = Int8Engine::new(&parameters, &options(20, threads, Isa::best(), true)).unwrap();
            let mut gradients = vec![0.0; parameters.values().len()];
            let loss = Loss { smoothing: 0.0, count: 19 };
            (engine.step(&parameters, &images, &labels, loss, &mut gradients).unwrap(), gradients)
        };
        let one = run(1);
        assert!(run(2) == one && run(5) == one, "{spec}");
    }
}

#[test]
fn scales_learn_to_hold_what_was_clipped() {
    let spec = spec("resnet8-cifar-w6", 8);
    let mut parameters = parameters(spec);
    let (images, labels) = batch(&spec, 6);
    let mut engine = Int8Engine::new(&parameters, &options(6, 1, Isa::best(), true)).unwrap();
    let mut losses = Vec::new();
    let scales = parameters.entry(SCALES).unwrap().range.clone();
    let before = encodings(&parameters).unwrap();
    for _ in 0..20 {
        let mut gradients = vec![0.0; parameters.values().len()];
        let loss = Loss { smoothing: 0.0, count: 6 };
        losses.push(engine.step(&parameters, &images, &labels, loss, &mut gradients).unwrap().mean_loss());
        let learned = parameters.values_mut()[scales.clone()].iter_mut().zip(&gradients[scales.clone()]);
        learned.for_each(|(scale, d)| *scale -= 0.01 * d);
    }
    assert!(losses[19] < losses[0], "{losses:?}");
    let after = encodings(&parameters).unwrap();
    assert_eq!(before.get(Encodings::INPUT), after.get(Encodings::INPUT));
    assert_ne!(before.get("conv1"), after.get("conv1"));
}

#[test]
fn parameters_that_are_no_numbers_any_more_are_named() {
    let spec = spec("resnet8-cifar-w6", 8);
    let good = parameters(spec);
    let (images, labels) = batch(&spec, 4);
    let mut engine = Int8Engine::new(&good, &options(4, 2, Isa::best(), true)).unwrap();
    let mut step = |tensor: &str, value: f32| {
        let mut bad = good.clone();
        let at = bad.entry(tensor).unwrap().range.start;
        bad.values_mut()[at] = value;
        let mut gradients = vec![0.0; bad.values().len()];
        engine.step(&bad, &images, &labels, Loss { smoothing: 0.0, count: 4 }, &mut gradients).map(|s| s.count)
    };
    let weight = step("layer2.0.conv2.weight", f32::NAN).unwrap_err();
    assert!(
        weight.to_string().starts_with("tensor `layer2.0.conv2.weight` holds a value that is not usable"),
        "{weight}"
    );
    assert!(matches!(step(SCALES, f32::INFINITY), Err(StepError::Tensor(_))));
    for value in [0.0, -0.1] {
        assert_eq!(step(SCALES, value), Err(StepError::Scale(residual_core::Name::new("conv1"))));
    }
    assert_eq!(step(SCALES, 0.1), Ok(4));
    let without = Parameters::init(spec, 1);
    let error = Int8Engine::new(&without, &options(4, 1, Isa::best(), true)).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "`conv1` has no int8 encoding: those given are of another network");
    let error = Int8Engine::new(&good, &options(0, 1, Isa::best(), true)).map(|_| ()).unwrap_err();
    assert!(matches!(error, quantize::QuantizeError::Network(Error::InvalidNetwork { .. })));
}
