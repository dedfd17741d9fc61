//! Files of `torch.save`: whole files, and bytes as the pickle of an otherwise valid legacy file.
#![no_main]

const PROLOGUE: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    residual_fuzz::import(bytes);
    residual_fuzz::import(&[PROLOGUE, bytes].concat());
});
