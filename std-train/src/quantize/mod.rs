//! From a trained network to int8: calibration, choice of encodings, bias correction, and a report.
//!
//! [`quantize()`] runs a folded network on calibration pictures and observes its values. It chooses for every value the
//! range that int8 covers, and rounds the weights (symmetric per output channel, as TensorFlow Lite specifies).
//! [`report()`] says what that costs, layer by layer.

mod build;
mod encodings;
mod equalize;
mod observe;
mod range;
mod report;

use std::{collections::BTreeMap, sync::Arc};

use residual_core::{
    Isa,
    graph::Net,
    logits::softmax,
    plan,
    rsd::{FormatError, View},
    session::{PackedNet, Session},
};

use build::build;
pub(crate) use build::names;
pub use encodings::Encodings;
pub use equalize::Equalized;
pub use observe::Observed;
pub use range::{Method, encoding, input_range};
pub use report::{Blamed, LayerReport, Report, blame, html, report};
pub use residual_io::quantized::{Kind, Layer, Network, Quantization, QuantizedConv, Shortcut, Stored};

/// Why a network could not be quantized. One line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// No calibration pictures.
    #[error("quantizing needs at least 1 calibration picture")]
    NoPictures,
    /// A layer computes NaN or an infinity.
    #[error("layer `{layer}` computes a value that is not finite on the calibration pictures")]
    NotFinite {
        /// the layer
        layer: String,
    },
    /// A layer was not observed.
    #[error("layer `{layer}` was not observed")]
    Unobserved {
        /// the layer
        layer: String,
    },
    /// Encodings that are not of this network.
    #[error("`{value}` has no int8 encoding: those given are of another network")]
    NoEncoding {
        /// a layer, `NAME.alone`, or the input
        value: String,
    },
    /// The int8 format has no such op.
    #[error("layer `{layer}` reads a padded shortcut, which int8 networks add only")]
    Unsupported {
        /// the layer
        layer: String,
    },
    /// The network could not be run.
    #[error(transparent)]
    Network(#[from] residual_core::Error),
    /// The model file could not be built.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// How to quantize.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// the method for all values; `None` tries every method for every value and keeps the one that disturbs the
    /// network's output least
    pub method: Option<Method>,
    /// rounding the weights adds something to every output on average: the biases take it back
    pub bias_correction: bool,
    /// try dividing channels between convolutions so that all have the same size, and keep it where it disturbs the
    /// network's output less: see [`Equalized`]
    pub equalize: bool,
    /// range of the normalised input; `None` takes what the calibration pictures hold
    pub input_range: Option<(f32, f32)>,
    /// threads; results do not depend on it
    pub threads: usize,
    /// instruction set
    pub isa: Isa,
}

impl Default for Options {
    fn default() -> Self {
        Options { method: None, bias_correction: true, equalize: true, input_range: None, threads: 1, isa: Isa::best() }
    }
}

/// A quantized network and how its encodings were found.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// the network
    pub network: Network,
    /// the method chosen for each value: a layer's name, or `NAME.alone` for a convolution before its shortcut
    /// is added
    pub methods: BTreeMap<String, Method>,
    /// what was observed, by the same names
    pub observed: BTreeMap<String, Observed>,
    /// the convolutions that were equalized
    pub equalized: Equalized,
    /// mean Kullback-Leibler divergence of the class probabilities from those of the f32 network, on
    /// calibration pictures
    pub divergence: f64,
}

/// Pictures that choices are compared on.
const COMPARED: usize = 256;
/// Multiply-adds all comparisons of single values may take; above it, one method serves for all values.
const MOST_MACS: f64 = 5e12;

/// Quantizes `net`. The calibration pictures `inputs` show which values occur: one normalised picture each, NHWC, of the
/// network's input shape.
///
/// ```
/// use residual_core::{
///     resnet::{ResNet, fold_batch_norm},
///     rsd::View,
///     testing::Generated,
/// };
/// use residual_train::quantize::{Method, Options, quantize};
///
/// // Generated weights and pictures stand in for trained and real ones.
/// let spec = "resnet8-cifar-w4".parse::<ResNet>()?.with_input(8, 8)?;
/// let weights = Generated::new(spec);
/// let net = fold_batch_norm(&spec, &weights)?;
/// let picture = |value: f32| vec![value; spec.input().elements()];
///
/// let options = Options { method: Some(Method::MinMax), ..Options::default() };
/// let quantized = quantize(&net, &[picture(-1.0), picture(1.0)], &options)?;
/// let model = quantized.network.to_model()?;
/// assert_eq!(View::new_checked(&model)?.input().map(|input| input.shape), Some(spec.input()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`QuantizeError`]: no pictures, values that are not finite, or a network that int8 cannot express.
pub fn quantize(net: &Net<'_>, inputs: &[Vec<f32>], options: &Options) -> Result<Quantized, QuantizeError> {
    let (low, high) = options.input_range.unwrap_or_else(|| {
        inputs.iter().flatten().fold((0.0, 0.0), |(low, high): (f32, f32), v| (low.min(*v), high.max(*v)))
    });
    let task = Task::new(net, inputs, encoding(low.min(0.0), high.max(0.0)), options)?;
    let plain = task.uniform(net)?;
    let equalized = if options.equalize { Equalized::new(net, &plain.observed)? } else { Equalized::default() };
    let other = equalized.apply(net);
    let mut best = plain;
    let mut equal = false;
    if !equalized.is_empty() {
        let tried = task.uniform(&other)?;
        if tried.divergence < best.divergence {
            (best, equal) = (tried, true);
        }
    }
    let macs = net.macs() as f64 * task.bytes.len() as f64 * 3.0 * best.methods.len() as f64;
    if options.method.is_none() && macs < MOST_MACS {
        task.refine(if equal { &other } else { net }, &mut best)?;
    }
    let Attempt { network, methods, observed, divergence } = best;
    Ok(Quantized {
        network,
        methods,
        observed,
        equalized: if equal { equalized } else { Equalized::default() },
        divergence,
    })
}

/// The int8 network of `net` by these encodings. Nothing is chosen and no bias corrected: weights and encodings alone
/// decide it.
///
/// # Errors
/// [`QuantizeError::NoEncoding`] for encodings of another network; [`QuantizeError::Unsupported`].
pub fn encoded(net: &Net<'_>, encodings: &Encodings) -> Result<Network, QuantizeError> {
    build(net, encodings, None)
}

/// Quantizes `net` by encodings that are known already, such as those that training learned: the network is
/// [`encoded`]'s, and the pictures, as [`quantize()`] takes them, show what it costs.
///
/// # Errors
/// As [`quantize()`] and [`encoded`].
pub fn keep(
    net: &Net<'_>,
    encodings: &Encodings,
    inputs: &[Vec<f32>],
    options: &Options,
) -> Result<Quantized, QuantizeError> {
    let network = encoded(net, encodings)?;
    let task = Task::new(net, inputs, network.quantization, options)?;
    let observed = observe::observe(&net.with_sums_apart()?, inputs, options.threads, options.isa)?;
    let (methods, equalized) = (BTreeMap::new(), Equalized::default());
    Ok(Quantized { divergence: task.divergence(&network)?, network, methods, observed, equalized })
}

/// A network with encodings, and how far its output is from the f32 network's.
struct Attempt {
    network: Network,
    methods: BTreeMap<String, Method>,
    observed: BTreeMap<String, Observed>,
    divergence: f64,
}

/// What all attempts have in common.
struct Task<'i> {
    inputs: &'i [Vec<f32>],
    options: &'i Options,
    input: Quantization,
    /// of the input's channels
    means: Vec<f64>,
    /// pictures choices are compared on, and the f32 network's probabilities
    bytes: Vec<Vec<i8>>,
    wanted: Vec<Vec<f32>>,
}

impl<'i> Task<'i> {
    fn new(
        net: &Net<'_>,
        inputs: &'i [Vec<f32>],
        input: Quantization,
        options: &'i Options,
    ) -> Result<Self, QuantizeError> {
        if inputs.is_empty() {
            return Err(QuantizeError::NoPictures);
        }
        let c = net.input().shape.c;
        let mut means = vec![0.0; c];
        for pixel in inputs.iter().flat_map(|picture| picture.chunks_exact(c)) {
            means.iter_mut().zip(pixel).for_each(|(m, v)| *m += f64::from(*v));
        }
        let pixels = inputs.iter().map(Vec::len).sum::<usize>() / c;
        means.iter_mut().for_each(|m| *m /= pixels.max(1) as f64);
        let compared = &inputs[..inputs.len().min(COMPARED)];
        let wanted = probabilities(net, compared, options)?;
        let bytes = compared.iter().map(|p| p.iter().map(|v| input.quantize(*v)).collect()).collect();
        Ok(Task { inputs, options, input, means, bytes, wanted })
    }

    /// The best of one method for all values.
    fn uniform(&self, net: &Net<'_>) -> Result<Attempt, QuantizeError> {
        let observed = observe::observe(&net.with_sums_apart()?, self.inputs, self.options.threads, self.options.isa)?;
        let candidates: &[Method] = self.options.method.as_ref().map_or(&Method::ALL, std::slice::from_ref);
        let mut best: Option<(f64, Network, BTreeMap<String, Method>)> = None;
        for method in candidates {
            let methods = build::tensors(net).into_iter().map(|tensor| (tensor.name, *method)).collect();
            let (cost, network) = self.attempt(net, &observed, &methods)?;
            if best.as_ref().is_none_or(|(least, ..)| cost < *least) {
                best = Some((cost, network, methods));
            }
        }
        let (divergence, network, methods) = best.ok_or(QuantizeError::NoPictures)?;
        Ok(Attempt { network, methods, observed, divergence })
    }

    /// Tries every method for every value.
    fn refine(&self, net: &Net<'_>, best: &mut Attempt) -> Result<(), QuantizeError> {
        for tensor in build::tensors(net) {
            for method in Method::ALL {
                let mut methods = best.methods.clone();
                if methods.insert(tensor.name.clone(), method) == Some(method) {
                    continue;
                }
                let (cost, network) = self.attempt(net, &best.observed, &methods)?;
                if cost < best.divergence {
                    (best.divergence, best.network, best.methods) = (cost, network, methods);
                }
            }
        }
        Ok(())
    }

    fn attempt(
        &self,
        net: &Net<'_>,
        observed: &BTreeMap<String, Observed>,
        methods: &BTreeMap<String, Method>,
    ) -> Result<(f64, Network), QuantizeError> {
        let mut encodings = vec![(Encodings::INPUT.to_owned(), self.input)];
        for build::Tensor { name, relu } in build::tensors(net) {
            let value = observed.get(&name).ok_or_else(|| QuantizeError::Unobserved { layer: name.clone() })?;
            let method = methods.get(&name).copied().unwrap_or(Method::MinMax);
            encodings.push((name, method.quantization(value, relu)));
        }
        let means = build::Means { input: &self.means, observed };
        let means = self.options.bias_correction.then_some(&means);
        let network = build(net, &encodings.into_iter().collect(), means)?;
        Ok((self.divergence(&network)?, network))
    }

    fn divergence(&self, network: &Network) -> Result<f64, QuantizeError> {
        divergence(network, &self.bytes, &self.wanted, self.options)
    }
}

/// Mean divergence of the int8 network's class probabilities from `wanted`.
fn divergence(
    network: &Network,
    pictures: &[Vec<i8>],
    wanted: &[Vec<f32>],
    options: &Options,
) -> Result<f64, QuantizeError> {
    let model = network.to_model()?;
    let view = View::new_checked(&model)?;
    let encoding = view.output().map(|v| Quantization { scale: v.scale, zero_point: v.zero_point });
    let encoding = encoding.unwrap_or(network.quantization);
    let planned = plan::Options { isa: options.isa, ..plan::Options::default() };
    let model = Arc::new(PackedNet::new(&view.net()?, &planned)?);
    let workers = (0..options.threads.max(1)).map(|_| Session::with_model(Arc::clone(&model)));
    let sums = observe::parallel(workers.collect::<Result<Vec<_>, _>>()?, pictures.len(), |session, range| {
        let mut sum = 0.0;
        for (picture, wanted) in pictures[range.clone()].iter().zip(&wanted[range]) {
            let logits: Vec<f32> = session.run::<i8>(picture)?.iter().map(|q| encoding.dequantize(*q)).collect();
            sum += kl(wanted, &softmax(&logits));
        }
        Ok(sum)
    })?;
    Ok(sums.iter().sum::<f64>() / pictures.len().max(1) as f64)
}

/// The f32 network's class probabilities for every picture.
fn probabilities(net: &Net<'_>, inputs: &[Vec<f32>], options: &Options) -> Result<Vec<Vec<f32>>, QuantizeError> {
    let rows = observe::in_chunks(net, inputs, options.threads, options.isa, |session, _, pictures| {
        pictures.iter().map(|p| Ok(softmax(session.run(p.as_slice())?))).collect::<Result<Vec<_>, _>>()
    })?;
    Ok(rows.into_iter().flatten().collect())
}

/// Kullback-Leibler divergence of the probabilities `other` from those `wanted`.
fn kl(wanted: &[f32], other: &[f32]) -> f64 {
    let term = |(p, q): (&f32, &f32)| {
        let (p, q) = (f64::from(*p), f64::from(*q).max(1e-12));
        if p > 0.0 { p * (p / q).ln() } else { 0.0 }
    };
    wanted.iter().zip(other).map(term).sum()
}
