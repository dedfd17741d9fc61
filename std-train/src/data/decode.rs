//! Picture files to [`Image`]s.

use std::{
    fs::File,
    io::{self, Cursor, Read},
    path::Path,
};

use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use super::{DataError, Image};

/// Longest picture file, in bytes: 128 megapixels do not need more.
const MAX_FILE: u64 = 512 << 20;

/// How large a picture may be before it is refused.
///
/// A file of a few bytes can announce a picture of gigabytes. The size is checked before any
/// pixel memory is reserved; decoding then takes at most about 16 bytes a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// most pixels on a side
    pub max_side: u32,
    /// most pixels in all
    pub max_pixels: u64,
}

impl Default for DecodeLimits {
    /// Sides up to 32,767 and 128 megapixels: above any common camera.
    fn default() -> Self {
        DecodeLimits { max_side: 32_767, max_pixels: 128 << 20 }
    }
}

impl Image {
    /// Reads a JPEG, PNG, BMP or WebP file; see [`Image::decode`].
    ///
    /// # Errors
    /// [`DataError::Io`], [`DataError::Decode`] or [`DataError::TooLarge`], naming the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        let bytes = read(path).map_err(|source| DataError::Io { path: path.into(), source })?;
        Image::decode_with(&bytes, &path.display().to_string(), DecodeLimits::default())
    }

    /// Reads a picture to the end of `from`, a pipe for example; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub fn read(from: impl Read, name: &str) -> Result<Self, DataError> {
        let bytes = read_all(from, Vec::new()).map_err(|source| DataError::Io { path: name.into(), source })?;
        Image::decode_with(&bytes, name, DecodeLimits::default())
    }

    /// Decodes JPEG, PNG, BMP or WebP, told apart by content.
    ///
    /// Any colour type becomes 8-bit RGB: grey is repeated, transparency is dropped (not blended),
    /// 16-bit samples keep their high byte, CMYK is converted. EXIF orientation is applied; an
    /// animation gives its first frame. Incomplete files are errors, never half-grey pictures.
    ///
    /// # Errors
    /// [`DataError::Decode`], or [`DataError::TooLarge`] under the default [`DecodeLimits`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DataError> {
        Image::decode_with(bytes, "picture", DecodeLimits::default())
    }

    /// [`Image::decode`] under given limits; `name` is what errors call the picture.
    ///
    /// # Errors
    /// [`DataError::Decode`] or [`DataError::TooLarge`].
    pub fn decode_with(bytes: &[u8], name: &str, limits: DecodeLimits) -> Result<Self, DataError> {
        let refuse = |reason: String| DataError::Decode { picture: name.into(), reason };
        let failed = |e: ImageError| refuse(one_line(&e.to_string()));

        let format = supported_format(bytes).map_err(&refuse)?;
        match format {
            ImageFormat::Jpeg => check_jpeg_end(bytes),
            ImageFormat::WebP => check_webp_chunks(bytes),
            ImageFormat::Png => check_png_palette(bytes),
            _ => Ok(()),
        }
        .map_err(|reason| refuse(reason.into()))?;

        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        // Sides are checked below, with the values in the message. PNG needs the memory limit
        // before its header is read.
        let memory = limits.max_pixels.saturating_mul(8).saturating_add(1 << 20);
        let mut lib_limits = Limits::no_limits();
        lib_limits.max_alloc = Some(memory);
        reader.limits(lib_limits);
        let mut decoder = reader.into_decoder().map_err(failed)?;

        let (width, height) = decoder.dimensions();
        let max_side = limits.max_side.min(Image::MAX_SIDE as u32);
        if width > max_side || height > max_side || u64::from(width) * u64::from(height) > limits.max_pixels {
            return Err(DataError::TooLarge {
                picture: name.into(),
                width: width.into(),
                height: height.into(),
                max_side,
                max_pixels: limits.max_pixels,
            });
        }
        if width == 0 || height == 0 {
            return Err(refuse(format!("a picture of {width} x {height} pixels")));
        }
        // A damaged EXIF block is no reason to refuse a sound picture.
        let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
        let color = decoder.color_type();
        let len = usize::try_from(decoder.total_bytes()).map_err(|_| refuse("too large for this machine".into()))?;
        let mut raw = vec![0; len];
        decoder.read_image(&mut raw).map_err(failed)?;

        let rgb = to_rgb8(raw, color).ok_or_else(|| refuse(format!("colour type {color:?} is not supported")))?;
        let rgb = RgbImage::from_raw(width, height, rgb)
            .ok_or_else(|| refuse(format!("the decoder did not fill {width} x {height} pixels")))?;
        let mut picture = DynamicImage::ImageRgb8(rgb);
        picture.apply_orientation(orientation);
        let (w, h) = (picture.width() as usize, picture.height() as usize);
        Image::new(w, h, picture.into_rgb8().into_raw())
    }
}

/// A whole file, if it is at most [`MAX_FILE`] long: a device or pipe may never end.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    read_all(file, Vec::with_capacity(len.min(MAX_FILE) as usize))
}

/// Everything that is left of `from`, behind `bytes`.
fn read_all(from: impl Read, mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    from.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_FILE {
        true => Err(io::Error::other(format!("more than {MAX_FILE} bytes are no picture"))),
        false => Ok(bytes),
    }
}

fn supported_format(bytes: &[u8]) -> Result<ImageFormat, String> {
    use ImageFormat::{Bmp, Jpeg, Png, WebP};
    match image::guess_format(bytes) {
        Ok(f @ (Jpeg | Png | Bmp | WebP)) => Ok(f),
        Ok(f) => Err(format!("{f:?} is not supported (only JPEG, PNG, BMP and WebP)")),
        Err(_) if bytes.is_empty() => Err("the file is empty".into()),
        Err(_) => Err("not a picture (looked for JPEG, PNG, BMP and WebP)".into()),
    }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether an end marker follows the first scan. The decoder fills what a cut-off JPEG lacks with
/// grey and reports success, which would be classified as if it were the picture.
fn check_jpeg_end(bytes: &[u8]) -> Result<(), &'static str> {
    let scan = jpeg_scan_start(bytes).ok_or("truncated JPEG: it ends before the first scan")?;
    let body = bytes.get(scan..).unwrap_or_default();
    // Entropy-coded data cannot contain FF D9. From the back: it is normally the last two bytes.
    match body.windows(2).rev().any(|w| w == [0xFF, 0xD9]) {
        true => Ok(()),
        false => Err("truncated JPEG: it has no end marker"),
    }
}

/// The offset behind the first start-of-scan header; thumbnails inside application segments are
/// stepped over with their segment.
fn jpeg_scan_start(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        // Bytes between segments, fill bytes among them, are skipped as decoders do.
        at += bytes.get(at..)?.iter().position(|&b| b == 0xFF)? + 1;
        let marker = *bytes.get(at)?;
        if matches!(marker, 0x00 | 0x01 | 0xD0..=0xD9 | 0xFF) {
            continue;
        }
        let len = u16::from_be_bytes([*bytes.get(at + 1)?, *bytes.get(at + 2)?]);
        at += 1 + usize::from(len.max(2));
        if marker == 0xDA {
            return Some(at);
        }
    }
}

/// Whether every chunk lies inside the file: the decoder reserves memory for the length a chunk
/// announces.
fn check_webp_chunks(bytes: &[u8]) -> Result<(), &'static str> {
    const TRUNCATED: &str = "truncated WebP: a chunk is longer than the file";
    let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
    let end = word(4).and_then(|n| n.checked_add(8)).filter(|&end| end <= bytes.len()).ok_or(TRUNCATED)?;
    let mut at = 12;
    while at + 8 <= end {
        // Chunks are padded to even lengths; some writers forget the last one's padding.
        let len = word(at + 4).ok_or(TRUNCATED)?;
        let next = len.checked_add(at + 8).filter(|&next| next <= bytes.len()).ok_or(TRUNCATED)?;
        at = next + len % 2;
    }
    Ok(())
}

/// Whether every palette of a PNG is a row of RGB triples: the decoder panics on a broken triple.
fn check_png_palette(bytes: &[u8]) -> Result<(), &'static str> {
    let mut rest = bytes.get(8..).unwrap_or_default();
    while let Some((&len, body)) = rest.split_first_chunk()
        && let Some(kind) = body.first_chunk::<4>()
    {
        let len = u32::from_be_bytes(len) as usize;
        if kind == b"PLTE" && !len.is_multiple_of(3) {
            return Err("damaged PNG: its palette is not a whole number of colours");
        }
        // Kind and checksum stand around the data. What is longer than the file, the decoder refuses.
        rest = len.checked_add(8).and_then(|len| body.get(len..)).unwrap_or_default();
    }
    Ok(())
}

/// Raw decoder output to RGB; `None` for colour types no supported format produces.
fn to_rgb8(raw: Vec<u8>, color: ColorType) -> Option<Vec<u8>> {
    // 16-bit samples are in native byte order.
    let high = if cfg!(target_endian = "big") { 0 } else { 1 };
    let grey = |step: usize, at: usize| raw.chunks_exact(step).flat_map(|p| [p[at]; 3]).collect();
    let rgb = |step: usize, at: usize, sample: usize| {
        raw.chunks_exact(step).flat_map(|p| [p[at], p[at + sample], p[at + 2 * sample]]).collect()
    };
    Some(match color {
        ColorType::Rgb8 => raw,
        ColorType::L8 => grey(1, 0),
        ColorType::La8 => grey(2, 0),
        ColorType::L16 => grey(2, high),
        ColorType::La16 => grey(4, high),
        ColorType::Rgba8 => rgb(4, 0, 1),
        ColorType::Rgb16 => rgb(6, high, 2),
        ColorType::Rgba16 => rgb(8, high, 2),
        _ => return None,
    })
}
