//! Training steps against PyTorch's: same weights, same batches. Needs Python with PyTorch and NumPy, by the name in
//! `RESIDUAL_PYTHON` or `python3`; skipped where that is missing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use residual_core::{Isa, resnet::ResNet, testing::Uniform};
use residual_train::{
    engine::{CpuEngine, Loss, Options},
    parameters::Parameters,
};

const BATCH: usize = 128;
const BATCHES: usize = 4;
const STEPS: usize = 100;
const RATE: f32 = 0.01;

/// How far a tensor may be from PyTorch's after one step, relative to its largest value.
///
/// Biases of batch norm begin at zero, so behind one step they are one gradient: a sum over all pixels that nearly
/// cancels, and that jumps where a pixel so close to zero that roundings decide passes ReLU in one computation and not in
/// the other. On this batch PyTorch in f32 is up to 6e-3 away from PyTorch in f64 there, this crate up to 6e-3 without
/// Winograd and 1e-2 with it. All other tensors are held to 1e-4.
fn allowed(name: &str) -> f32 {
    let bias_of_norm = name.contains("bn") && name.ends_with(".bias");
    if bias_of_norm { 2e-2 } else { 1e-4 }
}

/// The Python to ask, if it has PyTorch.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("RESIDUAL_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let has_torch = Command::new(&python).args(["-c", "import torch, numpy"]).output();
    has_torch.is_ok_and(|output| output.status.success()).then_some(python)
}

fn write<T: bytemuck::NoUninit>(folder: &Path, name: &str, values: &[T]) {
    fs::write(folder.join(name), bytemuck::cast_slice(values)).unwrap();
}

/// Relative to the largest value of the tensor.
fn error(got: &[f32], want: &[f32]) -> f32 {
    let scale = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    got.iter().zip(want).fold(0.0f32, |m, (g, w)| m.max((g - w).abs())) / scale
}

#[test]
fn steps_are_those_of_pytorch() {
    let Some(python) = python() else {
        println!("skipped: no Python with PyTorch and NumPy (RESIDUAL_PYTHON says which to ask)");
        return;
    };
    let spec: ResNet = "resnet20-cifar".parse().unwrap();
    let mut parameters = Parameters::init(spec, 1);
    let pixels = spec.input().elements();
    let images: Vec<f32> = Uniform::new(2).take(BATCHES * BATCH * pixels).map(|v| 1.7 * v).collect();
    let labels: Vec<u32> = Uniform::new(3).take(BATCHES * BATCH).map(|v| ((v + 1.0) * 5.0) as u32).collect();

    let folder = tempfile::tempdir().unwrap();
    let names: String = parameters
        .entries()
        .iter()
        .map(|e| {
            let shape: Vec<String> = e.tensor.shape().iter().map(ToString::to_string).collect();
            format!("{} {}\n", e.tensor.name, shape.join(" "))
        })
        .collect();
    fs::write(folder.path().join("tensors.txt"), names).unwrap();
    write(folder.path(), "start.f32", parameters.values());
    write(folder.path(), "labels.u32", &labels);
    let (c, area) = (spec.input().c, spec.input().h * spec.input().w);
    let planes = images.chunks(pixels).flat_map(|image| (0..pixels).map(move |i| image[i % area * c + i / area]));
    write(folder.path(), "images.f32", &planes.collect::<Vec<f32>>());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pytorch.py");
    let numbers = ["20".to_owned(), BATCH.to_string(), STEPS.to_string(), RATE.to_string()];
    let output = Command::new(python).arg(script).arg(folder.path()).args(numbers).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let want: Vec<f64> = String::from_utf8(output.stdout).unwrap().lines().map(|l| l.parse().unwrap()).collect();
    assert_eq!(want.len(), STEPS);
    let bytes = fs::read(folder.path().join("after.f32")).unwrap();
    let after: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();

    let options = Options { batch: BATCH, threads: 2, isa: Isa::best(), winograd: true };
    let mut engine = CpuEngine::new(&parameters, &options).unwrap();
    let mut gradients = vec![0.0f32; parameters.values().len()];
    let mut velocity = gradients.clone();
    for (step, want) in want.into_iter().enumerate() {
        let i = step % BATCHES;
        let images = &images[i * BATCH * pixels..(i + 1) * BATCH * pixels];
        let labels = &labels[i * BATCH..(i + 1) * BATCH];
        gradients.fill(0.0);
        let loss = Loss { smoothing: 0.0, count: BATCH };
        let loss = engine.step(&mut parameters, images, labels, loss, &mut gradients).unwrap().mean_loss();
        for entry in parameters.entries().to_vec().iter().filter(|e| e.tensor.learned) {
            for i in entry.range.clone() {
                let w = &mut parameters.values_mut()[i];
                velocity[i] = 0.9 * velocity[i] + gradients[i] + 1e-4 * *w;
                *w -= RATE * velocity[i];
            }
        }
        if step == 0 {
            assert!((loss / want - 1.0).abs() <= 1e-5, "loss {loss} for {want}");
            for entry in parameters.entries() {
                let range = entry.range.clone();
                let error = error(&parameters.values()[range.clone()], &after[range]);
                let name = entry.tensor.name;
                assert!(error <= allowed(&name), "{name}: {error:e} of the largest value");
            }
        }
        if step + 1 == STEPS {
            println!("loss {loss} after {STEPS} steps, {want} in PyTorch");
            assert!((loss / want - 1.0).abs() <= 0.01, "loss {loss} for {want} after {STEPS} steps");
        }
    }
}
