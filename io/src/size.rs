//! The sides of a picture or of a network's input.

use std::{fmt, str::FromStr};

use residual_core::geom::Shape;

/// Rows and columns in pixels. As text `224`, or `224x160`: height first, as networks have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Size {
    /// rows
    pub height: usize,
    /// columns
    pub width: usize,
}

impl Size {
    /// `side x side` pixels.
    pub const fn square(side: usize) -> Self {
        Size { height: side, width: side }
    }

    /// The shorter side.
    pub fn shorter(self) -> usize {
        self.height.min(self.width)
    }

    /// Both sides times `by.0 / by.1`, rounded down.
    pub fn scaled(self, by: (usize, usize)) -> Self {
        let side = |n: usize| n.saturating_mul(by.0) / by.1.max(1);
        Size { height: side(self.height), width: side(self.width) }
    }

    /// Whether both sides have 1 to `most` pixels.
    pub fn is_within(self, most: usize) -> bool {
        [self.height, self.width].iter().all(|side| (1..=most).contains(side))
    }
}

impl From<usize> for Size {
    fn from(side: usize) -> Self {
        Size::square(side)
    }
}

impl From<Shape> for Size {
    fn from(shape: Shape) -> Self {
        Size { height: shape.h, width: shape.w }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.height == self.width {
            true => write!(f, "{}", self.height),
            false => write!(f, "{}x{}", self.height, self.width),
        }
    }
}

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let side = |text: &str| text.trim().parse().map_err(|_| "must be a number of pixels, or HEIGHTxWIDTH");
        match text.split_once('x') {
            Some((height, width)) => Ok(Size { height: side(height)?, width: side(width)? }),
            None => side(text).map(Size::square),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Size;

    #[test]
    fn texts_round_trip() {
        let (square, wide) = (Size::square(224), Size { height: 160, width: 224 });
        for (size, text) in [(square, "224"), (wide, "160x224")] {
            assert_eq!((size.to_string().as_str(), text.parse()), (text, Ok(size)));
        }
        assert_eq!("224x224".parse(), Ok(square));
        for text in ["", "x", "224x", "-1", "1x2x3", "a"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert_eq!(wide.scaled((256, 224)), Size { height: 182, width: 256 });
    }
}
