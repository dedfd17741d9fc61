//! Checkpoints: any bytes, and changes to a real one, as `position (2 bytes), byte`.
#![no_main]

use std::{
    cell::RefCell,
    fs,
    path::PathBuf,
    sync::atomic::AtomicBool,
};

use residual_train::trainer::{Limits, RunFolder, Source, Trainer};

struct Run {
    trainer: Trainer,
    checkpoint: Vec<u8>,
    /// where checkpoints are resumed from
    other: PathBuf,
}

thread_local! {
    static RUN: RefCell<Run> = RefCell::new(begin());
}

fn begin() -> Run {
    let config = residual_fuzz::small_run();
    let (own, other) = (residual_fuzz::folder("run"), residual_fuzz::folder("resumed"));
    let source = Source::synthetic(16, 4, config.input);
    let folder = RunFolder::overwrite(&own).expect("a folder");
    let mut trainer = Trainer::new(config, source, residual_fuzz::resources(), folder).expect("a run");
    let limits = Limits { max_steps: Some(1), ..Limits::default() };
    trainer.run(&limits, &AtomicBool::new(false), |_| {}).expect("a step");
    let checkpoint = fs::read(own.join("checkpoint")).expect("a checkpoint");
    fs::create_dir_all(&other).expect("a folder");
    Run { trainer, checkpoint, other }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    RUN.with_borrow_mut(|Run { trainer, checkpoint, other }| {
        let mut changed = checkpoint.clone();
        for change in bytes.chunks_exact(3) {
            let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % changed.len();
            changed[at] = change[2];
        }
        for file in [bytes, &changed] {
            fs::write(other.join("checkpoint"), file).expect("a file");
            match trainer.resume(other) {
                Ok(()) => assert!(trainer.position().epoch <= 2),
                Err(error) => assert!(!error.to_string().contains('\n')),
            }
        }
    });
});
