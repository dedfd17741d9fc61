//! Finds the pictures of a folder that resemble a given one, by the features in front of the classifier.
//!
//! ```text
//! cargo run --release --example features -- resnet50.safetensors photo.jpg holiday/
//! ```

use std::{error::Error, path::Path};

use residual::{Classifier, Image, dataset::pictures_below};

/// Pictures to show.
const SHOWN: usize = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [weights, picture, folder] = &args[..] else { return Err("usage: features WEIGHTS PICTURE FOLDER".into()) };
    let mut network = Classifier::open(weights)?;
    let wanted = features(&mut network, picture.as_ref())?;
    let mut found = Vec::new();
    for file in pictures_below(folder.as_ref())? {
        let features = features(&mut network, &file)?;
        // Both have length 1: the product is the cosine of the angle between them.
        let cosine: f32 = wanted.iter().zip(&features).map(|(a, b)| a * b).sum();
        found.push((cosine, file));
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (cosine, file) in found.iter().take(SHOWN) {
        println!("{cosine:.3}  {}", file.display());
    }
    Ok(())
}

/// The global average pool's output, scaled to length 1.
fn features(network: &mut Classifier, file: &Path) -> Result<Vec<f32>, Box<dyn Error>> {
    let mut all = network.features(&[Image::open(file)?], "avgpool")?;
    let mut features = all.pop().map(|features| features.values).unwrap_or_default();
    let length = features.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    features.iter_mut().for_each(|v| *v /= length);
    Ok(features)
}
