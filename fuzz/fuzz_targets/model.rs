//! Model files: raw bytes, and bytes whose checksum is made right so that everything behind it is reached.
#![no_main]

use residual_core::rsd::{AlignedBytes, View};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut aligned = AlignedBytes::from(bytes);
    for right in [false, true] {
        if right {
            residual_fuzz::mend(&mut aligned);
        }
        match View::new_checked(&aligned) {
            Ok(view) => residual_fuzz::execute(&view, &aligned, &[]),
            Err(error) => assert!(!error.to_string().contains('\n')),
        }
    }
});
