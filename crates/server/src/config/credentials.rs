//! The users that the rules of the sites name: read once for all cores, before they serve.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_access::{KeyError, KeySource, Login, SigningKey, Tag, TagKey, Users, UsersError};
use tidegate_config::{KeyPlace, Place, Settings, Site};

/// How long a verified password is remembered.
const REMEMBERED: Duration = Duration::from_mins(5);

/// The most passwords that are remembered, by the process and by each core.
pub(crate) const REMEMBERED_MAX: usize = 4096;

/// The most passwords of one client that are being verified.
const CLIENT_MAX: usize = 32;

/// Why a file of credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file of users.
    #[error("site.auth.users: {0}")]
    Users(#[from] UsersError),
    /// A key of signatures.
    #[error("site.signed.keys: {0}")]
    Key(#[from] KeyError),
    /// The system has no random bytes.
    #[error("cannot make a key: the system has no random bytes (getrandom)")]
    NoRandomBytes,
}

/// What the rules of all sites need to know a client.
pub(crate) struct Credentials {
    tags: TagKey,
    /// The number of the table of each `[[site.auth]]`, by site.
    rules: Vec<Vec<usize>>,
    tables: Vec<Arc<UserTable>>,
    /// The keys of each `[[site.signed]]`, by site.
    keys: Vec<Vec<Vec<SigningKey>>>,
    /// Passwords that are being verified, by client.
    in_progress: Mutex<HashMap<Option<IpAddr>, usize>>,
}

/// The users of one file.
pub(crate) struct UserTable {
    users: Users,
    /// Until when a verified password is remembered. A client that has several connections is
    /// verified once.
    verified: Mutex<HashMap<Tag, Instant>>,
}

/// The place of a password among those that are being verified.
pub(crate) struct InProgress {
    credentials: Arc<Credentials>,
    client: Option<IpAddr>,
}

impl Credentials {
    /// Reads all files. Blocking.
    pub(crate) fn load(settings: &Settings) -> Result<Self, CredentialsError> {
        let mut numbers: HashMap<&Path, usize> = HashMap::new();
        let (mut tables, mut rules) = (Vec::new(), Vec::new());
        for site in &settings.sites {
            let mut of_site = Vec::new();
            for rule in &site.auth {
                let number = if let Some(number) = numbers.get(&*rule.users) {
                    *number
                } else {
                    tables.push(Arc::new(UserTable::new(Users::read(&rule.users)?)));
                    tables.len() - 1
                };
                numbers.insert(&rule.users, number);
                of_site.push(number);
            }
            rules.push(of_site);
        }
        Ok(Self {
            tags: TagKey::new().ok_or(CredentialsError::NoRandomBytes)?,
            rules,
            tables,
            keys: settings.sites.iter().map(keys).collect::<Result<_, _>>()?,
            in_progress: Mutex::default(),
        })
    }

    /// What `login` is remembered by for a rule of a site.
    pub(crate) fn tag(&self, login: &Login, site: usize, rule: usize) -> Tag {
        login.tag(&self.tags, self.rules[site][rule])
    }

    /// The users of a rule of a site.
    pub(crate) fn users(&self, site: usize, rule: usize) -> Arc<UserTable> {
        Arc::clone(&self.tables[self.rules[site][rule]])
    }

    /// The keys of a signed rule of a site.
    pub(crate) fn keys(&self, site: usize, rule: usize) -> &[SigningKey] {
        &self.keys[site][rule]
    }

    /// A place for one more password of `client`; `None` if it has too many.
    pub(crate) fn enter(self: &Arc<Self>, client: Option<IpAddr>) -> Option<InProgress> {
        let client = client.map(subscriber);
        let mut all = self
            .in_progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(client).or_default();
        if *count >= CLIENT_MAX {
            return None;
        }
        *count += 1;
        drop(all);
        Some(InProgress {
            credentials: Arc::clone(self),
            client,
        })
    }
}

/// The keys of each signed rule.
fn keys(site: &Site) -> Result<Vec<Vec<SigningKey>>, KeyError> {
    let rules = site.signed.iter();
    let keys = rules.map(|rule| rule.keys.iter().map(key).collect());
    keys.collect()
}

fn key(place: &KeyPlace) -> Result<SigningKey, KeyError> {
    SigningKey::read(&match place {
        KeyPlace::File(file) => KeySource::File(file.clone()),
        KeyPlace::Variable(name) => KeySource::Variable(name.clone()),
    })
}

/// The network of one subscriber: with IPv6 a whole /64 (RFC 6177).
fn subscriber(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let in_progress = &self.credentials.in_progress;
        let mut all = in_progress.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.client);
            }
        }
    }
}

impl UserTable {
    fn new(users: Users) -> Self {
        Self {
            users,
            verified: Mutex::default(),
        }
    }

    /// Until when `login`, which has this tag, is remembered; `None` if it is wrong. Takes long,
    /// unless it was verified lately.
    pub(crate) fn verify(&self, login: &Login, tag: Tag) -> Option<Instant> {
        let now = Instant::now();
        let verified = || self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let until = verified().get(&tag).copied();
        if until.is_some_and(|until| now < until) {
            return until;
        }
        let is_right = self.users.verify(login.name(), login.password());
        is_right.then(|| {
            let until = Instant::now() + REMEMBERED;
            let mut verified = verified();
            make_room(&mut verified, now, |until| *until);
            verified.insert(tag, until);
            until
        })
    }
}

/// Removes what has expired at `now` from a full table; all if that is nothing.
pub(crate) fn make_room<T>(
    table: &mut HashMap<Tag, T>,
    now: Instant,
    until: impl Fn(&T) -> Instant,
) {
    if table.len() >= REMEMBERED_MAX {
        table.retain(|_, remembered| now < until(remembered));
        if table.len() >= REMEMBERED_MAX {
            table.clear();
        }
    }
}

/// Every file that cannot be used, with the key that names it. Blocking.
pub(crate) fn faults(settings: &Settings) -> Vec<(Place, String)> {
    let sites = settings.sites.iter().enumerate();
    let faults =
        sites.flat_map(|(number, site)| site_faults(site, &Place::of("site").item(number)));
    faults.collect()
}

fn site_faults(site: &Site, at: &Place) -> Vec<(Place, String)> {
    let mut faults = Vec::new();
    for (number, rule) in site.auth.iter().enumerate() {
        if let Err(error) = Users::read(&rule.users) {
            let place = at.clone().key("auth").item(number).key("users");
            faults.push((place, error.to_string()));
        }
    }
    for (number, rule) in site.signed.iter().enumerate() {
        for (index, place) in rule.keys.iter().enumerate() {
            if let Err(error) = key(place) {
                let keys = at.clone().key("signed").item(number).key("keys");
                faults.push((keys.item(index), error.to_string()));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_client_has_so_many_passwords_in_progress() {
        let settings = Settings::for_directory(PathBuf::from("."));
        let credentials = Arc::new(Credentials::load(&settings).unwrap());
        let client = |text: &str| Some(text.parse().unwrap());
        let places: Vec<_> = (0..CLIENT_MAX)
            .map(|number| {
                credentials
                    .enter(client(&format!("2001:db8::{number:x}")))
                    .unwrap()
            })
            .collect();
        assert!(credentials.enter(client("2001:db8::ffff")).is_none());
        assert!(credentials.enter(client("2001:db8:0:1::")).is_some());
        assert!(credentials.enter(client("192.0.2.1")).is_some());
        assert!(credentials.enter(None).is_some());
        drop(places);
        assert!(credentials.enter(client("2001:db8::ffff")).is_some());
        assert!(credentials.in_progress.lock().unwrap().is_empty());
    }
}
