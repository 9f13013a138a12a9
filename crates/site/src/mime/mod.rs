//! The media type of a file, by the extension of its name.

mod table;

use tidegate_config::Site;

use self::table::TYPES;

/// The value of Content-Type for a file of `site` that is named `name`.
pub fn content_type(site: &Site, name: &[u8]) -> String {
    let media_type = extension(name).and_then(|extension| {
        let own = site.mime_types.get(&extension).map(String::as_str);
        own.or_else(|| of_extension(&extension))
    });
    with_charset(media_type.unwrap_or(&site.default_type), &site.charset)
}

/// Adds the charset, unless it is empty, to text without parameters.
fn with_charset(media_type: &str, charset: &str) -> String {
    if charset.is_empty() || !is_text(media_type) {
        media_type.to_owned()
    } else {
        format!("{media_type}; charset={charset}")
    }
}

/// The built-in type of an extension in lower case: of [`TYPES`], else of `mime_guess`.
fn of_extension(extension: &str) -> Option<&'static str> {
    match TYPES.binary_search_by_key(&extension, |row| row.0) {
        Ok(index) => Some(TYPES[index].1),
        Err(_) => mime_guess::from_ext(extension).first_raw(),
    }
}

/// Whether a store may have a compressed variant of a file of this type.
pub fn is_compressible(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let media_type = media_type.to_ascii_lowercase();
    let ends = [
        "json",
        "javascript",
        "xml",
        "wasm",
        "+text",
        "/x-javascript",
        "manifest",
    ];
    media_type.starts_with("text/")
        || ends.iter().any(|end| media_type.ends_with(end))
        || matches!(
            media_type.as_str(),
            "image/bmp"
                | "image/x-icon"
                | "image/vnd.microsoft.icon"
                | "font/ttf"
                | "font/otf"
                | "application/vnd.ms-fontobject"
                | "application/pdf"
                | "application/rtf"
        )
}

fn extension(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let name = name.rsplit('/').next()?;
    let (stem, extension) = name.rsplit_once('.')?;
    (!stem.is_empty() && !extension.is_empty()).then(|| extension.to_ascii_lowercase())
}

/// Whether a type has no parameters and needs a charset. JSON has none (RFC 8259, section 11), and
/// a parameter would override the declaration of XML (RFC 7303, section 3). Types are
/// case-insensitive (RFC 9110, section 8.3.1).
fn is_text(media_type: &str) -> bool {
    let media_type = media_type.to_ascii_lowercase();
    media_type.starts_with("text/")
        && !media_type.contains(';')
        && !media_type.ends_with("+xml")
        && !media_type.starts_with("text/xml")
}

#[cfg(test)]
mod tests;
