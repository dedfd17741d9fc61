//! `--input`: rows, columns and channels of what a network reads.

use std::path::Path;

use anyhow::anyhow;
use residual::{Preprocessing, Size, resnet::ResNet};

use super::wrong_usage;

/// What `--input` says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Input {
    pub size: Size,
    channels: Option<usize>,
}

impl Input {
    /// `arch` for this input.
    pub fn of(self, arch: ResNet) -> anyhow::Result<ResNet> {
        let arch = arch.with_input(self.size.height, self.size.width)?;
        match self.channels {
            // A name that says no channels leaves them open.
            Some(channels) if arch.input().c == 3 => Ok(arch.with_channels(channels)?),
            Some(channels) if channels != arch.input().c => {
                let has = arch.input().c;
                Err(wrong_usage(format!("--input asks for {channels} channels, but {arch} has {has}")))
            }
            _ => Ok(arch),
        }
    }

    /// Whether `file` holds a network with these channels.
    pub fn check(self, file: &Path, found: usize) -> anyhow::Result<()> {
        match self.channels.filter(|channels| *channels != found) {
            None => Ok(()),
            Some(channels) => {
                let file = file.display();
                Err(anyhow!("{file}: --input asks for {channels} channels, but its network has {found}"))
            }
        }
    }
}

/// `--input`: `224`, `224x160` or `224x160x1`.
pub fn input(text: &str) -> Result<Input, String> {
    const FORM: &str = "must be a side in pixels, HEIGHTxWIDTH or HEIGHTxWIDTHxCHANNELS, such as 224x160x1";
    let number = |text: &str| text.parse::<usize>().map_err(|_| FORM.to_owned());
    let (size, channels) = match text.split('x').collect::<Vec<_>>()[..] {
        [height, width, channels] => (Size { height: number(height)?, width: number(width)? }, Some(number(channels)?)),
        _ => (text.parse::<Size>().map_err(|_| FORM.to_owned())?, None),
    };
    let most = Preprocessing::MAX_SIDE;
    if !size.is_within(most) {
        return Err(format!("sides must have 1 to {most} pixels"));
    }
    if channels == Some(0) {
        return Err("there must be at least 1 channel".into());
    }
    Ok(Input { size, channels })
}

#[cfg(test)]
mod tests {
    use super::{Size, input};

    #[test]
    fn inputs_are_sides_and_channels() {
        let of =
            |text: &str, arch: &str| input(text).unwrap().of(arch.parse().unwrap()).map(|a| (a.to_string(), a.input()));
        let shape = |text, arch| of(text, arch).unwrap().1.to_string();
        assert_eq!(shape("64", "resnet18"), "64x64x3");
        assert_eq!(shape("64x48", "resnet18-in5"), "64x48x5");
        assert_eq!(shape("64x48x5", "resnet18-in5"), "64x48x5");
        assert_eq!(of("64x48x1", "resnet18").unwrap().0, "resnet18-in1");
        assert_eq!(input("64x48").unwrap().size, Size { height: 64, width: 48 });
        let error = of("64x48x1", "resnet18-in5").unwrap_err().to_string();
        assert_eq!(error, "--input asks for 1 channels, but resnet18-in5 has 5");
        for text in ["", "0", "64x0", "64x48x0", "64x48x1x1", "2049", "a", "-1", "64x48x"] {
            assert!(input(text).is_err(), "{text}");
        }
    }
}
