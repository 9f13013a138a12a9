//! The sites of the configuration, in the types of `tidegate_site`.

use tidegate_config::{self as config, Settings};
use tidegate_http::{Coding, Cors, EncodedSlash, Status};
use tidegate_site::{
    CacheConfig, CompressedOnly, EtagSource, HeaderRule, HiddenFiles, Mount, PathRule, Respond,
    RuleAnswer, SiteConfig, Symlinks, Types,
};

use crate::host::limits::ResourceShare;

/// The bounds of the caches of a core's sites.
pub(crate) fn cache_config(settings: &Settings, share: ResourceShare) -> CacheConfig {
    CacheConfig {
        inline_max: settings.io.inline_max,
        hot_bytes: share.hot_bytes,
        open_files: share.open_files,
        valid: settings.cache.valid,
        idle: settings.cache.idle,
        stale: settings.cache.stale,
        lookup: settings.timeouts.lookup,
        workers: settings.io.cold_workers as usize,
    }
}

/// One site.
pub(crate) fn site_config(site: &config::Site) -> SiteConfig {
    let respond = site.respond.iter().map(respond);
    SiteConfig {
        names: site.names.clone(),
        mounts: mounts(site),
        index: site.index.clone(),
        directory_listing: site.directory_listing,
        hidden_files: hidden_files(&site.hidden_files),
        encoded_slash: encoded_slash(site.encoded_slash),
        symlinks: symlinks(site.symlinks),
        etag: etag(site.etag),
        precompressed: site.precompressed.iter().copied().map(coding).collect(),
        compressed_only: compressed_only(site.compressed_only),
        content_encoded: site
            .content_encoded
            .iter()
            .map(|glob| glob.regex().clone())
            .collect(),
        try_files: site.try_files.clone(),
        spa_fallback: site.spa_fallback.clone(),
        types: Types {
            charset: site.charset.clone(),
            default: site.default_type.clone(),
            overrides: site.mime_types.clone(),
        },
        error_pages: site.error_pages.clone(),
        headers: site.headers.iter().map(header_rule).collect(),
        rules: respond.chain(site.redirects.iter().map(redirect)).collect(),
        cors: Cors::new(site.cors.origins.clone(), site.cors.max_age.as_secs()),
    }
}

/// The root is that of all paths.
fn mounts(site: &config::Site) -> Vec<Mount> {
    let mounts = site.mounts.iter().map(|mount| (&*mount.at, &mount.root));
    let root = site.root.iter().map(|root| ("", root));
    let mounts = mounts.chain(root).map(|(at, root)| Mount {
        at: at.to_owned(),
        root: root.clone(),
    });
    mounts.collect()
}

fn hidden_files(files: &config::HiddenFiles) -> HiddenFiles {
    match files {
        config::HiddenFiles::None => HiddenFiles::None,
        config::HiddenFiles::All => HiddenFiles::All,
        config::HiddenFiles::Named(names) => HiddenFiles::Named(
            names
                .iter()
                .map(|name| name.glob().regex().clone())
                .collect(),
        ),
    }
}

fn encoded_slash(slash: config::EncodedSlash) -> EncodedSlash {
    match slash {
        config::EncodedSlash::Literal => EncodedSlash::Literal,
        config::EncodedSlash::Decode => EncodedSlash::Decode,
    }
}

/// Which links are followed.
pub(crate) fn symlinks(symlinks: config::Symlinks) -> Symlinks {
    match symlinks {
        config::Symlinks::Beneath => Symlinks::Beneath,
        config::Symlinks::Never => Symlinks::Never,
        config::Symlinks::Follow => Symlinks::Follow,
    }
}

fn etag(source: config::EtagSource) -> EtagSource {
    match source {
        config::EtagSource::Mtime => EtagSource::Mtime,
        config::EtagSource::Content => EtagSource::Content,
    }
}

pub(crate) fn coding(coding: config::Coding) -> Coding {
    match coding {
        config::Coding::Brotli => Coding::Brotli,
        config::Coding::Zstd => Coding::Zstd,
        config::Coding::Gzip => Coding::Gzip,
    }
}

fn compressed_only(files: config::CompressedOnly) -> CompressedOnly {
    match files {
        config::CompressedOnly::Off => CompressedOnly::Off,
        config::CompressedOnly::Decompress => CompressedOnly::Decompress,
        config::CompressedOnly::Refuse => CompressedOnly::Refuse,
    }
}

fn header_rule(rule: &config::HeaderRule) -> HeaderRule {
    HeaderRule {
        pattern: rule.pattern.regex().clone(),
        set: rule.fields(),
    }
}

fn respond(rule: &config::Respond) -> PathRule {
    PathRule {
        pattern: rule.pattern.regex().clone(),
        except: rule
            .except
            .iter()
            .map(|glob| glob.regex().clone())
            .collect(),
        answer: RuleAnswer::Respond(Respond {
            status: status(rule.status),
            retry_after: rule.retry_after.map(|after| after.as_secs()),
            page: rule.page.clone(),
        }),
    }
}

fn redirect(redirect: &config::Redirect) -> PathRule {
    PathRule {
        pattern: redirect.from.regex().clone(),
        except: Vec::new(),
        answer: RuleAnswer::Redirect {
            status: status(redirect.status),
            to: redirect.to.clone(),
        },
    }
}

fn status(code: u16) -> Status {
    Status::of_code(code).expect("the configuration was checked")
}
