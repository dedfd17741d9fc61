//! From a picture to a network's input.

mod flat;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _, sync::Arc};

use crate::{
    DataError, Image, Size,
    image::transform::{centre_offset, covering},
};

/// How a picture is resampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interpolation {
    /// Triangle filter scaled by the reduction, as Pillow's and torchvision's `BILINEAR`.
    #[default]
    Bilinear,
}

impl Interpolation {
    /// The name in model metadata.
    pub fn name(self) -> &'static str {
        match self {
            Interpolation::Bilinear => "bilinear",
        }
    }
}

/// What happens to a picture before a network sees it: resize it, crop the centre, make it grey for a network of one
/// channel, scale to `[0, 1]`, subtract the mean and divide by the standard deviation of every channel.
///
/// It belongs to the weights, not to the program: other values cost accuracy silently. Model
/// files carry it as string metadata ([`Preprocessing::to_metadata`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    /// the picture becomes as small as its proportions allow while it covers this; `None` keeps its size. Of a square, that
    /// is the length of the shorter side
    pub resize: Option<Size>,
    /// what is cut from the middle, which is the network's input; `None` keeps all (a network applied fully
    /// convolutionally)
    pub crop: Option<Size>,
    /// mean of every input channel, of pixels in `[0, 1]`: R, G, B, or grey alone
    pub mean: Vec<f32>,
    /// standard deviation of every input channel, of pixels in `[0, 1]`
    pub std: Vec<f32>,
    /// a mean for every pixel of the cropped picture, which replaces `mean` (paper, sections 3.4 and 4.2): pixels in
    /// `[0, 1]`, a value for every channel of every pixel of the crop, NHWC
    pub mean_picture: Option<Arc<[f32]>>,
    /// how the picture is resized
    pub interpolation: Interpolation,
}

/// Metadata keys; a reader of one name must find what the writer of that name wrote.
const RESIZE: &str = "resize";
const CROP: &str = "crop";
const MEAN: &str = "mean";
const STD: &str = "std";
const MEAN_PICTURE: &str = "mean_picture";
const INTERPOLATION: &str = "interpolation";

impl Preprocessing {
    /// The most pixels a side that a picture may be brought to: a network of the paper takes about half a gigabyte for
    /// such an input.
    pub const MAX_SIDE: usize = 2048;

    /// torchvision's for its ImageNet weights: shorter side 256, centre 224.
    pub fn imagenet() -> Self {
        Preprocessing {
            resize: Some(Size::square(256)),
            crop: Some(Size::square(224)),
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
            mean_picture: None,
            interpolation: Interpolation::Bilinear,
        }
    }

    /// For the 32 x 32 networks. CIFAR's own pictures pass at their size; any other is resized to
    /// a shorter side of 32 and its centre cropped.
    pub fn cifar(mean: impl Into<Vec<f32>>, std: impl Into<Vec<f32>>) -> Self {
        let side = Some(Size::square(32));
        Preprocessing { resize: side, crop: side, mean: mean.into(), std: std.into(), ..Preprocessing::imagenet() }
    }

    /// The network's input size, where all pictures come out alike.
    pub fn input_size(&self) -> Option<Size> {
        self.crop
    }

    /// The same for inputs of another size: what a picture is resized to keeps its proportion to the crop.
    pub fn with_input_size(self, size: Size) -> Self {
        let resize = match (self.resize, self.crop) {
            (Some(resize), Some(crop)) => Some(size.scaled((resize.shorter(), crop.shorter()))),
            (Some(_), None) => Some(size),
            (None, _) => None,
        };
        Preprocessing { resize, crop: Some(size), ..self }
    }

    /// The network's input channels: 3 for RGB, 1 for grey. Networks of any other number read no pictures.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }

    /// Width and height a picture of `width x height` comes out with.
    pub fn output_size(&self, width: usize, height: usize) -> (usize, usize) {
        match self.crop {
            Some(Size { height, width }) => (width, height),
            None => self.resize.map_or((width, height), |size| covering(width, height, size)),
        }
    }

    /// Resizes, crops and normalises one picture into `out`, NHWC: the channels of every pixel of
    /// [`Preprocessing::output_size`].
    ///
    /// # Errors
    /// [`DataError::BufferLength`] if `out` has another length, [`DataError::Geometry`] if a side
    /// of the result would be 0 or beyond [`Image::MAX_SIDE`], [`DataError::Channels`] if the network reads no pictures.
    pub fn apply(&self, image: &Image, out: &mut [f32]) -> Result<(), DataError> {
        let (width, height) = self.output_size(image.width(), image.height());
        check_len("a network input", [width, height, self.channels()], out.len())?;
        self.normalise(&*self.resize_and_crop(image)?, out)
    }

    /// The part of [`Preprocessing::apply`] that is still a picture.
    ///
    /// # Errors
    /// [`DataError::Geometry`] if a side of the result would be 0 or beyond [`Image::MAX_SIDE`].
    pub fn resize_and_crop<'i>(&self, image: &'i Image) -> Result<Cow<'i, Image>, DataError> {
        let (width, height) = match self.resize {
            Some(size) => covering(image.width(), image.height(), size),
            None => (image.width(), image.height()),
        };
        let crop = self.crop.map_or((width, height), |size| (size.width, size.height));
        if (width, height) == (image.width(), image.height()) && crop == (width, height) {
            return Ok(Cow::Borrowed(image));
        }
        // Only what the crop keeps is computed.
        let (columns, rows) = (kept(width, crop.0), kept(height, crop.1));
        let resized = image.resize_window((width, height), columns, rows)?;
        if (resized.width(), resized.height()) == crop {
            return Ok(Cow::Owned(resized));
        }
        resized.centre_crop(crop.0, crop.1).map(Cow::Owned)
    }

    /// `(v / 255 - mean) / std` for every sample, each step rounded to f32 as PyTorch does; `out` is
    /// NHWC.
    ///
    /// # Errors
    /// [`DataError::BufferLength`] if `out`, or the mean picture if there is one, does not hold a value for every channel of
    /// every pixel, [`DataError::Channels`] if the network reads no pictures, [`DataError::Preprocessing`] for other numbers
    /// of means than of deviations.
    pub fn normalise(&self, image: &Image, out: &mut [f32]) -> Result<(), DataError> {
        let samples = image.samples(self.channels())?;
        self.check_channels(self.channels())?;
        let shape = [image.width(), image.height(), self.channels()];
        check_len("a network input", shape, out.len())?;
        if let Some(means) = &self.mean_picture {
            check_len("the mean picture", shape, means.len())?;
            let stds = self.std.iter().cycle();
            for (((out, v), mean), std) in out.iter_mut().zip(&*samples).zip(&means[..]).zip(stds) {
                *out = (f32::from(*v) / 255.0 - mean) / std;
            }
            return Ok(());
        }
        let table = self.table();
        if let [r, g, b] = &table[..] {
            for (out, p) in out.as_chunks_mut::<3>().0.iter_mut().zip(samples.as_chunks::<3>().0) {
                *out = [r[usize::from(p[0])], g[usize::from(p[1])], b[usize::from(p[2])]];
            }
        } else if let [grey] = &table[..] {
            out.iter_mut().zip(&*samples).for_each(|(out, v)| *out = grey[usize::from(*v)]);
        }
        Ok(())
    }

    /// The normalised value of every channel and sample, where there is no mean picture.
    pub fn table(&self) -> Vec<[f32; 256]> {
        let row = |(mean, std): (&f32, &f32)| std::array::from_fn(|v| (v as f32 / 255.0 - mean) / std);
        self.mean.iter().zip(&self.std).map(row).collect()
    }

    /// Whether it is that of a network with `channels` input channels.
    ///
    /// # Errors
    /// [`DataError::Preprocessing`] for another number of means or deviations.
    pub fn check_channels(&self, channels: usize) -> Result<(), DataError> {
        for (key, values) in [(MEAN, &self.mean), (STD, &self.std)] {
            if values.len() != channels {
                let reason = format!("must be a number for every input channel of the network, which has {channels}");
                return Err(bad(key, &list(values), reason));
            }
        }
        Ok(())
    }

    /// As string metadata of a model file: `resize`, `crop`, `mean`, `std`, `mean_picture`, `interpolation`.
    pub fn to_metadata(&self) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        let mut put = |key: &str, value: String| map.insert(key.to_owned(), value);
        if let Some(size) = self.resize {
            put(RESIZE, size.to_string());
        }
        if let Some(size) = self.crop {
            put(CROP, size.to_string());
        }
        put(MEAN, list(&self.mean));
        put(STD, list(&self.std));
        if let Some(means) = &self.mean_picture {
            put(MEAN_PICTURE, list(means));
        }
        put(INTERPOLATION, self.interpolation.name().to_owned());
        map
    }

    /// What [`Preprocessing::to_metadata`] wrote, among any other entries; `None` if there is none
    /// of its keys. `mean` and `std` are then required, `interpolation` defaults to `bilinear`.
    ///
    /// # Errors
    /// [`DataError::Preprocessing`] for a missing or unusable value, naming its key.
    pub fn from_metadata(metadata: &BTreeMap<String, String>) -> Result<Option<Self>, DataError> {
        let keys = [RESIZE, CROP, MEAN, STD, MEAN_PICTURE, INTERPOLATION];
        if !keys.iter().any(|key| metadata.contains_key(*key)) {
            return Ok(None);
        }
        let interpolation = match metadata.get(INTERPOLATION).map(String::as_str) {
            None | Some("bilinear") => Interpolation::Bilinear,
            Some(other) => return Err(bad(INTERPOLATION, other, "only `bilinear` is known")),
        };
        let preprocessing = Preprocessing {
            resize: size(metadata, RESIZE)?,
            crop: size(metadata, CROP)?,
            mean: numbers(metadata, MEAN)?,
            std: numbers(metadata, STD)?,
            mean_picture: metadata.get(MEAN_PICTURE).map(|text| picture(text)).transpose()?,
            interpolation,
        };
        preprocessing.check()?;
        Ok(Some(preprocessing))
    }

    /// Whether every value is usable, as [`Preprocessing::from_metadata`] requires.
    ///
    /// # Errors
    /// [`DataError::Preprocessing`] for a side of 0 or beyond [`Image::MAX_SIDE`], a result beyond
    /// [`Preprocessing::MAX_SIDE`], a mean outside `[0, 1]`, or a standard deviation that is not a positive normal
    /// number up to 1.
    pub fn check(&self) -> Result<(), DataError> {
        // What is cropped away of a larger picture is never computed.
        let resized = if self.crop.is_some() { Image::MAX_SIDE } else { Preprocessing::MAX_SIDE };
        for (key, size, most) in [(RESIZE, self.resize, resized), (CROP, self.crop, Preprocessing::MAX_SIDE)] {
            if let Some(size) = size.filter(|size| !size.is_within(most)) {
                return Err(bad(key, &size.to_string(), format!("must be 1 to {most} pixels")));
            }
        }
        self.check_channels(self.channels().max(1))?;
        check_normalisation(&self.mean, &self.std)?;
        if let Some(means) = &self.mean_picture {
            let channels = self.channels();
            // Sides are small by now.
            let need = self.crop.map(|size| size.height * size.width * channels);
            if need != Some(means.len()) {
                let got = format!("{} numbers", means.len());
                return Err(bad(MEAN_PICTURE, &got, format!("must be {channels} for every pixel of the crop")));
            }
            in_unit(MEAN_PICTURE, means)?;
        }
        Ok(())
    }
}

/// Whether these can be the mean and the standard deviation of pixels in `[0, 1]`.
///
/// # Errors
/// [`DataError::Preprocessing`], with the values divided by 255 where they look like those of pixels from 0 to 255.
pub fn check_normalisation(mean: &[f32], std: &[f32]) -> Result<(), DataError> {
    in_unit(MEAN, mean)?;
    if let Some(x) = std.iter().find(|x| !x.is_normal() || **x < 0.0) {
        return Err(bad(STD, &x.to_string(), "must be finite and above 0"));
    }
    in_unit(STD, std)
}

/// Whether all values are in `[0, 1]`, as those of pixels in `[0, 1]` are.
fn in_unit(key: &'static str, values: &[f32]) -> Result<(), DataError> {
    if let Some(x) = values.iter().find(|x| !x.is_finite()) {
        return Err(bad(key, &x.to_string(), "must be finite"));
    }
    let Some(x) = values.iter().find(|x| !(0.0..=1.0).contains(*x)) else { return Ok(()) };
    let mut reason = "must be from 0 to 1, for pixels from 0 to 1".to_owned();
    if values.iter().all(|x| (0.0..=255.0).contains(x)) {
        let scaled: Vec<String> = values.iter().take(3).map(|x| format!("{:.4}", x / 255.0)).collect();
        let more = if values.len() > 3 { ",..." } else { "" };
        reason += &format!("; divided by 255 they are {}{more}", scaled.join(","));
    }
    Err(bad(key, &x.to_string(), reason))
}

/// The part of an axis of `len` inside a centre crop of `crop`.
fn kept(len: usize, crop: usize) -> std::ops::Range<usize> {
    match usize::try_from(centre_offset(len, crop)) {
        Ok(start) if crop <= len => start..start + crop,
        _ => 0..len,
    }
}

/// Whether `got` elements are those of `shape`: width, height and channels.
fn check_len(what: &'static str, shape: [usize; 3], got: usize) -> Result<(), DataError> {
    let need = shape.into_iter().fold(1, usize::saturating_mul);
    match need == got {
        true => Ok(()),
        false => Err(DataError::BufferLength { what, need, got }),
    }
}

fn bad(key: &'static str, value: &str, reason: impl Into<String>) -> DataError {
    DataError::Preprocessing { key, value: value.escape_debug().to_string(), reason: reason.into() }
}

fn size(metadata: &BTreeMap<String, String>, key: &'static str) -> Result<Option<Size>, DataError> {
    let parse = |text: &String| text.parse().map_err(|reason: &str| bad(key, text, reason));
    metadata.get(key).map(parse).transpose()
}

fn numbers(metadata: &BTreeMap<String, String>, key: &'static str) -> Result<Vec<f32>, DataError> {
    let text = metadata.get(key).ok_or_else(|| bad(key, "", "is missing"))?;
    let numbers: Result<Vec<f32>, _> = text.split(',').map(|n| n.trim().parse()).collect();
    numbers.map_err(|_| bad(key, text, "must be numbers with commas between, one for every input channel"))
}

/// Numbers with commas between.
fn list(values: &[f32]) -> String {
    let mut text = String::new();
    for (i, x) in values.iter().enumerate() {
        // Writing to a string cannot fail; `{x}` is the shortest text that reads back as x.
        let _ = write!(text, "{}{x}", if i > 0 { "," } else { "" });
    }
    text
}

fn picture(text: &str) -> Result<Arc<[f32]>, DataError> {
    let number = |n: &str| n.trim().parse().map_err(|_| bad(MEAN_PICTURE, n, "must be a number"));
    text.split(',').map(number).collect()
}
