//! Packing the weights of direct convolutions: see [`Tile`](crate::simd::int8::Tile).

use alloc::{vec, vec::Vec};

use crate::simd::int8::Tile;

/// The weights of one panel's output channels.
pub(super) struct Panel<'w> {
    /// OHWI; fewer channels than `width` where some do not exist
    pub weights: &'w [i8],
    /// weights of an output channel, and of a kernel row
    pub taps: usize,
    pub line: usize,
    /// channels of the panel
    pub width: usize,
    /// the input's int8 for 0.0
    pub zero: i32,
}

impl Panel<'_> {
    /// The words of output channel `o`: kernel rows cut into `N` weights each, filled up with zeros.
    fn words<const N: usize>(&self, o: usize) -> impl Iterator<Item = [i8; N]> {
        let lines = self.weights[o * self.taps..(o + 1) * self.taps].chunks_exact(self.line);
        lines.flat_map(|line| {
            let (whole, rest) = line.as_chunks::<N>();
            let mut last = [0; N];
            last[..rest.len()].copy_from_slice(rest);
            whole.iter().copied().chain((!rest.is_empty()).then_some(last))
        })
    }

    fn channels(&self) -> usize {
        self.weights.len() / self.taps
    }

    fn depth<const N: usize>(&self) -> usize {
        self.taps / self.line * self.line.div_ceil(N)
    }

    /// As pairs of 16-bit integers, for inputs less their zero point. Returns the words written.
    pub(super) fn pack_halves(&self, to: &mut [i32]) -> usize {
        let used = self.depth::<2>() * self.width;
        to[..used].fill(0);
        for o in 0..self.channels() {
            let column = to[o..used].iter_mut().step_by(self.width);
            column.zip(self.words(o)).for_each(|(to, word): (_, [i8; 2])| *to = bytemuck::cast(word.map(i16::from)));
        }
        used
    }

    /// As bytes, for inputs 128 too large: the bias takes that back. Returns the words written.
    pub(super) fn pack_bytes(&self, bias: &mut [i32], to: &mut [i32]) -> usize {
        let used = self.depth::<4>() * self.width;
        to[..used].fill(0);
        for (o, bias) in bias.iter_mut().enumerate().take(self.channels()) {
            let column = to[o..used].iter_mut().step_by(self.width);
            for (to, word) in column.zip(self.words(o)) {
                *to = bytemuck::cast(word);
                *bias = bias.wrapping_sub((self.zero + 128).wrapping_mul(sum(word)));
            }
        }
        used
    }

    /// As bytes: first the steps in which no pair of products can leave 16 bits in any channel, then the others, which are
    /// multiplied with masks. Inputs are 128 too large, or with masks `-x - 1` for negative weights; the bias takes that back.
    /// Returns the words written.
    pub(super) fn pack_masked(&self, bias: &mut [i32], to: &mut [i32]) -> usize {
        let (depth, width) = (self.depth::<4>(), self.width);
        let mut masked = vec![false; depth];
        for o in 0..self.channels() {
            masked.iter_mut().zip(self.words(o)).for_each(|(masked, word)| *masked |= saturates(word));
        }
        let clean = masked.iter().filter(|masked| !**masked).count();
        let (head, rows) = to.split_at_mut(Tile::head(depth));
        head[0] = clean as i32;
        let order = &mut head[1..];
        let used = depth * width;
        rows[..used].fill(0);
        // The place of every step among the rows: those without masks come first.
        let mut turn = [0, clean];
        let mut places = Vec::with_capacity(depth);
        for (step, masked) in masked.iter().map(|masked| usize::from(*masked)).enumerate() {
            order[turn[masked]] = step as i32;
            places.push(turn[masked]);
            turn[masked] += 1;
        }
        for (o, bias) in bias.iter_mut().enumerate().take(self.channels()) {
            for ((&masked, &place), word) in masked.iter().zip(&places).zip(self.words(o)) {
                rows[place * width + o] = bytemuck::cast(word);
                let back = if masked {
                    self.zero.wrapping_mul(sum(word)) + sum(word.map(|w| w.min(0)))
                } else {
                    (self.zero + 128).wrapping_mul(sum(word))
                };
                *bias = bias.wrapping_sub(back);
            }
        }
        Tile::head(depth) + used
    }
}

fn sum(word: [i8; 4]) -> i32 {
    word.into_iter().map(i32::from).sum()
}

/// Whether the products of a pair with bytes in `0..=255` may leave 16 bits.
fn saturates([a, b, c, d]: [i8; 4]) -> bool {
    let pair = |a: i8, b: i8| {
        let (a, b) = (i16::from(a), i16::from(b));
        a.max(0) + b.max(0) > 128 || a.min(0) + b.min(0) < -128
    };
    pair(a, b) || pair(c, d)
}
