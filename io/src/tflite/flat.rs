//! Reading FlatBuffers from any bytes: every offset is checked where it is followed.
//!
//! A table begins with the distance back to its vtable, which holds where each field lies; tables,
//! vectors and strings are reached by offsets forward. Nothing is allocated.

/// Why bytes could not be followed; the caller says in which table.
pub(super) type Broken = &'static str;

const OUTSIDE: Broken = "an offset points outside the file";

/// A table.
#[derive(Clone, Copy)]
pub(super) struct Table<'f> {
    bytes: &'f [u8],
    at: usize,
    vtable: usize,
    /// bytes of the vtable
    len: usize,
}

/// A vector of elements of `size` bytes.
#[derive(Clone, Copy)]
pub(super) struct Vector<'f> {
    bytes: &'f [u8],
    at: usize,
    len: usize,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Broken> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(OUTSIDE)
}

/// Where the offset at `at` points.
fn follow(bytes: &[u8], at: usize) -> Result<usize, Broken> {
    let offset = u32::from_le_bytes(array(bytes, at)?);
    at.checked_add(usize::try_from(offset).map_err(|_| OUTSIDE)?).filter(|at| *at < bytes.len()).ok_or(OUTSIDE)
}

impl<'f> Table<'f> {
    /// The root table of a file.
    pub fn root(bytes: &'f [u8]) -> Result<Self, Broken> {
        Table::at(bytes, follow(bytes, 0)?)
    }

    fn at(bytes: &'f [u8], at: usize) -> Result<Self, Broken> {
        let back = i32::from_le_bytes(array(bytes, at)?);
        let vtable = i64::try_from(at).ok().and_then(|at| usize::try_from(at - i64::from(back)).ok()).ok_or(OUTSIDE)?;
        let len = usize::from(u16::from_le_bytes(array(bytes, vtable)?));
        if len < 4 || bytes.len().saturating_sub(vtable) < len {
            return Err("a table's field list is cut off");
        }
        Ok(Table { bytes, at, vtable, len })
    }

    /// Where field `index` lies, if it is there.
    fn place(&self, index: usize) -> Result<Option<usize>, Broken> {
        let entry = 4 + 2 * index;
        if entry + 2 > self.len {
            return Ok(None);
        }
        Ok(match u16::from_le_bytes(array(self.bytes, self.vtable + entry)?) {
            0 => None,
            offset => Some(self.at + usize::from(offset)),
        })
    }

    fn scalar<const N: usize>(&self, index: usize) -> Result<Option<[u8; N]>, Broken> {
        self.place(index)?.map(|at| array(self.bytes, at)).transpose()
    }

    pub fn i8(&self, index: usize) -> Result<i8, Broken> {
        Ok(self.scalar(index)?.map_or(0, i8::from_le_bytes))
    }

    pub fn i32(&self, index: usize, default: i32) -> Result<i32, Broken> {
        Ok(self.scalar(index)?.map_or(default, i32::from_le_bytes))
    }

    pub fn u32(&self, index: usize) -> Result<u32, Broken> {
        Ok(self.i32(index, 0)? as u32)
    }

    pub fn f32(&self, index: usize) -> Result<f32, Broken> {
        Ok(self.scalar(index)?.map_or(0.0, f32::from_le_bytes))
    }

    pub fn table(&self, index: usize) -> Result<Option<Table<'f>>, Broken> {
        self.place(index)?.map(|at| Table::at(self.bytes, follow(self.bytes, at)?)).transpose()
    }

    /// The vector of elements of `size` bytes in field `index`; empty if it is absent.
    pub fn vector(&self, index: usize, size: usize) -> Result<Vector<'f>, Broken> {
        let Some(place) = self.place(index)? else { return Ok(Vector { bytes: &[], at: 0, len: 0 }) };
        let at = follow(self.bytes, place)?;
        let len = u32::from_le_bytes(array(self.bytes, at)?) as usize;
        let rest = self.bytes.len().saturating_sub(at + 4);
        if len.checked_mul(size).is_none_or(|need| need > rest) {
            return Err("a vector is longer than the file");
        }
        Ok(Vector { bytes: self.bytes, at: at + 4, len })
    }

    /// The text of field `index`, what is not UTF-8 replaced.
    pub fn text(&self, index: usize) -> Result<String, Broken> {
        Ok(String::from_utf8_lossy(self.vector(index, 1)?.raw()).into_owned())
    }
}

impl<'f> Vector<'f> {
    pub fn len(&self) -> usize {
        self.len
    }

    /// A vector of bytes as it is.
    pub fn raw(&self) -> &'f [u8] {
        self.bytes.get(self.at..self.at + self.len).unwrap_or_default()
    }

    fn element<const N: usize>(&self, i: usize) -> Result<[u8; N], Broken> {
        if i >= self.len {
            return Err("an index points past the end of a list");
        }
        array(self.bytes, self.at + i * N)
    }

    pub fn i32(&self, i: usize) -> Result<i32, Broken> {
        self.element(i).map(i32::from_le_bytes)
    }

    pub fn i64(&self, i: usize) -> Result<i64, Broken> {
        self.element(i).map(i64::from_le_bytes)
    }

    pub fn f32(&self, i: usize) -> Result<f32, Broken> {
        self.element(i).map(f32::from_le_bytes)
    }

    /// All numbers of a vector of i32.
    pub fn i32s(&self) -> Result<Vec<i32>, Broken> {
        (0..self.len).map(|i| self.i32(i)).collect()
    }

    pub fn table(&self, i: usize) -> Result<Table<'f>, Broken> {
        self.element::<4>(i)?;
        Table::at(self.bytes, follow(self.bytes, self.at + 4 * i)?)
    }
}
