//! Stochastic gradient descent with momentum, as PyTorch defines it.
//!
//! ```text
//! g = dw + weight_decay * w            v = momentum * v + g
//! w = w - rate * v                     Nesterov: w = w - rate * (g + momentum * v)
//! ```

use crate::parameters::{Entry, Parameters};

/// How strong weight decay is, for each kind of parameter. The paper decays all of them alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decay {
    /// of the weights of convolutions and of the classifier
    pub weight: f32,
    /// of batch norms' weights and biases
    pub norm: f32,
    /// of the classifier's bias
    pub bias: f32,
}

impl Decay {
    /// The same strength for all.
    pub fn all(strength: f32) -> Self {
        Decay { weight: strength, norm: strength, bias: strength }
    }

    fn of(&self, entry: &Entry) -> f32 {
        match () {
            _ if entry.is_weight() => self.weight,
            // Scales are no weights: smaller ones are not simpler.
            _ if entry.tensor.name.as_str().starts_with("int8.") => 0.0,
            _ if entry.tensor.name.as_str().starts_with("fc.") => self.bias,
            _ => self.norm,
        }
    }
}

/// The optimiser, with a velocity for every parameter.
///
/// ```
/// use residual_train::{
///     optim::{Decay, Sgd},
///     parameters::Parameters,
/// };
///
/// let mut parameters = Parameters::zeros("resnet8-cifar".parse()?);
/// let gradients = vec![1.0; parameters.values().len()];
/// let mut sgd = Sgd::new(&parameters, 0.5, false, Decay::all(0.0));
/// sgd.step(&mut parameters, &gradients, 0.1);
/// sgd.step(&mut parameters, &gradients, 0.1);
/// // One gradient, then one and a half: 0.1 * (1 + 1.5) in all.
/// assert!((parameters.values()[0] + 0.25).abs() < 1e-6);
/// # Ok::<(), residual_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sgd {
    /// the part of the velocity that a step keeps
    pub momentum: f32,
    /// Nesterov's form: the step goes along the velocity that the next step would have
    pub nesterov: bool,
    /// weight decay
    pub decay: Decay,
    velocity: Vec<f32>,
}

impl Sgd {
    /// Begins with no velocity.
    pub fn new(parameters: &Parameters, momentum: f32, nesterov: bool, decay: Decay) -> Self {
        Sgd { momentum, nesterov, decay, velocity: vec![0.0; parameters.values().len()] }
    }

    /// The velocity of every element, for checkpoints.
    pub fn velocity(&self) -> &[f32] {
        &self.velocity
    }

    /// The velocity of every element, to continue from a checkpoint.
    pub fn velocity_mut(&mut self) -> &mut [f32] {
        &mut self.velocity
    }

    /// Changes every learned parameter by one step; running statistics stay as they are. `gradients` has an element for
    /// each of `parameters`.
    ///
    /// # Panics
    /// When `gradients` is not as long as the parameters.
    pub fn step(&mut self, parameters: &mut Parameters, gradients: &[f32], rate: f32) {
        assert_eq!(gradients.len(), self.velocity.len());
        let entries: Vec<_> = parameters
            .entries()
            .iter()
            .filter(|e| e.tensor.learned)
            .map(|e| (e.range.clone(), self.decay.of(e)))
            .collect();
        let (momentum, nesterov) = (self.momentum, self.nesterov);
        for (range, decay) in entries {
            let w = &mut parameters.values_mut()[range.clone()];
            let v = &mut self.velocity[range.clone()];
            for ((w, v), g) in w.iter_mut().zip(v).zip(&gradients[range]) {
                let g = g + decay * *w;
                *v = momentum * *v + g;
                *w -= rate * if nesterov { g + momentum * *v } else { *v };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Decay, Sgd};
    use crate::parameters::Parameters;

    #[test]
    fn steps_are_pytorchs() {
        let spec: residual_core::resnet::ResNet = "resnet8-cifar".parse().unwrap();
        for (nesterov, decay) in [(false, Decay::all(0.01)), (true, Decay { weight: 0.01, norm: 0.0, bias: 0.02 })] {
            let mut parameters = Parameters::init(spec, 1);
            let before = parameters.values().to_vec();
            let gradients: Vec<f32> = (0..before.len()).map(|i| (i % 7) as f32 * 0.1).collect();
            let mut sgd = Sgd::new(&parameters, 0.9, nesterov, decay);
            sgd.step(&mut parameters, &gradients, 0.5);
            sgd.step(&mut parameters, &gradients, 0.25);
            for entry in parameters.entries() {
                for i in entry.range.clone().step_by(5) {
                    let (mut w, mut v) = (f64::from(before[i]), 0.0);
                    if entry.tensor.learned {
                        for rate in [0.5, 0.25] {
                            let decay = match entry.tensor.name.as_str() {
                                "fc.bias" => decay.bias,
                                name if name.contains("conv") || name == "fc.weight" => decay.weight,
                                _ => decay.norm,
                            };
                            let g = f64::from(gradients[i]) + f64::from(decay) * w;
                            v = 0.9 * v + g;
                            w -= rate * if nesterov { g + 0.9 * v } else { v };
                        }
                    }
                    let got = f64::from(parameters.values()[i]);
                    assert!((got - w).abs() <= 1e-6 * (1.0 + w.abs()), "{} {i}: {got} for {w}", entry.tensor.name);
                }
            }
        }
    }
}
