//! The files that a server with given settings has to reach.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{self, Path, PathBuf};

use tidegate_config::{KeyPlace, Listen, LogTarget, Settings, Symlinks};

/// What the kernel shows of itself and the process.
const SYSTEM: [&str; 2] = ["/proc", "/sys"];

/// What the C library reads to find a name, and the authorities of the system. These files are
/// replaced by renaming: so their directories are allowed.
const NAMES: [&str; 12] = [
    "/etc",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/var/lib/ca-certificates",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/run/nscd",
];

/// Variables of the environment that name files of an origin's client.
const OF_ORIGINS: [&str; 6] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];

/// The directories and files that a process can reach, by what it does there. All are absolute,
/// without links.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Read, with all below.
    pub(super) read: BTreeSet<PathBuf>,
    /// Appended to: directories of logs, where new ones are made, and logs that are devices.
    pub(super) logs: BTreeSet<PathBuf>,
    /// Written to in every way: the cache.
    pub(super) cache: BTreeSet<PathBuf>,
    /// Where Unix sockets are made and removed.
    pub(super) sockets: BTreeSet<PathBuf>,
    /// What was there when the process was confined, by device and inode: what has the place of a
    /// directory since then is out of reach.
    pub(super) confined: BTreeMap<PathBuf, (u64, u64)>,
}

impl Reach {
    /// What a server with `settings` reads and writes, and `files`, those of the configuration.
    /// Blocking.
    pub(crate) fn of<'a>(
        settings: &'a Settings,
        files: impl IntoIterator<Item = &'a Path>,
    ) -> Self {
        let mut all = Self::default();
        for path in SYSTEM {
            all.read.extend(existing(Path::new(path)));
        }
        for path in read_files(settings).into_iter().chain(files) {
            all.read.extend(places(path));
        }
        if settings
            .sites
            .iter()
            .any(|site| site.symlinks == Symlinks::Follow)
        {
            all.read.insert("/".into());
        }
        if asks_for_names(settings) {
            all.add_names();
        }
        for site in &settings.sites {
            if let LogTarget::File(path) = &site.access_log.path {
                all.logs.extend(log_places(path));
            }
        }
        if let Some(disk) = &settings.cache.disk {
            all.cache.extend(existing(&disk.path));
        }
        let sockets = settings.listen.iter().filter_map(Listen::unix_path);
        for path in sockets.chain(settings.server.control.as_deref()) {
            all.sockets.extend(path.parent().and_then(existing));
        }
        all
    }

    fn add_names(&mut self) {
        for path in NAMES {
            self.read.extend(existing(Path::new(path)));
        }
        let named = OF_ORIGINS.iter().filter_map(env::var_os);
        let home = env::var_os("HOME").map(|home| Path::new(&home).join(".aws/config"));
        for path in named.map(PathBuf::from).chain(home) {
            self.read.extend(places(&path));
        }
    }

    /// Checks that a process that is confined to this can serve by `settings`, read from `files`.
    /// The error names what it cannot reach. Blocking.
    pub fn covers<'a>(
        &self,
        settings: &'a Settings,
        files: impl IntoIterator<Item = &'a Path>,
    ) -> Result<(), String> {
        let wanted = Self::of(settings, files);
        let pairs = [
            (&wanted.read, &self.read),
            (&wanted.logs, &self.logs),
            (&wanted.cache, &self.cache),
            (&wanted.sockets, &self.sockets),
        ];
        for (wanted, allowed) in pairs {
            let outside = |path: &&PathBuf| {
                let mut above = allowed.iter().filter(|above| path.starts_with(above));
                !above.any(|above| self.is_as_confined(above))
            };
            if let Some(path) = wanted.iter().find(outside) {
                return Err(path.display().to_string());
            }
        }
        Ok(())
    }

    fn is_as_confined(&self, path: &Path) -> bool {
        self.confined.get(path) == identity(path).as_ref()
    }

    /// Remembers what is there now.
    pub(super) fn remember(&mut self, path: &Path) {
        self.confined
            .extend(identity(path).map(|id| (path.to_owned(), id)));
    }
}

/// The device and the inode of what is at `path`.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// The files and directories that are read, but for those of the system.
fn read_files(settings: &Settings) -> Vec<&Path> {
    let mut all: Vec<&Path> = Vec::new();
    for site in &settings.sites {
        all.extend(site.directories().map(|(_, path)| path));
        all.extend(site.auth.iter().map(|auth| auth.users.as_path()));
        let keys = site.signed.iter().flat_map(|signed| &signed.keys);
        all.extend(keys.filter_map(|key| match key {
            KeyPlace::File(path) => Some(path.as_path()),
            KeyPlace::Variable(_) => None,
        }));
        all.extend(
            site.origins
                .iter()
                .filter_map(|origin| origin.ca.as_deref()),
        );
    }
    for files in &settings.tls.certificates {
        all.extend([files.cert.as_path(), files.key.as_path()]);
    }
    all.extend(settings.tls.client_ca.as_deref());
    all.extend(settings.admin.token.as_deref());
    all.extend(
        settings
            .fleet
            .iter()
            .filter_map(|fleet| fleet.token.as_deref()),
    );
    all
}

/// Whether hosts, users or groups are looked up by name.
fn asks_for_names(settings: &Settings) -> bool {
    let is_name = |text: &String| !text.is_empty() && text.parse::<u32>().is_err();
    let is_host = |listen: &Listen| {
        listen.unix_path().is_none() && listen.address.parse::<std::net::SocketAddr>().is_err()
    };
    let named =
        |listen: &Listen| is_host(listen) || is_name(&listen.owner) || is_name(&listen.group);
    let server = &settings.server;
    let admin = &settings.admin.listen;
    settings.fleet.is_some()
        || is_name(&server.user)
        || is_name(&server.group)
        || (!admin.is_empty() && admin.parse::<std::net::SocketAddr>().is_err())
        || settings.sites.iter().any(|site| !site.origins.is_empty())
        || settings.listen.iter().any(named)
}

/// Where a file or a directory is looked for that may be replaced by renaming, or by another link:
/// the directory that its name is in, and the one that it leads to. At the top of the file system:
/// itself.
fn places(path: &Path) -> Vec<PathBuf> {
    let Ok(named) = path::absolute(path) else {
        return Vec::new();
    };
    let target = fs::canonicalize(&named).ok();
    let of_name = named.parent().and_then(existing);
    let of_target = target.as_deref().and_then(Path::parent).map(Path::to_owned);
    let is_below_top = |place: &PathBuf| place.parent().is_some();
    let mut all: Vec<_> = of_name.into_iter().chain(of_target).collect();
    all.retain(is_below_top);
    // At the top, or there is a rule for its directory already.
    all.extend(target.filter(|target| {
        target
            .parent()
            .is_some_and(|above| above.parent().is_none())
    }));
    if named.parent().is_none() {
        all.push(named);
    }
    all
}

/// The directory of a log, or the log itself if it is a device or a pipe.
fn log_places(path: &Path) -> Option<PathBuf> {
    let path = path::absolute(path).ok()?;
    let found = fs::metadata(&path).ok();
    if found.is_some_and(|found| !found.is_file() && !found.is_dir()) {
        return fs::canonicalize(path).ok();
    }
    path.parent().and_then(existing)
}

/// `path` without links, or the directory above that is there, unless that is the top.
fn existing(path: &Path) -> Option<PathBuf> {
    let path = path::absolute(path).ok()?;
    let mut above = path.ancestors().filter(|above| above.parent().is_some());
    above.find_map(|above| fs::canonicalize(above).ok())
}
