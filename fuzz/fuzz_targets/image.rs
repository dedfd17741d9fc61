//! Any bytes as a picture, then as a network's input.
#![no_main]

use libfuzzer_sys::fuzz_target;
use residual_io::{Image, Preprocessing, image::DecodeLimits};

fuzz_target!(|bytes: &[u8]| {
    let limits = DecodeLimits { max_side: 4096, max_pixels: 1 << 20, ..DecodeLimits::default() };
    match Image::decode_with(bytes, "fuzz", limits) {
        Ok(image) => {
            assert!((image.width() * image.height()) as u64 <= limits.max_pixels);
            let preprocessing = Preprocessing::cifar([0.5; 3], [0.25; 3]);
            let mut input = [f32::NAN; 32 * 32 * 3];
            preprocessing.apply(&image, &mut input).expect("a decoded picture has a usable size");
            assert!(input.iter().all(|v| (-2.0..=2.0).contains(v)));
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
});
