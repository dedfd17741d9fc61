use std::{fs, path::PathBuf};

use residual_core::{Isa, plan::Options, rsd::View, session::Session};

use super::*;

fn mlperf() -> Option<Vec<u8>> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("RESIDUAL_SHARED").map_or_else(beside, PathBuf::from);
    let file = shared.join("data/tflite/mlperf_tiny_resnet8_int8.tflite");
    let bytes = fs::read(&file).ok();
    if bytes.is_none() {
        println!("skipped: import of a foreign .tflite file: no {}", file.display());
    }
    bytes
}

#[test]
fn a_foreign_network_survives_a_round_trip() {
    let Some(bytes) = mlperf() else { return };
    let imported = import("mlperf", &bytes).unwrap();
    assert!(imported.softmax.is_some());
    assert_eq!((imported.network.layers.len(), imported.network.input.h), (11, 32));
    let model = imported.network.to_model().unwrap();
    let view = View::new_checked(&model).unwrap();
    let again = import("again", &export(&imported.network).unwrap()).unwrap();
    let names = |n: &crate::quantized::Network| n.layers.iter().map(|l| l.kind.clone()).collect::<Vec<_>>();
    assert_eq!(names(&again.network), names(&imported.network));
    let mut session = Session::new(&view.net().unwrap(), &Options { isa: Isa::best(), ..Options::default() }).unwrap();
    let image: Vec<i8> = (0..3072).map(|i| (i * 7) as i8).collect();
    assert_eq!(session.run(&image).unwrap().len(), 10);
}

#[test]
fn damaged_files_are_refused_in_one_line() {
    let Some(bytes) = mlperf() else { return };
    for len in (0..bytes.len()).step_by(997).chain(0..64) {
        let error = import("cut", &bytes[..len]).unwrap_err().to_string();
        assert!(error.starts_with("cut: ") && !error.contains('\n'), "{error}");
    }
    // Every byte of the tables and many of the tensors, changed.
    let mut seed = 1u32;
    for i in 0..20_000 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let at = if i % 2 == 0 { seed as usize % bytes.len() } else { bytes.len() - 1 - seed as usize % 20_000 };
        let mut damaged = bytes.clone();
        damaged[at] = (seed >> 24) as u8;
        match import("damaged", &damaged) {
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
            Ok(imported) => {
                if let Err(error) = imported.network.to_model() {
                    assert!(!error.to_string().contains('\n'), "{error}");
                }
            }
        }
    }
}
