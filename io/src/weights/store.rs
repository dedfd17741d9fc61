//! Tensors as they lie in a file, and their conversion to f32 in C order.

use std::{
    collections::{BTreeMap, btree_map},
    ops::Range,
};

use half::{bf16, f16};

use super::error::{Fault, clean};

/// Element type of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dtype {
    F32,
    F16,
    Bf16,
    F64,
    /// Not a float: its name and bytes per element.
    Other(&'static str, usize),
}

impl Dtype {
    pub fn size(self) -> usize {
        match self {
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::F32 => 4,
            Dtype::F64 => 8,
            Dtype::Other(_, size) => size,
        }
    }
}

/// A strided view of a storage; lengths, offsets and strides count elements.
pub(super) struct View<'v> {
    pub dtype: Dtype,
    /// bytes of the file that are the storage
    pub storage: Range<usize>,
    pub offset: usize,
    pub shape: &'v [usize],
    /// `None`: C order
    pub strides: Option<&'v [usize]>,
}

/// A tensor of a [`super::WeightFile`].
#[derive(Debug)]
pub(super) struct Entry {
    pub shape: Vec<usize>,
    pub data: Data,
}

#[derive(Debug)]
pub(super) enum Data {
    /// aligned little-endian f32 at these bytes of the file
    Mapped(Range<usize>),
    Owned(Vec<f32>),
}

/// Highest rank of a tensor; convolutions have 4.
const MAX_RANK: usize = 8;

/// Gathers the tensors of a file under their torchvision names.
pub(super) struct Collector<'b> {
    bytes: &'b [u8],
    /// bytes that conversions may still allocate
    budget: usize,
    pub tensors: BTreeMap<String, Entry>,
    /// whether [`Collector::finish`] leaves the names alone
    keep_names: bool,
}

impl<'b> Collector<'b> {
    pub fn new(bytes: &'b [u8]) -> Self {
        // Half precision doubles; the rest is room for tensors that share a storage. An expanded
        // (stride 0) tensor could ask for any amount.
        let budget = bytes.len().saturating_mul(4).saturating_add(1 << 16);
        Collector { bytes, budget, tensors: BTreeMap::new(), keep_names: false }
    }

    /// This project wrote the file: its names are as they should be.
    pub fn keep_names(&mut self) {
        self.keep_names = true;
    }

    /// Adds the tensor that the file calls `name`. Counters are left out, of batches and of whatever else is one
    /// integer: no network reads them.
    pub fn add(&mut self, name: &str, view: &View<'_>) -> Result<(), Fault> {
        let key = canonical(name);
        if key.ends_with("num_batches_tracked") || (matches!(view.dtype, Dtype::Other(..)) && view.shape.is_empty()) {
            return Ok(());
        }
        if let Dtype::Other(dtype, _) = view.dtype {
            return Err(Fault::tensor(name, format!("has element type {dtype}, not a float of 16, 32 or 64 bits")));
        }
        let slot = match self.tensors.entry(key) {
            btree_map::Entry::Vacant(slot) => slot,
            btree_map::Entry::Occupied(other) => {
                return Err(Fault::tensor(name, format!("is there twice (as {})", clean(other.key()))));
            }
        };
        let data = load(self.bytes, view, &mut self.budget).map_err(|reason| Fault::tensor(name, reason))?;
        slot.insert(Entry { shape: view.shape.to_vec(), data });
        Ok(())
    }

    /// All tensors. Where a network lies below a prefix (`model.conv1.weight`), as frameworks around PyTorch save it,
    /// the prefix is dropped and what lies beside the network is left out; `notes` then says so.
    pub fn finish(self, notes: &mut Vec<String>) -> Result<BTreeMap<String, Entry>, Fault> {
        let Some(prefix) = self.prefix()? else { return Ok(self.tensors) };
        let mut inside = BTreeMap::new();
        let mut beside = Vec::new();
        for (name, entry) in self.tensors {
            // Some frameworks keep the classifier apart from the backbone.
            let head = || name.strip_prefix("head.").filter(|rest| rest.starts_with("fc."));
            match name.strip_prefix(&prefix).or_else(head) {
                None => beside.push(name),
                Some(plain) => {
                    if inside.insert(canonical(plain), entry).is_some() {
                        return Err(Fault::tensor(&name, "is there twice"));
                    }
                }
            }
        }
        notes.push(format!("dropped the prefix `{}`", clean(&prefix)));
        if let Some(first) = beside.first() {
            notes.push(format!("left out {} tensors beside the network, such as `{}`", beside.len(), clean(first)));
        }
        Ok(inside)
    }

    /// The prefix of the only network, if it has one. Every network has the second of these tensors, too; no block
    /// inside it has.
    fn prefix(&self) -> Result<Option<String>, Fault> {
        if self.keep_names || self.tensors.contains_key("conv1.weight") {
            return Ok(None);
        }
        let mut found = self.tensors.keys().filter_map(|name| {
            let prefix = name.strip_suffix("conv1.weight").filter(|prefix| prefix.ends_with('.'))?;
            self.tensors.contains_key(&format!("{prefix}layer1.0.conv1.weight")).then_some(prefix)
        });
        match (found.next(), found.next()) {
            (Some(first), Some(second)) => Err(Fault::format(format!(
                "it holds the networks `{}` and `{}`, and nothing says which is meant; save only one of them",
                clean(first),
                clean(second)
            ))),
            (first, _) => Ok(first.map(str::to_owned)),
        }
    }
}

/// The torchvision name: wrappers' prefixes dropped, `linear` and `shortcut` called `fc` and `downsample`.
pub(super) fn canonical(name: &str) -> String {
    let mut name = name;
    while let Some(rest) = name.strip_prefix("module.").or_else(|| name.strip_prefix("_orig_mod.")) {
        name = rest;
    }
    match name.strip_prefix("linear.") {
        Some(rest) => format!("fc.{rest}"),
        None => name.replacen(".shortcut.", ".downsample.", 1),
    }
}

fn load(bytes: &[u8], view: &View<'_>, budget: &mut usize) -> Result<Data, String> {
    let View { dtype, ref storage, offset, shape, strides } = *view;
    if shape.len() > MAX_RANK {
        return Err(format!("has {} dimensions, more than {MAX_RANK}", shape.len()));
    }
    if let Some(strides) = strides.filter(|s| s.len() != shape.len()) {
        return Err(format!("has {} dimensions but {} strides", shape.len(), strides.len()));
    }
    let raw = bytes.get(storage.clone()).ok_or("lies outside the file")?;
    let held = raw.len() / dtype.size();
    let wraps = || format!("of shape {shape:?} has more elements than can be counted");
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(wraps)?;
    if count == 0 {
        return Ok(Data::Owned(Vec::new()));
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

    let strides = strides.filter(|strides| !is_c_order(shape, strides));
    if strides.is_none() && dtype == Dtype::F32 && cfg!(target_endian = "little") {
        let start = storage.start + offset * 4;
        let range = start..start + count * 4;
        if bytes.get(range.clone()).is_some_and(|b| bytemuck::try_cast_slice::<u8, f32>(b).is_ok()) {
            return Ok(Data::Mapped(range));
        }
    }

    let cost = count.checked_mul(4).filter(|cost| cost <= budget).ok_or_else(|| {
        format!("of shape {shape:?} would make the tensors take over 4 times the {} bytes of the file", bytes.len())
    })?;
    *budget -= cost;
    let gather = Gather { raw, offset, shape, strides, count };
    let data = match dtype {
        Dtype::F32 => gather.run(|b| Ok(f32::from_le_bytes(b))),
        Dtype::F16 => gather.run(|b| Ok(f16::from_le_bytes(b).to_f32())),
        Dtype::Bf16 => gather.run(|b| Ok(bf16::from_le_bytes(b).to_f32())),
        Dtype::F64 => gather.run(|b| {
            let wide = f64::from_le_bytes(b);
            let narrow = wide as f32;
            if narrow.is_infinite() && wide.is_finite() { Err(wide) } else { Ok(narrow) }
        }),
        Dtype::Other(name, _) => return Err(format!("has element type {name}")),
    };
    data.map(Data::Owned)
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

struct Gather<'g> {
    raw: &'g [u8],
    offset: usize,
    shape: &'g [usize],
    strides: Option<&'g [usize]>,
    count: usize,
}

impl Gather<'_> {
    /// Elements of `N` bytes in C order. Bounds were checked by [`load`].
    fn run<const N: usize>(&self, decode: impl Fn([u8; N]) -> Result<f32, f64>) -> Result<Vec<f32>, String> {
        let stored = self.raw.as_chunks::<N>().0;
        let mut out = Vec::with_capacity(self.count);
        let mut push = |at: usize| {
            let bytes = *stored.get(at).ok_or("reaches outside its storage")?;
            let value = decode(bytes).map_err(|v| format!("holds {v:e}, which f32 cannot represent"))?;
            out.push(value);
            Ok::<(), String>(())
        };
        let Some(strides) = self.strides else {
            (self.offset..self.offset + self.count).try_for_each(push)?;
            return Ok(out);
        };
        let mut index = [0usize; MAX_RANK];
        let mut at = self.offset;
        for _ in 0..self.count {
            push(at)?;
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
        Ok(out)
    }
}
