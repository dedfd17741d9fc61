//! What `cargo xtask capi --check` and `cargo xtask test` check of the library for C.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use residual::{
    Classifier, Given, Image, Isa, Preprocessing, Pretrained,
    plan::Options,
    resnet::ResNet,
    session::Session,
    testing::Generated,
    weights::{Tensor, Weights},
    weights::{describe, save},
};
use residual_core::rsd::synthetic;

use super::{emulate::Work, firmware, header, host, isolate, succeed, tools::need, work, workspace};
use crate::{checks::Report, mcu::board};

const WARNINGS: [&str; 5] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g"];
const LANGUAGES: [(&str, &str); 6] =
    [("c", "c99"), ("c", "c11"), ("c", "c17"), ("c++", "c++11"), ("c++", "c++17"), ("c++", "c++20")];

/// The header alone: quick, and needs compilers only.
fn headers(report: &mut Report) {
    report.check("C header is what its sources say", || header::check().map(|()| String::new()));
    compilers(report);
}

/// Everything, a line for each part; firmware on these cores.
pub fn run(report: &mut Report, cores: &[&str]) {
    headers(report);
    let prefix = work().join("prefix");
    if cfg!(not(target_os = "linux")) {
        return report.skip("C library", "its checks are for Linux");
    }
    if !report.check("C library installs", || install(&prefix)) {
        return;
    }
    report.check("C library beside another Rust library", || beside(&prefix));
    match Fixture::new() {
        Ok(fixture) => {
            programs(report, &prefix, &fixture);
            misuse(report, &prefix, &fixture);
        }
        Err(error) => report.fail("C library", &error),
    }
    boards(report, &prefix, cores);
}

fn install(prefix: &Path) -> Result<String> {
    let _ = fs::remove_dir_all(prefix);
    host::install(prefix)?;
    let size = |name: &str| fs::metadata(prefix.join("lib").join(name)).map_or(0, |file| file.len());
    Ok(format!("shared library {} bytes", size("libresidual.so")))
}

/// The header with every compiler, language and standard.
fn compilers(report: &mut Report) {
    let source = workspace().join("capi/tests/c/include.c");
    let arm = ["-mcpu=cortex-m4", "-mthumb"];
    for (compiler, packages, flags) in [
        ("gcc", &["gcc", "g++"][..], &[][..]),
        ("clang", &[][..], &[][..]),
        ("arm-none-eabi-gcc", &["gcc-arm-none-eabi", "libnewlib-arm-none-eabi"][..], &arm[..]),
    ] {
        let name = format!("C header with {compiler}");
        let found = if packages.is_empty() { need_nothing(compiler) } else { need(compiler, packages) };
        if let Err(reason) = found {
            report.skip(&name, &reason);
            continue;
        }
        report.check(&name, || {
            let mut done = Vec::new();
            for (language, standard) in LANGUAGES {
                let mut command = Command::new(compiler);
                command.args(WARNINGS).args(flags).arg(format!("-std={standard}")).args(["-x", language]);
                command.arg("-I").arg(workspace().join("capi/include")).args(["-fsyntax-only"]).arg(&source);
                succeed(&mut command)?;
                done.push(standard);
            }
            Ok(done.join(", "))
        });
    }
}

/// A program that is used where it is there, and not installed.
fn need_nothing(command: &str) -> Result<(), String> {
    let there = Command::new(command).arg("--version").output().is_ok_and(|output| output.status.success());
    if there { Ok(()) } else { Err(format!("no {command}")) }
}

/// Weights, int8 models and pictures.
struct Fixture {
    folder: PathBuf,
    weights: PathBuf,
    int8: PathBuf,
    tflite: PathBuf,
    jpeg: PathBuf,
    ppm: PathBuf,
}

impl Fixture {
    fn new() -> Result<Self> {
        let folder = work().join("fixture");
        fs::create_dir_all(&folder)?;
        let spec: ResNet = "resnet8-cifar".parse()?;
        let names: Vec<String> = (0..10).map(|class| format!("class {class}")).collect();
        let mut metadata = describe(&spec, Some(&names));
        metadata.extend(Preprocessing::cifar([0.5, 0.4, 0.3], [0.25, 0.3, 0.2]).to_metadata());
        let generated = Generated::new(spec);
        let tensors: Vec<(&str, Tensor<'_>)> =
            generated.names().filter_map(|name| Some((name, generated.tensor(name)?))).collect();
        let (weights, int8, ppm) = (folder.join("w.safetensors"), folder.join("m.rsd"), folder.join("p.ppm"));
        save(&weights, tensors, &metadata)?;
        fs::write(&int8, &*synthetic(&spec, 1)?)?;
        let (width, height) = (47, 41);
        let pixels = (0..width * height * 3u32).map(|i| (i * i / 7 + i / 5) as u8);
        fs::write(
            &ppm,
            format!("P6\n# made up\n{width} {height}\n255\n")
                .into_bytes()
                .into_iter()
                .chain(pixels)
                .collect::<Vec<_>>(),
        )?;
        let jpeg = workspace().join("io/tests/data/progressive.jpg");
        let tflite = workspace().join("capi/tests/data/resnet8-w4.tflite");
        Ok(Fixture { folder, weights, int8, tflite, jpeg, ppm })
    }

    /// One of every kind.
    fn models(&self) -> [&PathBuf; 3] {
        [&self.weights, &self.int8, &self.tflite]
    }

    /// Logits of both pictures by the Rust library on one instruction set.
    fn logits(&self, isa: Isa) -> Result<Vec<f32>> {
        let model = Pretrained::open(&self.weights, &Given::default())?;
        let mut session = Session::new(&model.net()?, &Options { isa, ..Options::default() })?;
        let mut all = Vec::new();
        for image in self.images()? {
            let mut input = vec![0.0; session.plan().input_len()];
            model.preprocessing().apply(&image, &mut input)?;
            all.extend_from_slice(session.run::<f32>(&input)?);
        }
        Ok(all)
    }

    /// Both pictures; the pixmap's are what follows its header.
    fn images(&self) -> Result<[Image; 2]> {
        let bytes = fs::read(&self.ppm)?;
        let pixels = bytes.get(bytes.len() - 47 * 41 * 3..).context("pixels")?;
        Ok([Image::new(47, 41, pixels.to_vec())?, Image::open(&self.jpeg)?])
    }

    /// Whether what the C program prints with `-l` are `want`'s bits.
    fn compare(&self, printed: &str, want: &[f32]) -> Result<()> {
        let number = |line: &str| line.rsplit(' ').next().and_then(|n| n.parse::<f32>().ok());
        let got: Vec<f32> = printed.lines().filter_map(number).collect();
        ensure!(got.len() == want.len(), "{} logits instead of {}:\n{printed}", got.len(), want.len());
        let wrong = got.iter().zip(want).filter(|(got, want)| got.to_bits() != want.to_bits()).count();
        ensure!(wrong == 0, "{wrong} of {} logits differ from the Rust library's", want.len());
        Ok(())
    }
}

/// The host example, built both ways, with and without valgrind; many threads.
fn programs(report: &mut Report, prefix: &Path, fixture: &Fixture) {
    let source = workspace().join("examples/c/host");
    let build = work().join("host");
    let mut built = None;
    for (name, command, packages) in
        [("make and pkg-config", "make", &["make", "pkg-config"][..]), ("CMake", "cmake", &["cmake", "make"][..])]
    {
        let part = format!("C example with {name}");
        if let Err(reason) = need(command, packages) {
            report.skip(&part, &reason);
            continue;
        }
        let folder = build.join(command);
        let ok = report.check(&part, || {
            fs::create_dir_all(&folder)?;
            if command == "make" {
                let mut make = Command::new("make");
                make.arg("-C").arg(&folder).arg("-f").arg(source.join("Makefile"));
                make.arg(format!("VPATH={}", source.display())).arg(format!("CPPFLAGS=-I{}", source.display()));
                succeed(make.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")))?;
            } else {
                let mut cmake = Command::new("cmake");
                cmake.arg("-S").arg(&source).arg("-B").arg(&folder);
                succeed(cmake.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())))?;
                succeed(Command::new("cmake").arg("--build").arg(&folder))?;
            }
            let want = fixture.logits(Isa::best())?;
            let rows = Classifier::builder().threads(1).open(&fixture.weights)?.logits(&fixture.images()?)?;
            ensure!(std::env::var_os("RESIDUAL_ISA").is_some() || rows.concat() == want, "two ways in Rust differ");
            let printed =
                succeed(example(&folder, fixture, &["-l", "-t", "2"]).env("RESIDUAL_ISA", Isa::best().name()))?;
            fixture.compare(&printed, &want)?;
            let named = succeed(&mut example(&folder, fixture, &["-p", "-k", "2"]))?;
            ensure!(named.contains("%  class ") && named.contains("layer1.0.conv1"), "{named}");
            Ok(format!("{} logits, the Rust library's bits", want.len()))
        });
        if ok {
            built = Some(folder);
        }
    }
    let Some(folder) = built else { return };
    if let Err(reason) = need("valgrind", &["valgrind", "libc6-dbg"]) {
        return report.skip("C example under valgrind", &reason);
    }
    report.check("C example under valgrind", || {
        // valgrind knows no AVX-512.
        let isa: Isa = "avx2".parse().unwrap_or(Isa::PORTABLE);
        let plain = example(&folder, fixture, &["-l"]);
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--leak-check=full", "--show-leak-kinds=all", "--errors-for-leak-kinds=all"]);
        valgrind.arg("--error-exitcode=3").arg(format!("--log-file={}", work().join("valgrind.log").display()));
        valgrind.arg(plain.get_program()).args(plain.get_args()).env("RESIDUAL_ISA", isa.name());
        let result = succeed(&mut valgrind);
        let log = fs::read_to_string(work().join("valgrind.log")).unwrap_or_default();
        fixture.compare(&result.with_context(|| log.clone())?, &fixture.logits(isa)?)?;
        ensure!(log.contains("ERROR SUMMARY: 0 errors"), "{log}");
        let leaks = ["All heap blocks were freed -- no leaks are possible"];
        ensure!(leaks.iter().any(|line| log.contains(line)), "{log}");
        Ok(format!("0 errors, 0 leaks, the Rust library's bits on {isa}"))
    });
    report.check("32 C threads sharing a model", || {
        let program = compile(prefix, "threads", &["threads.c"], &["-O1"])?;
        succeed(Command::new(program).args(fixture.models())).map(|text| text.trim().to_owned())
    });
}

/// The example with both pictures.
fn example(folder: &Path, fixture: &Fixture, args: &[&str]) -> Command {
    let mut command = Command::new(folder.join("classify"));
    command.args(args).arg(&fixture.weights).arg(&fixture.ppm).arg(&fixture.jpeg);
    command
}

/// Compiles test programs against the static library; `flags` may name other libraries.
fn compile(prefix: &Path, name: &str, sources: &[&str], flags: &[&str]) -> Result<PathBuf> {
    let program = work().join(name);
    let mut gcc = Command::new("gcc");
    gcc.args(WARNINGS).args(["-std=c11", "-pthread"]).arg("-o").arg(&program);
    gcc.args(sources.iter().map(|source| workspace().join("capi/tests/c").join(source))).args(flags);
    gcc.arg("-I").arg(prefix.join("include")).arg(prefix.join("lib/libresidual.a")).args(["-lm", "-ldl"]);
    succeed(&mut gcc)?;
    Ok(program)
}

/// A program with the static library and another one that Rust built, with a Rust runtime of its own.
fn beside(prefix: &Path) -> Result<String> {
    isolate::check(&prefix.join("lib/libresidual.a"), "")?;
    let (tests, other) = (workspace().join("capi/tests/c"), work().join("libother.a"));
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition", "2024", "--crate-type", "staticlib", "-o"]).arg(&other).arg(tests.join("other.rs"));
    succeed(&mut rustc)?;
    let path = other.to_string_lossy();
    succeed(&mut Command::new(compile(prefix, "beside", &["beside.c"], &["-O1", &path])?))?;
    Ok("only global symbols `residual_*`; both catch their panics".into())
}

/// Wrong arguments and damaged models under AddressSanitizer.
fn misuse(report: &mut Report, prefix: &Path, fixture: &Fixture) {
    report.check("C misuse under AddressSanitizer", || {
        let sources = ["misuse.c", "engines.c"];
        let mut text = String::new();
        for source in sources {
            text += &fs::read_to_string(workspace().join("capi/tests/c").join(source))?;
        }
        let untested: Vec<_> =
            header::functions()?.into_iter().filter(|name| !text.contains(&format!("{name}("))).collect();
        ensure!(untested.is_empty(), "no test calls {untested:?}");
        let program =
            compile(prefix, "misuse", &sources, &["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"])?;
        let mut command = Command::new(program);
        let [weights, int8, tflite] = fixture.models();
        command.args([weights, int8, &fixture.jpeg, &fixture.folder.join("scratch"), tflite]);
        succeed(&mut command).map(|text| text.trim().to_owned())
    });
}

/// The engine in C firmware.
fn boards(report: &mut Report, prefix: &Path, cores: &[&str]) {
    for (command, packages) in [
        ("arm-none-eabi-gcc", &["gcc-arm-none-eabi", "libnewlib-arm-none-eabi"][..]),
        ("qemu-system-arm", &["qemu-system-arm"]),
        ("make", &["make"]),
    ] {
        if let Err(reason) = need(command, packages) {
            return report.skip("C firmware", &reason);
        }
    }
    let work = match Work::new(&work().join("firmware")) {
        Ok(work) => work,
        Err(error) => return report.fail("C firmware", &error),
    };
    for name in cores {
        report.check(&format!("C firmware on an emulated Cortex-{}", name.to_uppercase()), || {
            let core = board::parse(name).map_err(anyhow::Error::msg)?;
            firmware::install(prefix, core, false)?;
            work.compare(prefix, core)
        });
    }
}
