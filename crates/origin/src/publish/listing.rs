//! Responses of `ListObjectsV2` (Amazon S3 API Reference).

use percent_encoding::percent_decode_str;

use crate::s3::xml::{element, elements, unescaped};

/// An object of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) key: String,
    /// Without its quotes.
    pub(super) etag: String,
    pub(super) len: u64,
}

/// One page of a listing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) objects: Vec<Listed>,
    /// What names the next page.
    pub(super) next: Option<String>,
}

/// Parses a page.
///
/// # Errors
///
/// What is wrong about it, as it follows "its response".
pub(super) fn parse(xml: &str) -> Result<Page, &'static str> {
    let result = element(xml, "ListBucketResult").ok_or("has no ListBucketResult")?;
    // Before the objects, or behind them: none has elements of these names.
    let is_encoded = element(result, "EncodingType") == Some("url");
    let is_truncated = element(result, "IsTruncated") == Some("true");
    let objects = elements(result, "Contents").map(|contents| {
        let text = |name| element(contents, name).and_then(unescaped);
        let key = text("Key").ok_or("lists an object without a key")?;
        let len = text("Size").and_then(|size| size.trim().parse().ok());
        Ok(Listed {
            key: if is_encoded { decoded(&key)? } else { key },
            etag: text("ETag")
                .unwrap_or_default()
                .trim_matches('"')
                .to_owned(),
            len: len.ok_or("lists an object without a size")?,
        })
    });
    let objects = objects.collect::<Result<Vec<_>, &'static str>>()?;
    let next = element(result, "NextContinuationToken").and_then(unescaped);
    if is_truncated && next.is_none() {
        return Err("is truncated, and names no continuation");
    }
    Ok(Page {
        objects,
        next: next.filter(|_| is_truncated),
    })
}

/// A key with `encoding-type=url`: AWS writes a space as a plus.
fn decoded(key: &str) -> Result<String, &'static str> {
    let key = key.replace('+', " ");
    let key = percent_decode_str(&key).decode_utf8();
    Ok(key.map_err(|_| "lists a key that is no text")?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After the examples of the API Reference.
    const PAGE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>w/</Prefix>
<NextContinuationToken>1ue&amp;x==</NextContinuationToken><KeyCount>2</KeyCount>
<MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
<Contents><Key>w/a+b%2B%C3%A4</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified>
<ETag>&quot;fba9dede5f27731c9771645a39863328&quot;</ETag><Size>434234</Size>
<StorageClass>STANDARD</StorageClass><Owner><ID>x</ID></Owner></Contents>
<Contents><ETag>&#34;0-2&#34;</ETag><Key>w/c</Key><Size>0</Size></Contents></ListBucketResult>"#;

    #[test]
    fn a_page_is_read() {
        let listed = |key: &str, etag: &str, len| Listed {
            key: key.to_owned(),
            etag: etag.to_owned(),
            len,
        };
        let objects = vec![
            listed("w/a b+\u{e4}", "fba9dede5f27731c9771645a39863328", 434_234),
            listed("w/c", "0-2", 0),
        ];
        let next = Some("1ue&x==".to_owned());
        assert_eq!(parse(PAGE), Ok(Page { objects, next }));
        let plain = PAGE.replace("<EncodingType>url</EncodingType>", "");
        let page = parse(&plain.replace("IsTruncated>true", "IsTruncated>false")).unwrap();
        assert_eq!(page.objects[0].key, "w/a+b%2B%C3%A4");
        assert_eq!(page.next, None);
        let empty = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        assert_eq!(parse(empty), Ok(Page::default()));
    }

    #[test]
    fn what_is_no_listing_is_refused() {
        for (from, to) in [
            ("ListBucketResult", "html"),
            ("<Size>434234</Size>", ""),
            ("<Size>0", "<Size>-1"),
            ("<Key>w/c</Key>", ""),
            ("NextContinuationToken", "Other"),
            ("%C3%A4", "%C3"),
        ] {
            assert!(parse(&PAGE.replace(from, to)).is_err(), "{from} {to}");
        }
        // No cut is out of bounds.
        for end in 0..PAGE.len() {
            assert!(parse(&PAGE[..end]).is_err(), "{end}");
        }
    }
}
