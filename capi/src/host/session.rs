//! Sessions: the memory that runs of a model need.

use std::{
    ffi::c_char,
    sync::{Arc, Mutex, TryLockError},
    time::Instant,
};

use residual::{
    Runner,
    logits::{softmax, top_k},
};

use crate::{
    Error, Status, guard,
    host::{
        image::{Picture, some},
        model::{Loaded, Model, find},
        registry::Registry,
    },
    pointer::{fault, out, slice},
};

static SESSIONS: Registry<Shared> = Registry::new();

/// The memory and the threads for runs of a model, by one thread at a time. Opaque.
pub struct Session(());

/// A class and how probable it is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Prediction {
    /// its name, or its number as text; lives as long as the session or its model
    pub name: *const c_char,
    /// the output's number, from 0
    pub class_index: usize,
    /// by softmax over all outputs
    pub probability: f32,
    /// the output itself
    pub logit: f32,
}

/// A layer and how long it took.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LayerTime {
    /// torchvision's name, such as "layer1.0.conv2", or a `.tflite` file's own; lives as long as the session or its
    /// model
    pub name: *const c_char,
    /// the kernel chosen for it; lives as long as the session or its model
    pub kernel: *const c_char,
    /// multiply-adds for one picture
    pub macs: u64,
    /// time it took during the last call that succeeded, all pictures together; 0 before the first
    pub nanoseconds: u64,
}

struct Shared {
    model: Arc<Loaded>,
    run: Mutex<Run>,
    /// the process whose threads it has
    process: u32,
}

impl Shared {
    /// Whether its threads are there: a forked child has only the thread that forked.
    fn is_whole(&self) -> bool {
        self.model.threads() == 1 || self.process == std::process::id()
    }
}

struct Run {
    runner: Runner,
    /// of every layer, in nanoseconds
    times: Vec<u64>,
}

impl Run {
    fn new(model: &Loaded) -> Result<Self, Error> {
        let runner = Runner::new(Arc::clone(&model.prepared))?;
        Ok(Run { runner, times: vec![0; model.layers.len()] })
    }

    /// The logits of `count` inputs; `load(i, runner, slot)` puts input `i` into a place of the batch.
    fn logits(
        &mut self,
        count: usize,
        mut load: impl FnMut(usize, &mut Runner, usize) -> Result<(), Error>,
    ) -> Result<Vec<f32>, Error> {
        let batch = self.runner.prepared().batch();
        let mut logits = Vec::with_capacity(count.min(1 << 16) * self.runner.prepared().classes());
        let mut times = vec![0; self.times.len()];
        for first in (0..count).step_by(batch) {
            let images = batch.min(count - first);
            for slot in 0..images {
                load(first + slot, &mut self.runner, slot)?;
            }
            let mut last = Instant::now();
            logits.extend_from_slice(self.runner.run_with(images, |step| {
                let now = Instant::now();
                times[step.index()] += (now - last).as_nanos() as u64;
                last = now;
            })?);
        }
        self.times = times;
        Ok(logits)
    }
}

/// Uses a session, which nobody else may be using.
fn with<R>(session: *mut Session, body: impl FnOnce(&Loaded, &mut Run) -> Result<R, Error>) -> Result<R, Error> {
    let shared = SESSIONS.get(session, "session")?;
    if !shared.is_whole() {
        let text = "`session` is of the process this one was forked from, and its threads stayed there; make another";
        return Err(Error::with(Status::NoThreads, text));
    }
    match shared.run.try_lock() {
        Ok(mut run) => body(&shared.model, &mut run),
        Err(TryLockError::WouldBlock) => fault(Status::Busy, "session"),
        Err(TryLockError::Poisoned(_)) => {
            Err(Error::with(Status::Defect, "`session` is unusable after a defect of this library; free it"))
        }
    }
}

/// The logits of pictures.
///
/// # Safety
/// The contract of this library for `pictures` and the pixels of each.
unsafe fn of_pictures(run: &mut Run, pictures: &[Picture]) -> Result<Vec<f32>, Error> {
    run.logits(pictures.len(), |i, runner, slot| {
        // SAFETY: the caller's promise.
        let image = unsafe { pictures[i].copy() };
        let loaded = image.and_then(|image| Ok(runner.load(slot, &image)?));
        loaded.map_err(|error| match pictures.len() {
            1 => error,
            _ => Error::with(error.status, format!("picture {i}: {}", error.text)),
        })
    })
}

/// Whether `count * each` results fit in `len`.
fn fits(count: usize, each: usize, len: usize, argument: &'static str) -> Result<(), Error> {
    match count.checked_mul(each) {
        Some(need) if need <= len => Ok(()),
        need => {
            let need = need.unwrap_or(usize::MAX);
            Err(Error::with(Status::TooShort, format!("`{argument}` holds {len} elements, {need} are needed")))
        }
    }
}

/// A session on a model. Free it with `residual_session_free`; the model may be freed before.
///
/// Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_session_new(model: *const Model, session: *mut *mut Session) -> Status {
    guard(|| {
        // SAFETY: the contract of this library.
        let session = unsafe { out(session, 1, "session")? };
        session.write(&[std::ptr::null_mut()]);
        let model = find(model)?;
        let run = Mutex::new(Run::new(&model)?);
        session.write(&[SESSIONS.add(Shared { model, run, process: std::process::id() })?]);
        Ok(())
    })
}

/// The `k` most probable classes of each of `count` pictures of any size, best first: `count * k` entries.
/// `k` may be at most the number of classes. On an error nothing is written.
///
/// `RESIDUAL_BUSY` while another thread uses the session; otherwise thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_session_classify(
    session: *mut Session,
    pictures: *const Picture,
    count: usize,
    k: usize,
    predictions: *mut Prediction,
    predictions_len: usize,
) -> Status {
    guard(|| {
        // SAFETY: the contract of this library; pictures are not borrowed any more when results are written.
        let (pictures, predictions) =
            unsafe { (slice(pictures, count, "pictures")?, out(predictions, predictions_len, "predictions")?) };
        some(count)?;
        let best = with(session, |model, run| {
            if !(1..=model.classes()).contains(&k) {
                return fault(Status::BadArgument, "k");
            }
            fits(count, k, predictions_len, "predictions")?;
            // SAFETY: the contract of this library.
            let logits = unsafe { of_pictures(run, pictures)? };
            let mut best = Vec::with_capacity(k * count);
            for row in logits.chunks_exact(model.classes()) {
                let probabilities = softmax(row);
                best.extend(top_k(row, k).into_iter().map(|class_index| Prediction {
                    name: model.names[class_index].as_ptr(),
                    class_index,
                    probability: probabilities[class_index],
                    logit: row[class_index],
                }));
            }
            Ok(best)
        })?;
        predictions.write(&best);
        Ok(())
    })
}

/// The outputs for each of `count` pictures of any size, before softmax: `count * classes` floats. On an error
/// nothing is written.
///
/// `RESIDUAL_BUSY` while another thread uses the session; otherwise thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_session_logits(
    session: *mut Session,
    pictures: *const Picture,
    count: usize,
    logits: *mut f32,
    logits_len: usize,
) -> Status {
    guard(|| {
        // SAFETY: the contract of this library; pictures are not borrowed any more when results are written.
        let (pictures, out) = unsafe { (slice(pictures, count, "pictures")?, out(logits, logits_len, "logits")?) };
        some(count)?;
        let rows = with(session, |model, run| {
            fits(count, model.classes(), logits_len, "logits")?;
            // SAFETY: the contract of this library.
            unsafe { of_pictures(run, pictures) }
        })?;
        out.write(&rows);
        Ok(())
    })
}

/// Runs the network on inputs that the caller has normalised: `inputs_len` floats, any number of images of
/// `height * width * channels` each (rows from the top, pixels from the left, channels together). Writes
/// `classes` floats for each. Where the model computes with int8, inputs are rounded to its encoding first, and
/// the floats are what its outputs stand for. On an error nothing is written.
///
/// `RESIDUAL_BUSY` while another thread uses the session; otherwise thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_session_run(
    session: *mut Session,
    inputs: *const f32,
    inputs_len: usize,
    logits: *mut f32,
    logits_len: usize,
) -> Status {
    guard(|| {
        // SAFETY: the contract of this library; inputs are not borrowed any more when results are written.
        let (inputs, out) = unsafe { (slice(inputs, inputs_len, "inputs")?, out(logits, logits_len, "logits")?) };
        let rows = with(session, |model, run| {
            let one = model.prepared.plan().input().shape.elements();
            if inputs.is_empty() || !inputs.len().is_multiple_of(one) {
                let text = format!("`inputs` holds {inputs_len} elements, not a multiple of {one}, one image");
                return Err(Error::with(Status::TooShort, text));
            }
            let count = inputs.len() / one;
            fits(count, model.classes(), logits_len, "logits")?;
            run.logits(count, |i, runner, slot| Ok(runner.load_input(slot, &inputs[i * one..][..one])?))
        })?;
        out.write(&rows);
        Ok(())
    })
}

/// The layers in the order in which they run, and their times during the session's last call that
/// succeeded. Writes the first `layers_len` of them, and how many there are to `*count`.
///
/// `RESIDUAL_BUSY` while another thread uses the session; otherwise thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_session_layers(
    session: *mut Session,
    layers: *mut LayerTime,
    layers_len: usize,
    count: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the contract of this library; what is written comes from memory of this library.
        let (layers, count) = unsafe { (out(layers, layers_len, "layers")?, out(count, 1, "count")?) };
        let times: Vec<LayerTime> = with(session, |model, run| {
            let time = |(layer, time): (&crate::host::model::Layer, &u64)| LayerTime {
                name: layer.name.as_ptr(),
                kernel: layer.kernel.as_ptr(),
                macs: layer.macs,
                nanoseconds: *time,
            };
            Ok(model.layers.iter().zip(&run.times).map(time).collect())
        })?;
        layers.write(&times);
        count.write(&[times.len()]);
        Ok(())
    })
}

/// Frees a session; NULL is fine. A call that uses it in another thread finishes first.
///
/// Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_session_free(session: *mut Session) -> Status {
    guard(|| SESSIONS.remove(session, "session"))
}

#[cfg(test)]
mod tests {
    use std::ptr::null_mut;

    use residual_core::rsd::synthetic;

    use super::*;
    use crate::{residual_model_free, residual_model_open};

    fn model() -> *mut Model {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.rsd");
        std::fs::write(&path, &*synthetic(&"resnet8-cifar".parse().unwrap(), 1).unwrap()).unwrap();
        let file = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        let normalisation = [0.5_f32; 3];
        let options = crate::Options {
            threads: 1,
            batch: 1,
            architecture: std::ptr::null(),
            mean: normalisation.as_ptr(),
            std: normalisation.as_ptr(),
            class_names: std::ptr::null(),
        };
        let mut model = null_mut();
        // SAFETY: pointers to living objects.
        assert_eq!(unsafe { residual_model_open(file.as_ptr(), &options, &mut model) }, Status::Ok);
        model
    }

    #[test]
    fn after_a_panic_a_session_says_so_and_others_go_on() {
        let model = model();
        let (input, mut logits) = (vec![0.0_f32; 32 * 32 * 3], [0.0_f32; 10]);
        let (mut bad, mut good) = (null_mut(), null_mut());
        // SAFETY: pointers and lengths are those of living objects.
        unsafe {
            assert_eq!(residual_session_new(model, &mut bad), Status::Ok);
            assert_eq!(residual_session_new(model, &mut good), Status::Ok);
            assert_eq!(guard(|| with(bad, |_, _| panic!("in a layer"))), Status::Defect);
            let mut run = |session| residual_session_run(session, input.as_ptr(), input.len(), logits.as_mut_ptr(), 10);
            assert_eq!((run(bad), run(bad), run(good)), (Status::Defect, Status::Defect, Status::Ok));
            let text = std::ffi::CStr::from_ptr(crate::residual_last_error()).to_str().unwrap();
            assert_eq!(text, "`session` is unusable after a defect of this library; free it");
            assert_eq!(residual_session_free(bad), Status::Ok);
            assert_eq!((run(bad), run(good)), (Status::BadHandle, Status::Ok));
            assert_eq!((residual_session_free(good), residual_model_free(model)), (Status::Ok, Status::Ok));
        }
    }
}
