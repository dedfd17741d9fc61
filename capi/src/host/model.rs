//! Models: what is shared between sessions and never changes.

use std::{
    ffi::{CString, c_char},
    path::Path,
    sync::Arc,
};

use residual::{Dtype, Prepared, Pretrained, plan};

use crate::{
    Error, Status, guard,
    host::{
        options::{Asked, Options, asked},
        registry::Registry,
        text::{c_string, path},
    },
    pointer::{fault, out},
};

static MODELS: Registry<Loaded> = Registry::new();

/// A loaded network, ready to be shared by any number of sessions. Opaque.
pub struct Model(());

/// What a model computes with.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats
    F32 = 0,
    /// 8-bit integers
    Int8 = 1,
}

/// What there is to know about a model. Strings live as long as the model or a session on it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ModelInfo {
    /// the network, such as "resnet50", or the file's name where it does not say
    pub architecture: *const c_char,
    /// rows of an input
    pub height: usize,
    /// columns of an input
    pub width: usize,
    /// channels of an input, next to each other
    pub channels: usize,
    /// outputs of the network
    pub classes: usize,
    /// entries that `residual_session_layers` has
    pub layers: usize,
    /// pictures run at once
    pub batch: usize,
    /// threads of a session
    pub threads: usize,
    /// bytes of weights, in the order in which they are used
    pub weight_bytes: usize,
    /// bytes of memory of a session
    pub session_bytes: usize,
    /// what it computes with
    pub precision: Precision,
    /// 1 if neither the file nor the caller said how pictures become inputs and ImageNet's usual way is taken
    pub preprocessing_assumed: i32,
}

pub(super) struct Loaded {
    pub prepared: Arc<Prepared>,
    pub names: Vec<CString>,
    pub layers: Vec<Layer>,
    architecture: CString,
    assumed: bool,
}

/// What is known about a layer beforehand.
pub(super) struct Layer {
    pub name: CString,
    pub kernel: CString,
    pub macs: u64,
}

impl Loaded {
    fn open(file: &Path, asked: &Asked) -> Result<Self, Error> {
        let model = residual::Model::open_with(file, &asked.given)?;
        let Asked { batch, threads, .. } = *asked;
        let options = plan::Options { batch, threads, isa: residual::isa()?, ..plan::Options::default() };
        let prepared = Prepared::new(&model, &options)?;
        let layer = |step: &plan::Step| Layer {
            name: c_string(&step.name),
            kernel: c_string(&step.kernel_name()),
            macs: step.macs(),
        };
        Ok(Loaded {
            names: (0..model.classes()).map(|class| c_string(&model.class_name(class))).collect(),
            layers: prepared.plan().steps().iter().map(layer).collect(),
            architecture: c_string(&model.name()),
            assumed: model.weights().is_some_and(Pretrained::preprocessing_assumed),
            prepared: Arc::new(prepared),
        })
    }

    pub fn classes(&self) -> usize {
        self.names.len()
    }

    /// Threads of a session, the caller's among them.
    pub fn threads(&self) -> usize {
        self.prepared.plan().options().threads
    }

    fn info(&self) -> ModelInfo {
        let plan = self.prepared.plan();
        let input = plan.input();
        ModelInfo {
            architecture: self.architecture.as_ptr(),
            height: input.shape.h,
            width: input.shape.w,
            channels: input.shape.c,
            classes: self.classes(),
            layers: self.layers.len(),
            batch: self.prepared.batch(),
            threads: self.threads(),
            weight_bytes: self.prepared.packed_bytes(),
            session_bytes: 4 * (plan.arena_len() + self.threads() * plan.scratch_len())
                + input.dtype().bytes() * plan.input_len(),
            precision: match input.dtype() {
                Dtype::I8 => Precision::Int8,
                _ => Precision::F32,
            },
            preprocessing_assumed: self.assumed.into(),
        }
    }
}

pub(super) fn find(model: *const Model) -> Result<Arc<Loaded>, Error> {
    MODELS.get(model, "model")
}

/// Loads a model: safetensors or a PyTorch file, or int8 from `.rsd` or `.tflite`; the file's content tells which.
/// `options` may be NULL. Free it with `residual_model_free`.
///
/// The file is not needed afterwards but must not change during the call. Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_model_open(
    file: *const c_char,
    options: *const Options,
    model: *mut *mut Model,
) -> Status {
    guard(|| {
        // SAFETY: the contract of this library.
        let (path, asked, model) = unsafe { (path(file, "file")?, asked(options)?, out(model, 1, "model")?) };
        model.write(&[std::ptr::null_mut()]);
        model.write(&[MODELS.add(Loaded::open(path, &asked)?)?]);
        Ok(())
    })
}

/// Sizes and strings of a model.
///
/// Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_model_info(model: *const Model, info: *mut ModelInfo) -> Status {
    guard(|| {
        // SAFETY: the contract of this library.
        let info = unsafe { out(info, 1, "info")? };
        info.write(&[find(model)?.info()]);
        Ok(())
    })
}

/// The name of a class, or its number as text where names are not known. It lives as long as the model or a
/// session on it.
///
/// `RESIDUAL_BAD_ARGUMENT` if there is no such class. Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_model_class_name(
    model: *const Model,
    class_index: usize,
    name: *mut *const c_char,
) -> Status {
    guard(|| {
        // SAFETY: the contract of this library.
        let name = unsafe { out(name, 1, "name")? };
        match find(model)?.names.get(class_index) {
            Some(text) => name.write(&[text.as_ptr()]),
            None => return fault(Status::BadArgument, "class_index"),
        }
        Ok(())
    })
}

/// Frees a model; NULL is fine. Sessions on it go on: the last of them frees its memory.
///
/// Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_model_free(model: *mut Model) -> Status {
    guard(|| MODELS.remove(model, "model"))
}
