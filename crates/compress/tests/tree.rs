//! Whole trees, compressed for real: what is written, what is left alone, and what a stop leaves.

use std::fs::{self, File};
use std::io::Read;
use std::num::NonZeroUsize;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use flate2::read::GzDecoder;
use tempfile::TempDir;
use tidegate_compress::{Coding, Level, Observer, Options, Skipped, Summary, Tally, compress};

/// Notes what it is told.
#[derive(Default)]
struct Notes {
    planned: AtomicU64,
    advanced: AtomicU64,
    /// Stops once this much has advanced, if that is not 0.
    stop_at: u64,
    stopping: AtomicBool,
    written: Mutex<Vec<PathBuf>>,
    failed: Mutex<Vec<String>>,
}

impl Observer for Notes {
    fn planned(&self, work: u64) {
        self.planned.store(work, Ordering::Relaxed);
    }

    fn advanced(&self, work: u64) {
        let advanced = self.advanced.fetch_add(work, Ordering::Relaxed) + work;
        if self.stop_at > 0 && advanced >= self.stop_at {
            self.stopping.store(true, Ordering::Relaxed);
        }
    }

    fn written(&self, path: &Path, _before_bytes: u64, _after_bytes: u64) {
        self.written.lock().unwrap().push(path.to_owned());
    }

    fn failed(&self, error: &tidegate_compress::FileError) {
        let text = format!("{error}: {}", error.source);
        self.failed.lock().unwrap().push(text);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

fn options() -> Options {
    Options {
        level: Level::Fast,
        jobs: NonZeroUsize::new(2).unwrap(),
        ..Options::default()
    }
}

fn tree(files: &[(&str, &[u8])]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (path, content) in files {
        write(directory.path(), path, content);
    }
    directory
}

fn write(root: &Path, path: &str, content: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn run(directory: &TempDir, options: &Options) -> Summary {
    let notes = Notes::default();
    let summary = compress(directory.path(), options, &notes).unwrap();
    assert_eq!(*notes.failed.lock().unwrap(), [""; 0]);
    let [planned, advanced] = [&notes.planned, &notes.advanced].map(|n| n.load(Ordering::Relaxed));
    assert_eq!(planned, advanced, "the progress ends at its end");
    summary
}

/// Every file below a directory, sorted.
fn files(directory: &TempDir) -> Vec<String> {
    let entries = walkdir::WalkDir::new(directory.path()).into_iter();
    let files = entries
        .map(Result::unwrap)
        .filter(|entry| !entry.file_type().is_dir());
    let relative = |path: &Path| path.strip_prefix(directory.path()).unwrap().to_owned();
    let names = files.map(|entry| relative(entry.path()).to_str().unwrap().to_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn decoded(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut file = File::open(path).unwrap();
    match path.extension().unwrap().to_str().unwrap() {
        "br" => brotli::BrotliDecompress(&mut file, &mut bytes).unwrap(),
        "zst" => zstd::stream::copy_decode(file, &mut bytes).unwrap(),
        _ => drop(GzDecoder::new(file).read_to_end(&mut bytes).unwrap()),
    }
    bytes
}

fn text() -> Vec<u8> {
    "All work and no play makes Jack a dull boy.\n"
        .repeat(100)
        .into_bytes()
}

/// Bytes that nothing makes smaller.
fn noise(len: usize) -> Vec<u8> {
    let step = |state: &u64| {
        let state = state ^ (state << 13);
        let state = state ^ (state >> 7);
        Some(state ^ (state << 17))
    };
    let states = std::iter::successors(Some(0x9E37_79B9_7F4A_7C15), step);
    states
        .map(|state: u64| (state >> 32) as u8)
        .take(len)
        .collect()
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

fn set_modified(path: &Path, time: SystemTime) {
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(time)
        .unwrap();
}

#[test]
fn variants_hold_the_original_and_its_time_and_mode() {
    let directory = tree(&[("a/app.js", &text())]);
    let original = directory.path().join("a/app.js");
    let noon = SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789);
    set_modified(&original, noon);
    fs::set_permissions(&original, fs::Permissions::from_mode(0o640)).unwrap();
    let summary = run(&directory, &options());
    let variants = ["a/app.js.br", "a/app.js.gz", "a/app.js.zst"];
    assert_eq!(files(&directory), [&["a/app.js"], &variants[..]].concat());
    for name in variants {
        let path = directory.path().join(name);
        assert_eq!(decoded(&path), text(), "{name}");
        assert_eq!(modified(&path), noon, "{name}");
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o640, "{name}");
    }
    for coding in Coding::ALL {
        let tally = summary.tally(coding);
        let after = fs::metadata(
            directory
                .path()
                .join(format!("a/app.js.{}", coding.extension())),
        );
        assert_eq!(tally.written, 1);
        assert_eq!(tally.before_bytes, text().len() as u64);
        assert_eq!(tally.after_bytes, after.unwrap().len());
    }
}

#[test]
fn only_what_is_stale_is_made_again() {
    let directory = tree(&[("a.css", &text()), ("b.css", &text())]);
    run(&directory, &options());
    let before = modified(&directory.path().join("a.css.br"));
    let summary = run(&directory, &options());
    let fresh = Tally {
        fresh: 2,
        ..Tally::default()
    };
    assert_eq!(*summary.tally(Coding::Brotli), fresh);
    assert_eq!(summary.skipped.variants, 6);
    let later = before + Duration::from_nanos(1);
    fs::write(directory.path().join("a.css"), [text(), text()].concat()).unwrap();
    set_modified(&directory.path().join("a.css"), later);
    let summary = run(&directory, &options());
    for coding in Coding::ALL {
        let tally = summary.tally(coding);
        assert_eq!((tally.written, tally.fresh), (1, 1), "{coding:?}");
    }
    assert_eq!(
        decoded(&directory.path().join("a.css.br")),
        [text(), text()].concat()
    );
    assert_eq!(modified(&directory.path().join("a.css.br")), later);
}

/// `cp -p`, `rsync -t` and `tar x` restore a file with its older time: its variants are newer than
/// it.
#[test]
fn what_is_put_back_to_an_older_one_gets_its_variants_anew() {
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let (old, small) = (text(), b"short now".to_vec());
    let directory = tree(&[("a.js", &[text(), text()].concat()), ("b.js", &text())]);
    let put = |name: &str, content: &[u8], seconds| {
        write(directory.path(), name, content);
        set_modified(&directory.path().join(name), at(seconds));
    };
    let files = ["a.js", "b.js"].map(|name| directory.path().join(name));
    for file in files {
        set_modified(&file, at(2000));
    }
    run(&directory, &options());
    put("a.js", &old, 1000);
    put("b.js", &small, 1000);
    let summary = run(&directory, &options());
    assert_eq!(summary.skipped.small, 1);
    for coding in Coding::ALL {
        let tally = summary.tally(coding);
        assert_eq!((tally.written + tally.no_gain, tally.fresh), (2, 0));
        for (name, content) in [("a.js", &old), ("b.js", &small)] {
            let variant = format!("{name}.{}", coding.extension());
            let variant = directory.path().join(variant);
            // Of a few bytes there is no variant any more.
            if name == "a.js" || variant.exists() {
                assert_eq!(decoded(&variant), **content, "{coding:?}");
                assert_eq!(modified(&variant), at(1000), "{coding:?}");
            }
        }
    }
    let summary = run(&directory, &options());
    assert_eq!(summary.tally(Coding::Brotli).written, 0);
}

/// Reproducible builds and content-addressed stores give every file the time 0 or 1.
#[test]
fn files_without_a_time_go_by_their_content() {
    for epoch in [0, 1] {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(epoch);
        let directory = tree(&[("a.js", &text()), ("b.js", &text())]);
        let put = |name: &str, content: &[u8]| {
            write(directory.path(), name, content);
            set_modified(&directory.path().join(name), time);
        };
        put("a.js", &text());
        put("b.js", &text());
        run(&directory, &options());
        let other = [text(), b"and no play\n".to_vec()].concat();
        put("a.js", &other);
        let summary = run(&directory, &options());
        for coding in Coding::ALL {
            let tally = summary.tally(coding);
            assert_eq!((tally.written, tally.fresh), (1, 1), "{coding:?}");
            let variant = format!("a.js.{}", coding.extension());
            assert_eq!(decoded(&directory.path().join(variant)), other);
        }
    }
}

/// Bundlers write variants themselves, a moment after the file.
#[test]
fn a_newer_variant_by_somebody_else_is_kept_if_it_holds_the_file() {
    let directory = tree(&[("a.js", &text())]);
    let options = Options {
        codings: vec![Coding::Gzip],
        ..options()
    };
    run(&directory, &options);
    let variant = directory.path().join("a.js.gz");
    let later = modified(&variant) + Duration::from_secs(3);
    set_modified(&variant, later);
    let summary = run(&directory, &options);
    let tally = summary.tally(Coding::Gzip);
    assert_eq!((tally.written, tally.fresh), (0, 1));
    assert_eq!(modified(&variant), later);
}

#[test]
fn links_among_variants_are_left_alone() {
    let directory = tree(&[("store/a.js", &text()), ("store/old.gz", b"old")]);
    let gzip = Options {
        codings: vec![Coding::Gzip],
        ..options()
    };
    run(&directory, &gzip);
    let links = [
        ("store/a.js", "a.js"),
        ("store/a.js.gz", "a.js.gz"),
        ("store/a.js", "b.js"),
        ("store/old.gz", "b.js.gz"),
        ("store/a.js", "c.js"),
        ("nothing", "c.js.gz"),
    ];
    for (target, name) in links {
        symlink(target, directory.path().join(name)).unwrap();
    }
    let time = SystemTime::UNIX_EPOCH;
    set_modified(&directory.path().join("store/old.gz"), time);
    let before = files(&directory);
    for force in [false, true] {
        let options = Options {
            force,
            ..gzip.clone()
        };
        let summary = run(&directory, &options);
        assert_eq!(summary.skipped.linked, 2, "{force}");
        let tally = summary.tally(Coding::Gzip);
        // The one of the file itself, and the link to it.
        let expected = if force { (1, 1) } else { (0, 2) };
        assert_eq!((tally.written, tally.fresh), expected, "{force}");
    }
    assert_eq!(files(&directory), before);
    for (target, name) in links {
        let link = fs::read_link(directory.path().join(name)).unwrap();
        assert_eq!(link, Path::new(target), "{name}");
    }
}

#[test]
fn force_makes_fresh_ones_again() {
    let directory = tree(&[("a.css", &text())]);
    run(&directory, &options());
    let options = Options {
        force: true,
        ..options()
    };
    let summary = run(&directory, &options);
    let tally = summary.tally(Coding::Gzip);
    assert_eq!((tally.written, tally.fresh), (1, 0));
}

#[test]
fn what_is_not_served_or_not_worth_it_is_skipped() {
    let directory = tree(&[
        ("photo.jpg", &text()),
        ("font.woff2", &text()),
        ("README", &text()),
        ("small.txt", &[b'a'; 255]),
        ("enough.txt", &[b'a'; 256]),
        ("old.txt.gz", &text()),
        (".hidden/a.txt", &text()),
        (".env.txt", &text()),
        (".well-known/security.txt", &text()),
        ("noise.txt", &noise(5000)),
    ]);
    let options = Options {
        codings: vec![Coding::Zstd, Coding::Zstd],
        ..options()
    };
    let before = files(&directory);
    let summary = run(&directory, &options);
    let mut after = files(&directory);
    after.retain(|name| !before.contains(name));
    assert_eq!(after, [".well-known/security.txt.zst", "enough.txt.zst"]);
    let skipped = Skipped {
        kind: 3,
        small: 1,
        variants: 1,
        hidden: 2,
        links: 0,
        linked: 0,
    };
    assert_eq!(summary.skipped, skipped);
    let tally = summary.tally(Coding::Zstd);
    assert_eq!((tally.written, tally.no_gain, tally.removed), (2, 1, 0));
    assert_eq!(*summary.tally(Coding::Gzip), Tally::default());
}

#[test]
fn a_stale_variant_of_what_is_not_worth_it_is_removed() {
    let directory = tree(&[
        ("a.txt", &noise(5000)),
        ("a.txt.br", b"old"),
        ("a.txt.gz", b"new"),
    ]);
    // One older than its original, one of the same time.
    set_modified(&directory.path().join("a.txt.br"), SystemTime::UNIX_EPOCH);
    let time = modified(&directory.path().join("a.txt"));
    set_modified(&directory.path().join("a.txt.gz"), time);
    let dry = Options {
        dry_run: true,
        ..options()
    };
    run(&directory, &dry);
    assert_eq!(files(&directory), ["a.txt", "a.txt.br", "a.txt.gz"]);
    let summary = run(&directory, &options());
    assert_eq!(files(&directory), ["a.txt", "a.txt.gz"]);
    let tally = summary.tally(Coding::Brotli);
    assert_eq!((tally.no_gain, tally.removed), (1, 1));
    assert_eq!(summary.tally(Coding::Gzip).fresh, 1);
}

#[test]
fn links_are_taken_only_to_files_beneath() {
    let outside = tree(&[("secret.txt", &text()), ("more/secret.txt", &text())]);
    let directory = tree(&[("releases/app.1.js", &text())]);
    let link = |target: &Path, name: &str| symlink(target, directory.path().join(name)).unwrap();
    link(Path::new("releases/app.1.js"), "app.js");
    link(Path::new("releases"), "current");
    link(&outside.path().join("secret.txt"), "secret.txt");
    link(&outside.path().join("more"), "more");
    link(Path::new("nothing.txt"), "nowhere.txt");
    link(Path::new("circle.txt"), "circle.txt");
    let options = Options {
        codings: vec![Coding::Gzip],
        ..options()
    };
    let summary = run(&directory, &options);
    assert_eq!(summary.skipped.links, 5);
    assert_eq!(summary.tally(Coding::Gzip).written, 2);
    let variant = directory.path().join("app.js.gz");
    assert!(variant.symlink_metadata().unwrap().is_file());
    assert_eq!(decoded(&variant), text());
    assert!(directory.path().join("releases/app.1.js.gz").exists());
    assert_eq!(files(&outside), ["more/secret.txt", "secret.txt"]);
}

#[test]
fn the_directory_itself_may_be_a_link() {
    let directory = tree(&[("releases/1/a.js", &text())]);
    let current = directory.path().join("current");
    symlink("releases/1", &current).unwrap();
    let notes = Notes::default();
    compress(&current, &options(), &notes).unwrap();
    assert!(directory.path().join("releases/1/a.js.br").exists());
    let written = notes.written.into_inner().unwrap();
    assert!(
        written.contains(&current.join("a.js.br")),
        "named as given: {written:?}"
    );
}

#[test]
fn a_dry_run_counts_and_changes_nothing() {
    let directory = tree(&[("a.js", &text())]);
    let dry = Options {
        dry_run: true,
        ..options()
    };
    let would = run(&directory, &dry);
    assert_eq!(files(&directory), ["a.js"]);
    assert_eq!(would, run(&directory, &options()));
}

#[test]
fn one_that_fails_does_not_hold_up_the_others() {
    let directory = tree(&[("a.js", &text()), ("b.js", &text())]);
    fs::create_dir(directory.path().join("a.js.br")).unwrap();
    let notes = Notes::default();
    let summary = compress(directory.path(), &options(), &notes).unwrap();
    let original = directory.path().join("a.js");
    let expected = format!(
        "{}: cannot make its .br variant: what is in its place is no regular file",
        original.display()
    );
    assert_eq!(notes.failed.into_inner().unwrap(), [expected]);
    assert_eq!(summary.failed, 1);
    let written = Coding::ALL.map(|coding| summary.tally(coding).written);
    assert_eq!(written, [1, 2, 2]);
}

#[test]
fn a_stop_leaves_nothing_half_written() {
    let long = text().repeat(200);
    let directory = tree(&[("a.js", &long), ("b.js", &long), ("c.js", &text())]);
    let notes = Notes {
        stop_at: 100_000,
        ..Notes::default()
    };
    let summary = compress(directory.path(), &options(), &notes).unwrap();
    assert!(summary.stopped);
    assert_eq!(summary.failed, 0);
    let names = files(&directory);
    let originals = ["a.js", "b.js", "c.js"];
    for name in names
        .iter()
        .filter(|name| !originals.contains(&name.as_str()))
    {
        let original = name.rsplit_once('.').unwrap().0;
        let original = fs::read(directory.path().join(original)).unwrap();
        assert_eq!(decoded(&directory.path().join(name)), original, "{name}");
    }
    assert!(files(&directory).len() < 12);
}

#[test]
fn what_a_killed_run_left_is_removed_once_nobody_writes_it() {
    let directory = tree(&[
        (".tidegate-compress-abc.tmp", b"half"),
        ("a/.tidegate-compress-x.tmp", b""),
    ]);
    let alive = File::open(directory.path().join("a/.tidegate-compress-x.tmp")).unwrap();
    alive.lock().unwrap();
    let dry = Options {
        dry_run: true,
        ..options()
    };
    assert_eq!(run(&directory, &dry).cleaned, 0);
    assert_eq!(run(&directory, &options()).cleaned, 1);
    assert_eq!(files(&directory), ["a/.tidegate-compress-x.tmp"]);
    drop(alive);
    assert_eq!(run(&directory, &options()).cleaned, 1);
    assert_eq!(files(&directory), [""; 0]);
}

#[test]
fn a_file_that_changes_meanwhile_has_no_variant() {
    struct Meddler(PathBuf, Notes);
    impl Observer for Meddler {
        fn planned(&self, work: u64) {
            self.1.planned(work);
        }
        fn advanced(&self, _: u64) {
            let mut file = File::options().append(true).open(&self.0).unwrap();
            std::io::Write::write_all(&mut file, b"more").unwrap();
        }
        fn written(&self, path: &Path, before: u64, after: u64) {
            self.1.written(path, before, after);
        }
        fn failed(&self, error: &tidegate_compress::FileError) {
            self.1.failed(error);
        }
        fn is_stopping(&self) -> bool {
            false
        }
    }
    let directory = tree(&[("a.js", &text())]);
    let meddler = Meddler(directory.path().join("a.js"), Notes::default());
    let summary = compress(directory.path(), &options(), &meddler).unwrap();
    assert_eq!(summary.failed, 3);
    for error in meddler.1.failed.into_inner().unwrap() {
        assert!(
            error.ends_with("it was changed meanwhile; run this again"),
            "{error}"
        );
    }
    assert_eq!(files(&directory), ["a.js"]);
}

/// In a tree that others may write to, a variant stays in the directory in which its original was
/// found.
#[test]
fn a_directory_that_is_swapped_for_a_link_leads_nothing_out() {
    struct Swapper {
        directory: PathBuf,
        outside: PathBuf,
        notes: Notes,
    }
    impl Observer for Swapper {
        fn planned(&self, work: u64) {
            self.notes.planned(work);
        }
        fn advanced(&self, _: u64) {
            let [inside, moved] = ["a", "moved"].map(|name| self.directory.join(name));
            if !moved.exists() {
                fs::rename(&inside, &moved).unwrap();
                fs::hard_link(moved.join("a.js"), self.outside.join("a.js")).unwrap();
                symlink(&self.outside, &inside).unwrap();
            }
        }
        fn written(&self, path: &Path, before: u64, after: u64) {
            self.notes.written(path, before, after);
        }
        fn failed(&self, error: &tidegate_compress::FileError) {
            self.notes.failed(error);
        }
        fn is_stopping(&self) -> bool {
            false
        }
    }
    let (directory, outside) = (tree(&[("a/a.js", &text())]), tree(&[]));
    let swapper = Swapper {
        directory: directory.path().to_owned(),
        outside: outside.path().to_owned(),
        notes: Notes::default(),
    };
    let options = Options {
        codings: vec![Coding::Gzip],
        ..options()
    };
    compress(directory.path(), &options, &swapper).unwrap();
    assert_eq!(swapper.notes.failed.into_inner().unwrap(), [""; 0]);
    assert_eq!(files(&outside), ["a.js"]);
    assert_eq!(files(&directory), ["a", "moved/a.js", "moved/a.js.gz"]);
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let directory = tree(&[("file", b"")]);
    for name in ["none", "file"] {
        let path = directory.path().join(name);
        let error = compress(&path, &options(), &Notes::default()).unwrap_err();
        let expected = format!("cannot compress the files in {}", path.display());
        assert_eq!(error.to_string(), expected);
    }
}
