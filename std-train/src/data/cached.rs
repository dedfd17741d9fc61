//! A data set whose pictures are decoded once.

use std::sync::{Arc, OnceLock};

use super::{DataError, Dataset, Image};

/// Decodes a picture the first time that it is asked for, and keeps it: `width * height * 3` bytes each.
pub struct Cached {
    data: Arc<dyn Dataset>,
    pictures: Vec<OnceLock<Image>>,
}

impl Cached {
    /// Wraps a data set. It reads nothing yet.
    pub fn new(data: Arc<dyn Dataset>) -> Self {
        let pictures = (0..data.len()).map(|_| OnceLock::new()).collect();
        Cached { data, pictures }
    }
}

impl Dataset for Cached {
    fn len(&self) -> usize {
        self.data.len()
    }

    fn classes(&self) -> &[String] {
        self.data.classes()
    }

    fn label(&self, index: usize) -> usize {
        self.data.label(index)
    }

    fn image(&self, index: usize) -> Result<Image, DataError> {
        let Some(slot) = self.pictures.get(index) else {
            return Err(DataError::Index { index, len: self.pictures.len() });
        };
        if let Some(image) = slot.get() {
            return Ok(image.clone());
        }
        // Two threads may decode the same picture; both get the same one.
        let image = self.data.image(index)?;
        Ok(slot.get_or_init(|| image).clone())
    }

    fn name(&self, index: usize) -> String {
        self.data.name(index)
    }

    fn place(&self) -> String {
        self.data.place()
    }

    fn remarks(&self) -> &[String] {
        self.data.remarks()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::{Cached, DataError, Dataset, Image};

    struct Counted(AtomicUsize, Vec<String>);

    impl Dataset for Counted {
        fn len(&self) -> usize {
            3
        }
        fn classes(&self) -> &[String] {
            &self.1
        }
        fn label(&self, index: usize) -> usize {
            index
        }
        fn image(&self, index: usize) -> Result<Image, DataError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Image::new(1, 1, vec![index as u8; 3])
        }
        fn name(&self, index: usize) -> String {
            index.to_string()
        }
    }

    #[test]
    fn every_picture_is_decoded_once() {
        let inner = Arc::new(Counted(AtomicUsize::new(0), vec!["a".into()]));
        let cached = Cached::new(inner.clone());
        for index in [2, 0, 2, 2, 0] {
            assert_eq!(cached.image(index).unwrap().pixels(), [index as u8; 3]);
        }
        assert_eq!(inner.0.load(Ordering::Relaxed), 2);
        assert!(matches!(cached.image(3), Err(DataError::Index { index: 3, len: 3 })));
        assert_eq!((cached.len(), cached.label(1), cached.name(1)), (3, 1, "1".into()));
    }
}
