//! Decoding: colour types, orientation, damage and limits. The files in `data/` are the gradient of
//! [`gradient`], written by Pillow.

use std::io::Cursor;

use image::{
    DynamicImage, ExtendedColorType, ImageBuffer, ImageEncoder, ImageFormat,
    codecs::{jpeg::JpegEncoder, png::PngEncoder},
};
use residual_io::{DataError, Image, image::DecodeLimits};

const FIXTURES: [(&str, &[u8]); 5] = [
    ("progressive.jpg", include_bytes!("data/progressive.jpg")),
    ("restart.jpg", include_bytes!("data/restart.jpg")),
    ("cmyk.jpg", include_bytes!("data/cmyk.jpg")),
    ("lossy.webp", include_bytes!("data/lossy.webp")),
    ("palette.png", include_bytes!("data/palette.png")),
];

fn gradient(w: usize, h: usize) -> Image {
    let pixel = |i: usize| {
        let (x, y) = (i % w, i / w);
        [(x * 9) as u8, (y * 13) as u8, 255 - (x * 5) as u8 - (y * 4) as u8]
    };
    Image::new(w, h, (0..w * h).flat_map(pixel).collect()).unwrap()
}

fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

fn encode_rgb(image: &Image, format: ImageFormat) -> Vec<u8> {
    let buffer = ImageBuffer::from_raw(image.width() as u32, image.height() as u32, image.pixels().to_vec());
    encode(&DynamicImage::ImageRgb8(buffer.unwrap()), format)
}

/// EXIF holding nothing but an orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let mut tiff = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    tiff.extend([orientation, 0, 0, 0, 0, 0, 0]);
    tiff
}

/// Where pixel `(x, y)` of the upright picture lies in a stored one of `w x h`.
type Stored = fn(x: usize, y: usize, w: usize, h: usize) -> (usize, usize);

#[test]
fn every_orientation_is_undone() {
    let stored = gradient(5, 3);
    let (w, h) = (stored.width(), stored.height());
    for orientation in 1..=8 {
        // EXIF 2.3, tag 0x112: which corner the stored row 0 and column 0 belong to.
        let (turned, source): (bool, Stored) = match orientation {
            1 => (false, |x, y, _, _| (x, y)),
            2 => (false, |x, y, w, _| (w - 1 - x, y)),
            3 => (false, |x, y, w, h| (w - 1 - x, h - 1 - y)),
            4 => (false, |x, y, _, h| (x, h - 1 - y)),
            5 => (true, |x, y, _, _| (y, x)),
            6 => (true, |x, y, _, h| (y, h - 1 - x)),
            7 => (true, |x, y, w, h| (w - 1 - y, h - 1 - x)),
            _ => (true, |x, y, w, _| (w - 1 - y, x)),
        };
        let mut bytes = Vec::new();
        let mut encoder = PngEncoder::new(&mut bytes);
        encoder.set_exif_metadata(exif(orientation)).unwrap();
        encoder.write_image(stored.pixels(), w as u32, h as u32, ExtendedColorType::Rgb8).unwrap();
        let got = Image::decode(&bytes).unwrap();
        let (gw, gh) = if turned { (h, w) } else { (w, h) };
        assert_eq!((got.width(), got.height()), (gw, gh), "orientation {orientation}");
        for (i, pixel) in got.pixels().chunks_exact(3).enumerate() {
            let (x, y) = source(i % gw, i / gw, w, h);
            assert_eq!(pixel, &stored.pixels()[(y * w + x) * 3..][..3], "orientation {orientation} pixel {i}");
        }

        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new(&mut bytes);
        encoder.set_exif_metadata(exif(orientation)).unwrap();
        encoder.write_image(stored.pixels(), w as u32, h as u32, ExtendedColorType::Rgb8).unwrap();
        let got = Image::decode(&bytes).unwrap();
        assert_eq!((got.width(), got.height()), (gw, gh), "JPEG orientation {orientation}");
    }
}

#[test]
fn every_colour_type_becomes_rgb() {
    let (w, h) = (7, 4);
    let n = (w * h) as usize;
    let byte = |i: usize| (i * 37 + 11) as u8;
    let word = |i: usize| u16::from_be_bytes([byte(i), byte(i + 100)]);
    let bytes = |c: usize| (0..n * c).map(byte).collect::<Vec<_>>();
    let words = |c: usize| (0..n * c).map(word).collect::<Vec<_>>();
    let raw = "the buffer fits";
    let pictures = [
        (1, DynamicImage::ImageLuma8(ImageBuffer::from_raw(w, h, bytes(1)).expect(raw))),
        (2, DynamicImage::ImageLumaA8(ImageBuffer::from_raw(w, h, bytes(2)).expect(raw))),
        (3, DynamicImage::ImageRgb8(ImageBuffer::from_raw(w, h, bytes(3)).expect(raw))),
        (4, DynamicImage::ImageRgba8(ImageBuffer::from_raw(w, h, bytes(4)).expect(raw))),
        (1, DynamicImage::ImageLuma16(ImageBuffer::from_raw(w, h, words(1)).expect(raw))),
        (2, DynamicImage::ImageLumaA16(ImageBuffer::from_raw(w, h, words(2)).expect(raw))),
        (3, DynamicImage::ImageRgb16(ImageBuffer::from_raw(w, h, words(3)).expect(raw))),
        (4, DynamicImage::ImageRgba16(ImageBuffer::from_raw(w, h, words(4)).expect(raw))),
    ];
    for (channels, picture) in pictures {
        let got = Image::decode(&encode(&picture, ImageFormat::Png)).unwrap();
        let want: Vec<u8> = (0..n)
            .flat_map(|i| if channels < 3 { [i * channels; 3] } else { [0, 1, 2].map(|c| i * channels + c) })
            .map(byte)
            .collect();
        assert_eq!(got.pixels(), want, "{:?}", picture.color());
    }
    let rgb = gradient(13, 9);
    for format in [ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Png] {
        assert!(Image::decode(&encode_rgb(&rgb, format)).unwrap() == rgb, "{format:?}");
    }
}

#[test]
fn files_of_other_programs_decode() {
    let want = gradient(27, 19);
    for (name, bytes) in FIXTURES {
        let got = Image::decode(bytes).unwrap();
        assert_eq!((got.width(), got.height()), (27, 19), "{name}");
        let error: u32 = got.pixels().iter().zip(want.pixels()).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
        let mean = f64::from(error) / got.pixels().len() as f64;
        // Quantised to 16 colours, the palette picture is the coarsest.
        assert!(mean < if name.starts_with("palette") { 20.0 } else { 4.0 }, "{name}: mean error {mean}");
    }
}

#[test]
fn content_decides_the_format() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("really a png.jpg");
    let rgb = gradient(6, 5);
    std::fs::write(&path, encode_rgb(&rgb, ImageFormat::Png)).unwrap();
    assert!(Image::open(&path).unwrap() == rgb);

    let missing = Image::open(dir.path().join("missing.png")).unwrap_err();
    assert!(matches!(&missing, DataError::Io { .. }) && missing.to_string().contains("missing.png"), "{missing}");
}

/// A cut-off file is an error, or nothing that matters was cut off.
#[test]
fn truncated_pictures_are_errors() {
    let rgb = gradient(27, 19);
    let made = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP]
        .map(|format| (format!("{format:?}"), encode_rgb(&rgb, format)));
    let files = FIXTURES.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec())).chain(made);
    for (name, bytes) in files {
        let whole = Image::decode(&bytes).unwrap();
        for len in 0..bytes.len() {
            match Image::decode_with(&bytes[..len], &name, DecodeLimits::default()) {
                Ok(image) => {
                    assert!(bytes.len() - len <= 16 && image == whole, "{name}: {len} of {} bytes", bytes.len());
                }
                Err(e) => {
                    let message = e.to_string();
                    assert!(message.starts_with(&name) && !message.contains('\n'), "{message}");
                }
            }
        }
    }
}

#[test]
fn flipped_bytes_never_panic() {
    for (name, bytes) in FIXTURES {
        let mut outcomes = [0, 0];
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xFF] {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= flip;
                let limits = DecodeLimits { max_side: 4096, max_pixels: 1 << 20, ..DecodeLimits::default() };
                outcomes[usize::from(Image::decode_with(&damaged, name, limits).is_ok())] += 1;
            }
        }
        assert!(outcomes[0] > 0, "{name}: no damage was noticed");
    }
}

/// A palette cut inside a colour, its checksums right.
#[test]
fn broken_palettes_are_errors() {
    let (name, whole) = FIXTURES[4];
    let at = whole.windows(4).position(|w| w == b"PLTE").unwrap();
    let end = at + 4 + usize::from(whole[at - 1]);
    for cut in 1..=4 {
        let mut kept = whole[at..end - cut].to_vec();
        let crc = crc32fast::hash(&kept);
        let len = kept.len() as u32 - 4;
        kept.splice(..0, len.to_be_bytes());
        kept.extend(crc.to_be_bytes());
        let png = [&whole[..at - 4], &kept, &whole[end + 4..]].concat();
        let refused = Image::decode_with(&png, name, DecodeLimits::default()).err().map(|e| e.to_string());
        let broken = "palette.png: damaged PNG: its palette is not a whole number of colours";
        assert_eq!(refused.as_deref(), (cut != 3).then_some(broken), "{cut} bytes less");
    }
}

#[test]
fn announced_sizes_are_checked_before_memory_is_reserved() {
    let (_, jpeg) = FIXTURES[1];
    let mut jpeg = jpeg.to_vec();
    let frame = jpeg.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xFF; 4]);
    let error = Image::decode(&jpeg).unwrap_err();
    assert!(matches!(error, DataError::TooLarge { width: 65_535, height: 65_535, max_side: 32_767, .. }), "{error}");

    let mut png = encode_rgb(&gradient(27, 19), ImageFormat::Png);
    png[16..24].copy_from_slice(&[0, 0, 0x40, 0, 0, 0, 0x40, 0]);
    let crc = crc32fast::hash(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    let error = Image::decode(&png).unwrap_err();
    assert!(matches!(error, DataError::TooLarge { width: 0x4000, height: 0x4000, .. }), "{error}");

    let limits = DecodeLimits { max_side: 27, max_pixels: 27 * 19, ..DecodeLimits::default() };
    let (name, bytes) = FIXTURES[0];
    assert!(Image::decode_with(bytes, name, limits).is_ok());
    for smaller in [DecodeLimits { max_side: 26, ..limits }, DecodeLimits { max_pixels: 27 * 19 - 1, ..limits }] {
        let error = Image::decode_with(bytes, name, smaller).unwrap_err().to_string();
        assert!(error.starts_with("progressive.jpg: 27 x 19 pixels are more than the limit of"), "{error}");
    }
}

#[test]
fn other_files_are_told_from_pictures() {
    let cases: [(&[u8], &str); 4] = [
        (b"", "picture: the file is empty"),
        (b"hello", "picture: not a picture (looked for JPEG, PNG, BMP and WebP)"),
        (b"GIF89a\x01\0\x01\0", "picture: Gif is not supported (only JPEG, PNG, BMP and WebP)"),
        (b"\xFF\xD8\xFF\xE0", "picture: truncated JPEG: it ends before the first scan"),
    ];
    for (bytes, message) in cases {
        assert_eq!(Image::decode(bytes).unwrap_err().to_string(), message);
    }
}

/// A colour JPEG, and where its frame header's and its scan header's fields lie.
fn jpeg() -> (Vec<u8>, usize, usize) {
    let bytes = encode_rgb(&gradient(24, 16), ImageFormat::Jpeg);
    let marker = |kind: u8| bytes.windows(2).position(|w| w == [0xFF, kind]).unwrap() + 4;
    let (frame, scan) = (marker(0xC0), marker(0xDA));
    (bytes, frame, scan)
}

/// Kinds that the decoder gets wrong, or does not know; the headers tell.
#[test]
fn unusual_jpegs_are_refused_by_their_headers() {
    let (good, frame, scan) = jpeg();
    assert!(Image::decode(&good).is_ok());
    let refused = |at: usize, values: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + values.len()].copy_from_slice(values);
        Image::decode_with(&bytes, "a.jpg", DecodeLimits::default()).unwrap_err().to_string()
    };
    let remedy = "is not supported; save it again as an ordinary JPEG or PNG";
    for (at, value, what) in [
        (scan, 1, "a JPEG that is not progressive and has its components in separate scans"),
        (scan, 2, "a JPEG that is not progressive and has its components in separate scans"),
        (frame, 12, "a JPEG of 12 bits a sample"),
        (frame + 5, 2, "a JPEG of 2 components"),
        (frame - 3, 0xC3, "a lossless or hierarchical JPEG"),
        (frame - 3, 0xC9, "a JPEG with arithmetic coding"),
        (frame - 3, 0xCA, "a JPEG with arithmetic coding"),
    ] {
        assert_eq!(refused(at, &[value]), format!("a.jpg: {what} {remedy}"));
    }

    // Sampling factors of luma and both colours, as "horizontal x vertical" in hexadecimal digits.
    let with_sampling = |factors: [u8; 3]| {
        let mut bytes = good.clone();
        (0..3).for_each(|i| bytes[frame + 7 + 3 * i] = factors[i]);
        Image::decode(&bytes).map_err(|e| e.to_string())
    };
    for factors in [
        [0x11, 0x22, 0x22],
        [0x11, 0x21, 0x21],
        [0x12, 0x21, 0x11],
        [0x41, 0x21, 0x21],
        [0x31, 0x11, 0x11],
        [0x41, 0x22, 0x11],
        [0; 3],
    ] {
        let error = with_sampling(factors).unwrap_err();
        let names = factors.map(|f| format!("{}x{}", f >> 4, f & 15)).join(", ");
        assert_eq!(error, format!("picture: a JPEG with the sampling factors {names} {remedy}"));
    }
    for factors in
        [[0x11; 3], [0x21, 0x11, 0x11], [0x12, 0x11, 0x11], [0x22, 0x11, 0x11], [0x41, 0x11, 0x11], [0x22, 0x21, 0x21]]
    {
        // The data is that of other factors: damaged perhaps, but of a kind that is read.
        let error = with_sampling(factors).err().unwrap_or_default();
        assert!(!error.contains("not supported"), "{error}");
    }
}

/// What a picture costs is known before it is decoded: deep samples and coefficients count.
#[test]
fn memory_is_bounded_as_well_as_pixels() {
    let limits = |max_bytes| DecodeLimits { max_bytes, ..DecodeLimits::default() };
    let (w, h) = (32, 20);
    let deep = DynamicImage::ImageRgba16(ImageBuffer::from_raw(w, h, vec![7; (w * h * 4) as usize]).unwrap());
    let grey = DynamicImage::ImageLuma8(ImageBuffer::from_raw(w, h, vec![7; (w * h) as usize]).unwrap());
    for (picture, need) in [(deep, 8 * w * h), (grey, 4 * w * h)] {
        let (png, need) = (encode(&picture, ImageFormat::Png), u64::from(need));
        assert!(Image::decode_with(&png, "a.png", limits(need)).is_ok());
        let error = Image::decode_with(&png, "a.png", limits(need - 1)).unwrap_err().to_string();
        let most = need - 1;
        assert_eq!(error, format!("a.png: 32 x 20 pixels need {need} bytes to decode, more than the limit of {most}"));
    }
    // 27 x 19 pixels of 3 bytes, and coefficients for luma and two quarters.
    let (name, progressive) = FIXTURES[0];
    let need = 27 * 19 * 3 + 27 * 19 * 2 * 6 / 4;
    assert!(Image::decode_with(progressive, name, limits(need)).is_ok());
    assert!(Image::decode_with(progressive, name, limits(need - 1)).is_err());
}

#[cfg(unix)]
#[test]
fn a_pipe_is_no_picture() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("a.jpg");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = Image::open(&pipe).unwrap_err().to_string();
    assert!(error.ends_with("a.jpg: it is a pipe, not a regular file"), "{error}");
}
