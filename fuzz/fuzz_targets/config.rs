//! `config.json` of a run: whatever is accepted, a small run can be prepared with.
#![no_main]

use residual_train::trainer::{Config, RunFolder, Source, Trainer};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(config) = serde_json::from_slice::<Config>(bytes) else { return };
    let text = serde_json::to_string(&config).expect("a configuration is JSON");
    let again: Config = serde_json::from_str(&text).expect("what was written is read");
    assert_eq!(config.difference(&again), None);
    // Time and memory are bounded; everything else is the file's.
    let small = residual_fuzz::small_run();
    let config = Config {
        arch: small.arch,
        classes: small.classes,
        input: small.input,
        batch_size: config.batch_size.min(8),
        ..config
    };
    let folder = RunFolder::create(&residual_fuzz::folder("config")).expect("a folder");
    let source = Source::synthetic(16, 4, config.input);
    if let Err(error) = Trainer::new(config, source, residual_fuzz::resources(), folder) {
        assert!(!error.to_string().contains('\n'));
    }
});
