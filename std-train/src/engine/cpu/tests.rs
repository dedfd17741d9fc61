//! Whole steps against the f64 reference, and the same bits for any number of threads.

use residual_core::{Error, Isa, resnet::ResNet};

use crate::{
    engine::{
        CpuEngine, Loss,
        reference::{self, Reference},
        testing::{options, small_networks, spec, uneven},
    },
    parameters::Parameters,
    random::{Purpose, Stream},
};

fn parameters(spec: ResNet) -> Parameters {
    uneven(spec, 0.2)
}

fn batch(spec: &ResNet, n: usize) -> (Vec<f32>, Vec<u32>) {
    let mut random = Stream::new(5, Purpose::Picture, [0, 0]);
    let images = (0..n * spec.input().elements()).map(|_| random.normal() as f32).collect();
    (images, (0..n as u32).map(|i| i % 5).collect())
}

fn networks() -> Vec<ResNet> {
    let mut networks = small_networks();
    networks.extend([spec("resnet18-w8", 32), spec("resnet18-A-w16", 37)]);
    networks
}

#[test]
fn the_reference_networks_gradients_match_central_differences() {
    for name in ["resnet8-cifar-w2", "resnet8-cifar-B-w2", "resnet11-cifar-bottleneck-w2"] {
        let spec = spec(name, 5);
        let parameters = parameters(spec);
        let (images, labels) = batch(&spec, 3);
        let images: Vec<f64> = images.iter().map(|&v| f64::from(v)).collect();
        let mut reference = Reference::new(&parameters);
        let (_, gradients) = reference.step(&images, &labels, 0.1, true);
        let scale = gradients.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let (mut checked, mut kinks) = (0, 0);
        for (i, gradient) in gradients.iter().enumerate().step_by(7) {
            let mut at = |d: f64| {
                reference.values_mut()[i] += d;
                let loss = reference.step(&images, &labels, 0.1, false).0;
                reference.values_mut()[i] -= d;
                loss
            };
            // Two step lengths that disagree betray a ReLU's kink between them: no derivative to compare with.
            let mut slope = |h: f64| (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
            let (fine, coarse) = (slope(1e-5), slope(2e-5));
            if (fine - coarse).abs() > 1e-8 * scale {
                kinks += 1;
                continue;
            }
            assert!((fine - gradient).abs() <= 1e-6 * scale, "{name} parameter {i}: {fine} for {gradient}");
            checked += 1;
        }
        println!("{name}: {checked} parameters checked, {kinks} beside a kink");
        assert!(checked > 10 * kinks && checked > 20);
    }
}

#[test]
fn a_step_matches_the_reference_on_every_isa() {
    for spec in networks() {
        let n = 6;
        let parameters = parameters(spec);
        let (images, labels) = batch(&spec, n);
        let wide: Vec<f64> = images.iter().map(|&v| f64::from(v)).collect();
        let (loss, want) = Reference::new(&parameters).step(&wide, &labels, 0.1, true);
        for (isa, winograd) in Isa::available().flat_map(|isa| [(isa, false), (isa, true)]) {
            let mut engine = CpuEngine::new(&parameters, &options(n + 2, 1, isa, winograd)).unwrap();
            let mut stepped = parameters.clone();
            let mut gradients = vec![0.0; want.len()];
            let mean = Loss { smoothing: 0.1, count: n };
            let score = engine.step(&mut stepped, &images, &labels, mean, &mut gradients).unwrap();
            assert!((score.mean_loss() / loss - 1.0).abs() < 1e-5, "{isa} {spec}: {} for {loss}", score.mean_loss());
            for entry in parameters.entries().iter().filter(|e| e.tensor.learned) {
                let (got, want) = (&gradients[entry.range.clone()], &want[entry.range.clone()]);
                let norm = want.iter().map(|v| v * v).sum::<f64>().sqrt();
                let error = got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).powi(2)).sum::<f64>().sqrt();
                assert!(error <= 1e-4 * norm, "{isa} {spec} {}: {error:e} of {norm:e}", entry.tensor.name);
            }
        }
    }
}

#[test]
fn a_step_gives_the_same_bits_for_any_number_of_threads() {
    for spec in networks() {
        let start = parameters(spec);
        let (images, labels) = batch(&spec, 19);
        let run = |threads| {
            let mut parameters = start.clone();
            let mut engine = CpuEngine::new(&parameters, &options(20, threads, Isa::best(), true)).unwrap();
            let mut gradients = vec![0.0; parameters.values().len()];
            let loss = Loss { smoothing: 0.0, count: 19 };
            let score = engine.step(&mut parameters, &images, &labels, loss, &mut gradients).unwrap();
            (score, parameters.values().to_vec(), gradients)
        };
        let one = run(1);
        for threads in [2, 5] {
            assert!(run(threads) == one, "{spec}");
        }
    }
}

#[test]
fn a_batch_that_no_memory_holds_is_an_error() {
    let parameters = parameters(spec("resnet8-cifar-w4", 8));
    let engine = CpuEngine::new(&parameters, &options(1 << 40, 1, Isa::best(), true));
    assert!(matches!(engine.map(|_| ()), Err(Error::OutOfMemory { .. })));
}

#[test]
fn running_statistics_are_those_of_pytorch() {
    let spec = spec("resnet8-cifar-w4", 8);
    let mut parameters = parameters(spec);
    let before = parameters.clone();
    let (images, labels) = batch(&spec, 4);
    let mut engine = CpuEngine::new(&parameters, &options(4, 1, Isa::best(), true)).unwrap();
    let mut gradients = vec![0.0; parameters.values().len()];
    let loss = Loss { smoothing: 0.0, count: 4 };
    engine.step(&mut parameters, &images, &labels, loss, &mut gradients).unwrap();
    // The stem's output from its definition.
    let wide: Vec<f64> = images.iter().map(|&v| f64::from(v)).collect();
    let of = |p: &Parameters, name: &str| p.values()[p.entry(name).unwrap().range.clone()].to_vec();
    let w: Vec<f64> = of(&before, "conv1.weight").iter().map(|&v| f64::from(v)).collect();
    let y = reference::conv_forward(&spec.stem().conv.geom, &wide, &w);
    let n = (y.len() / 4) as f64;
    for ch in 0..4 {
        let mean = y[ch..].iter().step_by(4).sum::<f64>() / n;
        let var = y[ch..].iter().step_by(4).map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        for (name, new) in [("bn1.running_mean", mean), ("bn1.running_var", var)] {
            let want = 0.9 * f64::from(of(&before, name)[ch]) + 0.1 * new;
            let got = f64::from(of(&parameters, name)[ch]);
            assert!((got - want).abs() <= 1e-6 * (1.0 + want.abs()), "{name} {ch}: {got} for {want}");
        }
    }
}

#[test]
fn a_nan_is_named_by_its_layer() {
    let spec = spec("resnet8-cifar-w4", 8);
    let mut parameters = parameters(spec);
    let at = parameters.entry("layer2.0.conv2.weight").unwrap().range.start;
    parameters.values_mut()[at] = f32::NAN;
    let (images, labels) = batch(&spec, 4);
    let mut engine = CpuEngine::new(&parameters, &options(4, 2, Isa::best(), true)).unwrap();
    let mut gradients = vec![0.0; parameters.values().len()];
    let loss = Loss { smoothing: 0.0, count: 4 };
    let error = engine.step(&mut parameters, &images, &labels, loss, &mut gradients).unwrap_err();
    assert_eq!(error.to_string(), "the output of layer `layer2.0.conv2` is NaN or infinite");
}

#[test]
fn an_engine_goes_on_after_a_step_that_failed() {
    let spec = spec("resnet8-cifar-B-w4", 8);
    let good = parameters(spec);
    let mut bad = good.clone();
    // Beside a projection, whose output is written in the same phase.
    let at = bad.entry("layer2.0.conv1.weight").unwrap().range.start;
    bad.values_mut()[at] = f32::NAN;
    let (images, labels) = batch(&spec, 4);
    let mut engine = CpuEngine::new(&good, &options(4, 2, Isa::best(), true)).unwrap();
    let loss = Loss { smoothing: 0.0, count: 4 };
    let mut step = |mut parameters: Parameters| {
        let mut gradients = vec![0.0; parameters.values().len()];
        engine.step(&mut parameters, &images, &labels, loss, &mut gradients).map(|score| (score, gradients))
    };
    let want = step(good.clone()).unwrap();
    assert!(step(bad).is_err());
    assert!(step(good).unwrap() == want);
}
