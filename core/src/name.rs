//! Tensor and layer names without allocation.

use core::{fmt, ops::Deref};

/// A layer or tensor name of at most [`Name::CAPACITY`] bytes, such as `layer3.35.downsample.0`.
///
/// Dereferences to `str`. Longer text is cut at a character boundary; every name a
/// [`crate::resnet::ResNet`] produces fits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    len: u8,
    bytes: [u8; Name::CAPACITY],
}

impl Name {
    /// Bytes a name can hold.
    pub const CAPACITY: usize = 47;

    /// A name from formatted text: `Name::new(format_args!("layer{s}.{b}"))`.
    pub fn new(text: impl fmt::Display) -> Self {
        let mut name = Name { len: 0, bytes: [0; Name::CAPACITY] };
        // `write_str` below never fails: it cuts instead.
        let _ = fmt::Write::write_fmt(&mut name, format_args!("{text}"));
        name
    }

    /// This name followed by `.suffix`.
    pub fn dot(&self, suffix: impl fmt::Display) -> Self {
        Name::new(format_args!("{self}.{suffix}"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len as usize]).unwrap_or_default()
    }
}

impl fmt::Write for Name {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let len = self.len as usize;
        let mut n = s.len().min(Name::CAPACITY - len);
        while !s.is_char_boundary(n) {
            n -= 1;
        }
        self.bytes[len..len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n as u8;
        Ok(())
    }
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn long_names_are_cut_at_a_character_boundary() {
        let long = Name::new("é".repeat(40));
        assert_eq!(long.len(), 46);
        assert!(long.chars().all(|c| c == 'é'));
        assert_eq!(&*Name::new("layer1.0").dot("conv1"), "layer1.0.conv1");
    }
}
