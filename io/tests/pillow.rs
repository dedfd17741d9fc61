//! Resizing and cropping against Pillow: checksums of generated pictures (made by
//! `data/pillow.py`), and whole photographs where they are at hand.

use std::{collections::BTreeSet, path::PathBuf};

use residual_io::{Image, Preprocessing};

/// The pictures of `pillow.py`.
fn picture(pattern: &str, w: usize, h: usize) -> Image {
    let byte = |i: u64| {
        let z = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let top = ((z ^ (z >> 31)) >> 56) as u8;
        match pattern {
            "noise" => top,
            "bits" => (top >> 7) * 255,
            "ramp" => ((i / 7) as u8).wrapping_add(top >> 4),
            "white" => 255,
            other => panic!("unknown pattern {other}"),
        }
    };
    Image::new(w, h, (0..(w * h * 3) as u64).map(byte).collect()).unwrap()
}

/// `resize` then `crop` and nothing else.
fn evaluation(resize: usize, crop: usize) -> Preprocessing {
    Preprocessing { resize: Some(resize.into()), crop: Some(crop.into()), ..Preprocessing::imagenet() }
}

#[test]
fn generated_pictures_match_pillow() {
    let table = include_str!("data/pillow.txt");
    let mut ops = BTreeSet::new();
    for line in table.lines().filter(|l| !l.starts_with('#')) {
        let field: Vec<&str> = line.split(' ').collect();
        let n = |i: usize| field[i].parse::<usize>().unwrap();
        let image = picture(field[0], n(1), n(2));
        let (a, b) = (n(4), n(5));
        let result = match field[3] {
            "resize" => image.resize(a, b).unwrap(),
            "eval" => evaluation(a, b).resize_and_crop(&image).unwrap().into_owned(),
            other => panic!("unknown operation {other}"),
        };
        ops.insert(field[3]);
        let got = format!("{:08x}", crc32fast::hash(result.pixels()));
        assert_eq!(got, field[6], "{line}");
    }
    assert_eq!(ops.len(), 2);
}

#[test]
fn photographs_match_pillow() {
    let shared = std::env::var_os("RESIDUAL_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let dir = shared.join("golden/preprocess");
    let Ok(entries) = dir.read_dir() else {
        println!("skipped: no {}", dir.display());
        return;
    };
    let mut compared = 0;
    for path in entries.map(|e| e.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".png").filter(|s| !s.contains('.')) else { continue };
        let want = Image::open(dir.join(format!("{stem}.resize256.crop224.png"))).unwrap();
        let got = Preprocessing::imagenet().resize_and_crop(&Image::open(&path).unwrap()).unwrap().into_owned();
        assert_eq!((got.width(), got.height()), (want.width(), want.height()), "{name}");
        let differing = got.pixels().iter().zip(want.pixels()).filter(|(a, b)| a != b).count();
        assert_eq!(differing, 0, "{name}");
        compared += 1;
    }
    assert!(compared > 0, "{} holds no picture", dir.display());
}
