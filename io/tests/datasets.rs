//! Data sets made in temporary folders.

use std::{
    fs,
    path::{Path, PathBuf},
};

use residual_io::{
    DataError, Image,
    dataset::{Cifar, CifarKind, Dataset, ImageFolder, Layout, Split, open},
};
use tempfile::TempDir;

fn write_png(path: &Path, shade: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(3, 2, image::Rgb([shade; 3])).save_with_format(path, image::ImageFormat::Png).unwrap();
}

fn tree(files: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (i, file) in files.iter().enumerate() {
        write_png(&dir.path().join(file), i as u8);
    }
    dir
}

/// The shade of every picture, which is its position in the list given to [`tree`].
fn shades(set: &dyn Dataset) -> Vec<(usize, u8)> {
    (0..set.len()).map(|i| (set.label(i), set.image(i).unwrap().pixels()[0])).collect()
}

fn message<T>(result: Result<T, DataError>) -> String {
    let message = result.err().expect("an error").to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn image_folder_orders_as_torchvision() {
    let dir = tree(&["b/2.PNG", "b/10.png", "a/z/1.jpeg", "a/9.bmp", "B/x.webp", "b-c/y.jpg"]);
    fs::write(dir.path().join("a/notes.txt"), "no picture").unwrap();
    fs::write(dir.path().join("readme.png"), "not in a class").unwrap();
    fs::create_dir(dir.path().join(".git")).unwrap();
    let set = open(dir.path(), Split::Train).unwrap();
    assert_eq!(set.classes(), ["B", "a", "b", "b-c"]);
    assert_eq!(shades(&*set), [(0, 4), (1, 3), (1, 2), (2, 1), (2, 0), (3, 5)]);
    assert!(set.name(3).ends_with("10.png"), "{}", set.name(3));
    assert!(message(set.image(6)).contains("picture 6 of a data set of 6"));
}

#[test]
fn image_folder_picks_its_split() {
    let dir = tree(&["train/x/0.png", "train/y/1.png", "val/y/2.png", "test/unlabelled.png"]);
    assert_eq!(shades(&*open(dir.path(), Split::Train).unwrap()), [(0, 0), (1, 1)]);
    // `val/x` is missing, `y` keeps its label; `test` has no classes.
    let val = open(dir.path(), Split::Test).unwrap();
    assert_eq!((shades(&*val), val.classes().len()), (vec![(1, 2)], 2));

    assert!(val.remarks().iter().any(|r| r.ends_with("no pictures of 1 of the classes: x")), "{:?}", val.remarks());
    assert!(val.remarks().iter().any(|r| r.contains("`test` is left out: it holds no class folders")));

    write_png(&dir.path().join("test/z/3.png"), 3);
    let error = message(open(dir.path(), Split::Test));
    assert!(error.contains("test: class `z` is not among the 2 classes of") && error.contains("train"), "{error}");
    // Validation prefers `val`, and says so.
    let val = open(dir.path(), Split::Validation).unwrap();
    assert_eq!(shades(&*val), vec![(1, 2)]);
    assert!(val.remarks().iter().any(|r| r.ends_with("measured on `val`; `test` is left out")), "{:?}", val.remarks());

    // A class may be called `train`.
    let plain = tree(&["train/0.png", "plane/1.png"]);
    assert_eq!(open(plain.path(), Split::Test).unwrap().classes(), ["plane", "train"]);
}

#[test]
fn parts_are_known_by_all_their_names() {
    for (train, held) in [
        ("train", "val"),
        ("train", "valid"),
        ("Train", "Validation"),
        ("TRAIN", "TEST"),
        ("training", "testing"),
        ("train", "test"),
    ] {
        let files = [format!("{train}/a/0.png"), format!("{train}/b/1.png"), format!("{held}/b/2.png")];
        let dir = tree(&files.each_ref().map(String::as_str));
        let layout = Layout::find(dir.path()).unwrap();
        assert!(layout.has_parts());
        assert_eq!(shades(&*layout.open(Split::Train).unwrap()), [(0, 0), (1, 1)], "{train}");
        for split in [Split::Validation, Split::Test] {
            let set = layout.open(split).unwrap();
            assert_eq!((shades(&*set), set.classes()), (vec![(1, 2)], &["a".to_owned(), "b".to_owned()][..]), "{held}");
        }
    }
    let whole = tree(&["a/0.png", "b/1.png"]);
    assert!(!Layout::find(whole.path()).unwrap().has_parts());
    let train = tree(&["train/a/0.png", "train/b/1.png"]);
    assert!(!Layout::find(train.path()).unwrap().has_parts());
    assert_eq!(open(train.path(), Split::Train).unwrap().classes(), ["a", "b"]);
    assert!(
        message(open(train.path(), Split::Test))
            .ends_with("holds `train`, but no val, valid, validation or test with class folders beside it")
    );
    let held = tree(&["valid/a/0.png", "valid/b/1.png"]);
    assert_eq!(open(held.path(), Split::Test).unwrap().classes(), ["a", "b"]);
    assert!(message(open(held.path(), Split::Train)).ends_with("holds `valid`, but no train beside it"));
}

#[test]
fn folders_that_could_be_read_in_two_ways_are_refused_by_name() {
    for (files, says) in [
        (&["train/a/0.png", "train/b/1.png", "val/a/2.png", "cats/3.png"][..], ["`train`", "`cats`"]),
        (&["train/a/0.png", "cats/3.png", "dogs/4.png"], ["`train`", "`cats`"]),
        (&["test/0.png", "cats/3.png", "dogs/4.png"], ["`test`", "`cats`"]),
        (&["train/0.png", "Valid/0.png", "dogs/4.png"], ["`train`", "`dogs`"]),
        (&["train/a/0.png", "Train/a/1.png", "val/a/2.png"], ["`Train`", "`train`"]),
        (&["train/a/0.png", "training/a/1.png"], ["`train`", "`training`"]),
        (&["set/train/a/0.png", "set/val/a/1.png"], ["`train`", "`val`"]),
        (&["bottle/train/good/0.png", "bottle/test/bad/1.png", "cable/train/good/2.png"], ["`train`", "`test`"]),
        (&["train/0.png", "val/a/1.png"], ["train: no class folders", "one folder"]),
        (&["train/0.png", "val/1.png"], ["train: no class folders", "one folder"]),
    ] {
        let dir = tree(files);
        for split in [Split::Train, Split::Validation, Split::Test] {
            let error = message(open(dir.path(), split));
            assert!(says.iter().all(|part| error.contains(part)), "{files:?}: {error}");
        }
    }
    // What holds no pictures is no class.
    let dir = tree(&["train/a/0.png", "val/a/1.png"]);
    fs::create_dir_all(dir.path().join("labels/a")).unwrap();
    fs::write(dir.path().join("labels/a/0.txt"), "0 0 1 1").unwrap();
    assert_eq!(open(dir.path(), Split::Train).unwrap().classes(), ["a"]);
}

#[test]
fn files_that_are_left_out_are_counted_and_said() {
    let dir = tree(&["a/0.png", "b/1.png"]);
    for file in ["a/1.tif", "a/2.TIF", "b/deep/3.gif", "b/4", "b/.DS_Store", "b/Thumbs.db"] {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "II*\0").unwrap();
    }
    let set = open(dir.path(), Split::Train).unwrap();
    let [remark] = set.remarks() else { panic!("{:?}", set.remarks()) };
    assert!(
        remark.contains(": 4 files are left out (1 .gif, 2 .tif, 1 without extension); pictures are jpg"),
        "{remark}"
    );
    assert_eq!((set.len(), set.place()), (2, dir.path().display().to_string()));
    fs::create_dir(dir.path().join("c")).unwrap();
    fs::write(dir.path().join("c/0.ppm"), "P6").unwrap();
    let error = message(open(dir.path(), Split::Train));
    assert!(error.contains("c: no pictures in this class folder") && error.contains("it holds 1 .ppm"), "{error}");
}

#[test]
fn cifar_for_other_programs_is_told_from_pictures() {
    for (file, archive) in [
        ("data_batch_1", "cifar-10-binary.tar.gz"),
        ("cifar-10-batches-py/data_batch_1", "cifar-10-binary.tar.gz"),
        ("cifar-10-batches-mat/test_batch.mat", "cifar-10-binary.tar.gz"),
        ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"),
        ("train", "cifar-100-binary.tar.gz"),
        ("cifar-100-python/test", "cifar-100-binary.tar.gz"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
        fs::write(dir.path().join(file), b"\x80\x02}").unwrap();
        let error = message(open(dir.path(), Split::Train));
        let name = file.rsplit('/').next().unwrap();
        assert!(error.contains(archive) && error.contains(&format!("`{name}`")), "{error}");
    }
}

#[test]
fn image_folder_errors_name_the_folder() {
    let dir = tree(&["a/0.png"]);
    let missing = dir.path().join("nowhere");
    assert_eq!(message(open(&missing, Split::Train)), format!("{}: no such folder", missing.display()));
    assert!(message(open(dir.path().join("a/0.png"), Split::Train)).ends_with("no such folder"));
    assert!(message(open(dir.path().join("a"), Split::Train)).contains("a: no class folders"));
    fs::create_dir(dir.path().join("empty")).unwrap();
    let error = message(ImageFolder::open(dir.path(), Split::Train));
    assert!(error.contains("empty: no pictures in this class folder (looked for jpg, jpeg, png"), "{error}");
}

#[test]
fn a_damaged_picture_is_named_and_the_rest_stays_usable() {
    let dir = tree(&["a/0.png", "a/1.png", "b/2.png"]);
    let damaged = dir.path().join("a/1.png");
    let bytes = fs::read(&damaged).unwrap();
    fs::write(&damaged, &bytes[..bytes.len() / 2]).unwrap();
    let set = open(dir.path(), Split::Train).unwrap();
    assert_eq!(set.len(), 3);
    assert!(message(set.image(1)).starts_with(&damaged.display().to_string()));
    assert_eq!(set.image(2).unwrap().pixels()[0], 2);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_loops_are_errors() {
    use std::os::unix::fs::symlink;
    let elsewhere = tree(&["cat/0.png"]);
    let dir = tree(&["dog/1.png"]);
    symlink(elsewhere.path().join("cat"), dir.path().join("cat")).unwrap();
    symlink(elsewhere.path().join("cat/0.png"), dir.path().join("dog/0.png")).unwrap();
    let set = open(dir.path(), Split::Train).unwrap();
    assert_eq!(set.classes(), ["cat", "dog"]);
    assert_eq!(set.len(), 3);
    symlink(dir.path().join("dog"), dir.path().join("dog/again")).unwrap();
    let error = message(open(dir.path(), Split::Train));
    assert!(error.contains("again") && error.contains("links back"), "{error}");
}

/// Record `n`: its labels, then planes whose bytes differ by channel.
fn record(labels: &[u8], n: u8) -> Vec<u8> {
    let planes = (0..3072usize).map(|i| n.wrapping_add((i % 1024) as u8).wrapping_add((i / 1024 * 50) as u8));
    labels.iter().copied().chain(planes).collect()
}

fn cifar10(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    for file in 1..=5u8 {
        let bytes = [record(&[file], file), record(&[0], 10 * file)].concat();
        fs::write(dir.join(format!("data_batch_{file}.bin")), bytes).unwrap();
    }
    fs::write(dir.join("test_batch.bin"), record(&[9], 77)).unwrap();
}

#[test]
fn cifar10_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("cifar-10-batches-bin");
    cifar10(&inner);
    for path in [dir.path(), &inner] {
        let set = open(path, Split::Train).unwrap();
        assert_eq!((set.len(), set.classes().len(), set.classes()[3].as_str()), (10, 10, "3"));
        assert_eq!((set.label(4), set.label(5)), (3, 0));
        let image = set.image(4).unwrap();
        assert_eq!((image.width(), image.height()), (32, 32));
        assert_eq!(image.pixels()[3 * 33..][..3], [3 + 33, 3 + 33 + 50, 3 + 33 + 100]);
        assert!(set.name(5).ends_with("data_batch_3.bin record 1"), "{}", set.name(5));
        assert!(message(set.image(10)).contains("picture 10 of a data set of 10"));
        assert_eq!(open(path, Split::Test).unwrap().label(0), 9);
    }
    let names: Vec<String> = (0..10).map(|i| format!("name{i}\n")).collect();
    fs::write(inner.join("batches.meta.txt"), names.concat() + "\n\n").unwrap();
    assert_eq!(open(&inner, Split::Test).unwrap().classes()[9], "name9");
    fs::write(inner.join("batches.meta.txt"), "one\ntwo\n").unwrap();
    assert!(message(open(&inner, Split::Test)).ends_with("batches.meta.txt: 2 class names for 10 classes"));
}

#[test]
fn cifar100_has_fine_labels() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("train.bin"), [record(&[3, 99], 1), record(&[19, 0], 2)].concat()).unwrap();
    let set = Cifar::open(dir.path(), CifarKind::Cifar100, Split::Train).unwrap();
    assert_eq!((set.len(), set.label(0), set.label(1), set.classes().len()), (2, 99, 0, 100));
    assert_eq!(set.image(1).unwrap().pixels()[..3], [2, 52, 102]);
    let error = message(open(dir.path(), Split::Test));
    assert!(error.starts_with("cannot read") && error.contains("test.bin"), "{error}");
}

#[test]
fn cifar_errors_name_file_record_and_value() {
    let dir = tempfile::tempdir().unwrap();
    cifar10(dir.path());
    let file: PathBuf = dir.path().join("data_batch_4.bin");
    let good = fs::read(&file).unwrap();
    let error = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        message(open(dir.path(), Split::Train)).replace(&file.display().to_string(), "FILE")
    };
    assert_eq!(error(&good[..6000]), "FILE: 6000 bytes are not a whole number of records of 3073 bytes");
    assert_eq!(error(&[]), "FILE: 0 bytes are not a whole number of records of 3073 bytes");
    let mut wrong = good.clone();
    wrong[3073] = 10;
    assert_eq!(error(&wrong), "FILE: record 1: label 10 is not below 10");
    fs::remove_file(&file).unwrap();
    let error = message(open(dir.path(), Split::Train));
    assert!(error.starts_with("cannot read") && error.contains("data_batch_4.bin"), "{error}");

    fs::write(dir.path().join("train.bin"), record(&[0, 0], 0)).unwrap();
    let error = message(open(dir.path(), Split::Train));
    assert!(error.ends_with("holds both `test_batch.bin` and `test.bin`; name one of them"), "{error}");
}

#[test]
fn cifar_coarse_labels_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("test.bin"), record(&[20, 5], 0)).unwrap();
    assert!(message(open(dir.path(), Split::Test)).ends_with("test.bin: record 0: coarse label 20 is not below 20"));
    fs::write(dir.path().join("test.bin"), record(&[2, 100], 0)).unwrap();
    assert!(message(open(dir.path(), Split::Test)).ends_with("test.bin: record 0: fine label 100 is not below 100"));
}

#[test]
fn data_sets_are_shared_between_threads() {
    let dir = tree(&["a/0.png", "b/1.png"]);
    let set = open(dir.path(), Split::Train).unwrap();
    let read = |i| set.image(i).map(Image::into_pixels).unwrap()[0];
    let (a, b) = std::thread::scope(|s| {
        let other = s.spawn(|| read(1));
        (read(0), other.join().unwrap())
    });
    assert_eq!((a, b), (0, 1));
}
