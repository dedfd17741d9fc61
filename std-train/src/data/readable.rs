//! A data set without its unreadable pictures.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{DataError, Dataset, Image};

/// The pictures of a data set that can be read; a remark names each of the others.
pub struct Readable {
    data: Arc<dyn Dataset>,
    /// their numbers in `data`
    kept: Vec<usize>,
    remarks: Vec<String>,
}

impl Readable {
    /// Reads every picture once, on up to `threads` threads, and keeps none.
    pub fn new(data: Arc<dyn Dataset>, threads: usize) -> Self {
        let next = AtomicUsize::new(0);
        let unreadable = || {
            let taken = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
            let pictures = taken.take_while(|&index| index < data.len());
            pictures.filter_map(|index| Some((index, data.image(index).err()?.to_string()))).collect::<Vec<_>>()
        };
        let found: BTreeMap<usize, String> = thread::scope(|scope| {
            // A thread that cannot be had is not missed: the others do its work.
            let start = |_| thread::Builder::new().spawn_scoped(scope, unreadable).ok();
            let helpers: Vec<_> = (1..threads).filter_map(start).collect();
            let own = unreadable();
            let others = helpers.into_iter().map(|h| h.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            others.chain([own]).flatten().collect()
        });
        let kept = (0..data.len()).filter(|index| !found.contains_key(index)).collect();
        let skipped = found.values().map(|error| format!("skipped {error}"));
        let remarks = data.remarks().iter().cloned().chain(skipped).collect();
        Readable { data, kept, remarks }
    }

    fn inner(&self, index: usize) -> Option<usize> {
        self.kept.get(index).copied()
    }
}

impl Dataset for Readable {
    fn len(&self) -> usize {
        self.kept.len()
    }

    fn classes(&self) -> &[String] {
        self.data.classes()
    }

    fn label(&self, index: usize) -> usize {
        self.data.label(self.kept[index])
    }

    fn image(&self, index: usize) -> Result<Image, DataError> {
        self.data.image(self.inner(index).ok_or(DataError::Index { index, len: self.len() })?)
    }

    fn name(&self, index: usize) -> String {
        self.inner(index).map_or_else(String::new, |index| self.data.name(index))
    }

    fn place(&self) -> String {
        self.data.place()
    }

    fn remarks(&self) -> &[String] {
        &self.remarks
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, DataError, Dataset, Image, Readable};

    /// Every third picture is damaged.
    struct Damaged(Vec<String>);

    impl Dataset for Damaged {
        fn len(&self) -> usize {
            10
        }
        fn classes(&self) -> &[String] {
            &self.0
        }
        fn label(&self, index: usize) -> usize {
            index
        }
        fn image(&self, index: usize) -> Result<Image, DataError> {
            match index % 3 {
                0 => Err(DataError::Decode { picture: self.name(index), reason: "it is damaged".into() }),
                _ => Image::new(1, 1, vec![index as u8; 3]),
            }
        }
        fn name(&self, index: usize) -> String {
            format!("picture {index}")
        }
        fn remarks(&self) -> &[String] {
            &self.0
        }
    }

    #[test]
    fn what_can_be_read_is_kept_in_order_and_the_rest_named() {
        for threads in [1, 3] {
            let data = Readable::new(Arc::new(Damaged(vec!["first".into()])), threads);
            let pixels: Vec<_> = (0..data.len()).map(|i| data.image(i).unwrap().pixels()[0]).collect();
            assert_eq!(pixels, [1, 2, 4, 5, 7, 8]);
            assert_eq!((data.label(2), data.name(2), data.name(6)), (4, "picture 4".into(), String::new()));
            assert!(matches!(data.image(6), Err(DataError::Index { index: 6, len: 6 })));
            let named = [0, 3, 6, 9].map(|i| format!("skipped picture {i}: it is damaged"));
            assert_eq!((&data.remarks()[0], &data.remarks()[1..]), (&"first".to_owned(), &named[..]));
        }
    }
}
