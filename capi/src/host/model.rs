//! Models: what is shared between sessions and never changes.

use std::{
    ffi::{CString, c_char},
    io::Read,
    path::Path,
    sync::Arc,
};

use residual::{Preprocessing, Pretrained, plan, preprocessing::Interpolation, session};
use residual_core::{
    geom::Shape,
    rsd::{AlignedBytes, View},
};

use crate::{
    Error, Status, guard,
    host::{
        int8::Int8,
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
    /// the network, such as "resnet50"
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

pub(super) enum Network {
    Float(Arc<session::PackedNet>),
    Int8(Arc<AlignedBytes>),
}

pub(super) struct Loaded {
    pub network: Network,
    pub preprocessing: Preprocessing,
    pub names: Vec<CString>,
    pub layers: Vec<Layer>,
    pub input: Shape,
    pub batch: usize,
    pub threads: usize,
    architecture: CString,
    weight_bytes: usize,
    session_bytes: usize,
    assumed: bool,
}

/// What is known about a layer beforehand.
pub(super) struct Layer {
    pub name: CString,
    pub kernel: CString,
    pub macs: u64,
}

impl Loaded {
    pub fn classes(&self) -> usize {
        self.names.len()
    }
}

fn load(file: &Path, asked: &Asked) -> Result<Loaded, Error> {
    let unreadable = |error| Error::with(Status::Io, format!("{}: {error}", file.display()));
    let mut handle = residual::open_regular(file).map_err(unreadable)?;
    let mut start = [0; 8];
    match handle.read_exact(&mut start) {
        Ok(()) if start == *b"residual" => {
            let length = handle.metadata().map_err(unreadable)?.len();
            let mut bytes = start.to_vec();
            // Files of this format are shorter than 4 GB.
            handle.take(length.min(u32::MAX.into())).read_to_end(&mut bytes).map_err(unreadable)?;
            int8(file, &bytes, asked)
        }
        // Too short for any format, or a folder: the reader of weights says which.
        _ => float(file, asked),
    }
}

fn float(file: &Path, asked: &Asked) -> Result<Loaded, Error> {
    let weights = Pretrained::open(file, &asked.given)?;
    let options =
        plan::Options { batch: asked.batch, threads: asked.threads, isa: residual::isa()?, ..plan::Options::default() };
    let model = session::PackedNet::new(&weights.net()?, &options)?;
    let plan = model.plan();
    let layer = |step: &plan::Step| Layer {
        name: c_string(&step.name),
        kernel: c_string(&step.kernel_name()),
        macs: step.macs(),
    };
    let floats = plan.arena_len() + asked.threads * plan.scratch_len() + plan.input_len();
    Ok(Loaded {
        preprocessing: weights.preprocessing().clone(),
        names: (0..weights.spec().classes()).map(|class| c_string(&weights.class_name(class))).collect(),
        layers: plan.steps().iter().map(layer).collect(),
        input: plan.input().shape,
        batch: asked.batch,
        architecture: c_string(&weights.spec().to_string()),
        threads: asked.threads,
        weight_bytes: 4 * plan.packed_len(),
        session_bytes: 4 * floats,
        assumed: weights.preprocessing_assumed(),
        network: Network::Float(Arc::new(model)),
    })
}

fn int8(file: &Path, bytes: &[u8], asked: &Asked) -> Result<Loaded, Error> {
    let refuse =
        |reason: &dyn std::fmt::Display| Error::with(Status::BadModel, format!("{}: {reason}", file.display()));
    let bytes = AlignedBytes::from(bytes);
    let view = View::new_checked(&bytes).map_err(|error| refuse(&error))?;
    let (Some(input), Some(output)) = (view.input(), view.output()) else { return Err(refuse(&"no values")) };
    if input.shape.c != 3 {
        return Err(refuse(&format_args!("inputs of {} channels, not 3", input.shape.c)));
    }
    if let Some(arch) = asked.given.arch.filter(|arch| view.architecture() != Some(&arch.to_string())) {
        let found = view.architecture().unwrap_or("a network without a name");
        return Err(refuse(&format_args!("holds {found}, but {arch} was asked for")));
    }
    let classes = output.shape.elements();
    let given = asked.given.class_names.clone();
    let mut names = given.unwrap_or_else(|| view.classes().map(str::to_owned).collect());
    if names.is_empty() {
        names = (0..classes).map(|class| class.to_string()).collect();
    }
    if names.len() != classes {
        let text = format!("{} class names for a network of {classes} classes", names.len());
        return Err(Error::with(Status::BadArgument, text));
    }
    let layer = |op| Layer {
        name: c_string(view.name(op).unwrap_or_default()),
        kernel: c_string(residual_edge::KERNELS),
        macs: view.op(op).map_or(0, |op| op.macs()),
    };
    let arena = residual_edge::arena_bytes::<residual_edge::Fast>(&bytes)?;
    Ok(Loaded {
        preprocessing: preprocessing(file, &view, input.shape, asked)?,
        names: names.iter().map(|name| c_string(name)).collect(),
        layers: (0..view.ops()).map(layer).collect(),
        input: input.shape,
        batch: asked.batch,
        architecture: c_string(view.architecture().unwrap_or_default()),
        threads: 1,
        weight_bytes: bytes.len(),
        session_bytes: arena + 4 * asked.batch * input.shape.elements(),
        assumed: false,
        network: Network::Int8(Arc::new(bytes)),
    })
}

/// The model's, or the caller's with the model's sizes.
fn preprocessing(file: &Path, view: &View<'_>, input: Shape, asked: &Asked) -> Result<Preprocessing, Error> {
    let stored = view.preprocessing();
    let Some((mean, std)) = asked.given.normalisation.or(stored.map(|p| (p.mean, p.std))) else {
        let text = format!("{} does not say how pictures are normalised; set mean and std", file.display());
        return Err(Error::with(Status::NoPreprocessing, text));
    };
    if input.h != input.w {
        let text = format!("{}: inputs of {} x {} are not square", file.display(), input.h, input.w);
        return Err(Error::with(Status::BadModel, text));
    }
    let resize = stored.map_or(input.h, |p| p.resize as usize);
    let preprocessing = Preprocessing {
        resize: (resize > 0).then_some(resize),
        crop: Some(input.h),
        mean,
        std,
        mean_picture: None,
        interpolation: Interpolation::Bilinear,
    };
    preprocessing.check().map_err(|error| Error::with(Status::BadModel, format!("{}: {error}", file.display())))?;
    Ok(preprocessing)
}

pub(super) fn find(model: *const Model) -> Result<Arc<Loaded>, Error> {
    MODELS.get(model, "model")
}

/// Loads a model: safetensors, a PyTorch file, or int8 (`.rsd`); the file's content tells which. `options` may
/// be NULL. Free it with `residual_model_free`.
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
        let loaded = load(path, &asked)?;
        if let Network::Int8(bytes) = &loaded.network {
            // What a session would find.
            Int8::new(Arc::clone(bytes))?;
        }
        model.write(&[MODELS.add(loaded)?]);
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
        let model = find(model)?;
        info.write(&[ModelInfo {
            architecture: model.architecture.as_ptr(),
            height: model.input.h,
            width: model.input.w,
            channels: model.input.c,
            classes: model.classes(),
            layers: model.layers.len(),
            batch: model.batch,
            threads: model.threads,
            weight_bytes: model.weight_bytes,
            session_bytes: model.session_bytes,
            precision: match model.network {
                Network::Float(_) => Precision::F32,
                Network::Int8(_) => Precision::Int8,
            },
            preprocessing_assumed: model.assumed.into(),
        }]);
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
