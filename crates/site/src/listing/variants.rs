//! Finds the precompressed variants in a directory.

use std::collections::HashSet;

/// The `names` that consist of another of them and one of `extensions`, such as `a.js.br` beside
/// `a.js`. They are not listed: Accept-Encoding selects them.
pub(crate) fn among<'a>(
    names: impl Iterator<Item = &'a [u8]> + Clone,
    extensions: &[&str],
) -> HashSet<&'a [u8]> {
    let candidates: Vec<(&[u8], &[u8])> = names
        .clone()
        .filter_map(|name| Some((name, original(name, extensions)?)))
        .collect();
    if candidates.is_empty() {
        return HashSet::new();
    }
    let all: HashSet<&[u8]> = names.collect();
    let variants = candidates.into_iter();
    let variants = variants.filter(|(_, original)| all.contains(original));
    variants.map(|(name, _)| name).collect()
}

/// The name of the file that `name` would be a variant of.
fn original<'a>(name: &'a [u8], extensions: &[&str]) -> Option<&'a [u8]> {
    let mut originals = extensions.iter().filter_map(|extension| {
        let stem = name.strip_suffix(extension.as_bytes())?;
        stem.strip_suffix(b".")
    });
    originals.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_has_its_original_beside_it() {
        let names: [&[u8]; 7] = [
            b"a.js",
            b"a.js.br",
            b"a.js.gz",
            b"a.js.gz.br",
            b"data.tar.gz",
            b".br",
            b"a.js.map",
        ];
        let table: [(&[&str], &[&[u8]]); 3] = [
            (&[], &[]),
            (&["br"], &[b"a.js.br", b"a.js.gz.br"]),
            (&["br", "gz"], &[b"a.js.br", b"a.js.gz", b"a.js.gz.br"]),
        ];
        for (extensions, expected) in table {
            let found = among(names.iter().copied(), extensions);
            assert_eq!(found, expected.iter().copied().collect(), "{extensions:?}");
        }
    }
}
