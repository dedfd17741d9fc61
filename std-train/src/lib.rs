//! Training and quantization for the networks of [`residual_core`].
//!
//! * [`trainer`] does a whole run: from a data set to a file of weights, with checkpoints and reports. Begin there.
//! * [`quantize`](mod@quantize) makes an int8 network of a trained one.
//! * Below a run lie its parts: [`data`] makes batches of pictures, [`engine`] computes the gradients of a batch, and
//!   [`optim`] changes [`parameters`] by them.
//! * [`topology`] says what a step passes through, [`layer`] has the formulas of each layer, [`random`] every random
//!   number, and [`mod@bench`] the time of a step.
//!
//! A training loop of one's own:
//!
//! ```
//! use std::sync::Arc;
//!
//! use residual_core::{Isa, resnet::ResNet};
//! use residual_train::{
//!     data::{Loader, Preprocessing, Split, Synthetic},
//!     engine::{CpuEngine, Loss, Options},
//!     optim::{Decay, Sgd},
//!     parameters::Parameters,
//! };
//!
//! let spec = "resnet8-cifar-w4".parse::<ResNet>()?.with_input(8, 8)?;
//! let loader = Loader {
//!     data: Arc::new(Synthetic::new(64, 8, 0, Split::Train)),
//!     indices: (0..64).collect(),
//!     batch: 16,
//!     drop_last: true,
//!     size: 8.into(),
//!     preprocessing: Preprocessing { resize: None, crop: None, ..Preprocessing::imagenet() },
//!     training: None,
//!     threads: 1,
//! };
//! let mut parameters = Parameters::init(spec, 1);
//! let options = Options { batch: 16, threads: 1, isa: Isa::best(), winograd: true };
//! let mut engine = CpuEngine::new(&parameters, &options)?;
//! let mut optimiser = Sgd::new(&parameters, 0.9, false, Decay::all(1e-4));
//! let mut gradients = vec![0.0; parameters.values().len()];
//! for batch in loader.start(0)? {
//!     let batch = batch?;
//!     gradients.fill(0.0);
//!     let loss = Loss { smoothing: 0.0, count: batch.labels.len() };
//!     let score = engine.step(&mut parameters, &batch.images, &batch.labels, loss, &mut gradients)?;
//!     assert!(score.mean_loss().is_finite());
//!     optimiser.step(&mut parameters, &gradients, 0.1);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(unsafe_code)]

pub mod bench;
pub mod data;
pub mod engine;
pub mod layer;
pub mod optim;
pub mod parameters;
pub mod quantize;
pub mod random;
pub mod topology;
pub mod trainer;
