//! Crops, flips and sizes against plain per-pixel definitions.

use std::collections::BTreeMap;

use proptest::prelude::*;
use residual_io::{
    Image, Preprocessing,
    image::transform::{centre_offset, shorter_side},
};

fn picture(w: usize, h: usize) -> Image {
    let byte = |i: usize| (i as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0];
    Image::new(w, h, (0..w * h * 3).map(byte).collect()).unwrap()
}

/// The pixel at `(x, y)`, black outside.
fn pixel(image: &Image, x: i64, y: i64) -> [u8; 3] {
    let inside = (0..image.width() as i64).contains(&x) && (0..image.height() as i64).contains(&y);
    match inside {
        true => std::array::from_fn(|c| image.pixels()[(y as usize * image.width() + x as usize) * 3 + c]),
        false => [0; 3],
    }
}

fn pixels(image: &Image) -> impl Iterator<Item = (i64, i64, [u8; 3])> {
    let w = image.width();
    image.pixels().chunks_exact(3).enumerate().map(move |(i, p)| ((i % w) as i64, (i / w) as i64, [p[0], p[1], p[2]]))
}

proptest! {
    #[test]
    fn crop_is_a_shifted_window(
        (w, h) in (1usize..40, 1usize..40), (x, y) in (-50isize..50, -50isize..50), (cw, ch) in (1usize..60, 1usize..60),
    ) {
        let image = picture(w, h);
        let crop = image.crop(x, y, cw, ch).unwrap();
        prop_assert_eq!((crop.width(), crop.height()), (cw, ch));
        for (cx, cy, p) in pixels(&crop) {
            prop_assert_eq!(p, pixel(&image, cx + x as i64, cy + y as i64));
        }
    }

    #[test]
    fn flip_mirrors_columns((w, h) in (1usize..40, 1usize..40)) {
        let image = picture(w, h);
        let flipped = image.flip_horizontal();
        for (x, y, p) in pixels(&flipped) {
            prop_assert_eq!(p, pixel(&image, w as i64 - 1 - x, y));
        }
        prop_assert!(flipped.flip_horizontal() == image);
    }

    #[test]
    fn centre_is_rounded_as_python_rounds(len in 1usize..100_000, crop in 1usize..100_000) {
        // torchvision: int(round((len - crop) / 2)), or padding of (crop - len) // 2 in front.
        let want = match crop <= len {
            true => ((len - crop) as f64 / 2.0).round_ties_even() as isize,
            false => -(((crop - len) as f64 / 2.0).floor() as isize),
        };
        prop_assert_eq!(centre_offset(len, crop), want);
    }

    #[test]
    fn longer_side_is_truncated_as_torchvision_does(w in 1usize..65_536, h in 1usize..65_536, side in 1usize..5000) {
        let (short, long) = (w.min(h), w.max(h));
        let new_long = ((side * long) as f64 / short as f64) as usize;
        prop_assert_eq!(shorter_side(w, h, side), if w <= h { (side, new_long) } else { (new_long, side) });
    }

    #[test]
    fn a_window_of_a_resize_is_that_part_of_it(
        (w, h, dw, dh) in (1usize..50, 1usize..50, 1usize..50, 1usize..50), parts in proptest::array::uniform4(0usize..1000),
    ) {
        let image = picture(w, h);
        let (x0, y0) = (parts[0] % dw, parts[1] % dh);
        let (x1, y1) = (x0 + 1 + parts[2] % (dw - x0), y0 + 1 + parts[3] % (dh - y0));
        let whole = image.resize(dw, dh).unwrap();
        let window = image.resize_window((dw, dh), x0..x1, y0..y1).unwrap();
        prop_assert!(window == whole.crop(x0 as isize, y0 as isize, x1 - x0, y1 - y0).unwrap());
    }

    /// The fixed-point passes against the same filter in floating point, without rounding between.
    #[test]
    fn resize_is_the_triangle_filter((w, h, dw, dh) in (1usize..24, 1usize..24, 1usize..24, 1usize..24)) {
        let weights = |src: usize, dst: usize, i: usize| -> Vec<f64> {
            let scale = src as f64 / dst as f64;
            let centre = (i as f64 + 0.5) * scale;
            let raw = (0..src).map(|x| (1.0 - ((x as f64 + 0.5 - centre) / scale.max(1.0)).abs()).max(0.0));
            let sum: f64 = raw.clone().sum();
            raw.map(|w| w / sum).collect()
        };
        let image = picture(w, h);
        for (x, y, p) in pixels(&image.resize(dw, dh).unwrap()) {
            let (wx, wy) = (weights(w, dw, x as usize), weights(h, dh, y as usize));
            for (c, &got) in p.iter().enumerate() {
                let column = |sx: usize| (0..h).map(|sy| wy[sy] * f64::from(pixel(&image, sx as i64, sy as i64)[c])).sum::<f64>();
                let exact: f64 = (0..w).map(|sx| wx[sx] * column(sx)).sum();
                // Half a step for each of the two roundings, and the rounding of the weights.
                prop_assert!((f64::from(got) - exact).abs() <= 1.01, "({x}, {y}): {got} for {exact}");
            }
        }
    }

    #[test]
    fn preprocessing_is_resize_then_crop_at_any_aspect((w, h) in (1usize..90, 1usize..90), side in 1usize..40, crop in 1usize..60) {
        let image = picture(w, h);
        let p = Preprocessing { resize: Some(side.into()), crop: Some(crop.into()), ..Preprocessing::imagenet() };
        let want = image.resize_shorter(side).unwrap().centre_crop(crop, crop).unwrap();
        prop_assert!(*p.resize_and_crop(&image).unwrap() == want);
    }

    #[test]
    fn any_metadata_is_an_answer_or_an_error(values in proptest::collection::vec("[-0-9.,enaif ]{0,12}", 5), mask in 0u8..32) {
        let keys = ["resize", "crop", "mean", "std", "interpolation"];
        let entries = keys.iter().zip(values).enumerate().filter(|(i, _)| mask >> i & 1 == 1);
        let map: BTreeMap<String, String> = entries.map(|(_, (k, v))| ((*k).to_owned(), v)).collect();
        if let Ok(Some(p)) = Preprocessing::from_metadata(&map) {
            prop_assert!(p.check().is_ok());
        }
    }
}

#[test]
fn ten_crops_are_corners_and_centre_of_both_sides() {
    let image = picture(11, 8);
    let crops = image.ten_crop(5).unwrap();
    let flipped = image.flip_horizontal();
    for (i, crop) in crops.iter().enumerate() {
        let from = if i < 5 { &image } else { &flipped };
        // The centre of 8 - 5 rows: 1.5 rounds to the even 2.
        let (x, y) = [(0, 0), (6, 0), (0, 3), (6, 3), (3, 2)][i % 5];
        assert!(*crop == from.crop(x, y, 5, 5).unwrap(), "crop {i}");
    }
    let error = image.ten_crop(9).unwrap_err().to_string();
    assert_eq!(error, "cannot ten-crop a 11 x 8 picture to 9 x 9");
}

#[test]
fn extreme_aspect_ratios_take_memory_for_what_is_kept() {
    let thin = Image::new(65_535, 1, vec![200; 65_535 * 3]).unwrap();
    let error = thin.resize_shorter(256).unwrap_err().to_string();
    assert_eq!(error, "cannot resize a 65535 x 1 picture to 16776960 x 256");
    // 256 x 16,776,960 pixels would be 12 GB; the crop is 150 kB.
    let mut out = vec![0.0; 224 * 224 * 3];
    Preprocessing::imagenet().apply(&thin, &mut out).unwrap();
    assert!(out.chunks_exact(3).all(|p| p == &out[..3]));
}

#[test]
fn unusable_sizes_are_errors() {
    let image = picture(4, 3);
    assert_eq!(image.resize(0, 5).unwrap_err().to_string(), "cannot resize a 4 x 3 picture to 0 x 5");
    assert_eq!(image.crop(0, 0, 65_536, 1).unwrap_err().to_string(), "cannot crop a 4 x 3 picture to 65536 x 1");
    assert!(image.crop(isize::MIN, isize::MAX, 3, 3).unwrap().pixels().iter().all(|v| *v == 0));
    assert!(Image::new(2, 2, vec![0; 11]).is_err());
    assert!(Image::new(0, 2, vec![]).is_err());
    assert!(Image::new(usize::MAX, usize::MAX, vec![0; 3]).is_err());
}
