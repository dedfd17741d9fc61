//! Any bytes as a file of CIFAR records; the first chooses the kind.
#![no_main]

use libfuzzer_sys::fuzz_target;
use residual_io::dataset::{CifarFile, CifarKind};

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let kind = if choice & 1 == 0 { CifarKind::Cifar10 } else { CifarKind::Cifar100 };
    match CifarFile::new(kind, "fuzz", bytes.to_vec()) {
        Ok(file) => {
            assert_eq!(file.len() * kind.record_len(), bytes.len());
            for record in 0..file.len() {
                assert!(file.label(record).expect("below len") < kind.classes());
                assert_eq!(file.image(record).expect("below len").pixels().len(), 3072);
            }
            assert!(file.image(file.len()).is_none());
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
});
