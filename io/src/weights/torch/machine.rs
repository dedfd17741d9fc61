//! An interpreter for the part of Python's pickle language that `torch.save` writes (protocols 2 to 5).
//!
//! Every opcode adds at most one node, and opcodes are counted. Globals resolve to the closed list
//! [`super::pickle::Global`]; any other stays a name, what it is called with is dropped, and what it would make is an
//! object of no content. So nothing is run, and a state dict beside optimisers and schedulers can be read.

use std::collections::HashMap;

use super::pickle::{Node, Pickle, Ref, Storage, global, node};
use crate::weights::error::Fault;

/// Opcodes in one pickle; the 1202-layer network with the state of Adam takes 578,000.
const MAX_OPCODES: usize = 1 << 21;

/// Interprets the pickle at the beginning of `bytes`.
pub fn run(bytes: &[u8]) -> Result<Pickle<'_>, Fault> {
    let mut machine = Machine {
        bytes,
        at: 0,
        nodes: Vec::new(),
        storages: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        copies: bytes.len(),
    };
    for _ in 0..MAX_OPCODES {
        let start = machine.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(root)) => {
                return Ok(Pickle { nodes: machine.nodes, storages: machine.storages, root, len: machine.at });
            }
            Err(Fault::Format(reason)) => return Err(Fault::format(format!("{reason} (pickle byte {start})"))),
            Err(fault) => return Err(fault),
        }
    }
    Err(Fault::format(format!("its pickle has more than {MAX_OPCODES} opcodes")))
}

pub(super) struct Machine<'p> {
    bytes: &'p [u8],
    at: usize,
    pub(super) nodes: Vec<Node<'p>>,
    storages: Vec<Storage<'p>>,
    pub(super) stack: Vec<Ref>,
    /// heights of the stack at the open marks
    marks: Vec<usize>,
    memo: HashMap<u32, Ref>,
    /// dict entries that may still be copied
    pub(super) copies: usize,
}

impl<'p> Machine<'p> {
    /// One opcode; the root at `STOP`.
    fn step(&mut self) -> Result<Option<Ref>, Fault> {
        let [opcode] = self.take_array()?;
        match opcode {
            b'.' => return self.pop().map(Some),
            // PROTO and FRAME
            0x80 => match self.take_array()? {
                [2..=5] => {}
                [version] => return Err(Fault::format(format!("pickle protocol {version} is not 2 to 5"))),
            },
            0x95 => drop(self.take_array::<8>()?),
            // The stack
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => self.stack.push(self.top()?),
            // The memo
            b'q' => {
                let [index] = self.take_array()?;
                self.memoize(index.into())?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.take_array()?);
                self.memoize(index)?;
            }
            0x94 => self.memoize(self.memo.len() as u32)?,
            b'h' => {
                let [index] = self.take_array()?;
                self.recall(index.into())?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.take_array()?);
                self.recall(index)?;
            }
            // Atoms
            b'N' => self.push(Node::None)?,
            0x88 | 0x89 => self.push(Node::Bool(opcode == 0x88))?,
            b'K' => {
                let [v] = self.take_array()?;
                self.push(Node::Int(v.into()))?;
            }
            b'M' => {
                let v = u16::from_le_bytes(self.take_array()?);
                self.push(Node::Int(v.into()))?;
            }
            b'J' => {
                let v = i32::from_le_bytes(self.take_array()?);
                self.push(Node::Int(v.into()))?;
            }
            0x8a => {
                let [len] = self.take_array()?;
                let bytes = self.take(len.into())?;
                self.push(long(bytes))?;
            }
            0x8b => {
                let bytes = self.take_counted4()?;
                self.push(long(bytes))?;
            }
            b'G' => {
                self.take_array::<8>()?;
                self.push(Node::Float)?;
            }
            b'X' => {
                let bytes = self.take_counted4()?;
                self.push_str(bytes)?;
            }
            0x8c => {
                let [len] = self.take_array()?;
                let bytes = self.take(len.into())?;
                self.push_str(bytes)?;
            }
            0x8d => {
                let bytes = self.take_counted8()?;
                self.push_str(bytes)?;
            }
            // Python 2's strings: text if it is UTF-8
            b'U' => {
                let [len] = self.take_array()?;
                let bytes = self.take(len.into())?;
                self.push(str::from_utf8(bytes).map_or(Node::Bytes, Node::Str))?;
            }
            b'T' => {
                let bytes = self.take_counted4()?;
                self.push(str::from_utf8(bytes).map_or(Node::Bytes, Node::Str))?;
            }
            b'C' => {
                let [len] = self.take_array()?;
                self.take(len.into())?;
                self.push(Node::Bytes)?;
            }
            b'B' => {
                self.take_counted4()?;
                self.push(Node::Bytes)?;
            }
            // BINBYTES8 and BYTEARRAY8
            0x8e | 0x96 => {
                self.take_counted8()?;
                self.push(Node::Bytes)?;
            }
            // Containers
            b')' => self.push(Node::Tuple(Box::new([])))?,
            0x85..=0x87 => {
                let items = self.pop_many((opcode - 0x84).into())?;
                self.push(Node::Tuple(items.into()))?;
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push(Node::Tuple(items.into()))?;
            }
            b']' => self.push(Node::List(Vec::new()))?,
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Node::List(items))?;
            }
            b'a' => {
                let items = self.pop_many(1)?;
                self.append(&items)?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(&items)?;
            }
            b'}' => self.push(Node::Dict(Vec::new()))?,
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Node::Dict(Vec::new()))?;
                self.set_items(&items)?;
            }
            b's' => {
                let items = self.pop_many(2)?;
                self.set_items(&items)?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(&items)?;
            }
            // Sets: no weights are in them
            0x8f => self.push(Node::Object("builtins", "set"))?,
            0x90 => {
                let items = self.pop_mark()?;
                self.append(&items)?;
            }
            0x91 => {
                self.pop_mark()?;
                self.push(Node::Object("builtins", "frozenset"))?;
            }
            // Objects
            b'c' => {
                let (module, name) = (self.take_line()?, self.take_line()?);
                self.push_global(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (node(&self.nodes, module), node(&self.nodes, name)) {
                    (&Node::Str(module), &Node::Str(name)) => self.push_global(module, name)?,
                    _ => return Err(Fault::format("a global's module and name are not strings")),
                }
            }
            b'R' => self.reduce()?,
            // NEWOBJ, and NEWOBJ_EX, which has keywords too
            0x81 => self.reduce()?,
            0x92 => {
                self.pop()?;
                self.reduce()?;
            }
            b'b' => self.build()?,
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.storages.push(storage);
                self.push(Node::Storage(self.storages.len() as u32 - 1))?;
            }
            _ => return Err(Fault::format(format!("pickle opcode {opcode:#04x} is none that torch.save writes"))),
        }
        Ok(None)
    }

    fn take(&mut self, len: usize) -> Result<&'p [u8], Fault> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest
            .get(..len)
            .ok_or_else(|| Fault::format(format!("its pickle ends where {len} more bytes are needed")))?;
        self.at += len;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn take_counted4(&mut self) -> Result<&'p [u8], Fault> {
        let len = u32::from_le_bytes(self.take_array()?);
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    fn take_counted8(&mut self) -> Result<&'p [u8], Fault> {
        let len = u64::from_le_bytes(self.take_array()?);
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    fn take_line(&mut self) -> Result<&'p str, Fault> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let len =
            rest.iter().position(|&b| b == b'\n').ok_or_else(|| Fault::format("its pickle ends within a line"))?;
        let line = self.take(len + 1)?;
        str::from_utf8(&line[..len]).map_err(|_| Fault::format("a global's name is not UTF-8"))
    }

    pub(super) fn push(&mut self, node: Node<'p>) -> Result<(), Fault> {
        let at = u32::try_from(self.nodes.len()).map_err(|_| Fault::format("its pickle has too many objects"))?;
        self.nodes.push(node);
        self.stack.push(Ref(at));
        Ok(())
    }

    fn push_str(&mut self, bytes: &'p [u8]) -> Result<(), Fault> {
        let text = str::from_utf8(bytes).map_err(|_| Fault::format("a string is not UTF-8"))?;
        self.push(Node::Str(text))
    }

    fn push_global(&mut self, module: &'p str, name: &'p str) -> Result<(), Fault> {
        self.push(global(module, name).map_or(Node::Foreign(module, name), Node::Global))
    }

    pub(super) fn top(&self) -> Result<Ref, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(&top) if self.stack.len() > floor => Ok(top),
            _ => Err(Fault::format("its pickle takes from an empty stack")),
        }
    }

    pub(super) fn pop(&mut self) -> Result<Ref, Fault> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// The last `n` objects, in the order they were pushed.
    fn pop_many(&mut self, n: usize) -> Result<Vec<Ref>, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(n) {
            Some(from) if from >= floor => Ok(self.stack.split_off(from)),
            _ => Err(Fault::format("its pickle takes from an empty stack")),
        }
    }

    fn pop_mark(&mut self) -> Result<Vec<Ref>, Fault> {
        let mark = self.marks.pop().ok_or_else(|| Fault::format("its pickle lacks a mark"))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn memoize(&mut self, index: u32) -> Result<(), Fault> {
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), Fault> {
        let known = *self.memo.get(&index).ok_or_else(|| Fault::format(format!("memo {index} was never set")))?;
        self.stack.push(known);
        Ok(())
    }

    fn append(&mut self, new: &[Ref]) -> Result<(), Fault> {
        let list = self.top()?;
        match self.nodes.get_mut(list.0 as usize) {
            Some(Node::List(list)) => list.extend_from_slice(new),
            Some(Node::Object(..)) => {}
            _ => return Err(Fault::format("its pickle appends to something that is not a list")),
        }
        Ok(())
    }

    fn set_items(&mut self, new: &[Ref]) -> Result<(), Fault> {
        let dict = self.top()?;
        let (pairs, odd) = new.as_chunks::<2>();
        match self.nodes.get_mut(dict.0 as usize) {
            Some(Node::Dict(dict)) if odd.is_empty() => dict.extend(pairs.iter().map(|&[key, value]| (key, value))),
            Some(Node::Dict(_)) => return Err(Fault::format("a dict entry lacks its value")),
            Some(Node::Object(..)) => {}
            _ => return Err(Fault::format("its pickle sets an entry of something that is not a dict")),
        }
        Ok(())
    }
}

fn long(bytes: &[u8]) -> Node<'_> {
    if bytes.len() > 8 {
        return Node::Long(bytes);
    }
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Node::Int(i64::from_le_bytes(wide))
}
