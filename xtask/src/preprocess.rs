//! Resizing and cropping against Pillow's pictures, byte for byte.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use residual_io::{Image, Preprocessing};

/// `NAME.png` becomes `NAME` with this.
const RESULT: &str = ".resize256.crop224.png";

/// Prints a line for every pair in `dir`; returns how many passed and failed.
pub fn run(dir: &Path) -> Result<(usize, usize)> {
    let (mut passed, mut failed) = (0, 0);
    for result in results(dir)? {
        let name = result.file_name().unwrap_or_default().to_string_lossy().replace(RESULT, "");
        match compare(&dir.join(format!("{name}.png")), &result) {
            Ok(bytes) => {
                println!("ok   {name}: 0 of {bytes} bytes differ");
                passed += 1;
            }
            Err(error) => {
                println!("FAIL {name}: {error:#}");
                failed += 1;
            }
        }
    }
    ensure!(passed + failed > 0, "{} holds no pair NAME.png, NAME{RESULT}", dir.display());
    Ok((passed, failed))
}

fn results(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.to_string_lossy().ends_with(RESULT));
    paths.sort();
    Ok(paths)
}

/// The number of bytes, all of them equal.
fn compare(picture: &Path, result: &Path) -> Result<usize> {
    let got = Preprocessing::imagenet().resize_and_crop(&Image::open(picture)?)?.into_owned();
    let want = Image::open(result)?;
    ensure!(
        (got.width(), got.height()) == (want.width(), want.height()),
        "{}x{} pixels for {}x{}",
        got.width(),
        got.height(),
        want.width(),
        want.height()
    );
    let differing = got.pixels().iter().zip(want.pixels()).filter(|(a, b)| a != b).count();
    ensure!(differing == 0, "{differing} of {} bytes differ", want.pixels().len());
    Ok(want.pixels().len())
}
