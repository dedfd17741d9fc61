//! A network's tensors in one buffer, and their initial values.

use std::{collections::BTreeMap, ops::Range};

use residual_core::{
    memory::Buffer,
    resnet::{ResNet, TensorSpec},
    weights::{Tensor, Weights},
};

use crate::random::{Purpose, Stream};

/// All tensors of a network, learned ones and running statistics, in PyTorch's order.
///
/// They lie in one buffer, so that the optimiser, averages and checkpoints see a plain slice.
///
/// ```
/// use residual_train::parameters::Parameters;
///
/// let parameters = Parameters::init("resnet20-cifar".parse()?, 1);
/// let classifier = parameters.entry("fc.weight").unwrap();
/// assert_eq!(classifier.tensor.shape(), [10, 64]);
/// assert!(parameters.values()[classifier.range.clone()].iter().any(|&w| w != 0.0));
/// # Ok::<(), residual_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Parameters {
    spec: ResNet,
    entries: Vec<Entry>,
    index: BTreeMap<String, usize>,
    values: Vec<f32>,
}

/// One tensor: where it lies and what it is.
#[derive(Clone, Debug)]
pub struct Entry {
    /// its name and shape
    pub tensor: TensorSpec,
    /// its elements in the buffer
    pub range: Range<usize>,
}

impl Entry {
    /// Whether it is the weight of a convolution or of the classifier, as opposed to a bias or batch norm's.
    pub fn is_weight(&self) -> bool {
        self.tensor.shape().len() > 1
    }
}

impl Parameters {
    /// Every tensor zero.
    pub fn zeros(spec: ResNet) -> Self {
        let mut end = 0;
        let entries: Vec<Entry> = spec
            .tensors()
            .map(|tensor| {
                let start = end;
                end += tensor.elements();
                Entry { tensor, range: start..end }
            })
            .collect();
        let index = entries.iter().enumerate().map(|(i, e)| (e.tensor.name.to_string(), i)).collect();
        Parameters { spec, entries, index, values: vec![0.0; end] }
    }

    /// Initial values for training (He et al. 2015, "Delving Deep into Rectifiers", section 2.2, as
    /// torchvision applies it).
    ///
    /// | tensor | value |
    /// |---|---|
    /// | convolution | normal, variance `2 / (c_out * kernel^2)` (equation 14: the backward pass keeps its scale) |
    /// | `fc.weight`, `fc.bias` | uniform within `1 / sqrt(inputs)` |
    /// | batch norm | weight and variance 1, bias and mean 0 |
    pub fn init(spec: ResNet, seed: u64) -> Self {
        let mut parameters = Parameters::zeros(spec);
        let inputs = spec.head().input.c as f64;
        for (i, entry) in parameters.entries.iter().enumerate() {
            let mut random = Stream::new(seed, Purpose::Init, [i as u64, 0]);
            let values = &mut parameters.values[entry.range.clone()];
            let name = entry.tensor.name.as_str();
            match *entry.tensor.shape() {
                [o, _, h, w] => {
                    let deviation = (2.0 / (o * h * w) as f64).sqrt();
                    values.iter_mut().for_each(|v| *v = (random.normal() * deviation) as f32);
                }
                _ if name.starts_with("fc.") => {
                    let limit = 1.0 / inputs.sqrt();
                    values.iter_mut().for_each(|v| *v = ((2.0 * random.unit() - 1.0) * limit) as f32);
                }
                _ if name.ends_with(".weight") || name.ends_with(".running_var") => values.fill(1.0),
                _ => {}
            }
        }
        parameters
    }

    /// These parameters with more tensors behind those of the network, which are no part of it, and their elements.
    ///
    /// # Panics
    /// When a tensor's elements are not as many as its shape says.
    pub fn extended<'t>(mut self, tensors: impl IntoIterator<Item = (TensorSpec, &'t [f32])>) -> Self {
        for (tensor, values) in tensors {
            assert_eq!(tensor.elements(), values.len());
            let range = self.values.len()..self.values.len() + values.len();
            self.index.insert(tensor.name.to_string(), self.entries.len());
            self.entries.push(Entry { tensor, range });
            self.values.extend_from_slice(values);
        }
        self
    }

    /// The network they belong to.
    pub fn spec(&self) -> &ResNet {
        &self.spec
    }

    /// All tensors, in order of their place.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The tensor called `name`.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.index.get(name).and_then(|&i| self.entries.get(i))
    }

    /// The elements of all tensors.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The elements of all tensors.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// Every tensor of the network with its name, for writing a file.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, Tensor<'_>)> {
        let own = self.entries.iter().take(self.spec.tensors().count());
        own.map(|entry| (entry.tensor.name.as_str(), self.view(entry)))
    }

    fn view<'p>(&'p self, entry: &'p Entry) -> Tensor<'p> {
        Tensor::new(entry.tensor.shape(), &self.values[entry.range.clone()])
    }

    /// The tensor that holds element `i`.
    pub fn owner(&self, i: usize) -> Option<&Entry> {
        self.entries.iter().find(|e| e.range.contains(&i))
    }

    /// Takes every tensor of the network from `weights`.
    ///
    /// # Errors
    /// The first tensor that is missing, has another length or cannot be read.
    pub fn copy_from(&mut self, weights: &impl Weights) -> Result<(), residual_core::Error> {
        let mut room = Buffer::new(0);
        for entry in self.entries.iter().take(self.spec.tensors().count()) {
            let name = entry.tensor.name;
            let tensor = weights.tensor(&name).ok_or(residual_core::Error::MissingTensor(name))?;
            let (need, got) = (entry.range.len(), tensor.data.len());
            if need != got {
                return Err(residual_core::Error::TensorLength { name, need, got });
            }
            self.values[entry.range.clone()].copy_from_slice(tensor.data.read(&mut room)?);
        }
        Ok(())
    }
}

impl Weights for Parameters {
    fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        self.entry(name).map(|entry| self.view(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::Parameters;

    #[test]
    fn initial_values_have_the_stated_moments() {
        let spec: residual_core::resnet::ResNet = "resnet20-cifar".parse().unwrap();
        let parameters = Parameters::init(spec, 5);
        let of = |name: &str| &parameters.values()[parameters.entry(name).unwrap().range.clone()];
        let weight = of("layer3.1.conv2.weight");
        let n = weight.len() as f64;
        let variance = weight.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>() / n;
        let want = 2.0 / (64.0 * 9.0);
        assert!((variance / want - 1.0).abs() < 4.0 * (2.0 / n).sqrt(), "{variance} for {want}");
        assert!(of("fc.weight").iter().all(|w| w.abs() <= 0.125));
        assert!(of("bn1.weight").iter().chain(of("bn1.running_var")).all(|&v| v == 1.0));
        assert!(of("bn1.bias").iter().chain(of("bn1.running_mean")).all(|&v| v == 0.0));
        assert_ne!(of("layer1.0.conv1.weight"), of("layer1.0.conv2.weight"));
        assert_eq!(parameters.values(), Parameters::init(spec, 5).values());
    }
}
