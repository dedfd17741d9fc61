//! What a JPEG's headers say, before a decoder sees the file.
//!
//! The decoder (zune-jpeg) is fast, and within rounding of Pillow's on what cameras and programs usually write. Some
//! valid files of other kinds it turns into wrong pixels without an error, or panics on. They are known by their
//! headers and refused here, so that a picture is either right or an error.

/// The frame header and the first scan's.
pub(super) struct Header {
    /// the marker that begins the frame: which process coded it
    process: u8,
    /// pixels across and down
    size: (u16, u16),
    /// horizontal and vertical sampling factors of every component, luma first
    sampling: Vec<(u8, u8)>,
    /// bits of a sample
    precision: u8,
    /// components in the first scan
    in_scan: u8,
    /// where the first scan's data begins
    scan: usize,
}

impl Header {
    /// Reads the segments up to the first scan; thumbnails inside application segments are stepped over with their
    /// segment.
    pub fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        const CUT: &str = "truncated JPEG: it ends before the first scan";
        let mut frame: Option<Header> = None;
        let mut at = 2;
        loop {
            let (marker, body, next) = segment(bytes, at).ok_or(CUT)?;
            match marker {
                0xDA => {
                    let mut header = frame.ok_or("damaged JPEG: a scan comes before the frame's header")?;
                    header.in_scan = body.first().copied().unwrap_or(0);
                    header.scan = next;
                    return Ok(header);
                }
                // All frame headers; between them are tables of Huffman codes, an extension and arithmetic conditioning.
                0xC0..=0xCF if !matches!(marker, 0xC4 | 0xC8 | 0xCC) => {
                    let before = frame.replace(Header::frame(marker, body).ok_or(CUT)?);
                    if before.is_some() {
                        return Err("a JPEG of several frames is not supported");
                    }
                }
                _ => {}
            }
            at = next;
        }
    }

    fn frame(process: u8, body: &[u8]) -> Option<Self> {
        let &[precision, y1, y0, x1, x0, components, ref rest @ ..] = body else { return None };
        let (rest, _) = rest.as_chunks::<3>();
        let sampling = rest.get(..components.into())?.iter().map(|c| (c[1] >> 4, c[1] & 15)).collect();
        let size = (u16::from_be_bytes([x1, x0]), u16::from_be_bytes([y1, y0]));
        Some(Header { process, size, sampling, precision, in_scan: 0, scan: 0 })
    }

    /// Whether the decoder gives the pixels of a file of this kind; `bytes` is the whole file.
    pub fn check(&self, bytes: &[u8]) -> Result<(), String> {
        let unsupported =
            |what: &str| Err(format!("{what} is not supported; save it again as an ordinary JPEG or PNG"));
        match self.process {
            0xC0..=0xC2 => {}
            0xC9..=0xCB | 0xCD..=0xCF => return unsupported("a JPEG with arithmetic coding"),
            _ => return unsupported("a lossless or hierarchical JPEG"),
        }
        if self.precision != 8 {
            return unsupported(&format!("a JPEG of {} bits a sample", self.precision));
        }
        let components = self.sampling.len();
        if !matches!(components, 1 | 3 | 4) {
            return unsupported(&format!("a JPEG of {components} components"));
        }
        if components > 1 && !self.usual_sampling() {
            let factors: Vec<_> = self.sampling.iter().map(|(h, v)| format!("{h}x{v}")).collect();
            return unsupported(&format!("a JPEG with the sampling factors {}", factors.join(", ")));
        }
        // Only a progressive file refines its components scan by scan.
        if !self.progressive() && usize::from(self.in_scan) != components {
            return unsupported("a JPEG that is not progressive and has its components in separate scans");
        }
        self.check_end(bytes).map_err(str::to_owned)
    }

    fn progressive(&self) -> bool {
        self.process == 0xC2
    }

    /// Luma as fine as the picture, every other component as fine as luma or at 1 on each axis. Of the other
    /// factors, comparison with Pillow found wrong pixels for colour finer than luma and for 2 below 4.
    fn usual_sampling(&self) -> bool {
        let usual = |factor: u8, luma: u8| matches!(luma, 1 | 2 | 4) && (factor == luma || factor == 1);
        let (h, v) = self.sampling.first().copied().unwrap_or((0, 0));
        self.sampling.iter().all(|c| usual(c.0, h) && usual(c.1, v))
    }

    /// Whether an end marker follows the first scan. The decoder fills what a cut-off JPEG lacks with grey and
    /// reports success, which would be classified as if it were the picture.
    fn check_end(&self, bytes: &[u8]) -> Result<(), &'static str> {
        let body = bytes.get(self.scan..).unwrap_or_default();
        // Entropy-coded data cannot contain FF D9. From the back: it is normally the last two bytes.
        match body.windows(2).rev().any(|w| w == [0xFF, 0xD9]) {
            true => Ok(()),
            false => Err("truncated JPEG: it has no end marker"),
        }
    }

    /// Bytes the decoder needs beside its output: a progressive file's coefficients, 2 bytes each.
    pub fn working_bytes(&self) -> u64 {
        if !self.progressive() {
            return 0;
        }
        let most = |axis: fn(&(u8, u8)) -> u8| self.sampling.iter().map(axis).max().map_or(1, |m| u64::from(m.max(1)));
        let samples: u64 = self.sampling.iter().map(|&(h, v)| u64::from(h) * u64::from(v)).sum();
        2 * u64::from(self.size.0) * u64::from(self.size.1) * samples / (most(|c| c.0) * most(|c| c.1))
    }
}

/// The next segment from `at` on: its marker, its content and where the one after it begins.
fn segment(bytes: &[u8], mut at: usize) -> Option<(u8, &[u8], usize)> {
    loop {
        // Bytes between segments, fill bytes among them, are skipped as decoders do.
        at += bytes.get(at..)?.iter().position(|&b| b == 0xFF)? + 1;
        let marker = *bytes.get(at)?;
        if matches!(marker, 0x00 | 0x01 | 0xD0..=0xD9 | 0xFF) {
            continue;
        }
        let len = u16::from_be_bytes([*bytes.get(at + 1)?, *bytes.get(at + 2)?]);
        let next = at + 1 + usize::from(len.max(2));
        return Some((marker, bytes.get(at + 3..next).unwrap_or_default(), next));
    }
}
