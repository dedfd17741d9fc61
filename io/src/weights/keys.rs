//! Keys of the string-to-string metadata in a safetensors file.
//!
//! Everything needed to classify an image travels with the weights.

/// The network, as [`residual_core::resnet::ResNet`] displays it: `resnet50`.
pub const ARCHITECTURE: &str = "architecture";
/// Number of classes, in decimal.
pub const CLASSES: &str = "classes";
/// Class names, a JSON array of strings in the order of the outputs.
pub const CLASS_NAMES: &str = "class_names";
/// Per-channel mean of inputs in \[0, 1\], `r,g,b`.
pub const MEAN: &str = "mean";
/// Per-channel standard deviation of inputs in \[0, 1\], `r,g,b`.
pub const STD: &str = "std";
/// Length in pixels of the shorter side after resizing.
pub const RESIZE: &str = "resize";
/// Side in pixels of the centre crop.
pub const CROP: &str = "crop";
/// Resampling filter of the resize.
pub const INTERPOLATION: &str = "interpolation";
/// Licence of the weights, an SPDX expression.
pub const LICENSE: &str = "license";
/// Where the weights come from.
pub const SOURCE: &str = "source";
/// `true` if batch norms are folded into the convolutions.
pub const FOLDED: &str = "folded";
/// How the weights were trained: the run's configuration as JSON.
pub const RECIPE: &str = "recipe";
/// What they were trained on.
pub const DATA: &str = "data";
/// The run's seed.
pub const SEED: &str = "seed";
/// Steps of the optimiser.
pub const STEPS: &str = "steps";
/// Percentage of the validation pictures that were right at the end.
pub const ACCURACY: &str = "accuracy";
/// Of weights that were trained for int8: the encoding of every value, a JSON object of names with a scale and a zero point
/// each. Quantizing keeps them instead of calibrating.
pub const INT8_ENCODINGS: &str = "int8_encodings";
/// CRC-32 of everything else in the file; see [`super::save`]. It is checked when the file is read, and not among
/// [`super::WeightFile::metadata`].
pub const CHECKSUM: &str = "checksum";
