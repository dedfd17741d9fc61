//! TensorFlow Lite files: what is read becomes a model, runs, and is written again.
#![no_main]

use residual_core::rsd::View;
use residual_io::tflite::{export, import};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let imported = match import("fuzz", bytes) {
        Ok(imported) => imported,
        Err(error) => return assert!(!error.to_string().contains('\n')),
    };
    if let Ok(file) = export(&imported.network) {
        assert!(import("again", &file).is_ok());
    }
    let Ok(model) = imported.network.to_model() else { return };
    let Ok(view) = View::new_checked(&model) else { return };
    residual_fuzz::execute(&view, &model, &[]);
});
