//! Model files: raw bytes, and bytes whose checksum is made right so that everything behind it is reached.
#![no_main]

use residual_core::rsd::{AlignedBytes, View};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut aligned = AlignedBytes::from(bytes);
    for right in [false, true] {
        if right && aligned.len() >= 32 {
            let (len, checksum) = (aligned.len() as u32, residual_fuzz::checksum(&aligned[20..]));
            aligned[12..16].copy_from_slice(&len.to_le_bytes());
            aligned[16..20].copy_from_slice(&checksum.to_le_bytes());
        }
        match View::new_checked(&aligned) {
            Ok(view) => residual_fuzz::execute(&view),
            Err(error) => assert!(!error.to_string().contains('\n')),
        }
    }
});
