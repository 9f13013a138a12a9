//! Every file that fuzzing starts from, and every one that it has found, does what it must.

use std::fs;
use std::path::{Path, PathBuf};

use tidegate_fuzz_targets::TARGETS;

/// The files of a target, by their names. Git keeps no empty directory.
fn files(kind: &str, target: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let Ok(entries) = fs::read_dir(root.join(kind).join(target)) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The files that make the target fail, of all. No message of a panic names its file.
fn failed(target: &str) -> usize {
    let (_, check) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let files = [files("corpus", target), files("regressions", target)].concat();
    assert!(!files.is_empty(), "{target} has no corpus");
    let fails = |file: &&PathBuf| {
        let data = fs::read(file).unwrap();
        let result = std::panic::catch_unwind(|| check(&data));
        if result.is_err() {
            eprintln!("{target} fails with {}", file.display());
        }
        result.is_err()
    };
    files.iter().filter(fails).count()
}

#[test]
fn files_of_fuzzing_do_what_they_must() {
    let failed: Vec<_> = TARGETS
        .iter()
        .map(|(target, _)| (*target, failed(target)))
        .filter(|(_, failed)| *failed > 0)
        .collect();
    assert_eq!(failed, []);
}

/// A directory that no target has would never be read.
#[test]
fn every_directory_is_that_of_a_target() {
    for kind in ["corpus", "regressions"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fuzz")
            .join(kind);
        for entry in fs::read_dir(root).into_iter().flatten() {
            let name = entry.unwrap().file_name();
            let is_target = TARGETS.iter().any(|(target, _)| name == *target);
            assert!(is_target, "{kind}/{}", name.display());
        }
    }
}
