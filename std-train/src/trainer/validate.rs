//! The network of a run on its validation pictures: f32, or int8 where that is what is trained.

use residual_core::{
    plan,
    quant::Quantization,
    resnet::fold_batch_norm,
    rsd::{AlignedBytes, View},
    session::Session,
};

use super::{Resources, TrainError, Trainer};
use crate::{
    data::Loader,
    engine,
    layer::softmax::{Score, cross_entropy},
};

/// What computes logits.
enum Network {
    F32(Session),
    Int8 { session: Session, input: Quantization, output: Quantization },
}

impl Network {
    fn logits(&mut self, images: &[f32]) -> Result<Vec<f32>, residual_core::Error> {
        match self {
            Network::F32(session) => Ok(session.run(images)?.to_vec()),
            Network::Int8 { session, input, output } => {
                let bytes: Vec<i8> = images.iter().map(|v| input.quantize(*v)).collect();
                Ok(session.run::<i8>(&bytes)?.iter().map(|q| output.dequantize(*q)).collect())
            }
        }
    }
}

impl Trainer {
    /// Loss and accuracy on the validation pictures, if there are any, of the averaged weights if there are any. A run of
    /// quantization-aware training measures its int8 network.
    ///
    /// # Errors
    /// A picture that cannot be read.
    pub fn validate(&self) -> Result<Option<Score>, TrainError> {
        let Some(validation) = &self.validation else { return Ok(None) };
        let batch = validation.batch.min(64);
        let mut network = self.network(batch)?;
        let loader = Loader { batch, ..validation.clone() };
        let mut images = vec![0.0; batch * self.spec.input().elements()];
        let mut score = Score::default();
        for part in loader.start(0)? {
            let part = part?;
            images[..part.images.len()].copy_from_slice(&part.images);
            let logits = network.logits(&images)?;
            score.add(cross_entropy(&logits[..part.labels.len() * self.spec.classes()], &part.labels, 0.0, None));
        }
        Ok(Some(score))
    }

    fn network(&self, batch: usize) -> Result<Network, TrainError> {
        let Resources { threads, isa, .. } = self.resources;
        let options = plan::Options { batch, threads, isa, ..plan::Options::default() };
        let parameters = self.result();
        if !self.config.qat {
            return Ok(Network::F32(Session::new(&fold_batch_norm(&self.spec, &parameters)?, &options)?));
        }
        let network = engine::network(&parameters)?;
        let model = network.to_model()?;
        let session = Session::new(&View::new_checked(&model)?.net()?, &options)?;
        let output = network.value(network.layers.len()).map_or(network.quantization, |(_, q)| q);
        Ok(Network::Int8 { session, input: network.quantization, output })
    }

    /// The int8 model file of a run that trains for int8.
    pub(super) fn int8_model(&self) -> Result<Option<AlignedBytes>, TrainError> {
        if !self.config.qat {
            return Ok(None);
        }
        let mut network = engine::network(&self.result())?;
        network.preprocessing = Some(self.train.preprocessing.to_flat());
        network.classes = self.source.classes().to_vec();
        Ok(Some(network.to_model()?))
    }
}
