//! Random changes of training pictures.

use super::{DataError, Image, transform::shorter_side};
use crate::random::Stream;

/// What happens to a training picture before it is normalised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Augmentation {
    /// nothing: pictures must have the network's size
    None,
    /// the mirror image half of the time, after a random crop of the picture with `pad` black pixels on each
    /// side (paper, section 4.2)
    PadCrop {
        /// black pixels on each side
        pad: usize,
    },
    /// shorter side random in a range, a random crop, its mirror image half of the time, and a random shift
    /// along the principal components of ImageNet's colours (paper, section 3.4)
    ScaleCrop {
        /// range of the shorter side, both ends included
        shorter: (usize, usize),
        /// side of the crop
        crop: usize,
        /// standard deviation of the colour shift, 0.1 in the paper
        colour: f64,
    },
}

/// Principal components of ImageNet's RGB values and the square roots of their eigenvalues, for pixels in
/// `[0, 1]` (Krizhevsky, Sutskever & Hinton 2012, section 4.1; the numbers in general use).
const COMPONENTS: [([f64; 3], f64); 3] =
    [([-0.5675, -0.5808, -0.5836], 0.2175), ([0.7192, -0.0045, -0.6948], 0.0188), ([0.4009, -0.8140, 0.4203], 0.0045)];

impl Augmentation {
    /// The paper's for ImageNet: 256 to 480, crop 224.
    pub fn imagenet(crop: usize) -> Self {
        Augmentation::ScaleCrop { shorter: (crop * 256 / 224, crop * 480 / 224), crop, colour: 0.1 }
    }

    /// The changed picture, and what to add to its normalised channels before division by their deviation.
    ///
    /// # Errors
    /// [`DataError::Geometry`] when the picture cannot be resized or cropped.
    pub fn apply(&self, image: Image, random: &mut Stream) -> Result<(Image, [f32; 3]), DataError> {
        let (image, shift) = match *self {
            Augmentation::None => return Ok((image, [0.0; 3])),
            Augmentation::PadCrop { pad } => {
                let [x, y] = offsets(pad, random);
                (image.crop(x, y, image.width(), image.height())?, [0.0; 3])
            }
            Augmentation::ScaleCrop { shorter: (low, high), crop, colour } => {
                let side = low + random.below((high + 1).saturating_sub(low));
                let (width, height) = shorter_side(image.width(), image.height(), side);
                let x = random.below((width + 1).saturating_sub(crop));
                let y = random.below((height + 1).saturating_sub(crop));
                // Only what the crop keeps is computed.
                let image = image.resize_window((width, height), x..x + crop, y..y + crop)?;
                let mut shift = [0.0; 3];
                for (direction, deviation) in COMPONENTS {
                    let amount = random.normal() * colour * deviation;
                    shift.iter_mut().zip(direction).for_each(|(s, d)| *s += amount * d);
                }
                (image, shift.map(|s| s as f32))
            }
        };
        Ok((if mirrored(random) { image.flip_horizontal() } else { image }, shift))
    }
}

/// A random crop of a normalised picture of `side x side` pixels (NHWC) with `pad` zeros on each side, mirrored half of
/// the time: the order of the paper's section 4.2, in which pixels that have means of their own must lose them before
/// they move. The same random numbers give the same crop as [`Augmentation::PadCrop`].
pub(super) fn pad_crop(pad: usize, from: &[f32], side: usize, random: &mut Stream, to: &mut [f32]) {
    let [dx, dy] = offsets(pad, random);
    let mirrored = mirrored(random);
    let (from, to) = (from.as_chunks::<3>().0, to.as_chunks_mut::<3>().0);
    for (i, to) in to.iter_mut().enumerate() {
        let (x, y) = (i % side, i / side);
        let x = if mirrored { side - 1 - x } else { x };
        let inside = |at: usize, by: isize| at.checked_add_signed(by).filter(|&at| at < side);
        *to = inside(x, dx).zip(inside(y, dy)).map_or([0.0; 3], |(x, y)| from[y * side + x]);
    }
}

/// How far a crop moves.
fn offsets(pad: usize, random: &mut Stream) -> [isize; 2] {
    [(); 2].map(|()| random.below(2 * pad + 1) as isize - pad as isize)
}

fn mirrored(random: &mut Stream) -> bool {
    random.bits() >> 63 == 1
}

#[cfg(test)]
mod tests {
    use super::{Augmentation, Image};
    use crate::random::{Purpose, Stream};

    #[test]
    fn crops_move_by_at_most_the_padding_and_mirror_half_of_the_time() {
        // Pixel (x, y) holds (x + 1, y + 1, 0), so that a crop's origin can be read off.
        let pixels = (0..8 * 8).flat_map(|i| [i % 8 + 1, i / 8 + 1, 0]).collect();
        let image = Image::new(8, 8, pixels).unwrap();
        let (mut seen, mut mirrored) = (std::collections::BTreeSet::new(), 0);
        for i in 0..2000 {
            let mut random = Stream::new(1, Purpose::Augment, [0, i]);
            let (out, _) = Augmentation::PadCrop { pad: 2 }.apply(image.clone(), &mut random).unwrap();
            let at = |x: usize, y: usize| &out.pixels()[(y * 8 + x) * 3..][..2];
            let centre = at(4, 4);
            let flipped = at(5, 4)[0] < centre[0];
            mirrored += usize::from(flipped);
            let x = i32::from(centre[0]) - 1 - if flipped { 3 } else { 4 };
            let y = i32::from(centre[1]) - 1 - 4;
            assert!(x.abs() <= 2 && y.abs() <= 2);
            seen.insert((x, y));
        }
        assert_eq!(seen.len(), 25);
        assert!((900..1100).contains(&mirrored), "{mirrored}");
    }

    #[test]
    fn normalised_pictures_move_as_pictures_do() {
        let image = Image::new(5, 5, (1..=75).collect()).unwrap();
        let values: Vec<f32> = image.pixels().iter().map(|&v| f32::from(v)).collect();
        for i in 0..50 {
            let random = || Stream::new(1, Purpose::Augment, [0, i]);
            let (want, _) = Augmentation::PadCrop { pad: 2 }.apply(image.clone(), &mut random()).unwrap();
            let mut out = vec![f32::NAN; 75];
            super::pad_crop(2, &values, 5, &mut random(), &mut out);
            assert!(out.iter().zip(want.pixels()).all(|(&a, &b)| a == f32::from(b)));
        }
    }

    #[test]
    fn scaled_crops_have_the_networks_size() {
        let image = Image::new(50, 40, vec![100; 50 * 40 * 3]).unwrap();
        let mut shifts = Vec::new();
        for i in 0..20 {
            let mut random = Stream::new(1, Purpose::Augment, [0, i]);
            let (out, shift) = Augmentation::imagenet(32).apply(image.clone(), &mut random).unwrap();
            assert_eq!((out.width(), out.height()), (32, 32));
            shifts.push(shift[0]);
        }
        assert!(shifts.windows(2).all(|s| s[0] != s[1]) && shifts.iter().all(|s| s.abs() < 0.1));
    }
}
