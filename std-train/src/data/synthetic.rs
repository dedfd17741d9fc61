//! Generated pictures, for trying everything without a download.

use super::{DataError, Dataset, Image, Size, Split};
use crate::random::{Purpose, Stream};

/// Classes of patterns: stripes across, stripes down, squares, rings and discs, each coarse and fine.
///
/// Colours, position and noise vary from picture to picture. A mirrored picture keeps its class.
#[derive(Debug)]
pub struct Synthetic {
    classes: Vec<String>,
    size: Size,
    len: usize,
    seed: u64,
    split: Split,
}

const PATTERNS: [&str; 5] = ["stripes-across", "stripes-down", "squares", "rings", "discs"];

impl Synthetic {
    /// The number of classes.
    pub const CLASSES: usize = 2 * PATTERNS.len();

    /// `len` pictures of `size`; the two splits have different ones.
    pub fn new(len: usize, size: impl Into<Size>, seed: u64, split: Split) -> Self {
        let names = PATTERNS.iter().flat_map(|p| ["coarse", "fine"].map(|size| format!("{size}-{p}")));
        Synthetic { classes: names.collect(), size: size.into(), len, seed, split }
    }

    /// The data set that the name `synthetic` stands for: 5000 pictures to train on, 1000 to test.
    pub fn standard(size: impl Into<Size>, split: Split) -> Self {
        Synthetic::new(if split == Split::Train { 5000 } else { 1000 }, size, 0, split)
    }
}

impl Dataset for Synthetic {
    fn len(&self) -> usize {
        self.len
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> usize {
        assert!(index < self.len);
        index % Synthetic::CLASSES
    }

    fn image(&self, index: usize) -> Result<Image, DataError> {
        let class = self.label(index);
        let split = u64::from(self.split != Split::Train);
        let mut random = Stream::new(self.seed, Purpose::Picture, [split, index as u64]);
        let Size { height: rows, width: columns } = self.size;
        let (width, height) = (columns as f64, rows as f64);
        let period = width.min(height) / if class.is_multiple_of(2) { 2.0 } else { 4.5 } * (0.9 + 0.2 * random.unit());
        let (dx, dy) = (width * random.unit(), height * random.unit());
        let noise = 0.05 + 0.15 * random.unit();
        let ground: [f64; 3] = std::array::from_fn(|_| random.unit());
        // At least a quarter of the range away from the ground, in every channel.
        let figure = ground.map(|g| (g + 0.25 + 0.5 * random.unit()) % 1.0);
        let wave = |v: f64| (std::f64::consts::TAU * v / period).sin();
        let mut pixels = Vec::with_capacity(rows * columns * 3);
        let middle = |at: f64, side: f64, shift: f64| at - side / 2.0 - (shift - side / 2.0) / 3.0;
        for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
            let (x, y) = (x as f64, y as f64);
            let level = match class / 2 {
                0 => wave(y + dy),
                1 => wave(x + dx),
                2 => wave(x + dx).signum() * wave(y + dy).signum(),
                3 => wave(middle(x, width, dx).hypot(middle(y, height, dy))),
                _ => wave(x + dx) * wave(y + dy) * 3.0 - 1.2,
            };
            let mix = 0.5 + 0.5 * (3.0 * level).clamp(-1.0, 1.0);
            for (g, f) in ground.iter().zip(figure) {
                let value = g + (f - g) * mix + noise * (random.unit() - 0.5);
                pixels.push((255.0 * value.clamp(0.0, 1.0)) as u8);
            }
        }
        Image::new(columns, rows, pixels)
    }

    fn name(&self, index: usize) -> String {
        format!("generated picture {index}")
    }

    fn place(&self) -> String {
        "synthetic".into()
    }
}

#[cfg(test)]
mod tests {
    use super::{Dataset, Split, Synthetic};

    #[test]
    fn pictures_depend_on_their_index_and_split_alone() {
        let open = |split| Synthetic::new(40, 16, 1, split);
        let (train, test) = (open(Split::Train), open(Split::Test));
        assert_eq!(train.classes().len(), Synthetic::CLASSES);
        for i in [0, 7, 39] {
            assert_eq!(train.image(i).unwrap(), open(Split::Train).image(i).unwrap());
            assert_ne!(train.image(i).unwrap(), test.image(i).unwrap());
        }
        assert_ne!(train.image(0).unwrap(), train.image(10).unwrap());
    }
}
