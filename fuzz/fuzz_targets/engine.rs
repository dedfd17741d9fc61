//! Models whose checksum is made right, and any input for them: the host's session and the microcontroller's engines must
//! give what the definition gives. The file is `length of the input (2 bytes), input, model`.
#![no_main]

use residual_core::rsd::{AlignedBytes, View};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return };
    let Some((input, model)) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length))) else { return };
    let mut model = AlignedBytes::from(model);
    residual_fuzz::mend(&mut model);
    if let Ok(view) = View::new_checked(&model) {
        residual_fuzz::execute(&view, &model, input);
    }
});
