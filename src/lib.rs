//! Deep residual networks (He, Zhang, Ren, Sun, CVPR 2016) on CPUs: trained weights in, classified pictures out.
//!
//! * [`Classifier`] does the whole way: weights file, picture, the most probable classes.
//! * [`Model`] is a network from a file of any kind, f32 or int8, with its preprocessing; [`evaluate()`] measures it on a
//!   [`dataset::Dataset`], [`map_pictures`] runs it over any number of pictures on all threads. A [`Runner`] is what these
//!   run: a batch in, logits out, a look at every layer between.
//! * [`resnet`], [`graph`], [`plan`] and [`session`] are the network, its plan and its runs (crate [`residual_core`], which
//!   needs neither the standard library nor, for describing networks, an allocator).
//! * [`weights`] reads and writes weights; [`image`] and [`dataset`] read pictures (crate [`residual_io`]).
//! * `trainer` trains networks, `quantize` makes int8 networks (feature `train`, crate `residual-train`).
//!
//! ```
//! use residual::{Isa, resnet::{ResNet, fold_batch_norm}, plan::Options, session::Session, testing::Generated};
//!
//! // A network of the paper, by name; generated weights stand in for trained ones.
//! let spec: ResNet = "resnet20-cifar".parse()?;
//! assert_eq!((spec.params(), spec.macs()), (269_722, 40_551_040));
//! let weights = Generated::new(spec);
//! let net = fold_batch_norm(&spec, &weights)?;
//! let mut session = Session::new(&net, &Options { isa: Isa::best(), ..Options::default() })?;
//! let logits = session.run(&vec![0.0f32; spec.input().elements()])?;
//! assert_eq!(logits.len(), 10);
//! # Ok::<(), residual::Error>(())
//! ```
//!
//! # Features
//! * `cli` (default): the command `residual`. Libraries turn it off with `default-features = false`.
//! * `train` (part of `cli`): training and quantization.
//! * `parallel` (part of `cli`): the layers of one picture on several threads.
//!
//! # Environment
//! `RESIDUAL_ISA` set to `portable`, `avx2` or `avx512` forces that instruction set; see [`isa`].
#![forbid(unsafe_code)]

mod classifier;
mod error;
mod evaluate;
mod model;
pub mod peak;
mod pictures;

pub use residual_core::{
    Dtype, Elem, Error as CoreError, Isa, geom, graph, logits, plan, quant, resnet, rsd, session, testing, threads,
};
pub use residual_io::{
    DataError, Image, ImportError, Preprocessing, Size, dataset, image, open_regular, preprocessing, printable,
    quantized::Quantization, read_regular, read_text, tflite, weights, write_atomic,
};
#[cfg(feature = "train")]
pub use residual_train::{data, quantize, trainer};

pub use self::{
    classifier::{Builder, Classifier, Features, Prediction},
    error::Error,
    evaluate::{ClassResult, Evaluation, Matching, evaluate},
    model::{Given, Model, Prepared, Pretrained, QuantizedModel, Runner},
    pictures::{Pictures, map_pictures},
};

/// Training steps to time, and the memory they took.
#[cfg(feature = "train")]
pub mod timing {
    pub use residual_train::{
        bench::{StepTimes, Steps, peak_rss, steps},
        engine::{Options as StepOptions, StepError},
    };
}

/// The instruction set that `RESIDUAL_ISA` names, or the best this CPU has.
///
/// # Errors
/// [`Error::Isa`] when the variable names one that does not exist or that this CPU lacks.
pub fn isa() -> Result<Isa, Error> {
    Isa::from_env().map_err(|_| Error::Isa {
        asked: std::env::var_os("RESIDUAL_ISA").unwrap_or_default().to_string_lossy().escape_debug().to_string(),
    })
}

/// Threads this process may run at once: the machine's, less what affinity and quotas take away.
pub fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The README's quickstart is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
