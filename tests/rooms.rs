//! The rooms of the house: folders and files at the top of every package depend on each other in one direction only.
//! Read from the `use` lines and paths of the sources, tests left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Every source file below a folder, tests left out.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if path.is_dir() && name != "tests" {
            found.extend(sources(&path));
        } else if name.ends_with(".rs") && name != "tests.rs" && name != "foreign.rs" {
            found.push(path);
        }
    }
    found
}

/// The code of a file: no comments, nothing behind the beginning of its tests.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    // `mod tests;` may stand above the code, `mod tests {` ends it.
    let begins = |at: &(usize, &str)| text[at.0..].lines().nth(1).is_some_and(|line| line.ends_with('{'));
    let tests = ["#[cfg(test)]\nmod ", "#[cfg(all(test"].map(|test| text.match_indices(test).find(begins));
    let end = tests.into_iter().flatten().map(|(at, _)| at).min().unwrap_or(text.len());
    let text = &text[..end];
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The first names of all paths that begin with `prefix`, of those in braces, too.
fn named<'t>(text: &'t str, prefix: &str) -> Vec<&'t str> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &text[at + prefix.len()..];
        let word = |text: &'t str| text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
        if !rest.starts_with('{') {
            names.push(word(rest));
            continue;
        }
        let (mut depth, mut fresh) = (0, false);
        for (i, c) in rest.char_indices() {
            match c {
                '{' => (depth, fresh) = (depth + 1, depth == 0),
                '}' if depth == 1 => break,
                '}' => depth -= 1,
                ',' => fresh = depth == 1,
                c if fresh && (c.is_alphanumeric() || c == '_') => {
                    names.push(word(&rest[i..]));
                    fresh = false;
                }
                _ => {}
            }
        }
    }
    names
}

/// What each room of a package uses of the others.
fn uses(package: &str) -> BTreeMap<String, BTreeSet<String>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join(package).join("src");
    let room = |file: &Path| {
        let first = file.strip_prefix(&src).unwrap().components().next().unwrap().as_os_str().to_string_lossy();
        first.trim_end_matches(".rs").to_owned()
    };
    let files = sources(&src);
    let rooms: BTreeSet<String> = files.iter().map(|file| room(file)).collect();
    let root = code(&src.join("lib.rs"));
    // `pub use error::Error;` makes `crate::Error` a way into `error`.
    let mut homes: BTreeMap<&str, &str> = rooms.iter().map(|room| (room.as_str(), room.as_str())).collect();
    for home in &rooms {
        for item in named(&root, &format!("{home}::")) {
            homes.entry(item).or_insert(home);
        }
    }
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files.iter().filter(|file| !matches!(room(file).as_str(), "lib" | "main" | "bin")) {
        let (from, text) = (room(file), code(file));
        // `super::` leaves the room in a file at the top, `super::super::` in one below.
        let depth = file.strip_prefix(&src).unwrap().components().count();
        let module = depth - usize::from(file.ends_with("mod.rs"));
        let out = "super::".repeat(module.max(1));
        let paths = named(&text, "crate::").into_iter().chain(named(&text, &out));
        let found = paths.filter_map(|name| homes.get(name)).filter(|to| **to != from);
        uses.entry(from.clone()).or_default().extend(found.map(|to| (*to).to_owned()));
    }
    uses
}

/// A way from a room back to itself.
fn cycle(uses: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn walk(
        at: &str,
        uses: &BTreeMap<String, BTreeSet<String>>,
        path: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(start) = path.iter().position(|room| room == at) {
            return Some(path[start..].to_vec());
        }
        if !done.contains(at) {
            path.push(at.to_owned());
            for next in uses.get(at).into_iter().flatten() {
                if let Some(found) = walk(next, uses, path, done) {
                    return Some(found);
                }
            }
            path.pop();
            done.insert(at.to_owned());
        }
        None
    }
    let mut done = BTreeSet::new();
    uses.keys().find_map(|room| walk(room, uses, &mut Vec::new(), &mut done))
}

#[test]
fn rooms_depend_on_each_other_in_one_direction() {
    for package in ["core", "io", "std-train", "edge", "capi", "."] {
        let uses = uses(package);
        assert!(uses.len() > 1, "{package}: no rooms found");
        if let Some(rooms) = cycle(&uses) {
            panic!("{package}: a circle of rooms: {}", rooms.join(" -> "));
        }
    }
}

#[test]
fn the_trainer_has_these_rooms_and_its_topology_knows_no_engine() {
    let uses = uses("std-train");
    let rooms: Vec<&str> = uses.keys().map(String::as_str).collect();
    let want = ["bench", "data", "engine", "layer", "optim", "parameters", "quantize", "random", "topology", "trainer"];
    assert_eq!(rooms, want);
    assert!(uses["topology"].is_empty(), "{:?}", uses["topology"]);
    assert!(uses["engine"].contains("topology") && !uses["layer"].contains("topology"));
    // Nor kernels, buffers and threads.
    let topology = Path::new(env!("CARGO_MANIFEST_DIR")).join("std-train/src/topology.rs");
    assert_eq!(named(&code(&topology), "residual_core::"), ["geom", "resnet"]);
}

#[test]
fn circles_and_the_ways_into_rooms_are_found() {
    let map = |pairs: &[(&str, &[&str])]| {
        let row = |(from, to): &(&str, &[&str])| ((*from).to_owned(), to.iter().map(|t| (*t).to_owned()).collect());
        pairs.iter().map(row).collect::<BTreeMap<String, BTreeSet<String>>>()
    };
    assert_eq!(cycle(&map(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])])), None);
    let found = cycle(&map(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])])).unwrap();
    assert_eq!(found, ["b", "c"]);
    let text = "use crate::{\n    Error, conv::{Band, Kernel},\n    plan::Plan,\n};\nlet x = crate::quant::Add;";
    assert_eq!(named(text, "crate::"), ["Error", "conv", "plan", "quant"]);
    let uses = uses("core");
    assert!(uses["plan"].contains("conv") && uses["threads"].contains("memory") && uses["graph"].contains("error"));
}
