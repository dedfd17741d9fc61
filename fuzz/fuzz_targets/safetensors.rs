//! safetensors files. The header's length is put right, so that mutations reach the JSON and the tensors.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    residual_fuzz::import(bytes);
    // The same bytes as `header length (2 bytes), header, data`.
    if let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len()) as u64;
        residual_fuzz::import(&[&length.to_le_bytes(), rest].concat());
    }
});
