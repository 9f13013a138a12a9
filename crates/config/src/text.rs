//! The files of a configuration as one text: an offset in it tells the file and the line.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// The text of a file, and of those that it includes behind it.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    /// Each file with a line break after it, so that its end is no place of the next one.
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
struct Part {
    file: PathBuf,
    range: Range<usize>,
    /// The offset of each line.
    lines: Vec<usize>,
}

impl Text {
    /// The text of one file.
    pub(crate) fn new(file: PathBuf, text: &str) -> Self {
        let mut all = Self {
            text: String::new(),
            parts: Vec::new(),
        };
        all.push(file, text);
        all
    }

    /// Adds a file; returns its number.
    pub(crate) fn push(&mut self, file: PathBuf, text: &str) -> usize {
        let start = self.text.len();
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        // The end of the text belongs to its last line.
        let starts = breaks.filter(|start| *start < text.len());
        let lines = [0].into_iter().chain(starts).map(|at| start + at);
        self.parts.push(Part {
            file,
            range: start..start + text.len(),
            lines: lines.collect(),
        });
        self.text.push_str(text);
        self.text.push('\n');
        self.parts.len() - 1
    }

    /// The bytes of all files.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// The number of files.
    pub(crate) fn count(&self) -> usize {
        self.parts.len()
    }

    /// The files.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|part| part.file.as_path())
    }

    /// The offset and the text of a file.
    pub(crate) fn part(&self, number: usize) -> (usize, &str) {
        let range = self.parts[number].range.clone();
        (range.start, &self.text[range])
    }

    /// The text at `span`.
    pub(crate) fn slice(&self, span: Range<usize>) -> &str {
        self.text.get(span).unwrap_or_default()
    }

    /// The text from `offset` to the end of its file.
    pub(crate) fn rest(&self, offset: usize) -> &str {
        self.slice(offset..self.part_at(offset).range.end)
    }

    /// The text of the line at `offset`.
    pub(crate) fn line_at(&self, offset: usize) -> &str {
        let part = self.part_at(offset);
        let start = part.lines[part.line(offset) - 1];
        self.rest(start).lines().next().unwrap_or_default()
    }

    /// The file that `offset` is in.
    pub(crate) fn file(&self, offset: usize) -> &Path {
        &self.part_at(offset).file
    }

    /// The directory of that file: relative paths are relative to it.
    pub(crate) fn directory(&self, offset: usize) -> PathBuf {
        let directory = self.file(offset).parent();
        directory.map(Path::to_owned).unwrap_or_default()
    }

    /// The line of `offset` in its file, from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.part_at(offset).line(offset)
    }

    /// The line of `offset` for a message: with its file, if there are several.
    pub(crate) fn named_line(&self, offset: usize) -> String {
        let line = self.line(offset);
        match self.parts.len() {
            1 => line.to_string(),
            _ => format!("{line} of {}", self.file(offset).display()),
        }
    }

    fn part_at(&self, offset: usize) -> &Part {
        let before = self
            .parts
            .partition_point(|part| part.range.start <= offset);
        &self.parts[before.saturating_sub(1)]
    }
}

impl Part {
    fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_tells_file_and_line() {
        let mut text = Text::new(PathBuf::from("a"), "1\n2\n");
        assert_eq!(text.named_line(0), "1");
        text.push(PathBuf::from("d/b"), "");
        text.push(PathBuf::from("d/c"), "1\n\n3");
        let rows = [
            (0, "1 of a"),
            (2, "2 of a"),
            (4, "2 of a"),
            (5, "1 of d/b"),
            (6, "1 of d/c"),
            (8, "2 of d/c"),
            (9, "3 of d/c"),
            (10, "3 of d/c"),
            (11, "3 of d/c"),
        ];
        for (offset, expected) in rows {
            assert_eq!(text.named_line(offset), expected, "{offset}");
        }
        assert_eq!(text.line_at(9), "3");
        assert_eq!(text.directory(9), Path::new("d"));
        assert_eq!(text.part(2), (6, "1\n\n3"));
    }
}
