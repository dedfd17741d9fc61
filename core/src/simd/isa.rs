//! Which instruction sets there are, and which this CPU has.

use core::{fmt, str::FromStr};

use crate::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Wasm,
}

const KINDS: &[Kind] = &[
    Kind::Portable,
    #[cfg(target_arch = "x86_64")]
    Kind::Avx2,
    #[cfg(target_arch = "x86_64")]
    Kind::Avx512,
    #[cfg(target_arch = "aarch64")]
    Kind::Neon,
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Kind::Wasm,
];

/// An instruction set this CPU has.
///
/// A value is the proof: the only ways to get one are [`Isa::available`], [`Isa::best`] and parsing
/// a name, and all of them ask the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Isa(Kind);

impl Isa {
    /// Always there: the `wide` crate at the build's baseline.
    pub const PORTABLE: Isa = Isa(Kind::Portable);

    /// Every instruction set usable here, slowest first.
    pub fn available() -> impl Iterator<Item = Isa> {
        KINDS.iter().filter(|kind| kind.detected()).map(|&kind| Isa(kind))
    }

    /// The fastest one.
    pub fn best() -> Isa {
        Isa::available().last().unwrap_or(Isa::PORTABLE)
    }

    /// The one that the environment variable `RESIDUAL_ISA` names, or the fastest.
    ///
    /// # Errors
    /// [`Error::UnavailableIsa`] when the variable names one this CPU lacks.
    #[cfg(feature = "std")]
    pub fn from_env() -> Result<Isa, Error> {
        match std::env::var_os("RESIDUAL_ISA") {
            Some(name) if !name.is_empty() => name.to_str().ok_or(Error::UnavailableIsa)?.parse(),
            _ => Ok(Isa::best()),
        }
    }

    /// `portable`, `avx2`, `avx512`, `neon` or `simd128`.
    pub const fn name(self) -> &'static str {
        self.0.name()
    }

    pub(super) const fn kind(self) -> Kind {
        self.0
    }
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon",
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Kind::Wasm => "simd128",
        }
    }

    fn detected(self) -> bool {
        match self {
            Kind::Portable => true,
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            Kind::Avx2 => std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma"),
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            Kind::Avx512 => std::is_x86_feature_detected!("avx512f"),
            // Without the standard library the build says what the CPU has.
            #[cfg(all(target_arch = "x86_64", not(feature = "std")))]
            Kind::Avx2 => cfg!(all(target_feature = "avx2", target_feature = "fma")),
            #[cfg(all(target_arch = "x86_64", not(feature = "std")))]
            Kind::Avx512 => cfg!(target_feature = "avx512f"),
            // Part of the architecture, and part of the build.
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => true,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Kind::Wasm => true,
        }
    }
}

impl FromStr for Isa {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Isa::available().find(|isa| isa.name() == name).ok_or(Error::UnavailableIsa)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
