//! Decides by the media type of a file name whether compression is worthwhile.

use std::path::Path;

use tidegate_http::Coding;

/// Compressible types, besides `text/*` and the JSON and XML types.
const TYPES: &[&str] = &[
    "application/ecmascript",
    "application/font-sfnt",
    "application/javascript",
    "application/json",
    "application/json5",
    "application/postscript",
    "application/rtf",
    "application/vnd.ms-fontobject",
    "application/wasm",
    "application/x-sh",
    "application/x-sql",
    "application/x-tex",
    "application/xml",
    "audio/x-mpegurl",
    "font/collection",
    "font/ttf",
    "image/bmp",
    "image/x-icon",
    "model/gltf-binary",
];

/// Extensions that the table of types lacks or gets wrong: an `.svgz` is an SVG image that is
/// compressed already.
const EXTENSIONS: &[(&str, bool)] = &[
    ("cjs", true),
    ("cur", true),
    ("geojson", true),
    ("jsonl", true),
    ("mjs", true),
    ("ndjson", true),
    ("obj", true),
    ("stl", true),
    ("svgz", false),
    ("webmanifest", true),
    ("wgsl", true),
];

/// Whether files of this name are of a type that compresses.
pub(crate) fn compresses(name: &Path) -> bool {
    let extension = extension(name);
    let known = EXTENSIONS.iter().find(|(known, _)| *known == extension);
    known.map_or_else(
        || type_compresses(mime_guess::from_ext(&extension).first_raw()),
        |(_, compresses)| *compresses,
    )
}

/// Whether this is the name of a variant.
pub(crate) fn is_variant(name: &Path) -> bool {
    let extension = extension(name);
    Coding::ALL
        .iter()
        .any(|coding| coding.extension() == extension)
}

/// In lower case; empty when there is none.
fn extension(name: &Path) -> String {
    let extension = name.extension().and_then(|extension| extension.to_str());
    extension.unwrap_or_default().to_ascii_lowercase()
}

fn type_compresses(media_type: Option<&str>) -> bool {
    media_type.is_some_and(|media_type| {
        media_type.starts_with("text/")
            || media_type.ends_with("+json")
            || media_type.ends_with("+xml")
            || TYPES.contains(&media_type)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_text_or_raw_compresses() {
        let names = "a.html a.htm A.HTML a.css a.js a.mjs a.cjs a.min.js a.js.map a.json a.geojson \
             a.webmanifest a.xml a.svg a.rss a.atom a.xhtml a.txt a.md a.csv a.vtt a.ics a.yaml a.toml \
             a.wasm a.ttf a.otf a.eot a.ico a.bmp a.gltf a.glb a.m3u8 a.mpd a.rtf";
        for name in names.split_whitespace() {
            assert!(compresses(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn what_is_compressed_or_unknown_does_not() {
        let names = "a.jpg a.jpeg a.png a.gif a.webp a.avif a.svgz a.woff a.woff2 a.mp4 a.webm a.ts a.mp3 \
             a.ogg a.flac a.zip a.gz a.br a.zst a.tar a.tgz a.7z a.xz a.pdf a.docx a.xlsx a.jar a.bin \
             a.unknown html .html a a.";
        for name in names.split_whitespace() {
            assert!(!compresses(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn variants_are_known_by_their_names() {
        let rows = [
            ("a.js.br", true),
            ("a.js.zst", true),
            ("a.js.GZ", true),
            ("a.js", false),
            ("br", false),
        ];
        for (name, expected) in rows {
            assert_eq!(is_variant(Path::new(name)), expected, "{name}");
        }
    }
}
