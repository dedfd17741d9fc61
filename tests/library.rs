//! The library as its users call it.

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use common::{ARCH, CLASSES, Fixture};
use residual::{
    Classifier, CoreError, DataError, Error, Given, Image, Matching, Model, Pictures, Prepared, Runner, dataset,
    evaluate, logits::argmax, map_pictures, plan::Options, rsd,
};

fn pictures(n: u8) -> Vec<Image> {
    let pixel = |i: u8| move |at: usize| (at * usize::from(i + 3) / 5) as u8;
    (0..n)
        .map(|i| Image::new(40 + usize::from(i), 33, (0..(40 + usize::from(i)) * 99).map(pixel(i)).collect()).unwrap())
        .collect()
}

#[test]
fn a_classifier_gives_the_same_answer_for_any_batch_and_thread_count() {
    let fixture = Fixture::new();
    let weights = fixture.weights("w.safetensors", ARCH);
    let images = pictures(7);
    let mut one = Classifier::builder().threads(1).open(&weights).unwrap();
    let expected: Vec<_> = images.iter().map(|image| one.classify(image, 10).unwrap()).collect();
    for prediction in &expected {
        assert!((prediction.iter().map(|p| p.probability).sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(prediction.iter().all(|p| p.name == CLASSES[p.class]));
    }
    for (threads, batch) in [(1, 3), (2, 7), (3, 16)] {
        let mut other = Classifier::builder().threads(threads).batch(batch).open(&weights).unwrap();
        assert_eq!(other.classify_batch(&images, 10).unwrap(), expected, "{threads} threads, batch {batch}");
    }
    let rows = one.logits(&images).unwrap();
    assert!(rows.iter().zip(&expected).all(|(row, p)| argmax(row) == p[0].class));
}

/// A network that computes in int8.
fn int8() -> Model {
    let made_up = rsd::synthetic(&ARCH.parse().unwrap(), 1).unwrap();
    let given = Given { normalisation: Some((vec![0.5; 3], vec![0.25; 3])), ..Given::default() };
    Model::from_bytes("made up", made_up.to_vec(), &given).unwrap()
}

#[test]
fn a_runner_takes_pictures_and_prepared_inputs_alike_and_refuses_what_does_not_fit() {
    let fixture = Fixture::new();
    let images = pictures(3);
    for model in [Model::open(fixture.weights("w.safetensors", ARCH)).unwrap(), int8()] {
        let want = Classifier::builder().threads(1).build(&model).unwrap().logits(&images).unwrap().concat();
        let prepared = Arc::new(
            Prepared::new(&model, &Options { batch: 4, isa: residual::isa().unwrap(), ..Options::default() }).unwrap(),
        );
        let mut runner = Runner::new(Arc::clone(&prepared)).unwrap();
        images.iter().enumerate().for_each(|(slot, image)| runner.load(slot, image).unwrap());
        let mut seen = vec![0; prepared.plan().steps().len()];
        assert_eq!(runner.run_with(3, |step| seen[step.index()] += 1).unwrap(), want);
        assert!(seen.iter().all(|n| *n > 0), "{seen:?}");

        let mut input = vec![0.0; prepared.plan().input().shape.elements()];
        prepared.preprocessing().apply(&images[2], &mut input).unwrap();
        runner.load_input(0, &input).unwrap();
        assert_eq!(runner.run(1).unwrap(), &want[2 * prepared.classes()..]);

        let length = |result| matches!(result, Err(DataError::BufferLength { .. }));
        assert!(length(runner.load(4, &images[0])) && length(runner.load(usize::MAX, &images[0])));
        assert!(length(runner.load_input(4, &input)) && length(runner.load_input(0, &input[1..])));
        for count in [0, 5, usize::MAX] {
            assert!(matches!(runner.run(count), Err(Error::Network(CoreError::BufferLength { .. }))), "{count}");
        }
    }
}

#[test]
fn pictures_come_back_in_order_whoever_ran_them() {
    let fixture = Fixture::new();
    let model = Model::open(fixture.weights("w.safetensors", ARCH)).unwrap();
    let images = pictures(23);
    let isa = residual::isa().unwrap();
    let missing =
        |i: usize| if i % 5 == 3 { Err(DataError::Index { index: i, len: 23 }) } else { Ok(images[i].clone()) };
    let run = |threads, batch, skip_unreadable| {
        let (how, done) = (Pictures { threads, batch, isa, skip_unreadable }, AtomicUsize::new(0));
        let progress = |n| {
            done.fetch_add(n, Ordering::Relaxed);
        };
        let map = |i: usize, row: &[f32]| (i, row.to_vec());
        let results = map_pictures(&model, &how, 23, missing, map, progress)?;
        assert_eq!(done.into_inner(), 23);
        Ok::<_, Error>(results.into_iter().map(|r| r.map_err(|e| e.to_string())).collect::<Vec<_>>())
    };
    let expected = run(1, 1, true).unwrap();
    assert!(
        expected.iter().enumerate().all(|(i, r)| r.as_ref().map_or(i % 5 == 3, |(n, row)| *n == i && row.len() == 10))
    );
    for (threads, batch) in [(1, 4), (4, 1), (3, 2), (64, 100)] {
        assert_eq!(run(threads, batch, true).unwrap(), expected);
        let error = run(threads, batch, false).unwrap_err();
        assert!(matches!(error, Error::Data(DataError::Index { index: 3, .. })), "{error}");
    }
    assert!(matches!(run(0, 1, true), Err(Error::Network(_))) && matches!(run(1, 0, true), Err(Error::Network(_))));
}

#[test]
fn weights_that_are_cut_short_while_they_are_open_are_an_error_that_says_so() {
    let fixture = Fixture::new();
    let weights = fixture.weights("w.safetensors", ARCH);
    let model = Model::open(&weights).unwrap();
    let net = model.net().unwrap();
    let had = std::fs::metadata(&weights).unwrap().len();
    std::fs::File::options().write(true).open(&weights).unwrap().set_len(had / 2).unwrap();
    let says = |error: Error| {
        let text = error.to_string();
        let end = format!(
            " cannot be read: the file was cut short while it was open (it had {had} bytes, now {}); \
             write a new file and rename it over the old one",
            had / 2
        );
        assert!(text.starts_with(&format!("{weights}: tensor ")) && text.ends_with(&end), "{text}");
    };
    for threads in [1, 2] {
        says(Classifier::builder().threads(threads).build(&model).err().unwrap());
    }
    // A net that was made before.
    let error = residual::session::Session::new(&net, &Options::default()).err().unwrap();
    assert!(matches!(error, CoreError::Unreadable(_)), "{error}");
    says(model.weights().unwrap().explain(error));
    // A network that is packed needs its file no longer.
    let weights = fixture.weights("other.safetensors", ARCH);
    let mut classifier = Classifier::open(&weights).unwrap();
    std::fs::File::options().write(true).open(&weights).unwrap().set_len(0).unwrap();
    assert_eq!(classifier.classify(&pictures(1)[0], 10).unwrap().len(), 10);
}

#[test]
fn evaluation_counts_what_a_classifier_answers() {
    let fixture = Fixture::new();
    let weights = fixture.weights("w.safetensors", ARCH);
    let data = dataset::open(fixture.cifar("cifar", 30), dataset::Split::Test).unwrap();
    let model = Model::open(&weights).unwrap();
    let how = Pictures { threads: 2, batch: 4, isa: residual::isa().unwrap(), skip_unreadable: false };
    let result = evaluate(&model, data.as_ref(), &how, Matching::Name, |_| {}).unwrap();
    let mut classifier = Classifier::open(&weights).unwrap();
    let (mut top1, mut top5) = (0, 0);
    for i in 0..data.len() {
        let five = classifier.classify(&data.image(i).unwrap(), 5).unwrap();
        top1 += usize::from(five[0].class == data.label(i));
        top5 += usize::from(five.iter().any(|p| p.class == data.label(i)));
    }
    assert_eq!((result.top1, result.top5), (top1 as f64 / 0.3, top5 as f64 / 0.3));
    assert_eq!(result.images, 30);
}
