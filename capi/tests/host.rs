//! The host's face gives the bits that the Rust library gives.

use std::{
    ffi::{CStr, CString},
    fs,
    mem::MaybeUninit,
    path::{Path, PathBuf},
    ptr::{null, null_mut},
};

use residual::{
    Classifier, Given, Image, Model, Preprocessing,
    plan::Options,
    resnet::ResNet,
    testing::Generated,
    weights::{Tensor, Weights},
    weights::{describe, save},
};
use residual_capi as c;
use residual_core::{
    quant::reference,
    rsd::{AlignedBytes, View, synthetic},
};

const MEAN: [f32; 3] = [0.5, 0.4, 0.3];
const STD: [f32; 3] = [0.25, 0.3, 0.2];

fn weights(folder: &Path) -> PathBuf {
    let spec: ResNet = "resnet8-cifar".parse().unwrap();
    let names: Vec<String> = (0..10).map(|class| format!("class {class}")).collect();
    let mut metadata = describe(&spec, Some(&names));
    metadata.extend(Preprocessing::cifar(MEAN, STD).to_metadata());
    let generated = Generated::new(spec);
    let tensors: Vec<(&str, Tensor<'_>)> =
        generated.names().map(|name| (name, generated.tensor(name).unwrap())).collect();
    let path = folder.join("w.safetensors");
    save(&path, tensors, &metadata).unwrap();
    path
}

fn images() -> Vec<Image> {
    let sizes = [(40, 33), (32, 32), (90, 61), (7, 200), (64, 64)];
    let pixels = |(w, h): (usize, usize)| (0..w * h * 3).map(|i| (i * (w + 3) / 5) as u8).collect();
    sizes.map(|size| Image::new(size.0, size.1, pixels(size)).unwrap()).into()
}

fn picture(image: &Image) -> c::Picture {
    c::Picture {
        pixels: image.pixels().as_ptr(),
        len: image.pixels().len(),
        width: image.width() as u32,
        height: image.height() as u32,
        stride: 0,
    }
}

/// A model and a session on it, freed at the end.
struct Session(*mut c::Model, *mut c::Session);

impl Session {
    fn open(path: &Path, threads: u32, batch: u32) -> Self {
        let file = CString::new(path.to_str().unwrap()).unwrap();
        let options = c::Options {
            threads,
            batch,
            architecture: null(),
            mean: MEAN.as_ptr(),
            std: STD.as_ptr(),
            class_names: null(),
        };
        let (mut model, mut session) = (null_mut(), null_mut());
        // SAFETY: all pointers are to living objects of the right kind.
        unsafe {
            assert_eq!(c::residual_model_open(file.as_ptr(), &options, &mut model), c::Status::Ok);
            assert_eq!(c::residual_session_new(model, &mut session), c::Status::Ok);
        }
        Session(model, session)
    }

    fn info(&self) -> c::ModelInfo {
        let mut info = MaybeUninit::uninit();
        // SAFETY: the model lives; on success all of `info` is written.
        unsafe {
            assert_eq!(c::residual_model_info(self.0, info.as_mut_ptr()), c::Status::Ok);
            info.assume_init()
        }
    }

    fn layers(&self) -> Vec<c::LayerTime> {
        let empty = c::LayerTime { name: null(), kernel: null(), macs: 0, nanoseconds: 0 };
        let (mut layers, mut count) = (vec![empty; self.info().layers], 0);
        // SAFETY: the length is the vector's.
        let status = unsafe { c::residual_session_layers(self.1, layers.as_mut_ptr(), layers.len(), &mut count) };
        assert_eq!((status, count), (c::Status::Ok, layers.len()));
        layers
    }

    fn logits(&self, images: &[Image]) -> Vec<f32> {
        let pictures: Vec<c::Picture> = images.iter().map(picture).collect();
        let mut logits = vec![0.0; images.len() * 10];
        // SAFETY: as above; lengths are the vectors'.
        let status = unsafe {
            c::residual_session_logits(self.1, pictures.as_ptr(), images.len(), logits.as_mut_ptr(), logits.len())
        };
        assert_eq!(status, c::Status::Ok);
        logits
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: handles of this library.
        unsafe {
            assert_eq!(c::residual_session_free(self.1), c::Status::Ok);
            assert_eq!(c::residual_model_free(self.0), c::Status::Ok);
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn logits_and_classes_are_the_rust_librarys_for_any_threads_and_batch() {
    let folder = tempfile::tempdir().unwrap();
    let (path, images) = (weights(folder.path()), images());
    let mut classifier = Classifier::builder().threads(1).open(&path).unwrap();
    let want = bits(&classifier.logits(&images).unwrap().concat());
    for (threads, batch) in [(1, 1), (2, 1), (1, 3), (3, 5), (2, 64)] {
        let session = Session::open(&path, threads, batch);
        assert_eq!(bits(&session.logits(&images)), want, "{threads} threads, batch {batch}");
    }
    let session = Session::open(&path, 1, 2);
    let pictures: Vec<c::Picture> = images.iter().map(picture).collect();
    let empty = c::Prediction { name: null(), class_index: 0, probability: 0.0, logit: 0.0 };
    let mut best = vec![empty; images.len() * 3];
    // SAFETY: lengths are the vectors'.
    let status = unsafe {
        c::residual_session_classify(session.1, pictures.as_ptr(), images.len(), 3, best.as_mut_ptr(), best.len())
    };
    assert_eq!(status, c::Status::Ok);
    let want = classifier.classify_batch(&images, 3).unwrap().concat();
    for (got, want) in best.iter().zip(&want) {
        // SAFETY: a string that lives as long as the session.
        let name = unsafe { CStr::from_ptr(got.name) }.to_str().unwrap();
        assert_eq!((got.class_index, name, got.probability), (want.class, &*want.name, want.probability));
    }
}

#[test]
fn int8_models_give_the_definitions_outputs() {
    let folder = tempfile::tempdir().unwrap();
    let model: AlignedBytes = synthetic(&"resnet8-cifar".parse().unwrap(), 1).unwrap();
    let path = folder.path().join("m.rsd");
    fs::write(&path, &*model).unwrap();
    let view = View::new_checked(&model).unwrap();
    let (encoding, decoding) = (view.input().unwrap(), view.output().unwrap());
    let images = images();
    let mut want = Vec::new();
    for image in &images {
        let mut input = vec![0.0; 32 * 32 * 3];
        Preprocessing::cifar(MEAN, STD).apply(image, &mut input).unwrap();
        let zero = f32::from(encoding.zero_point);
        let quantize = |v: &f32| ((v / encoding.scale).round() + zero).clamp(-128.0, 127.0) as i8;
        let mut values = vec![input.iter().map(quantize).collect::<Vec<i8>>()];
        for i in 0..view.ops() {
            let op = view.op(i).unwrap();
            let mut y = vec![0; op.output().elements()];
            let shortcut = view.shortcut(i).map_or(&[][..], |s| &values[s]);
            reference::execute(&op, &values[view.source(i).unwrap()], shortcut, &mut y).unwrap();
            values.push(y);
        }
        let output = values.pop().unwrap();
        want.extend(output.iter().map(|q| (f32::from(*q) - f32::from(decoding.zero_point)) * decoding.scale));
    }
    for (threads, batch) in [(1, 1), (2, 1), (1, 3), (3, 5), (2, 64)] {
        let session = Session::open(&path, threads, batch);
        assert_eq!(bits(&session.logits(&images)), bits(&want), "{threads} threads, batch {batch}");
    }
}

/// A small network that `residual quantize --tflite` wrote, and the one of MLPerf Tiny where it is at hand.
fn tflite_files() -> Vec<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = std::env::var_os("RESIDUAL_SHARED").map_or_else(|| here.join("../../shared"), PathBuf::from);
    let foreign = shared.join("data/tflite/mlperf_tiny_resnet8_int8.tflite");
    [here.join("tests/data/resnet8-w4.tflite"), foreign].into_iter().filter(|file| file.exists()).collect()
}

#[test]
fn tflite_files_open_and_give_the_rust_librarys_logits() {
    let (files, images) = (tflite_files(), images());
    assert!(!files.is_empty());
    for file in files {
        let mut classifier = Classifier::builder().threads(1).normalisation(MEAN, STD).open(&file).unwrap();
        let want = classifier.logits(&images).unwrap().concat();
        assert!(want.iter().any(|v| *v != want[0]));
        let (name, mut model) = (CString::new(file.to_str().unwrap()).unwrap(), null_mut());
        // Networks that read the pixels themselves need no options.
        let alone = match Model::open(&file).unwrap().preprocessing() {
            Ok(_) => c::Status::Ok,
            Err(_) => c::Status::NoPreprocessing,
        };
        // SAFETY: a string and a place for a handle.
        unsafe {
            assert_eq!(c::residual_model_open(name.as_ptr(), null(), &mut model), alone);
            assert_eq!(c::residual_model_free(model), c::Status::Ok);
        }
        for (threads, batch) in [(1, 1), (2, 3), (1, 64)] {
            let session = Session::open(&file, threads, batch);
            assert_eq!(bits(&session.logits(&images)), bits(&want), "{}", file.display());
            // Inputs that the caller prepared.
            let mut inputs = vec![0.0; images.len() * 32 * 32 * 3];
            for (image, input) in images.iter().zip(inputs.chunks_exact_mut(32 * 32 * 3)) {
                classifier.preprocessing().apply(image, input).unwrap();
            }
            let mut logits = vec![0.0; images.len() * 10];
            // SAFETY: lengths are the vectors'.
            let status = unsafe {
                c::residual_session_run(session.1, inputs.as_ptr(), inputs.len(), logits.as_mut_ptr(), logits.len())
            };
            assert_eq!((status, bits(&logits)), (c::Status::Ok, bits(&want)));
            let info = session.info();
            assert_eq!((info.height, info.width, info.channels, info.classes), (32, 32, 3, 10));
            assert_eq!(
                (info.precision, info.threads, info.batch),
                (c::Precision::Int8, threads as usize, batch as usize)
            );
            // SAFETY: a string that lives as long as the model.
            let name = unsafe { CStr::from_ptr(info.architecture) }.to_str().unwrap();
            assert_eq!(name, file.file_stem().unwrap());
        }
    }
}

#[test]
fn layers_have_names_kernels_work_and_times_in_either_type() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, images) = (weights(folder.path()), images());
    for file in [weights, tflite_files().swap_remove(0)] {
        let model =
            Model::open_with(&file, &Given { normalisation: Some((MEAN.to_vec(), STD.to_vec())), ..Given::default() })
                .unwrap();
        let packed = model.packed(&Options { batch: 2, isa: residual::isa().unwrap(), ..Options::default() }).unwrap();
        let session = Session::open(&file, 1, 2);
        let steps = packed.plan().steps();
        assert_eq!(session.info().layers, steps.len());
        assert_eq!(session.info().weight_bytes, packed.packed_bytes());
        assert!(session.layers().iter().all(|layer| layer.nanoseconds == 0));
        session.logits(&images);
        let layers = session.layers();
        for (layer, step) in layers.iter().zip(steps) {
            // SAFETY: strings that live as long as the session.
            let [name, kernel] =
                [layer.name, layer.kernel].map(|text| unsafe { CStr::from_ptr(text) }.to_str().unwrap());
            assert_eq!((name, kernel, layer.macs), (&*step.name, &*step.kernel_name(), step.macs()));
        }
        assert_eq!(steps[0].name.as_str(), "conv1");
        assert!(layers.iter().filter(|layer| layer.macs > 10_000).all(|layer| layer.nanoseconds > 0));
    }
}
