//! Fetches objects of an origin before a client asks for them.

use std::sync::Arc;

use tidegate_config::Site;
use tidegate_http::{Target, TargetError};
use tidegate_origin::{Error as OriginError, Fetched, Found, Object, Origin, Wanted};

use crate::lookup::object_loader::{content_type, variants};
use crate::lookup::try_files::candidates;
use crate::paths::is_hidden;
use crate::rules::paths::is_answered;

/// Why an object is not in the cache.
#[derive(Debug, thiserror::Error)]
pub enum WarmError {
    /// Its path is none.
    #[error("{0}")]
    Target(#[from] TargetError),
    /// The origin has none, or not all of it.
    #[error("{0}")]
    Origin(#[from] OriginError),
    /// The origin sends clients elsewhere.
    #[error("the origin sends clients to {0}")]
    Redirect(Arc<str>),
    /// Clients are not to share it, or the cache's disk takes no more.
    #[error(
        "not stored: the origin or a rule (site.cache) forbids it, or the disk takes no more \
         (cache.disk)"
    )]
    NotStored,
}

/// Fetches the object for `target`, a path with its query as in a URL, and its variants into the
/// cache, whole. For a directory it fetches the index. It does not look for files of this host.
///
/// Dropped: slices that are under way still come into the cache.
///
/// # Errors
///
/// [`WarmError`]
pub async fn warm(origin: &Arc<Origin>, site: &Site, target: &str) -> Result<(), WarmError> {
    let (target, _) = Target::parse(target)?;
    let mut path = Vec::new();
    target.decode_path(site.encoded_slash, &mut path)?;
    let mut missed = OriginError::NotFound;
    for path in names(site, &path) {
        // Once more, if it is replaced at that moment.
        let mut warmed = object(origin, site, (&path, target.query())).await;
        if let Err(WarmError::Origin(OriginError::Changed)) = warmed {
            warmed = object(origin, site, (&path, target.query())).await;
        }
        match warmed {
            Err(WarmError::Origin(error @ (OriginError::NotFound | OriginError::Forbidden))) => {
                missed = error;
            }
            warmed => return warmed,
        }
    }
    Err(missed.into())
}

/// The names of objects that a path may stand for, in order.
fn names(site: &Site, path: &[u8]) -> Vec<Vec<u8>> {
    let is_served = |path: &[u8]| !is_hidden(path, &site.hidden_files) && !is_answered(site, path);
    let mut names = Vec::new();
    for candidate in candidates(&site.try_files, path, is_served) {
        if candidate.path.ends_with(b"/") {
            let indexes = site.index.iter();
            let indexes = indexes.map(|index| [&candidate.path, index.as_bytes()].concat());
            names.extend(indexes.filter(|path| !is_answered(site, path)));
        } else {
            names.push(candidate.path);
        }
    }
    names
}

async fn object(
    origin: &Arc<Origin>,
    site: &Site,
    (path, query): (&[u8], Option<&str>),
) -> Result<(), WarmError> {
    let wanted = Wanted {
        path,
        query,
        first_byte: 0,
    };
    let object = match origin.find(wanted).await? {
        Found::Object(object, _) => object,
        Found::Redirect { location, .. } => return Err(WarmError::Redirect(location)),
    };
    let content_type = content_type(site, &object, path);
    let variants = variants(origin, site, (path, query), &object, &content_type).await;
    fetch(origin, &object).await?;
    for (_, (variant, _)) in variants {
        fetch(origin, &variant).await?;
    }
    Ok(())
}

async fn fetch(origin: &Arc<Origin>, object: &Arc<Object>) -> Result<(), WarmError> {
    match origin.fetch_all(object).await? {
        Fetched::Stored => Ok(()),
        Fetched::Unstored => Err(WarmError::NotStored),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stands_for_what_the_site_would_try() {
        let site = |items: &[&str]| Site {
            try_files: items.iter().map(ToString::to_string).collect(),
            ..Site::default()
        };
        let table: [(&[&str], &str, &[&str]); 4] = [
            (&["$path", "$path/"], "/a", &["/a", "/a/index.html"]),
            (&["$path", "$path/"], "/a/", &["/a/index.html"]),
            (&["$path", "$path.html"], "/a", &["/a", "/a.html"]),
            (&["$path"], "/.git/a", &[]),
        ];
        for (items, path, expected) in table {
            let names = names(&site(items), path.as_bytes());
            let expected: Vec<&[u8]> = expected.iter().map(|name| name.as_bytes()).collect();
            assert_eq!(names, expected, "{items:?} {path}");
        }
    }
}
