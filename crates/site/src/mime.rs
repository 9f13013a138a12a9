//! The media type of a file, by its name.

use std::collections::BTreeMap;

/// What `mime_guess` has no type for, an obsolete one, or one of another format with the same
/// extension: the type that IANA has, or else the one that the format's own tools send. Sorted.
#[rustfmt::skip] // one row a line
static TYPES: &[(&str, &str)] = &[
    ("3mf", "model/3mf"),
    ("7z", "application/x-7z-compressed"),
    ("aac", "audio/aac"),
    ("aif", "audio/aiff"),
    ("aiff", "audio/aiff"),
    ("apk", "application/vnd.android.package-archive"),
    ("appimage", "application/vnd.appimage"),
    ("appinstaller", "application/appinstaller"),
    ("appx", "application/appx"),
    ("appxbundle", "application/appxbundle"),
    ("arrow", "application/vnd.apache.arrow.file"),
    ("avif", "image/avif"),
    ("avifs", "image/avif"),
    ("bz2", "application/x-bzip2"),
    ("caf", "audio/x-caf"),
    ("cer", "application/pkix-cert"),
    ("cfg", "text/plain"),
    ("cjs", "text/javascript"),
    ("cmfa", "audio/mp4"),
    ("cmft", "application/mp4"),
    ("cmfv", "video/mp4"),
    ("conf", "text/plain"),
    ("crl", "application/pkix-crl"),
    ("crt", "application/x-x509-ca-cert"),
    ("crx", "application/x-chrome-extension"),
    ("deb", "application/vnd.debian.binary-package"),
    ("der", "application/x-x509-ca-cert"),
    ("diff", "text/x-diff"),
    ("dll", "application/vnd.microsoft.portable-executable"),
    ("dmg", "application/x-apple-diskimage"),
    ("dtd", "application/xml-dtd"),
    ("exe", "application/vnd.microsoft.portable-executable"),
    ("flac", "audio/flac"),
    ("flatpak", "application/vnd.flatpak"),
    ("flatpakref", "application/vnd.flatpak.ref"),
    ("flatpakrepo", "application/vnd.flatpak.repo"),
    ("geojson", "application/geo+json"),
    ("glb", "model/gltf-binary"),
    ("gltf", "model/gltf+json"),
    ("gml", "application/gml+xml"),
    ("gpkg", "application/geopackage+sqlite3"),
    ("gpx", "application/gpx+xml"),
    ("gz", "application/gzip"),
    ("h5", "application/x-hdf5"),
    ("heic", "image/heic"),
    ("heics", "image/heic-sequence"),
    ("heif", "image/heif"),
    ("heifs", "image/heif-sequence"),
    ("ini", "text/plain"),
    ("ipynb", "application/x-ipynb+json"),
    ("iso", "application/x-iso9660-image"),
    ("jfif", "image/jpeg"),
    ("jp2", "image/jp2"),
    ("js", "text/javascript"),
    ("json5", "application/json5"),
    ("jsonl", "application/jsonl"),
    ("jsonld", "application/ld+json"),
    ("jxl", "image/jxl"),
    ("kar", "audio/midi"),
    ("log", "text/plain"),
    ("m2ts", "video/mp2t"),
    ("m3u", "audio/x-mpegurl"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4a", "audio/mp4"),
    ("m4b", "audio/mp4"),
    ("m4s", "video/iso.segment"),
    ("m4v", "video/x-m4v"),
    ("map", "application/json"),
    ("markdown", "text/markdown"),
    ("md", "text/markdown"),
    ("mdx", "text/mdx"),
    ("mid", "audio/midi"),
    ("midi", "audio/midi"),
    ("mjs", "text/javascript"),
    ("mk3d", "video/matroska-3d"),
    ("mka", "audio/matroska"),
    ("mkv", "video/matroska"),
    ("mobi", "application/x-mobipocket-ebook"),
    ("mobileconfig", "application/x-apple-aspen-config"),
    ("mpd", "application/dash+xml"),
    ("msi", "application/x-msi"),
    ("msix", "application/msix"),
    ("msixbundle", "application/msixbundle"),
    ("mtl", "model/mtl"),
    ("mts", "video/mp2t"),
    ("mvt", "application/vnd.mapbox-vector-tile"),
    ("nc", "application/x-netcdf"),
    ("ndjson", "application/x-ndjson"),
    ("nq", "application/n-quads"),
    ("nt", "application/n-triples"),
    ("obj", "model/obj"),
    ("oga", "audio/ogg"),
    ("opus", "audio/ogg"),
    ("otf", "font/otf"),
    ("parquet", "application/vnd.apache.parquet"),
    ("patch", "text/x-diff"),
    ("pbf", "application/x-protobuf"),
    ("pem", "application/x-pem-file"),
    ("pkpass", "application/vnd.apple.pkpass"),
    ("pkpasses", "application/vnd.apple.pkpasses"),
    ("plist", "application/x-plist"),
    ("pls", "audio/x-scpls"),
    ("pmtiles", "application/vnd.pmtiles"),
    ("proto", "text/plain"),
    ("psd", "image/vnd.adobe.photoshop"),
    ("qcow2", "application/x-qemu-disk"),
    ("rar", "application/vnd.rar"),
    ("rdf", "application/rdf+xml"),
    ("rpm", "application/x-rpm"),
    ("rss", "application/rss+xml"),
    ("rtf", "application/rtf"),
    ("sig", "application/pgp-signature"),
    ("sql", "application/sql"),
    ("sqlite", "application/vnd.sqlite3"),
    ("sqlite3", "application/vnd.sqlite3"),
    ("srt", "application/x-subrip"),
    ("step", "model/step"),
    ("stl", "model/stl"),
    ("stp", "model/step"),
    ("svg", "image/svg+xml"),
    ("tgz", "application/gzip"),
    ("toml", "application/toml"),
    ("topojson", "application/json"),
    ("trig", "application/trig"),
    ("ts", "video/mp2t"),
    ("ttc", "font/collection"),
    ("ttl", "text/turtle"),
    ("ttml", "application/ttml+xml"),
    ("usda", "model/vnd.usda"),
    ("usdc", "application/octet-stream"),
    ("usdz", "model/vnd.usdz+zip"),
    ("vtt", "text/vtt"),
    ("wasm", "application/wasm"),
    ("wat", "text/plain"),
    ("wav", "audio/wav"),
    ("weba", "audio/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("wsdl", "application/wsdl+xml"),
    ("xhtml", "application/xhtml+xml"),
    ("xpi", "application/x-xpinstall"),
    ("xsl", "application/xslt+xml"),
    ("xslt", "application/xslt+xml"),
    ("xspf", "application/xspf+xml"),
    ("xz", "application/x-xz"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zst", "application/zstd"),
    ("zsync", "application/x-zsync"),
];

/// How media types are chosen.
#[derive(Clone, Debug)]
pub struct Types {
    /// Added to types that are text; empty: none.
    pub charset: String,
    /// For names that tell nothing.
    pub default: String,
    /// Extension, in lower case and without its dot, to type: before all others.
    pub overrides: BTreeMap<String, String>,
}

impl Default for Types {
    fn default() -> Self {
        Self {
            charset: "utf-8".to_owned(),
            default: "application/octet-stream".to_owned(),
            overrides: BTreeMap::new(),
        }
    }
}

impl Types {
    /// The value of Content-Type for a file named `name`.
    pub(crate) fn of(&self, name: &[u8]) -> String {
        let Some(extension) = extension(name) else {
            return self.with_charset(&self.default);
        };
        if let Some(media_type) = self.overrides.get(&extension) {
            return self.with_charset(media_type);
        }
        let known = of_extension(&extension).unwrap_or(&self.default);
        self.with_charset(known)
    }

    /// The charset is for text that says nothing of itself: parameters are left as they were written.
    fn with_charset(&self, media_type: &str) -> String {
        if self.charset.is_empty() || !is_text(media_type) {
            media_type.to_owned()
        } else {
            format!("{media_type}; charset={}", self.charset)
        }
    }
}

/// The built-in type of an extension in lower case: ours, or else the library's.
fn of_extension(extension: &str) -> Option<&'static str> {
    match TYPES.binary_search_by_key(&extension, |row| row.0) {
        Ok(index) => Some(TYPES[index].1),
        Err(_) => mime_guess::from_ext(extension).first_raw(),
    }
}

fn extension(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let name = name.rsplit('/').next()?;
    let (stem, extension) = name.rsplit_once('.')?;
    (!stem.is_empty() && !extension.is_empty()).then(|| extension.to_ascii_lowercase())
}

/// Whether a type without parameters is text that does not tell its charset itself. JSON has none
/// (RFC 8259, section 11); XML tells its own, which a parameter would override (RFC 7303, section 3).
/// Types are compared without regard to case (RFC 9110, section 8.3.1).
fn is_text(media_type: &str) -> bool {
    let media_type = media_type.to_ascii_lowercase();
    media_type.starts_with("text/")
        && !media_type.contains(';')
        && !media_type.ends_with("+xml")
        && !media_type.starts_with("text/xml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types() -> Types {
        Types {
            charset: "utf-8".into(),
            default: "application/octet-stream".into(),
            overrides: [("foo".to_owned(), "text/x-foo".to_owned())].into(),
        }
    }

    /// Content-Type of well-known extensions, as it is sent.
    #[rustfmt::skip] // one row a line
    const SENT: &[(&str, &str)] = &[
        ("3gp", "video/3gpp"),
        ("3mf", "model/3mf"),
        ("7z", "application/x-7z-compressed"),
        ("aac", "audio/aac"),
        ("aif", "audio/aiff"),
        ("aiff", "audio/aiff"),
        ("apk", "application/vnd.android.package-archive"),
        ("apng", "image/apng"),
        ("appimage", "application/vnd.appimage"),
        ("appinstaller", "application/appinstaller"),
        ("appx", "application/appx"),
        ("appxbundle", "application/appxbundle"),
        ("arrow", "application/vnd.apache.arrow.file"),
        ("atom", "application/atom+xml"),
        ("avi", "video/x-msvideo"),
        ("avif", "image/avif"),
        ("avifs", "image/avif"),
        ("bin", "application/octet-stream"),
        ("bmp", "image/bmp"),
        ("bz2", "application/x-bzip2"),
        ("caf", "audio/x-caf"),
        ("cer", "application/pkix-cert"),
        ("cfg", "text/plain; charset=utf-8"),
        ("cjs", "text/javascript; charset=utf-8"),
        ("cmfa", "audio/mp4"),
        ("cmft", "application/mp4"),
        ("cmfv", "video/mp4"),
        ("conf", "text/plain; charset=utf-8"),
        ("crl", "application/pkix-crl"),
        ("crt", "application/x-x509-ca-cert"),
        ("crx", "application/x-chrome-extension"),
        ("css", "text/css; charset=utf-8"),
        ("csv", "text/csv; charset=utf-8"),
        ("deb", "application/vnd.debian.binary-package"),
        ("der", "application/x-x509-ca-cert"),
        ("diff", "text/x-diff; charset=utf-8"),
        ("dll", "application/vnd.microsoft.portable-executable"),
        ("dmg", "application/x-apple-diskimage"),
        ("doc", "application/msword"),
        ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("dtd", "application/xml-dtd"),
        ("eot", "application/vnd.ms-fontobject"),
        ("eps", "application/postscript"),
        ("epub", "application/epub+zip"),
        ("exe", "application/vnd.microsoft.portable-executable"),
        ("flac", "audio/flac"),
        ("flatpak", "application/vnd.flatpak"),
        ("flatpakref", "application/vnd.flatpak.ref"),
        ("flatpakrepo", "application/vnd.flatpak.repo"),
        ("geojson", "application/geo+json"),
        ("gif", "image/gif"),
        ("glb", "model/gltf-binary"),
        ("gltf", "model/gltf+json"),
        ("gml", "application/gml+xml"),
        ("gpkg", "application/geopackage+sqlite3"),
        ("gpx", "application/gpx+xml"),
        ("gz", "application/gzip"),
        ("h5", "application/x-hdf5"),
        ("heic", "image/heic"),
        ("heics", "image/heic-sequence"),
        ("heif", "image/heif"),
        ("heifs", "image/heif-sequence"),
        ("htm", "text/html; charset=utf-8"),
        ("html", "text/html; charset=utf-8"),
        ("ico", "image/x-icon"),
        ("ics", "text/calendar; charset=utf-8"),
        ("ini", "text/plain; charset=utf-8"),
        ("ipynb", "application/x-ipynb+json"),
        ("iso", "application/x-iso9660-image"),
        ("jar", "application/java-archive"),
        ("jfif", "image/jpeg"),
        ("jp2", "image/jp2"),
        ("jpeg", "image/jpeg"),
        ("jpg", "image/jpeg"),
        ("js", "text/javascript; charset=utf-8"),
        ("json", "application/json"),
        ("json5", "application/json5"),
        ("jsonl", "application/jsonl"),
        ("jsonld", "application/ld+json"),
        ("jxl", "image/jxl"),
        ("kml", "application/vnd.google-earth.kml+xml"),
        ("kmz", "application/vnd.google-earth.kmz"),
        ("log", "text/plain; charset=utf-8"),
        ("m2ts", "video/mp2t"),
        ("m3u", "audio/x-mpegurl"),
        ("m3u8", "application/vnd.apple.mpegurl"),
        ("m4a", "audio/mp4"),
        ("m4b", "audio/mp4"),
        ("m4s", "video/iso.segment"),
        ("m4v", "video/x-m4v"),
        ("map", "application/json"),
        ("markdown", "text/markdown; charset=utf-8"),
        ("mathml", "application/mathml+xml"),
        ("md", "text/markdown; charset=utf-8"),
        ("mdx", "text/mdx; charset=utf-8"),
        ("mid", "audio/midi"),
        ("mjs", "text/javascript; charset=utf-8"),
        ("mk3d", "video/matroska-3d"),
        ("mka", "audio/matroska"),
        ("mkv", "video/matroska"),
        ("mobi", "application/x-mobipocket-ebook"),
        ("mobileconfig", "application/x-apple-aspen-config"),
        ("mov", "video/quicktime"),
        ("mp3", "audio/mpeg"),
        ("mp4", "video/mp4"),
        ("mpd", "application/dash+xml"),
        ("mpeg", "video/mpeg"),
        ("mpg", "video/mpeg"),
        ("msi", "application/x-msi"),
        ("msix", "application/msix"),
        ("msixbundle", "application/msixbundle"),
        ("mtl", "model/mtl"),
        ("mts", "video/mp2t"),
        ("mvt", "application/vnd.mapbox-vector-tile"),
        ("n3", "text/n3; charset=utf-8"),
        ("nc", "application/x-netcdf"),
        ("ndjson", "application/x-ndjson"),
        ("nq", "application/n-quads"),
        ("nt", "application/n-triples"),
        ("obj", "model/obj"),
        ("odp", "application/vnd.oasis.opendocument.presentation"),
        ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
        ("odt", "application/vnd.oasis.opendocument.text"),
        ("oga", "audio/ogg"),
        ("ogg", "audio/ogg"),
        ("ogv", "video/ogg"),
        ("opus", "audio/ogg"),
        ("otf", "font/otf"),
        ("p12", "application/x-pkcs12"),
        ("parquet", "application/vnd.apache.parquet"),
        ("patch", "text/x-diff; charset=utf-8"),
        ("pbf", "application/x-protobuf"),
        ("pdf", "application/pdf"),
        ("pem", "application/x-pem-file"),
        ("pkpass", "application/vnd.apple.pkpass"),
        ("pkpasses", "application/vnd.apple.pkpasses"),
        ("plist", "application/x-plist"),
        ("pls", "audio/x-scpls"),
        ("pmtiles", "application/vnd.pmtiles"),
        ("png", "image/png"),
        ("ppt", "application/vnd.ms-powerpoint"),
        ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
        ("proto", "text/plain; charset=utf-8"),
        ("ps", "application/postscript"),
        ("psd", "image/vnd.adobe.photoshop"),
        ("qcow2", "application/x-qemu-disk"),
        ("rar", "application/vnd.rar"),
        ("rdf", "application/rdf+xml"),
        ("rpm", "application/x-rpm"),
        ("rss", "application/rss+xml"),
        ("rtf", "application/rtf"),
        ("sh", "application/x-sh"),
        ("sig", "application/pgp-signature"),
        ("sql", "application/sql"),
        ("sqlite", "application/vnd.sqlite3"),
        ("sqlite3", "application/vnd.sqlite3"),
        ("srt", "application/x-subrip"),
        ("step", "model/step"),
        ("stl", "model/stl"),
        ("stp", "model/step"),
        ("svg", "image/svg+xml"),
        ("svgz", "image/svg+xml"),
        ("swf", "application/x-shockwave-flash"),
        ("tar", "application/x-tar"),
        ("tgz", "application/gzip"),
        ("tif", "image/tiff"),
        ("tiff", "image/tiff"),
        ("toml", "application/toml"),
        ("topojson", "application/json"),
        ("torrent", "application/x-bittorrent"),
        ("trig", "application/trig"),
        ("ts", "video/mp2t"),
        ("tsv", "text/tab-separated-values; charset=utf-8"),
        ("ttc", "font/collection"),
        ("ttf", "font/ttf"),
        ("ttl", "text/turtle; charset=utf-8"),
        ("ttml", "application/ttml+xml"),
        ("txt", "text/plain; charset=utf-8"),
        ("usda", "model/vnd.usda"),
        ("usdc", "application/octet-stream"),
        ("usdz", "model/vnd.usdz+zip"),
        ("vcf", "text/x-vcard; charset=utf-8"),
        ("vtt", "text/vtt; charset=utf-8"),
        ("wasm", "application/wasm"),
        ("wat", "text/plain; charset=utf-8"),
        ("wav", "audio/wav"),
        ("weba", "audio/webm"),
        ("webm", "video/webm"),
        ("webmanifest", "application/manifest+json"),
        ("webp", "image/webp"),
        ("woff", "font/woff"),
        ("woff2", "font/woff2"),
        ("wsdl", "application/wsdl+xml"),
        ("xhtml", "application/xhtml+xml"),
        ("xls", "application/vnd.ms-excel"),
        ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        ("xml", "text/xml"),
        ("xpi", "application/x-xpinstall"),
        ("xsl", "application/xslt+xml"),
        ("xslt", "application/xslt+xml"),
        ("xspf", "application/xspf+xml"),
        ("xz", "application/x-xz"),
        ("yaml", "application/yaml"),
        ("yml", "application/yaml"),
        ("zip", "application/zip"),
        ("zst", "application/zstd"),
        ("zsync", "application/x-zsync"),
    ];

    #[test]
    fn well_known_extensions() {
        let wrong: Vec<_> = SENT
            .iter()
            .flat_map(|(extension, expected)| {
                let names = [
                    format!("a.{extension}"),
                    format!("A.{}", extension.to_uppercase()),
                ];
                names.map(|name| (types().of(name.as_bytes()), *expected, name))
            })
            .filter(|(sent, expected, _)| sent != expected)
            .collect();
        assert!(SENT.len() >= 150 && wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(TYPES.is_sorted_by(|one, next| one.0 < next.0));
    }

    #[test]
    fn types_are_told_by_the_extension() {
        let table = [
            ("a.html", "text/html; charset=utf-8"),
            ("A.HTML", "text/html; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.js", "text/javascript; charset=utf-8"),
            ("a.mjs", "text/javascript; charset=utf-8"),
            ("a.txt", "text/plain; charset=utf-8"),
            ("a.svg", "image/svg+xml"),
            ("a.json", "application/json"),
            ("a.wasm", "application/wasm"),
            ("a.png", "image/png"),
            ("a.woff2", "font/woff2"),
            ("a.mp4", "video/mp4"),
            ("a.tar.gz", "application/gzip"),
            ("a.foo", "text/x-foo; charset=utf-8"),
            ("a.unknown-extension", "application/octet-stream"),
            ("no-extension", "application/octet-stream"),
            ("dir.html/none", "application/octet-stream"),
            (".html", "application/octet-stream"),
            ("ends.", "application/octet-stream"),
        ];
        for (name, expected) in table {
            assert_eq!(types().of(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn a_charset_is_added_to_types_of_the_configuration_too() {
        let of = |media_type: &str| {
            let types = Types {
                default: media_type.to_owned(),
                overrides: [("log".to_owned(), media_type.to_owned())].into(),
                ..types()
            };
            let found = types.of(b"a.log");
            assert_eq!(types.of(b"a.unknown-extension"), found);
            assert_eq!(types.of(b"README"), found);
            found
        };
        for (media_type, expected) in [
            ("text/plain", "text/plain; charset=utf-8"),
            ("Text/Plain", "Text/Plain; charset=utf-8"),
            ("application/atom+xml", "application/atom+xml"),
            ("text/XML", "text/XML"),
            ("text/plain; charset=latin1", "text/plain; charset=latin1"),
            ("text/plain;format=flowed", "text/plain;format=flowed"),
            ("application/octet-stream", "application/octet-stream"),
            ("application/json", "application/json"),
        ] {
            assert_eq!(of(media_type), expected);
        }
    }

    #[test]
    fn no_charset_is_added_when_there_is_none() {
        let types = Types {
            charset: String::new(),
            ..types()
        };
        assert_eq!(types.of(b"a.html"), "text/html");
    }

    #[test]
    fn a_name_that_is_not_utf8_has_the_default_type() {
        assert_eq!(types().of(b"\xff.html"), "application/octet-stream");
    }
}
