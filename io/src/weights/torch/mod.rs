//! Files of `torch.save`: the zip archive of PyTorch 1.6 and the stream of pickles before it.

mod archive;
mod call;
mod machine;
mod pickle;

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use self::{
    archive::Archive,
    pickle::{Node, Pickle, Ref, Storage},
};
use super::{
    error::{Fault, clean},
    source::Source,
    store::{Collector, Dtype, View},
};

/// 0x1950a86a20f9469cfc6c, which the first pickle of a legacy file holds.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// Version of the legacy format; there has been one.
const PROTOCOL: i64 = 1001;
/// Where checkpoints keep the state dict, most specific first; averaged weights are taken where there are no others.
const STATE_DICT_KEYS: [&str; 11] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
];

/// Most entries of a checkpoint that are searched for a state dict.
const MAX_ENTRIES: usize = 64;

/// Does the file begin with the magic number of the legacy format?
pub(super) fn is_legacy(bytes: &[u8]) -> bool {
    // Protocol 4 puts a frame before the number.
    bytes.first() == Some(&0x80)
        && bytes.get(2..32).unwrap_or_else(|| bytes.get(2..).unwrap_or_default()).windows(10).any(|w| w == MAGIC)
}

/// Reads a zip archive; returns the checkpoint's key of the state dict.
pub(super) fn read_zip(
    source: &Source,
    out: &mut Collector<'_>,
    notes: &mut Vec<String>,
) -> Result<Option<String>, Fault> {
    const BYTES: Dtype = Dtype::Other("bytes", 1);
    let mut archive = Archive::new(source)?;
    if let Some(order) = archive.find("byteorder", BYTES)? {
        match &*source.part(order.range)? {
            b"little" => {}
            b"big" => return Err(Fault::format("it was written by a big-endian machine, which is not supported")),
            _ => return Err(Fault::format("its byte order is neither little nor big")),
        }
    }
    let pickle = archive.find("data.pkl", BYTES)?.ok_or_else(|| Fault::format("the archive has no data.pkl"))?;
    let pickle = source.part(pickle.range)?;
    let pickle = machine::run(&pickle)?;
    collect(&pickle, out, notes, |storage| {
        let name = format!("data/{}", storage.key);
        let found = archive.find(&name, storage.dtype)?;
        let found = found.ok_or_else(|| Fault::format(format!("the archive has no entry {}", clean(&name))))?;
        Ok((found.is_finite(storage.dtype), found.range))
    })
}

/// Reads the legacy format: the pickles of magic number, version, system, object and storage keys, then for
/// each key its number of elements (8 bytes) and the elements. Only reading it tells where a pickle ends, so the file is
/// read as a whole; its elements are not kept.
pub(super) fn read_legacy(
    source: &Source,
    out: &mut Collector<'_>,
    notes: &mut Vec<String>,
) -> Result<Option<String>, Fault> {
    let bytes = &*source.part(0..source.len())?;
    let mut at = 0;
    let mut next = || {
        let pickle = machine::run(&bytes[at..])?;
        at += pickle.len;
        // What must be data is not, whatever follows.
        match foreign(&pickle, pickle.root) {
            Some(global) => Err(Fault::Global(global)),
            None => Ok(pickle),
        }
    };
    let magic = next()?;
    if !matches!(magic.get(magic.root), Node::Long(number) if **number == MAGIC) {
        return Err(Fault::format("its magic number is not that of torch.save"));
    }
    let version = next()?;
    match version.get(version.root) {
        Node::Int(PROTOCOL) => {}
        other => {
            let found = clean(&format!("{other:?}"));
            return Err(Fault::format(format!("its format version is {found}, not {PROTOCOL}")));
        }
    }
    let system = next()?;
    let mut flags = system.entries(system.root).into_iter().flatten();
    if let Some((_, flag)) = flags.find(|(key, _)| *key == "little_endian")
        && !matches!(system.get(flag), Node::Bool(true))
    {
        return Err(Fault::format("it was written by a big-endian machine, which is not supported"));
    }
    let object = next()?;
    let keys = next()?;
    let Some(order) = keys.items(keys.root) else {
        return Err(Fault::format("its storage keys are not a list"));
    };

    let mut sizes = HashMap::new();
    for storage in &object.storages {
        let size = *sizes.entry(storage.key).or_insert(storage.dtype.size());
        if size != storage.dtype.size() {
            return Err(Fault::format(format!("storage {} has two element types", clean(storage.key))));
        }
    }
    let mut ranges = HashMap::new();
    for &key in order {
        let &Node::Str(key) = keys.get(key) else {
            return Err(Fault::format("a storage key is not a string"));
        };
        let name = clean(key);
        let size = *sizes.get(key).ok_or_else(|| Fault::format(format!("nothing refers to storage {name}")))?;
        let short = || Fault::format(format!("the file ends within storage {name}"));
        let (len, rest) = bytes.get(at..).and_then(|rest| rest.split_first_chunk::<8>()).ok_or_else(short)?;
        let len = usize::try_from(i64::from_le_bytes(*len)).ok().and_then(|n| n.checked_mul(size)).ok_or_else(short)?;
        if len > rest.len() {
            return Err(short());
        }
        at += 8;
        if ranges.insert(key, at..at + len).is_some() {
            return Err(Fault::format(format!("storage {name} is there twice")));
        }
        at += len;
    }
    collect(&object, out, notes, |storage| {
        let found = ranges.get(storage.key).cloned();
        let found = found.ok_or_else(|| Fault::format(format!("storage {} is missing", clean(storage.key))))?;
        Ok((false, found))
    })
}

/// Adds every tensor of the state dict; `find` says which bytes are a storage, and whether it is known to be finite.
fn collect(
    pickle: &Pickle<'_>,
    out: &mut Collector<'_>,
    notes: &mut Vec<String>,
    mut find: impl FnMut(&Storage<'_>) -> Result<(bool, Range<usize>), Fault>,
) -> Result<Option<String>, Fault> {
    let (key, dict) = state_dict(pickle, notes)?;
    for (name, value) in pickle.entries(dict).into_iter().flatten() {
        let &Node::Tensor(args) = pickle.get(value) else { continue };
        let malformed = |what: &str| Fault::tensor(name, format!("has a malformed {what}"));
        let Some(&[storage, offset, shape, strides, ..]) = pickle.items(args) else {
            return Err(malformed("description"));
        };
        let Node::Storage(storage) = pickle.get(storage) else { return Err(malformed("storage")) };
        let storage = pickle.storages.get(*storage as usize).ok_or_else(|| malformed("storage"))?;
        let offset = unsigned(pickle, offset).ok_or_else(|| malformed("offset"))?;
        let shape = unsigned_list(pickle, shape).ok_or_else(|| malformed("shape"))?;
        let strides = unsigned_list(pickle, strides).ok_or_else(|| malformed("stride"))?;

        let (finite, found) = find(storage)?;
        // Both are within the file or the pickle's own numbers: checked, as the latter may be absurd.
        let size = storage.dtype.size();
        let held = found.len() / size;
        if storage.len > held {
            let reason = format!("needs a storage of {} elements, the file holds {held}", storage.len);
            return Err(Fault::tensor(name, reason));
        }
        let view = View {
            dtype: storage.dtype,
            storage: found.start + storage.skip * size..found.start + storage.len * size,
            offset,
            shape: &shape,
            strides: Some(&strides),
            finite,
        };
        out.add(name, &view)?;
    }
    Ok(key)
}

/// The dict that holds the tensors, and the checkpoint's key of it; see [`super::WeightFile`] for the rule.
fn state_dict(pickle: &Pickle<'_>, notes: &mut Vec<String>) -> Result<(Option<String>, Ref), Fault> {
    let Some(entries) = pickle.entries(pickle.root) else {
        let no_dict = || Fault::format("it holds no dict, hence no state dict");
        return Err(foreign(pickle, pickle.root).map_or_else(no_dict, Fault::Global));
    };
    // Of two entries of one name, the last counts, as in Python.
    let entries: BTreeMap<&str, Ref> = entries.collect();
    // A checkpoint has few entries. Looking into many that are one large dict would never end.
    let few = entries.iter().filter(|_| entries.len() <= MAX_ENTRIES);
    let held: Vec<(&str, Ref)> = few.filter_map(|(&name, &value)| Some((name, inner(pickle, value)?))).collect();
    let known = STATE_DICT_KEYS.iter().find_map(|key| held.iter().find(|(name, _)| name == key));
    let taken = match (known, &held[..]) {
        (Some(taken), _) => taken,
        _ if is_state_dict(pickle, pickle.root) => return Ok((None, pickle.root)),
        (None, [only]) => only,
        (None, []) => return Err(no_state_dict(pickle, &entries)),
        (None, several) => {
            let names: Vec<_> = several.iter().map(|(name, _)| *name).take(8).collect();
            return Err(Fault::format(format!(
                "any of its entries {} could be the weights; save only one of them",
                clean(&names.join(", "))
            )));
        }
    };
    let mut note = format!("took its entry `{}`", clean(taken.0));
    let others: Vec<_> = held.iter().map(|(name, _)| *name).filter(|name| *name != taken.0).take(8).collect();
    if !others.is_empty() {
        note += &format!(", not {}", clean(&others.join(", ")));
    }
    notes.push(note);
    let foreign = pickle.foreign();
    if !foreign.is_empty() {
        notes.push(format!("stepped over objects of {}", clean(&foreign.join(", "))));
    }
    Ok((Some(taken.0.to_owned()), taken.1))
}

/// A state dict, or the one that a dict holds under a known key.
fn inner(pickle: &Pickle<'_>, at: Ref) -> Option<Ref> {
    if is_state_dict(pickle, at) {
        return Some(at);
    }
    let entries: Vec<_> = pickle.entries(at)?.collect();
    let known = |key: &&str| entries.iter().rfind(|(name, value)| name == key && is_state_dict(pickle, *value));
    STATE_DICT_KEYS.iter().find_map(known).map(|&(_, value)| value)
}

fn is_state_dict(pickle: &Pickle<'_>, at: Ref) -> bool {
    pickle.entries(at).is_some_and(|mut e| e.any(|(_, v)| matches!(pickle.get(v), Node::Tensor(_))))
}

fn no_state_dict(pickle: &Pickle<'_>, entries: &BTreeMap<&str, Ref>) -> Fault {
    let foreign = entries.values().find_map(|value| foreign(pickle, *value));
    let mut names: Vec<_> = entries.keys().copied().take(8).collect();
    if names.is_empty() {
        names.push("none");
    }
    let no_dict = || Fault::format(format!("no state dict is among its entries ({})", clean(&names.join(", "))));
    foreign.map_or_else(no_dict, Fault::Global)
}

/// The name of what a node would be in Python, if it is no data.
fn foreign(pickle: &Pickle<'_>, at: Ref) -> Option<String> {
    match pickle.get(at) {
        Node::Object(module, name) | Node::Foreign(module, name) => Some(clean(&format!("{module}.{name}"))),
        _ => None,
    }
}

fn unsigned(pickle: &Pickle<'_>, at: Ref) -> Option<usize> {
    match pickle.get(at) {
        &Node::Int(n) => usize::try_from(n).ok(),
        _ => None,
    }
}

fn unsigned_list(pickle: &Pickle<'_>, at: Ref) -> Option<Vec<usize>> {
    /// PyTorch's limit.
    const MAX_RANK: usize = 64;
    pickle.items(at).filter(|items| items.len() <= MAX_RANK)?.iter().map(|&item| unsigned(pickle, item)).collect()
}
