//! Files that others write to while they are open, and values that are read late.

use std::{
    fs::{self, File},
    path::Path,
};

use half::f16;
use residual_core::{
    plan::{Options, Plan},
    resnet::{ResNet, fold_batch_norm},
    session::Session,
    testing::Generated,
    weights::Tensor,
};

use super::{super::*, *};

fn net() -> ResNet {
    "resnet8-cifar".parse().unwrap()
}

/// All tensors of `weights` on one storage, the elements of `size` bytes.
fn torch(weights: &Generated, class: &str, size: usize, encode: impl Fn(f32) -> Vec<u8>) -> Vec<u8> {
    let (mut asm, mut storage) = (Asm::new().raw(b"}"), Vec::new());
    let all: usize = weights.spec().tensors().map(|t| t.elements()).sum();
    for name in weights.names() {
        let Tensor { shape, data } = weights.tensor(name).unwrap();
        let shape: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        let strides: Vec<i64> = (0..shape.len()).map(|d| shape[d + 1..].iter().product()).collect();
        let offset = (storage.len() / size) as i64;
        asm = asm.str(name).tensor(class, all as i64, offset, &shape, &strides).raw(b"s");
        storage.extend(data.to_vec().unwrap().into_iter().flat_map(&encode));
    }
    torch_zip(&asm.raw(b"."), &storage)
}

/// The same network in files of several kinds.
fn files(folder: &Path) -> Vec<PathBuf> {
    let weights = Generated::new(net());
    let path = |name: &str| folder.join(name);
    let tensors = || weights.names().map(|name| (name, weights.tensor(name).unwrap()));
    save(path("a.safetensors"), tensors(), &describe(&net(), None)).unwrap();
    fs::write(path("a.pt"), torch(&weights, "FloatStorage", 4, |v| v.to_le_bytes().to_vec())).unwrap();
    fs::write(path("half.pt"), torch(&weights, "HalfStorage", 2, |v| f16::from_f32(v).to_le_bytes().to_vec())).unwrap();
    ["a.safetensors", "a.pt", "half.pt"].map(path).into()
}

fn cut(path: &Path, len: u64) {
    File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

#[test]
fn a_file_cut_short_while_it_is_open_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for path in files(folder.path()) {
        let file = WeightFile::open(&path).unwrap();
        check(&net(), &file).unwrap();
        let folded = fold_batch_norm(&net(), &file).unwrap();
        let had = fs::metadata(&path).unwrap().len();
        let now = had / 2;
        cut(&path, now);
        let whole = |tensor: &str| {
            format!(
                "{}: tensor {tensor} cannot be read: the file was cut short while it was open \
                 (it had {had} bytes, now {now}); write a new file and rename it over the old one",
                path.display()
            )
        };
        for threads in [1, 3] {
            let error = Session::new(&folded, &Options { threads, ..Options::default() }).err().unwrap();
            let Error::Unreadable(tensor) = error else { panic!("{error}") };
            assert!(tensor.ends_with(".weight"), "{tensor}");
            assert_eq!(error.to_string(), format!("tensor `{tensor}` cannot be read from where it lies"));
            assert_eq!(file.explain(&error).unwrap().to_string(), whole(&tensor));
        }
        assert!(file.explain(&Error::NotRun).is_none());
        // The last tensor, by any way.
        let last = "layer3.0.conv2.weight";
        let read = file.tensor(last).unwrap().data.to_vec().unwrap_err();
        assert_eq!(read.to_string(), whole(last));
        assert_eq!(ImportError::from(read).to_string(), whole(last));
        let copy = save(folder.path().join("copy"), file.tensors(), &describe(&net(), None)).unwrap_err().to_string();
        assert!(copy.contains(" cannot be read: the file was cut short") && !copy.contains("copy"), "{copy}");

        cut(&path, 40);
        let error = fold_batch_norm(&net(), &file).unwrap_err();
        assert!(matches!(error, Error::Unreadable(_)), "{error}");
        let text = file.explain(&error).unwrap().to_string();
        assert!(text.contains(", now 40); write a new file"), "{text}");
        let checked = check(&net(), &file).unwrap_err().to_string();
        assert!(checked.contains(" cannot be read: the file was cut short"), "{checked}");
        assert!(WeightFile::open(&path).is_err());
    }
}

#[test]
fn a_file_that_is_replaced_or_grows_is_read_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    for path in files(folder.path()) {
        let file = WeightFile::open(&path).unwrap();
        let memory = WeightFile::from_bytes("memory", fs::read(&path).unwrap()).unwrap();
        let plan = Plan::new(&fold_batch_norm(&net(), &memory).unwrap(), &Options::default()).unwrap();
        let run = |file: &WeightFile, threads| {
            let options = Options { threads, isa: plan.options().isa, ..Options::default() };
            let mut session = Session::new(&fold_batch_norm(&net(), file).unwrap(), &options).unwrap();
            session.run(&vec![0.25; plan.input_len()]).unwrap().iter().map(|v: &f32| v.to_bits()).collect::<Vec<_>>()
        };
        let want = run(&memory, 1);
        assert_eq!(run(&file, 1), want);
        let longer = fs::metadata(&path).unwrap().len() + 1000;
        cut(&path, longer);
        assert_eq!(run(&file, 4), want);
        #[cfg(unix)]
        {
            fs::write(folder.path().join("new"), "another file").unwrap();
            fs::rename(folder.path().join("new"), &path).unwrap();
            assert_eq!(run(&file, 2), want);
        }
    }
}

/// A checksum makes every value pass by when a file is opened; without one they are looked at when they are checked.
#[test]
fn unusable_values_are_found_in_files_with_checksums_and_without() {
    let spec = net();
    let values = |bad: f32, at: usize| {
        let count = spec.tensors().find(|t| &*t.name == "fc.weight").unwrap().elements();
        (0..count).map(move |i| if i == at { bad } else { 0.5 })
    };
    let message = |file: &WeightFile| check(&spec, file).unwrap_err().to_string();
    for (bad, at, shown) in [(f32::NAN, 639, "fc.weight[639] is NaN"), (f32::NEG_INFINITY, 0, "fc.weight[0] is -inf")] {
        for (class, dtype, size) in [("FloatStorage", "F32", 4), ("HalfStorage", "F16", 2), ("DoubleStorage", "F64", 8)]
        {
            let bytes: Vec<u8> = values(bad, at)
                .flat_map(|v| match size {
                    2 => f16::from_f32(v).to_le_bytes().to_vec(),
                    4 => v.to_le_bytes().to_vec(),
                    _ => f64::from(v).to_le_bytes().to_vec(),
                })
                .collect();
            let asm = Asm::new().raw(b"}").str("fc.weight").tensor(class, 640, 0, &[10, 64], &[64, 1]).raw(b"s.");
            let text = message(&read(&torch_zip(&asm, &bytes)).unwrap());
            assert!(text.ends_with(&format!("; {shown}")), "{class}: {text}");
            // Transposed, so that the order is another.
            let asm = Asm::new().raw(b"}").str("fc.weight").tensor(class, 640, 0, &[10, 64], &[1, 10]).raw(b"s.");
            let text = message(&read(&torch_zip(&asm, &bytes)).unwrap());
            assert!(text.ends_with(&format!("; {shown}")), "{class}: {text}");
            let header =
                format!(r#"{{"fc.weight":{{"dtype":"{dtype}","shape":[10,64],"data_offsets":[0,{}]}}}}"#, bytes.len());
            let text = message(&read(&safetensors(&header, &bytes)).unwrap());
            assert!(text.ends_with(&format!("; {shown}")), "{dtype}: {text}");
        }
    }
    // A storage that is named with two types: finite halves say nothing about floats.
    let halves: Vec<u8> = [0u16, 0x7f80].iter().flat_map(|half| half.to_le_bytes()).collect();
    let asm = Asm::new().raw(b"}").str("a").tensor("HalfStorage", 1, 0, &[1], &[1]).raw(b"s");
    let asm = asm.str("fc.bias").tensor("FloatStorage", 1, 0, &[1], &[1]).raw(b"s.");
    let text = message(&read(&torch_zip(&asm, &halves)).unwrap());
    assert!(text.ends_with("fc.bias[0] is inf"), "{text}");
}
