//! `tidegate sign`: makes a signed URL.

use std::error::Error;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tidegate_access::{KeySource, Scope, SigningKey, is_signed};
use tidegate_config::{KeyPlace, Settings, Site, SiteNames};
use tidegate_http::{EncodedSlash, Target, site_name};

const EXAMPLES: &str = "\
Prints the URL with its signature, which a [[site.signed]] of the configuration demands. The key is
the first of that rule, or the one that --key-id names.

Examples:
  tidegate sign -c tidegate.toml https://example.org/video/a.mp4 --expires 1h
  tidegate sign --key-file video.key /video/a.mp4 --expires 7days --address 192.0.2.1
  tidegate sign --key-file video.key https://example.org/video/a/ --prefix --expires 6h";

/// A fragment is never sent: `#` is that of a name.
const NOT_IN_A_URL: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SignArgs {
    /// The URL, or its path; percent-encoded, as clients request it. What a URL cannot hold, such as
    /// a space, is encoded
    #[arg(value_name = "URL")]
    url: String,
    /// The configuration file whose keys to use
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "TIDEGATE_CONFIG",
        required_unless_present = "key_file"
    )]
    config: Option<PathBuf>,
    /// The file of the key, in place of a configuration
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// How long the URL is valid, such as 90s, 1h or 7days
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires: Duration,
    /// The one address that may use it
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// The key to sign with, and to name in the URL: its file's name without the extension
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
    /// Sign for all paths below it, too; the path ends in a slash
    #[arg(long)]
    prefix: bool,
}

/// Prints the signed URL.
pub(crate) fn sign(args: &SignArgs) -> Result<(), Box<dyn Error>> {
    let url = encoded(&args.url);
    let (target, host) = Target::parse(&url)?;
    if target.query().is_some_and(is_signed) {
        return Err("the URL is signed already".into());
    }
    let (key, slash) = match (&args.key_file, &args.config) {
        (Some(file), _) => {
            let key = SigningKey::read(&KeySource::File(file.clone()))?;
            (with_id(vec![key], args)?, EncodedSlash::default())
        }
        (None, Some(file)) => {
            let settings = Settings::load(file)?;
            let site = site(&settings, host).ok_or("there is no site")?;
            (key_of(site, &target, args)?, site.encoded_slash)
        }
        (None, None) => return Err("whose key? --config FILE or --key-file FILE".into()),
    };
    let path = decoded(&target, slash)?;
    if args.prefix && !path.ends_with(b"/") {
        return Err("a prefix ends in a slash".into());
    }
    let scope = if args.prefix {
        Scope::Prefix(&path)
    } else {
        Scope::Path(&path)
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let expires = now.saturating_add(args.expires).as_secs();
    let query = key.query(scope, expires, args.address, args.key_id.is_some());
    let joint = if target.query().is_some() { '&' } else { '?' };
    writeln!(io::stdout(), "{url}{joint}{query}")?;
    Ok(())
}

/// The URL with what none can hold behind its host percent-encoded (RFC 3986, appendix A): clients
/// would encode it in ways of their own, cut it, or not send it. What is encoded stays.
fn encoded(url: &str) -> String {
    let authority = url.find("://").map_or(0, |scheme| scheme + 3);
    let path = url[authority..]
        .find('/')
        .map_or(0, |slash| authority + slash);
    let (before, target) = url.split_at(path);
    format!("{before}{}", utf8_percent_encode(target, NOT_IN_A_URL))
}

fn decoded(target: &Target<'_>, slash: EncodedSlash) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut path = Vec::new();
    target.decode_path(slash, &mut path)?;
    Ok(path)
}

/// The site that answers for `host`.
fn site<'s>(settings: &'s Settings, host: Option<&str>) -> Option<&'s Site> {
    let names = SiteNames::of(settings.sites.iter().map(|site| &*site.names));
    let number = host.map_or(names.default_site(), |host| names.find(&site_name(host)));
    settings.sites.get(number)
}

fn key_of(site: &Site, target: &Target<'_>, args: &SignArgs) -> Result<SigningKey, Box<dyn Error>> {
    let path = decoded(target, site.encoded_slash)?;
    let rule = site.signed.iter().find(|rule| rule.paths.contain(&path));
    let rule = rule.ok_or_else(|| {
        format!(
            "no [[site.signed]] of the site is for {}",
            path.escape_ascii()
        )
    })?;
    let keys = rule.keys.iter().map(|place| {
        SigningKey::read(&match place {
            KeyPlace::File(file) => KeySource::File(file.clone()),
            KeyPlace::Variable(name) => KeySource::Variable(name.clone()),
        })
    });
    with_id(keys.collect::<Result<_, _>>()?, args)
}

/// The key with the id of the command line, or the first.
fn with_id(keys: Vec<SigningKey>, args: &SignArgs) -> Result<SigningKey, Box<dyn Error>> {
    let wanted = args.key_id.as_deref();
    let mut keys = keys.into_iter();
    let key = keys.find(|key| wanted.is_none_or(|id| id == key.id()));
    key.ok_or_else(|| format!("there is no key {}", wanted.unwrap_or_default()).into())
}
