//! What a run of fine-tuning begins with: trained weights, and encodings of all values.

use std::path::Path;

use residual_core::resnet::{BN_EPSILON, ResNet, fold_batch_norm};
use residual_io::weights::Weights;

use super::{CHECKPOINT, Config, Resources, Source, TrainError, checkpoint::Checkpoint};
use crate::{
    data::Preprocessing,
    engine::{with_encodings, with_room},
    parameters::Parameters,
    quantize::{Encodings, Equalized, Options, input_range, quantize},
};

/// Trained weights with encodings, and the preprocessing that they were trained with.
#[derive(Clone, Debug)]
pub struct Start {
    pub(super) parameters: Parameters,
    pub(super) preprocessing: Preprocessing,
}

/// Training pictures that ranges are taken from, evenly from all of them.
const CALIBRATION: usize = 512;

impl Start {
    /// Weights that carry their encodings already.
    ///
    /// # Errors
    /// [`TrainError::Network`] for a tensor that is missing or has another length (where it is a batch norm's, the batch
    /// norms are folded in already), [`TrainError::Quantize`] for encodings of another network.
    pub fn new(
        spec: &ResNet,
        weights: &impl Weights,
        preprocessing: &Preprocessing,
        encodings: &Encodings,
    ) -> Result<Self, TrainError> {
        let mut parameters = Parameters::zeros(*spec);
        parameters.copy_from(weights)?;
        Ok(Start { parameters: with_encodings(parameters, encodings)?, preprocessing: preprocessing.clone() })
    }

    /// Weights whose encodings come from pictures: those that [`quantize()`] finds on some of `source`'s training pictures.
    /// Where it equalizes channels, the weights are changed in the same way: the network computes what it did before.
    ///
    /// # Errors
    /// As [`Start::new`]; a picture that cannot be read; [`TrainError::Quantize`] for a network that int8 cannot express.
    pub fn calibrated(
        spec: &ResNet,
        weights: &impl Weights,
        preprocessing: &Preprocessing,
        source: &Source,
        config: &Config,
        resources: &Resources,
    ) -> Result<Self, TrainError> {
        let mut parameters = Parameters::zeros(*spec);
        parameters.copy_from(weights)?;
        let train = source.divide(config)?.train;
        let n = train.len().min(CALIBRATION);
        let inputs = (0..n).map(|i| {
            let mut input = vec![0.0; spec.input().elements()];
            let image = source.train.image(train[i * train.len() / n] as usize)?;
            preprocessing.apply(&image, &mut input).map(|()| input)
        });
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let options = Options {
            input_range: Some(input_range(&preprocessing.mean, &preprocessing.std)),
            // Training moves the biases itself.
            bias_correction: false,
            threads: resources.threads,
            isa: resources.isa,
            ..Options::default()
        };
        let found = quantize(&fold_batch_norm(spec, &parameters)?, &inputs, &options)?;
        equalize(&mut parameters, &found.equalized)?;
        let parameters = with_encodings(parameters, &Encodings::of(&found.network))?;
        Ok(Start { parameters, preprocessing: preprocessing.clone() })
    }

    /// Room for what the checkpoint in `folder` holds: what a run begins with that [`Trainer::resume`](super::Trainer::resume)
    /// goes on with. `None` for a checkpoint of a run that trains in f32.
    ///
    /// # Errors
    /// A checkpoint that cannot be read.
    pub fn stored(folder: &Path) -> Result<Option<Self>, TrainError> {
        let path = folder.join(CHECKPOINT);
        let file = Checkpoint::open(&path)?;
        if !file.config.qat {
            return Ok(None);
        }
        let preprocessing = file.preprocessing()?;
        Ok(Some(Start { parameters: with_room(Parameters::zeros(file.config.spec()?))?, preprocessing }))
    }
}

/// Gives the convolutions the folded weights and biases that they were equalized to.
fn equalize(parameters: &mut Parameters, equalized: &Equalized) -> Result<(), TrainError> {
    let spec = *parameters.spec();
    let names: Vec<String> = {
        let net = fold_batch_norm(&spec, parameters)?;
        net.ops().iter().map(|op| op.name.to_string()).collect()
    };
    for (index, oihw, bias) in equalized.iter() {
        let Some(conv) = spec.convs().find(|conv| *conv.name == *names[index]) else { continue };
        let [weight, gamma, beta, mean, var] =
            conv.tensors().map(|t| parameters.entry(&t.name).map(|e| e.range.clone()));
        let (Some(weight), Some(gamma), Some(beta), Some(mean), Some(var)) = (weight, gamma, beta, mean, var) else {
            continue;
        };
        let values = parameters.values_mut();
        let row = oihw.len() / bias.len();
        for (o, (from, bias)) in oihw.chunks_exact(row).zip(bias).enumerate() {
            let of = |range: &std::ops::Range<usize>| f64::from(values[range.start + o]);
            let (scale, mean) = (of(&gamma) / (of(&var) + BN_EPSILON).sqrt(), of(&mean));
            values[beta.start + o] = (f64::from(*bias) + mean * scale) as f32;
            // A gamma of zero makes zeros of any weights.
            if (scale as f32).is_normal() {
                let to = &mut values[weight.start + o * row..][..row];
                to.iter_mut().zip(from).for_each(|(w, folded)| *w = (f64::from(*folded) / scale) as f32);
            }
        }
    }
    Ok(())
}
