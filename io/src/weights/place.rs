//! Where a tensor lies in a file, and reading it from there as f32 in C order.

use std::ops::Range;

use half::{bf16, f16};

use super::{
    source::Source,
    store::{Dtype, MAX_RANK, View},
};

/// Where the elements of a tensor lie; all inside the file, as long as that was when it was opened.
#[derive(Debug)]
pub(super) struct Place {
    pub shape: Vec<usize>,
    dtype: Dtype,
    /// bytes of the file from the first element to the last
    range: Range<usize>,
    /// number of elements
    count: usize,
    /// `None`: C order, without gaps
    strides: Option<Vec<usize>>,
    finite: bool,
}

impl Place {
    /// Checks a view against the length of the file; in an error is what is wrong with it.
    pub fn new(view: &View<'_>, file: usize) -> Result<Self, String> {
        let View { dtype, ref storage, offset, shape, strides, finite } = *view;
        if shape.len() > MAX_RANK {
            return Err(format!("has {} dimensions, more than {MAX_RANK}", shape.len()));
        }
        if let Some(strides) = strides.filter(|s| s.len() != shape.len()) {
            return Err(format!("has {} dimensions but {} strides", shape.len(), strides.len()));
        }
        if storage.start > storage.end || storage.end > file {
            return Err("lies outside the file".into());
        }
        let (size, held) = (dtype.size(), storage.len() / dtype.size());
        let wraps = || format!("of shape {shape:?} has more elements than can be counted");
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(wraps)?;
        if count == 0 {
            let range = storage.start..storage.start;
            return Ok(Place { shape: shape.to_vec(), dtype, range, count, strides: None, finite: true });
        }

        let last = match strides {
            None => Some(count - 1),
            Some(strides) => {
                shape.iter().zip(strides).try_fold(0usize, |at, (&d, &s)| at.checked_add((d - 1).checked_mul(s)?))
            }
        };
        let last = last.and_then(|last| last.checked_add(offset)).ok_or_else(wraps)?;
        if last >= held {
            let strides = strides.map(|s| format!(" strides {s:?}")).unwrap_or_default();
            return Err(format!(
                "of shape {shape:?}{strides} offset {offset} reaches element {last} of a storage of {held}"
            ));
        }
        count.checked_mul(size_of::<f32>()).ok_or_else(wraps)?;
        let strides = strides.filter(|strides| !is_c_order(shape, strides)).map(<[usize]>::to_vec);
        let range = storage.start + offset * size..storage.start + (last + 1) * size;
        Ok(Place { shape: shape.to_vec(), dtype, range, count, strides, finite })
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Bytes of memory that reading it takes, as elements or before they are put in order.
    pub fn bytes(&self) -> usize {
        (self.count * size_of::<f32>()).max(self.range.len())
    }

    /// Whether the file holds it as memory does, but for alignment.
    pub fn is_plain(&self) -> bool {
        let native = self.dtype == Dtype::F32 && cfg!(target_endian = "little");
        self.count == 0 || native && self.strides.is_none()
    }

    /// The elements, if they lie in memory as they have to.
    pub fn lend<'s>(&self, source: &'s Source) -> Option<&'s [f32]> {
        match self.count {
            0 => Some(&[]),
            _ if !self.is_plain() => None,
            _ => bytemuck::try_cast_slice(source.lend(self.range.clone())?).ok(),
        }
    }

    /// Reads the elements into `into`, which has their number. In an error is why that cannot be done.
    pub fn read(&self, source: &Source, into: &mut [f32]) -> Result<(), String> {
        if into.len() != self.count {
            return Err(format!("has {} elements, the room for them {}", self.count, into.len()));
        }
        if self.is_plain() {
            return source.read(self.range.start, bytemuck::cast_slice_mut(into)).map_err(unreadable);
        }
        match self.dtype {
            Dtype::F32 => self.decode(source, into, |b| Ok(f32::from_le_bytes(b))),
            Dtype::F16 => self.decode(source, into, |b| Ok(f16::from_le_bytes(b).to_f32())),
            Dtype::Bf16 => self.decode(source, into, |b| Ok(bf16::from_le_bytes(b).to_f32())),
            Dtype::F64 => self.decode(source, into, |b| {
                let wide = f64::from_le_bytes(b);
                let narrow = wide as f32;
                if narrow.is_infinite() && wide.is_finite() { Err(wide) } else { Ok(narrow) }
            }),
            Dtype::Other(name, _) => Err(format!("has element type {name}")),
        }
    }

    /// Elements of `N` bytes in C order.
    fn decode<const N: usize>(
        &self,
        source: &Source,
        into: &mut [f32],
        decode: impl Fn([u8; N]) -> Result<f32, f64>,
    ) -> Result<(), String> {
        let decode = |bytes| decode(bytes).map_err(|v| format!("holds {v:e}, which f32 cannot represent"));
        let Some(strides) = &self.strides else {
            let (mut rest, mut result) = (into, Ok(()));
            let read = source.scan(self.range.clone(), |block| {
                let elements = block.as_chunks::<N>().0;
                // The range has `count` elements.
                let now = rest.split_off_mut(..elements.len()).unwrap_or_default();
                let mut fill = now.iter_mut().zip(elements);
                if result.is_ok() {
                    result = fill.try_for_each(|(to, &bytes)| decode(bytes).map(|value| *to = value));
                }
            });
            return read.map_err(unreadable).and(result);
        };
        let part = source.part(self.range.clone()).map_err(unreadable)?;
        let stored = part.as_chunks::<N>().0;
        let (mut index, mut at) = ([0usize; MAX_RANK], 0);
        for to in into {
            *to = decode(*stored.get(at).ok_or("reaches outside its storage")?)?;
            // Count up like an odometer, last dimension first.
            for (d, i) in index[..self.shape.len()].iter_mut().enumerate().rev() {
                *i += 1;
                if *i < self.shape[d] {
                    at += strides[d];
                    break;
                }
                at -= (self.shape[d] - 1) * strides[d];
                *i = 0;
            }
        }
        Ok(())
    }

    /// The index and the value of the first element that is not finite, or negative in a variance.
    pub fn first_unusable(
        &self,
        source: &Source,
        variance: bool,
        room: &mut Vec<f32>,
    ) -> Result<Option<(usize, f32)>, String> {
        // Looking for what is hardly ever there, where it takes no room.
        if !variance && self.is_finite(source)? {
            return Ok(None);
        }
        room.resize(self.count, 0.0);
        self.read(source, room)?;
        let unusable = |v: &f32| !v.is_finite() || (variance && *v < 0.0);
        Ok(room.iter().position(unusable).map(|index| (index, room[index])))
    }

    /// Whether every element is finite, as far as that can be seen without converting them.
    fn is_finite(&self, source: &Source) -> Result<bool, String> {
        if self.finite || self.strides.is_some() {
            return Ok(self.finite);
        }
        let mut finite = true;
        source.scan(self.range.clone(), |block| finite &= all_finite(self.dtype, block)).map_err(unreadable)?;
        Ok(finite)
    }
}

/// Whether all elements in `bytes` are finite; of types of which that is not seen at once, it is not known.
pub(super) fn all_finite(dtype: Dtype, bytes: &[u8]) -> bool {
    // Without a branch inside, which the compiler makes vector instructions of.
    fn all<const N: usize>(bytes: &[u8], finite: impl Fn([u8; N]) -> bool) -> bool {
        bytes.as_chunks::<N>().0.iter().fold(true, |all, &element| all & finite(element))
    }
    match dtype {
        Dtype::F32 => all(bytes, |b| u32::from_le_bytes(b) & 0x7f80_0000 != 0x7f80_0000),
        Dtype::F16 => all(bytes, |b| u16::from_le_bytes(b) & 0x7c00 != 0x7c00),
        Dtype::Bf16 => all(bytes, |b| u16::from_le_bytes(b) & 0x7f80 != 0x7f80),
        Dtype::F64 | Dtype::Other(..) => false,
    }
}

/// Dimensions of one element may have any stride.
fn is_c_order(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(&d, &s)| {
        let fits = d == 1 || s == expected;
        expected *= d;
        fits
    })
}

fn unreadable(error: std::io::Error) -> String {
    format!("cannot be read: {error}")
}
