//! The files of a directory, in the order in which they are published.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tidegate_config::Glob;
use tidegate_http::Coding;
use walkdir::{DirEntry, WalkDir};

use super::error::{Action, Cause, ObjectError};

/// The media types that the server sends.
pub trait MediaTypes {
    /// The value of Content-Type for a file of this name.
    fn content_type(&self, name: &str) -> String;
    /// Whether the server looks for compressed variants of files of this type.
    fn is_compressible(&self, content_type: &str) -> bool;
}

/// The one hidden name that is served (RFC 8615).
const WELL_KNOWN: &str = ".well-known";

/// Files that are published together. A client that sees one of a later stage finds all of the
/// stages before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Variants of what is no page: a cache that has the new file has to find its new variants.
    Variants,
    /// All that pages refer to.
    Files,
    /// Variants of pages.
    PageVariants,
    /// `*.html`.
    Pages,
}

/// All stages, in order.
pub(super) const STAGES: [Stage; 4] = [
    Stage::Variants,
    Stage::Files,
    Stage::PageVariants,
    Stage::Pages,
];

/// A file to publish.
#[derive(Debug)]
pub(super) struct LocalFile {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Relative to the directory, without a leading slash.
    pub(super) name: String,
    pub(super) stage: Stage,
    /// Of the file that it is a variant of, if it is one.
    pub(super) content_type: String,
    /// Bytes at the end of the name that are not of the file which it is a variant of.
    suffix_len: usize,
}

/// A directory.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) files: Vec<LocalFile>,
    pub(super) failures: Vec<ObjectError>,
    /// Names that the user excluded.
    pub(super) excluded: u64,
    /// Files and directories that are never served, as their names begin with a dot.
    pub(super) hidden: u64,
    /// Links that lead out of the directory, or nowhere.
    pub(super) links: u64,
}

impl LocalFile {
    /// The path that rules are compared with: that of the original, with a leading slash.
    pub(super) fn rule_path(&self) -> String {
        format!("/{}", &self.name[..self.name.len() - self.suffix_len])
    }
}

impl Tree {
    /// Looks at all files of a directory. Blocking.
    ///
    /// # Errors
    ///
    /// The directory itself cannot be read. What is wrong below it is in `failures`.
    pub(super) fn read(
        directory: &Path,
        exclude: &[Glob],
        types: &dyn MediaTypes,
    ) -> io::Result<Self> {
        let root = fs::canonicalize(directory)?;
        fs::read_dir(&root)?;
        let mut tree = Self::default();
        let mut names = Vec::new();
        let mut entries = WalkDir::new(&root)
            .follow_links(true)
            .min_depth(1)
            .into_iter();
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) => {
                    let is_left = tree.leaves(&root, &entry);
                    if is_left && entry.file_type().is_dir() {
                        entries.skip_current_dir();
                    } else if !is_left && entry.file_type().is_file() {
                        tree.add(&root, entry.path(), exclude, &mut names);
                    }
                }
                Err(error) => tree.fail(error),
            }
        }
        tree.sort(&names, types);
        Ok(tree)
    }

    /// Whether an entry is left out, with all below it; counts it then.
    fn leaves(&mut self, root: &Path, entry: &DirEntry) -> bool {
        if is_hidden(entry.file_name()) {
            self.hidden += 1;
            return true;
        }
        let leads_out = entry.path_is_symlink()
            && !fs::canonicalize(entry.path()).is_ok_and(|path| path.starts_with(root));
        self.links += u64::from(leads_out);
        leads_out
    }

    fn add(
        &mut self,
        root: &Path,
        path: &Path,
        exclude: &[Glob],
        names: &mut Vec<(String, PathBuf)>,
    ) {
        let name = path.strip_prefix(root).unwrap_or(path);
        if is_excluded(exclude, name.as_os_str().as_encoded_bytes()) {
            self.excluded += 1;
            return;
        }
        match name.to_str() {
            Some(name) => names.push((name.to_owned(), path.to_owned())),
            None => self.failures.push(ObjectError {
                action: Action::Read,
                name: path.to_string_lossy().into_owned(),
                source: Cause::Key(
                    "its name is not UTF-8: rename it, or leave it out with --exclude",
                ),
            }),
        }
    }

    fn fail(&mut self, error: walkdir::Error) {
        let path = error.path().unwrap_or("".as_ref()).to_owned();
        let is_link = fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink());
        if error.loop_ancestor().is_some() || is_link {
            self.links += 1;
            return;
        }
        self.failures.push(ObjectError {
            action: Action::Read,
            name: path.to_string_lossy().into_owned(),
            source: Cause::File(error.into()),
        });
    }

    /// Finds out which files are variants of others, and sorts by stage and name.
    fn sort(&mut self, names: &[(String, PathBuf)], types: &dyn MediaTypes) {
        let known: HashSet<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
        let files = names.iter().map(|(name, path)| {
            let original = original(name, |name| known.contains(name), types);
            let is_page = |name: &str| has_extension(name, "html");
            let stage = match original {
                Some(original) if is_page(original) => Stage::PageVariants,
                Some(_) => Stage::Variants,
                None if is_page(name) => Stage::Pages,
                None => Stage::Files,
            };
            let original = original.unwrap_or(name);
            LocalFile {
                path: path.clone(),
                stage,
                content_type: types.content_type(original),
                suffix_len: name.len() - original.len(),
                name: name.clone(),
            }
        });
        self.files = files.collect();
        self.files
            .sort_by(|one, other| (one.stage, &one.name).cmp(&(other.stage, &other.name)));
    }
}

/// The name of the file that `name` is a variant of for tidegate: that file is there, and of a type
/// that compresses.
pub(super) fn original<'n>(
    name: &'n str,
    is_there: impl Fn(&str) -> bool,
    types: &dyn MediaTypes,
) -> Option<&'n str> {
    let (original, extension) = name.rsplit_once('.')?;
    let is_variant = Coding::ALL
        .into_iter()
        .any(|coding| coding.extension() == extension);
    (is_variant && is_there(original) && types.is_compressible(&types.content_type(original)))
        .then_some(original)
}

/// Whether an object with this name, relative to the prefix, is none of ours: excluded, hidden, or
/// what other tools make in place of a directory.
pub(super) fn is_foreign(exclude: &[Glob], name: &str) -> bool {
    name.is_empty()
        || name.ends_with('/')
        || name.split('/').any(|part| is_hidden(part.as_ref()))
        || is_excluded(exclude, name.as_bytes())
}

fn is_excluded(exclude: &[Glob], name: &[u8]) -> bool {
    let path = [b"/", name].concat();
    exclude.iter().any(|glob| glob.is_match(&path))
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".") && name != WELL_KNOWN
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::symlink;

    use super::super::cache_control::path_glob;
    use super::*;

    struct Types;

    impl MediaTypes for Types {
        fn content_type(&self, name: &str) -> String {
            name.rsplit('.').next().unwrap_or_default().to_owned()
        }

        fn is_compressible(&self, content_type: &str) -> bool {
            ["html", "js"].contains(&content_type)
        }
    }

    fn tree(files: &[&str], exclude: &[&str]) -> (tempfile::TempDir, Tree) {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let exclude: Vec<_> = exclude
            .iter()
            .map(|text| path_glob(text).unwrap())
            .collect();
        let tree = Tree::read(directory.path(), &exclude, &Types).unwrap();
        (directory, tree)
    }

    #[test]
    fn variants_come_before_their_originals_and_pages_last() {
        let (_directory, tree) = tree(
            &[
                "a.js",
                "a.js.br",
                "a.js.gz",
                "a.zip",
                "a.zip.br",
                "b.js.br",
                "index.html",
                "index.html.zst",
                "sub/x.HTML",
                "sub/y.js",
            ],
            &[],
        );
        let files = tree.files.iter();
        let files: Vec<_> = files
            .map(|file| (file.name.as_str(), file.stage, file.content_type.as_str()))
            .collect();
        assert_eq!(
            files,
            [
                ("a.js.br", Stage::Variants, "js"),
                ("a.js.gz", Stage::Variants, "js"),
                ("a.js", Stage::Files, "js"),
                ("a.zip", Stage::Files, "zip"),
                ("a.zip.br", Stage::Files, "br"),
                ("b.js.br", Stage::Files, "br"),
                ("sub/y.js", Stage::Files, "js"),
                ("index.html.zst", Stage::PageVariants, "html"),
                ("index.html", Stage::Pages, "html"),
                ("sub/x.HTML", Stage::Pages, "HTML"),
            ]
        );
        assert_eq!(tree.files[0].rule_path(), "/a.js");
        assert_eq!(tree.files[6].rule_path(), "/sub/y.js");
    }

    #[test]
    fn what_is_not_served_is_left_out() {
        let (_directory, tree) = tree(
            &[
                ".git/config",
                ".env",
                ".well-known/x",
                "a/.b",
                "a/c.map",
                "a/drafts/d",
                "e",
            ],
            &["*.map", "/a/drafts/**"],
        );
        let names: Vec<_> = tree.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, [".well-known/x", "e"]);
        assert_eq!((tree.hidden, tree.excluded), (3, 2));
        let exclude = [path_glob("*.map").unwrap()];
        for (name, expected) in [
            ("a/b", false),
            (".well-known/x", false),
            ("a/.b", true),
            (".git/x", true),
            ("a/b.map", true),
            ("a/", true),
            ("", true),
        ] {
            assert_eq!(is_foreign(&exclude, name), expected, "{name}");
        }
    }

    #[test]
    fn links_are_followed_within_the_directory() {
        let (directory, _) = tree(&["a/b", "c"], &[]);
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "x").unwrap();
        let root = directory.path();
        for (target, link) in [
            (PathBuf::from("c"), "to-file"),
            (PathBuf::from("a"), "to-directory"),
            (PathBuf::from("."), "a/loop"),
            (PathBuf::from("none"), "dangling"),
            (outside.path().to_owned(), "out"),
            (outside.path().join("secret"), "out-file"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let tree = Tree::read(root, &[], &Types).unwrap();
        let names: Vec<_> = tree.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["a/b", "c", "to-directory/b", "to-file"]);
        assert_eq!(tree.failures.len(), 0);
        // The loop is found in both names of its directory.
        assert_eq!(tree.links, 5);
    }

    #[test]
    fn a_name_that_is_no_text_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let name = OsString::from_vec(b"a\xff".to_vec());
        fs::write(directory.path().join(name), "x").unwrap();
        let tree = Tree::read(directory.path(), &[], &Types).unwrap();
        assert_eq!((tree.files.len(), tree.failures.len()), (0, 1));
        assert!(tree.failures[0].name.contains('\u{fffd}'));
    }
}
