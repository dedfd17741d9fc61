//! Batches of pictures. Threads of their own prepare them while the network is busy.

use std::{
    ops::Range,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    thread,
};

use super::{Augmentation, DataError, Dataset, Preprocessing, Size, augment::pad_crop};
use crate::random::{Purpose, Stream};

/// Makes batches of a data set's pictures.
///
/// The crate's [example](crate) reads an epoch with one.
#[derive(Clone)]
pub struct Loader {
    /// where pictures come from
    pub data: Arc<dyn Dataset>,
    /// those that are used, in the order they are numbered
    pub indices: Arc<[u32]>,
    /// pictures of a batch; an epoch's last may have fewer
    pub batch: usize,
    /// leaves out the last batch if it has fewer
    pub drop_last: bool,
    /// rows and columns of the network's input
    pub size: Size,
    /// how pictures are normalised, for how many channels, and without augmentation resized and cropped
    pub preprocessing: Preprocessing,
    /// changes pictures and their order by chance; `None` for evaluation
    pub training: Option<Training>,
    /// threads that prepare batches
    pub threads: usize,
}

/// What happens by chance to the pictures of an epoch.
#[derive(Clone, Copy, Debug)]
pub struct Training {
    /// the changes of every picture
    pub augmentation: Augmentation,
    /// the run's seed
    pub seed: u64,
    /// which pass over the data this is
    pub epoch: u64,
}

/// Pictures and their classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// normalised pixels, NHWC
    pub images: Vec<f32>,
    /// the number of each picture's class
    pub labels: Vec<u32>,
}

/// How many batches a thread prepares ahead.
const AHEAD: usize = 2;

impl Loader {
    /// How many batches an epoch has.
    pub fn batches(&self) -> usize {
        let (pictures, batch) = (self.indices.len(), self.batch.max(1));
        if self.drop_last { pictures / batch } else { pictures.div_ceil(batch) }
    }

    /// How many pictures batch `i` has.
    pub fn size(&self, i: usize) -> usize {
        self.range(i).len()
    }

    fn range(&self, i: usize) -> Range<usize> {
        let end = ((i + 1) * self.batch).min(self.indices.len());
        (i * self.batch).min(end)..end
    }

    /// Starts preparing the batches of an epoch from number `first` on. What they hold depends on the
    /// seed and the epoch, not on the number of threads.
    ///
    /// # Errors
    /// [`DataError::Threads`] when a thread cannot be started.
    pub fn start(&self, first: usize) -> Result<Batches, DataError> {
        let threads = self.threads.max(1).min(self.batches().saturating_sub(first).max(1));
        let order: Arc<[u32]> = match &self.training {
            Some(t) => Stream::new(t.seed, Purpose::Shuffle, [t.epoch, 0]).permutation(self.indices.len()).into(),
            None => (0..self.indices.len() as u32).collect(),
        };
        let channels = (0..threads).map(|worker| {
            let (sender, receiver) = sync_channel(AHEAD);
            let (loader, order) = (self.clone(), order.clone());
            let builder = thread::Builder::new().name(format!("residual-data-{worker}"));
            let started = builder.spawn(move || {
                for i in (first + worker..loader.batches()).step_by(threads) {
                    let batch = loader.prepare(&order[loader.range(i)]);
                    // An error ends the epoch; nobody listening means it was ended early.
                    let failed = batch.is_err();
                    if sender.send(batch).is_err() || failed {
                        return;
                    }
                }
            });
            started.map(|_| receiver).map_err(|source| DataError::Threads { threads, source })
        });
        let left = self.batches().saturating_sub(first);
        Ok(Batches { channels: channels.collect::<Result<_, _>>()?, next: 0, left })
    }

    fn prepare(&self, order: &[u32]) -> Result<Batch, DataError> {
        let elements = self.size.height * self.size.width * self.preprocessing.channels();
        let mut images = vec![0.0; order.len() * elements];
        let mut labels = Vec::with_capacity(order.len());
        let mut whole = Vec::new();
        for (&at, out) in order.iter().zip(images.chunks_exact_mut(elements)) {
            let index = self.indices[at as usize] as usize;
            labels.push(self.data.label(index) as u32);
            let image = self.data.image(index)?;
            let Some(Training { augmentation, seed, epoch }) = self.training else {
                self.preprocessing.apply(&image, out)?;
                continue;
            };
            let mut random = Stream::new(seed, Purpose::Augment, [epoch, index as u64]);
            let image = match augmentation {
                Augmentation::ScaleCrop { .. } => image,
                _ => self.preprocessing.resize_and_crop(&image)?.into_owned(),
            };
            if let (Augmentation::PadCrop { pad }, Some(_)) = (augmentation, &self.preprocessing.mean_picture) {
                whole.resize(elements, 0.0);
                self.preprocessing.normalise(&image, &mut whole)?;
                pad_crop(pad, &whole, self.size, &mut random, out);
                continue;
            }
            let (image, shift) = augmentation.apply(image, &mut random)?;
            self.preprocessing.normalise(&image, out)?;
            if shift != [0.0; 3] {
                self.add(shift, out);
            }
        }
        Ok(Batch { images, labels })
    }

    /// Adds a colour to every pixel of a normalised picture; its luma, where the picture is grey.
    fn add(&self, colour: [f32; 3], out: &mut [f32]) {
        let [r, g, b] = colour;
        let luma = [0.299 * r + 0.587 * g + 0.114 * b];
        let std = &self.preprocessing.std;
        let shift = if std.len() == 1 { &luma[..] } else { &colour };
        let shift: Vec<f32> = shift.iter().zip(std).map(|(shift, std)| shift / std).collect();
        for pixel in out.chunks_exact_mut(shift.len().max(1)) {
            pixel.iter_mut().zip(&shift).for_each(|(v, shift)| *v += shift);
        }
    }
}

/// The batches of an epoch, in order; an error ends them.
pub struct Batches {
    channels: Vec<Receiver<Result<Batch, DataError>>>,
    next: usize,
    left: usize,
}

impl Iterator for Batches {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let channel = self.channels.get(self.next)?;
        self.next = (self.next + 1) % self.channels.len();
        let batch = channel.recv().unwrap_or(Err(DataError::Worker));
        if batch.is_err() {
            self.left = 0;
        }
        Some(batch)
    }
}

/// Mean and standard deviation of every one of `channels` (3, or 1 for grey) over at most `most` of the pictures, evenly
/// chosen, for pixels in `[0, 1]`.
///
/// # Errors
/// What reading a picture reports; [`DataError::Channels`] for channels that pictures do not have.
pub fn channel_statistics(
    data: &dyn Dataset,
    indices: &[u32],
    most: usize,
    channels: usize,
) -> Result<(Vec<f32>, Vec<f32>), DataError> {
    let (mut sum, mut square, mut n) = (vec![0u64; channels], vec![0u64; channels], 0u64);
    for &index in sampled(indices, most) {
        let image = data.image(index as usize)?;
        for pixel in image.samples(channels)?.chunks_exact(channels) {
            for (c, v) in pixel.iter().map(|&v| u64::from(v)).enumerate() {
                sum[c] += v;
                square[c] += v * v;
            }
        }
        n += (image.width() * image.height()) as u64;
    }
    let n = n.max(1) as f64;
    let mean: Vec<f64> = sum.iter().map(|&sum| sum as f64 / n / 255.0).collect();
    // Flat pictures have no deviation to divide by.
    let deviation = |(square, mean): (u64, f64)| (square as f64 / n / 65025.0 - mean * mean).max(1e-4).sqrt() as f32;
    let std = square.into_iter().zip(mean.iter().copied()).map(deviation).collect();
    Ok((mean.iter().map(|&mean| mean as f32).collect(), std))
}

/// At most `most` of them, evenly chosen.
fn sampled(indices: &[u32], most: usize) -> impl Iterator<Item = &u32> {
    indices.iter().step_by(indices.len().div_ceil(most.max(1)).max(1))
}

/// The mean of every pixel over at most `most` of the pictures, evenly chosen, resized and cropped as `preprocessing`
/// says, for pixels in `[0, 1]`: a value for every channel of every pixel of the crop, NHWC.
///
/// # Errors
/// What reading a picture reports; [`DataError::BufferLength`] where pictures come out with different sizes.
pub fn mean_picture(
    data: &dyn Dataset,
    indices: &[u32],
    most: usize,
    preprocessing: &Preprocessing,
) -> Result<Arc<[f32]>, DataError> {
    let (mut sums, mut n) = (Vec::new(), 0u64);
    for &index in sampled(indices, most) {
        let image = data.image(index as usize)?;
        let image = preprocessing.resize_and_crop(&image)?;
        let samples = image.samples(preprocessing.channels())?;
        if n == 0 {
            sums.resize(samples.len(), 0u64);
        }
        let (need, got) = (sums.len(), samples.len());
        if need != got {
            return Err(DataError::BufferLength { what: "a picture to take means over", need, got });
        }
        sums.iter_mut().zip(&*samples).for_each(|(sum, v)| *sum += u64::from(*v));
        n += 1;
    }
    Ok(sums.iter().map(|&sum| (sum as f64 / n.max(1) as f64 / 255.0) as f32).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        super::Synthetic, Augmentation, Batch, Dataset, Loader, Preprocessing, Size, Training, channel_statistics,
    };
    use crate::data::Split;

    fn loader(threads: usize, epoch: u64) -> Loader {
        Loader {
            data: Arc::new(Synthetic::new(50, 8, 3, Split::Train)),
            indices: (5..48).collect(),
            batch: 8,
            drop_last: false,
            size: Size::square(8),
            preprocessing: Preprocessing { resize: None, crop: None, ..Preprocessing::imagenet() },
            training: Some(Training { augmentation: Augmentation::PadCrop { pad: 1 }, seed: 1, epoch }),
            threads,
        }
    }

    #[test]
    fn batches_are_the_same_for_any_number_of_threads_and_from_any_start() {
        let all = |threads, epoch, first| -> Vec<Batch> {
            loader(threads, epoch).start(first).unwrap().collect::<Result<_, _>>().unwrap()
        };
        let one = all(1, 0, 0);
        assert_eq!(one.iter().map(|b| b.labels.len()).collect::<Vec<_>>(), [8, 8, 8, 8, 8, 3]);
        assert_eq!(one, all(3, 0, 0));
        assert_eq!(one[2..], all(4, 0, 2));
        assert_ne!(one, all(1, 1, 0));
        let dropping = Loader { drop_last: true, ..loader(2, 0) };
        assert_eq!(one[..5], dropping.start(0).unwrap().collect::<Result<Vec<_>, _>>().unwrap());
        let mut labels: Vec<u32> = one.iter().flat_map(|b| b.labels.clone()).collect();
        let mut want: Vec<u32> = (5..48).map(|i| i % 10).collect();
        labels.sort_unstable();
        want.sort_unstable();
        assert_eq!(labels, want);
    }

    #[test]
    fn a_picture_that_cannot_be_read_ends_the_epoch_with_its_error() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..20 {
            let path = dir.path().join(format!("class/{i:02}.png"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"no picture").unwrap();
        }
        let data = crate::data::open(dir.path(), Split::Train).unwrap();
        let broken = Loader { data: data.into(), indices: (0..20).collect(), training: None, ..loader(3, 0) };
        let mut batches = broken.start(0).unwrap();
        let error = batches.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("00.png"), "{error}");
        assert!(batches.next().is_none());
    }

    #[test]
    fn statistics_normalise_the_pictures() {
        let data = Synthetic::new(60, 8, 3, Split::Train);
        let indices: Vec<u32> = (0..60).collect();
        for channels in [1, 3] {
            let (mean, std) = channel_statistics(&data, &indices, 60, channels).unwrap();
            assert_eq!((mean.len(), std.len()), (channels, channels));
            let samples = |i| data.image(i).unwrap().samples(channels).unwrap().into_owned();
            let values: Vec<f64> = (0..60).flat_map(samples).map(|v| f64::from(v) / 255.0).collect();
            for c in 0..channels {
                let (m, s) = (f64::from(mean[c]), f64::from(std[c]));
                let channel = || values[c..].iter().step_by(channels).map(|v| (v - m) / s);
                let n = values.len() as f64 / channels as f64;
                let (mean, square) = (channel().sum::<f64>() / n, channel().map(|v| v * v).sum::<f64>() / n);
                assert!(mean.abs() < 1e-5 && (square - 1.0).abs() < 1e-4, "{mean} {square}");
            }
        }
    }

    #[test]
    fn colours_of_grey_pictures_are_brightness() {
        let size = Size { height: 3, width: 5 };
        let batch = |channels: usize, colour| -> Batch {
            let preprocessing = Preprocessing {
                resize: Some(size),
                crop: Some(size),
                ..Preprocessing::cifar(vec![0.5; channels], vec![0.25; channels])
            };
            let augmentation = Augmentation::ScaleCrop { shorter: (3, 3), crop: size, colour };
            let training = Some(Training { augmentation, seed: 1, epoch: 0 });
            let data = Arc::new(Synthetic::new(4, size, 3, Split::Train));
            let loader = Loader { data, indices: [0].into(), size, preprocessing, training, ..loader(1, 0) };
            loader.start(0).unwrap().next().unwrap().unwrap()
        };
        let difference = |channels| -> Vec<f32> {
            let (with, without) = (batch(channels, 0.1).images, batch(channels, 0.0).images);
            with.iter().zip(&without).map(|(a, b)| a - b).collect()
        };
        let (grey, rgb) = (difference(1), difference(3));
        assert_eq!((grey.len(), rgb.len()), (15, 45));
        let luma = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
        assert!(luma != 0.0 && grey.iter().all(|v| (v - luma).abs() < 1e-5), "{luma}: {grey:?}");
    }
}
