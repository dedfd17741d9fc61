//! Packing the weights of direct convolutions: see [`Tile`](crate::simd::int8::Tile).

use alloc::{vec, vec::Vec};

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

    /// As bytes, or as magnitudes and masks where a pair of products may leave 16 bits in one of the channels. Inputs are 128
    /// too large, or `-x - 1` for negative weights; the bias takes that back. Returns the words written.
    pub(super) fn pack_masked(&self, bias: &mut [i32], to: &mut [i32]) -> usize {
        let (depth, width) = (self.depth::<4>(), self.width);
        let mut masked = vec![false; depth];
        for o in 0..self.channels() {
            masked.iter_mut().zip(self.words(o)).for_each(|(masked, word)| *masked |= saturates(word));
        }
        let clean = masked.iter().filter(|masked| !**masked).count();
        to[0] = clean as i32;
        let (order, rows) = to[1..].split_at_mut(depth);
        let used = (2 * depth - clean) * width;
        rows[..used].fill(0);
        // Where the row of every step lies: those without masks come first.
        let (mut turn, mut place) = ([0, clean], [0, clean * width]);
        let mut places = Vec::with_capacity(depth);
        for (step, masked) in masked.iter().map(|masked| usize::from(*masked)).enumerate() {
            order[turn[masked]] = step as i32;
            places.push(place[masked]);
            turn[masked] += 1;
            place[masked] += (1 + masked) * width;
        }
        for (o, bias) in bias.iter_mut().enumerate().take(self.channels()) {
            for ((&masked, &place), word) in masked.iter().zip(&places).zip(self.words(o)) {
                let at = place + o;
                let back = if masked {
                    rows[at] = bytemuck::cast(word.map(i8::unsigned_abs));
                    rows[at + width] = bytemuck::cast(word.map(|w| if w < 0 { 0x7Fu8 } else { 0x80 }));
                    self.zero.wrapping_mul(sum(word)) + sum(word.map(|w| w.min(0)))
                } else {
                    rows[at] = bytemuck::cast(word);
                    (self.zero + 128).wrapping_mul(sum(word))
                };
                *bias = bias.wrapping_sub(back);
            }
        }
        1 + depth + used
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
