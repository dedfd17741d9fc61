//! Metadata, refusals and values of preprocessing.

use super::*;
use crate::Size;

#[test]
fn metadata_round_trips() {
    let odd = Preprocessing {
        resize: None,
        crop: Some(Size::square(33)),
        mean: vec![0.1, 1e-20, 0.333_333_34],
        std: vec![f32::MIN_POSITIVE, 0.75, 1.0 / 255.0],
        ..Preprocessing::imagenet()
    };
    let means = (0..2 * 2 * 3).map(|i| i as f32 / 12.0).collect();
    let pixels = Preprocessing { crop: Some(Size::square(2)), mean_picture: Some(means), ..odd.clone() };
    let grey = Preprocessing {
        resize: Some(Size { height: 30, width: 40 }),
        crop: Some(Size { height: 28, width: 36 }),
        ..Preprocessing::cifar([0.5], [0.25])
    };
    for p in [Preprocessing::imagenet(), Preprocessing::cifar([0.5; 3], [0.25; 3]), grey, odd, pixels] {
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
        (
            "mean",
            Some("0.2,0.2"),
            "preprocessing `std` = `0.229,0.224,0.225`: must be a number for every input channel of the network, which has 2",
        ),
        ("mean", Some("a\nb"), r"preprocessing `mean` = `a\nb`: must be numbers with commas between"),
        ("mean", None, "preprocessing `mean` = ``: is missing"),
        ("resize", Some("-1"), "preprocessing `resize` = `-1`: must be a number of pixels"),
        ("resize", Some("3x"), "preprocessing `resize` = `3x`: must be a number of pixels, or HEIGHTxWIDTH"),
        ("crop", Some("32x0"), "preprocessing `crop` = `32x0`: must be 1 to 2048 pixels"),
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
        ("mean", Some("0.5,-0.5,0.5"), "preprocessing `mean` = `-0.5`: must be from 0 to 1, for pixels from 0 to 1"),
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
    let std = vec![0.5, 0.25, 2.0];
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

#[test]
fn a_network_of_one_channel_reads_grey() {
    let image = Image::new(2, 1, vec![255, 0, 0, 10, 10, 10]).unwrap();
    let p = Preprocessing { resize: None, crop: None, ..Preprocessing::cifar([0.5], [0.25]) };
    let mut out = vec![0.0; 2];
    p.apply(&image, &mut out).unwrap();
    assert_eq!(out, [(76.0 / 255.0 - 0.5) / 0.25, (10.0 / 255.0 - 0.5) / 0.25]);
    let means = Preprocessing { mean_picture: Some([0.25, 0.5].into()), ..p.clone() };
    means.apply(&image, &mut out).unwrap();
    assert_eq!(out, [(76.0 / 255.0 - 0.25) / 0.25, (10.0 / 255.0 - 0.5) / 0.25]);
    let many = Preprocessing { mean: vec![0.5; 5], std: vec![0.5; 5], ..p.clone() };
    let error = many.apply(&image, &mut [0.0; 10]).unwrap_err().to_string();
    assert!(error.contains("a network of 5 input channels"), "{error}");
    let torn = Preprocessing { std: vec![0.5; 2], ..p };
    assert!(matches!(torn.apply(&image, &mut out), Err(DataError::Preprocessing { key: "std", .. })));
}

#[test]
fn other_input_sizes_keep_the_proportion_of_resize_and_crop() {
    let (square, wide) = (Size::square(448), Size { height: 112, width: 224 });
    let resized = |size| Preprocessing::imagenet().with_input_size(size).resize;
    assert_eq!((resized(square), resized(wide)), (Some(Size::square(512)), Some(Size { height: 128, width: 256 })));
    let p = Preprocessing { resize: None, ..Preprocessing::imagenet() }.with_input_size(wide);
    assert_eq!((p.resize, p.crop), (None, Some(wide)));
}

#[test]
fn rectangles_are_covered_and_cut_from_the_middle() {
    let size = Size { height: 20, width: 30 };
    let p = Preprocessing { resize: Some(size), crop: Some(size), ..Preprocessing::cifar([0.5; 3], [0.25; 3]) };
    for (width, height, resized) in [(60, 60, (30, 30)), (90, 50, (36, 20)), (31, 47, (30, 45))] {
        let image = Image::new(width, height, (0..width * height * 3).map(|i| (i % 251) as u8).collect()).unwrap();
        let want = image.resize(resized.0, resized.1).unwrap().centre_crop(30, 20).unwrap();
        assert_eq!(*p.resize_and_crop(&image).unwrap(), want, "{width} x {height}");
        assert_eq!(p.output_size(width, height), (30, 20));
    }
}

#[test]
fn flat_files_hold_it_for_grey_and_for_rectangles() {
    let size = Size { height: 20, width: 30 };
    let grey = Preprocessing { resize: None, crop: Some(size), ..Preprocessing::cifar([0.5], [0.25]) };
    for p in [grey, Preprocessing::imagenet()] {
        assert_eq!(Preprocessing::from_flat(&p.to_flat(), p.channels()), p);
    }
}
