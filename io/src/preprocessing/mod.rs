//! From a picture to a network's input.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _, sync::Arc};

use crate::{
    DataError, Image,
    image::transform::{centre_offset, shorter_side},
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

/// What happens to a picture before a network sees it: resize the shorter side, crop the centre,
/// scale to `[0, 1]`, subtract the mean and divide by the standard deviation of every channel.
///
/// It belongs to the weights, not to the program: other values cost accuracy silently. Model
/// files carry it as string metadata ([`Preprocessing::to_metadata`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    /// pixels of the shorter side after resizing; `None` keeps the picture's size
    pub resize: Option<usize>,
    /// pixels of the square cut from the middle, which is the network's input; `None` keeps all
    /// (a network applied fully convolutionally)
    pub crop: Option<usize>,
    /// R, G, B means of pixels in `[0, 1]`
    pub mean: [f32; 3],
    /// R, G, B standard deviations of pixels in `[0, 1]`
    pub std: [f32; 3],
    /// a mean for every pixel of the cropped picture, which replaces `mean` (paper, sections 3.4 and 4.2): pixels in
    /// `[0, 1]`, `crop * crop * 3` values, NHWC
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
            resize: Some(256),
            crop: Some(224),
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            mean_picture: None,
            interpolation: Interpolation::Bilinear,
        }
    }

    /// For the 32 x 32 networks. CIFAR's own pictures pass at their size; any other is resized to
    /// a shorter side of 32 and its centre cropped.
    pub fn cifar(mean: [f32; 3], std: [f32; 3]) -> Self {
        Preprocessing { resize: Some(32), crop: Some(32), mean, std, ..Preprocessing::imagenet() }
    }

    /// The network's input size in pixels a side, where all pictures come out alike.
    pub fn input_size(&self) -> Option<usize> {
        self.crop
    }

    /// Width and height a picture of `width x height` comes out with.
    pub fn output_size(&self, width: usize, height: usize) -> (usize, usize) {
        match self.crop {
            Some(side) => (side, side),
            None => self.resize.map_or((width, height), |side| shorter_side(width, height, side)),
        }
    }

    /// Resizes, crops and normalises one picture into `out`, NHWC: `height * width * 3` values of
    /// [`Preprocessing::output_size`].
    ///
    /// # Errors
    /// [`DataError::BufferLength`] if `out` has another length, [`DataError::Geometry`] if a side
    /// of the result would be 0 or beyond [`Image::MAX_SIDE`].
    pub fn apply(&self, image: &Image, out: &mut [f32]) -> Result<(), DataError> {
        let (width, height) = self.output_size(image.width(), image.height());
        check_len("a network input", width, height, out.len())?;
        self.normalise(&*self.resize_and_crop(image)?, out)
    }

    /// The part of [`Preprocessing::apply`] that is still a picture.
    ///
    /// # Errors
    /// [`DataError::Geometry`] if a side of the result would be 0 or beyond [`Image::MAX_SIDE`].
    pub fn resize_and_crop<'i>(&self, image: &'i Image) -> Result<Cow<'i, Image>, DataError> {
        let (width, height) = match self.resize {
            Some(side) => shorter_side(image.width(), image.height(), side),
            None => (image.width(), image.height()),
        };
        let crop = self.crop.map_or((width, height), |side| (side, side));
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

    /// `(v / 255 - mean) / std` for every pixel, each step rounded to f32 as PyTorch does; `out` is
    /// NHWC.
    ///
    /// # Errors
    /// [`DataError::BufferLength`] if `out`, or the mean picture if there is one, does not hold `height * width * 3` values.
    pub fn normalise(&self, image: &Image, out: &mut [f32]) -> Result<(), DataError> {
        check_len("a network input", image.width(), image.height(), out.len())?;
        if let Some(means) = &self.mean_picture {
            check_len("the mean picture", image.width(), image.height(), means.len())?;
            for (i, ((out, v), mean)) in out.iter_mut().zip(image.pixels()).zip(&means[..]).enumerate() {
                *out = (f32::from(*v) / 255.0 - mean) / self.std[i % 3];
            }
            return Ok(());
        }
        let table = self.table();
        let (pixels, _) = image.pixels().as_chunks::<3>();
        let (out, _) = out.as_chunks_mut::<3>();
        for (out, p) in out.iter_mut().zip(pixels) {
            for c in 0..3 {
                out[c] = table[c][usize::from(p[c])];
            }
        }
        Ok(())
    }

    /// The normalised value of every channel and sample.
    fn table(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|c| std::array::from_fn(|v| (v as f32 / 255.0 - self.mean[c]) / self.std[c]))
    }

    /// As string metadata of a model file: `resize`, `crop`, `mean`, `std`, `mean_picture`, `interpolation`.
    pub fn to_metadata(&self) -> BTreeMap<String, String> {
        let list = |v: &[f32]| {
            let mut text = String::new();
            for (i, x) in v.iter().enumerate() {
                // Writing to a string cannot fail; `{x}` is the shortest text that reads back as x.
                let _ = write!(text, "{}{x}", if i > 0 { "," } else { "" });
            }
            text
        };
        let mut map = BTreeMap::new();
        let mut put = |key: &str, value: String| map.insert(key.to_owned(), value);
        if let Some(side) = self.resize {
            put(RESIZE, side.to_string());
        }
        if let Some(side) = self.crop {
            put(CROP, side.to_string());
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
            resize: side(metadata, RESIZE)?,
            crop: side(metadata, CROP)?,
            mean: triple(metadata, MEAN)?,
            std: triple(metadata, STD)?,
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
        for (key, side, most) in [(RESIZE, self.resize, resized), (CROP, self.crop, Preprocessing::MAX_SIDE)] {
            if let Some(side) = side.filter(|side| !(1..=most).contains(side)) {
                return Err(bad(key, &side.to_string(), format!("must be 1 to {most} pixels")));
            }
        }
        check_normalisation(&self.mean, &self.std)?;
        if let Some(means) = &self.mean_picture {
            // Sides are at most 65535.
            let need = self.crop.map(|side| 3 * (side as u64).pow(2));
            if need != Some(means.len() as u64) {
                let got = format!("{} numbers", means.len());
                return Err(bad(MEAN_PICTURE, &got, "must be 3 for every pixel of the crop"));
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
pub fn check_normalisation(mean: &[f32; 3], std: &[f32; 3]) -> Result<(), DataError> {
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

fn check_len(what: &'static str, width: usize, height: usize, got: usize) -> Result<(), DataError> {
    let need = width.saturating_mul(height).saturating_mul(3);
    match need == got {
        true => Ok(()),
        false => Err(DataError::BufferLength { what, need, got }),
    }
}

fn bad(key: &'static str, value: &str, reason: impl Into<String>) -> DataError {
    DataError::Preprocessing { key, value: value.escape_debug().to_string(), reason: reason.into() }
}

fn side(metadata: &BTreeMap<String, String>, key: &'static str) -> Result<Option<usize>, DataError> {
    let parse = |text: &String| text.trim().parse().map_err(|_| bad(key, text, "must be a number of pixels"));
    metadata.get(key).map(parse).transpose()
}

fn triple(metadata: &BTreeMap<String, String>, key: &'static str) -> Result<[f32; 3], DataError> {
    let text = metadata.get(key).ok_or_else(|| bad(key, "", "is missing"))?;
    let numbers: Result<Vec<f32>, _> = text.split(',').map(|n| n.trim().parse()).collect();
    numbers
        .ok()
        .and_then(|n| n.try_into().ok())
        .ok_or_else(|| bad(key, text, "must be three numbers with commas between"))
}

fn picture(text: &str) -> Result<Arc<[f32]>, DataError> {
    let number = |n: &str| n.trim().parse().map_err(|_| bad(MEAN_PICTURE, n, "must be a number"));
    text.split(',').map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_round_trips() {
        let odd = Preprocessing {
            resize: None,
            crop: Some(33),
            mean: [0.1, 1e-20, 0.333_333_34],
            std: [f32::MIN_POSITIVE, 0.75, 1.0 / 255.0],
            ..Preprocessing::imagenet()
        };
        let means = (0..2 * 2 * 3).map(|i| i as f32 / 12.0).collect();
        let pixels = Preprocessing { crop: Some(2), mean_picture: Some(means), ..odd.clone() };
        for p in [Preprocessing::imagenet(), Preprocessing::cifar([0.5; 3], [0.25; 3]), odd, pixels] {
            let mut map = p.to_metadata();
            map.insert("architecture".into(), "resnet18".into());
            assert_eq!(Preprocessing::from_metadata(&map).unwrap(), Some(p));
        }
        let other = BTreeMap::from([("architecture".to_owned(), "resnet18".to_owned())]);
        assert_eq!(Preprocessing::from_metadata(&other).unwrap(), None);
    }

    #[test]
    fn unusable_metadata_is_named() {
        let cases = [
            ("std", Some("0.2,0,0.2"), "preprocessing `std` = `0`: must be finite and above 0"),
            ("std", Some("0.2,-0.1,0.2"), "preprocessing `std` = `-0.1`: must be finite and above 0"),
            ("std", Some("0.2,NaN,0.2"), "preprocessing `std` = `NaN`: must be finite and above 0"),
            ("std", Some("0.2,1e-42,0.2"), "above 0"),
            ("mean", Some("0.2,inf,0.2"), "preprocessing `mean` = `inf`: must be finite"),
            ("mean", Some("0.2,0.2"), "preprocessing `mean` = `0.2,0.2`: must be three numbers"),
            ("mean", Some("a\nb"), r"preprocessing `mean` = `a\nb`: must be three numbers"),
            ("mean", None, "preprocessing `mean` = ``: is missing"),
            ("resize", Some("-1"), "preprocessing `resize` = `-1`: must be a number of pixels"),
            ("mean_picture", Some("0.5,0.5"), "preprocessing `mean_picture` = `2 numbers`: must be 3 for every pixel"),
            ("mean_picture", Some("0.5,x"), "preprocessing `mean_picture` = `x`: must be a number"),
            ("crop", Some("0"), "preprocessing `crop` = `0`: must be 1 to 2048 pixels"),
            ("crop", Some("65536"), "preprocessing `crop` = `65536`: must be 1 to 2048 pixels"),
            ("crop", Some("4096"), "preprocessing `crop` = `4096`: must be 1 to 2048 pixels"),
            (
                "mean",
                Some("123,117,104"),
                "preprocessing `mean` = `123`: must be from 0 to 1, for pixels from 0 to 1; divided by 255 they are 0.4824,0.4588,0.4078",
            ),
            (
                "mean",
                Some("0.5,-0.5,0.5"),
                "preprocessing `mean` = `-0.5`: must be from 0 to 1, for pixels from 0 to 1",
            ),
            ("std", Some("0.2,58,0.2"), "preprocessing `std` = `58`: must be from 0 to 1"),
            ("interpolation", Some("bicubic"), "preprocessing `interpolation` = `bicubic`: only `bilinear`"),
        ];
        for (key, value, message) in cases {
            let mut map = Preprocessing::imagenet().to_metadata();
            match value {
                Some(value) => map.insert(key.into(), value.into()),
                None => map.remove(key),
            };
            let error = Preprocessing::from_metadata(&map).unwrap_err().to_string();
            assert!(error.contains(message) && !error.contains('\n'), "{key} {value:?}: {error}");
        }
    }

    #[test]
    fn normalisation_rounds_every_step() {
        let image = Image::new(256, 1, (0..=255).flat_map(|v| [v; 3]).collect()).unwrap();
        let p = Preprocessing { resize: None, crop: None, ..Preprocessing::imagenet() };
        let mut out = vec![0.0; 256 * 3];
        p.apply(&image, &mut out).unwrap();
        for (i, out) in out.iter().enumerate() {
            let v: f32 = (i / 3) as f32 / 255.0;
            let centred: f32 = v - p.mean[i % 3];
            assert_eq!(*out, centred / p.std[i % 3], "{i}");
        }
        let error = p.apply(&image, &mut out[1..]).unwrap_err().to_string();
        assert_eq!(error, "a network input needs 768 elements, the buffer has 767");
    }

    #[test]
    fn a_mean_picture_replaces_the_channels_means() {
        let image = Image::new(2, 1, vec![0, 51, 102, 153, 204, 255]).unwrap();
        let means: Arc<[f32]> = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6].into();
        let std = [0.5, 0.25, 2.0];
        let p = Preprocessing { resize: None, crop: None, std, mean_picture: Some(means), ..Preprocessing::imagenet() };
        let mut out = vec![0.0; 6];
        p.normalise(&image, &mut out).unwrap();
        let want: Vec<f32> = [-0.1 / 0.5, 0.0, 0.1 / 2.0, 0.2 / 0.5, 0.3 / 0.25, 0.4 / 2.0].to_vec();
        assert!(out.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-6), "{out:?}");
        let small = Image::new(1, 1, vec![0; 3]).unwrap();
        let error = p.normalise(&small, &mut out[..3]).unwrap_err().to_string();
        assert_eq!(error, "the mean picture needs 3 elements, the buffer has 6");
    }

    #[test]
    fn cifar_pictures_pass_unchanged_and_others_are_resized() {
        let p = Preprocessing::cifar([0.5; 3], [0.25; 3]);
        let own = Image::new(32, 32, (0..3072).map(|i| (i % 251) as u8).collect()).unwrap();
        assert_eq!(*p.resize_and_crop(&own).unwrap(), own);
        let wide = Image::new(70, 50, (0..10500).map(|i| (i % 251) as u8).collect()).unwrap();
        let want = wide.resize_shorter(32).unwrap().centre_crop(32, 32).unwrap();
        assert_eq!(*p.resize_and_crop(&wide).unwrap(), want);
    }
}
