//! What the tests of all engines begin with.

use residual_core::{Isa, resnet::ResNet};

use super::Options;
use crate::{
    parameters::Parameters,
    random::{Purpose, Stream},
};

/// A network of 5 classes on maps that are not square.
pub(super) fn spec(name: &str, side: usize) -> ResNet {
    name.parse::<ResNet>().unwrap().with_classes(5).unwrap().with_input(side, side + 1).unwrap()
}

/// Small CIFAR networks of every kind of block and shortcut.
pub(super) fn small_networks() -> Vec<ResNet> {
    vec![
        spec("resnet8-cifar-w6", 9),
        spec("resnet8-cifar-Ac-w16", 8),
        spec("plain8-cifar", 8),
        spec("resnet8-cifar-B-w20", 8),
        spec("resnet11-cifar-bottleneck-C-w8", 8),
    ]
}

/// Parameters where nothing is 0 or 1, so that no term is invisible: `noise` is the deviation of what is added.
pub(super) fn uneven(spec: ResNet, noise: f32) -> Parameters {
    let mut parameters = Parameters::init(spec, 3);
    let entries = parameters.entries().to_vec();
    let mut random = Stream::new(4, Purpose::Init, [0, 0]);
    for entry in entries.iter().filter(|e| !e.is_weight()) {
        parameters.values_mut()[entry.range.clone()].iter_mut().for_each(|v| *v += noise * random.normal() as f32);
    }
    parameters
}

pub(super) fn options(batch: usize, threads: usize, isa: Isa, winograd: bool) -> Options {
    Options { batch, threads, isa, winograd }
}
