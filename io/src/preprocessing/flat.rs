//! Preprocessing in a flat model file.

use residual_core::rsd;

use super::{Interpolation, Preprocessing};
use crate::Size;

impl Preprocessing {
    /// As a flat model file holds it, which has no mean picture: grey is all three of its channels.
    pub fn to_flat(&self) -> rsd::Preprocessing {
        let three =
            |values: &[f32]| std::array::from_fn(|c| values.get(c).or(values.first()).copied().unwrap_or_default());
        let sides = |size: Option<Size>| size.map_or([0; 2], |size| [size.height as u32, size.width as u32]);
        rsd::Preprocessing {
            mean: three(&self.mean),
            std: three(&self.std),
            resize: sides(self.resize),
            crop: sides(self.crop),
        }
    }

    /// What a flat model file holds, for a network of `channels` input channels, at most 3.
    pub fn from_flat(flat: &rsd::Preprocessing, channels: usize) -> Self {
        let values = |values: [f32; 3]| values.into_iter().take(channels).collect();
        let size = |[rows, columns]: [u32; 2]| {
            let size = Size { height: rows as usize, width: columns as usize };
            Some(size).filter(|size| size.shorter() > 0)
        };
        Preprocessing {
            resize: size(flat.resize),
            crop: size(flat.crop),
            mean: values(flat.mean),
            std: values(flat.std),
            mean_picture: None,
            interpolation: Interpolation::Bilinear,
        }
    }
}
