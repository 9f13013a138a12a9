//! The users that the rules of the sites name: read once for all cores, before they serve.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_access::{KeyError, KeySource, Login, SigningKey, Tag, TagKey, Users, UsersError};
use tidegate_config::{KeyPlace, Place, Settings, Site};

/// How long a verified password is remembered. The users do not change before a reload, and then
/// the tag of one that has changed does.
const REMEMBERED: Duration = Duration::from_hours(1);

/// The most passwords that are remembered, by the process and by each core.
pub(crate) const REMEMBERED_MAX: usize = 4096;

/// The passwords that were verified, by any configuration. `None`: there is no key for tags.
static VERIFIED: LazyLock<Option<VerifiedLogins>> = LazyLock::new(|| {
    TagKey::new().map(|key| VerifiedLogins {
        key,
        until: Mutex::default(),
    })
});

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
    verified: &'static VerifiedLogins,
    /// The users of each `[[site.auth]]`, by site.
    users: Vec<Vec<Arc<Users>>>,
    /// The keys of each `[[site.signed]]`, by site.
    keys: Vec<Vec<Vec<SigningKey>>>,
}

/// What a client presents for one rule.
pub(crate) struct Attempt {
    login: Login,
    users: Arc<Users>,
    tag: Tag,
    verified: &'static VerifiedLogins,
}

/// Passwords that were verified lately, for all cores.
struct VerifiedLogins {
    key: TagKey,
    /// Until when each is remembered, exclusive.
    until: Mutex<HashMap<Tag, Instant>>,
}

impl Credentials {
    /// Reads all files. Blocking.
    pub(crate) fn load(settings: &Settings) -> Result<Self, CredentialsError> {
        let mut files: HashMap<&Path, Arc<Users>> = HashMap::new();
        let mut users = Vec::new();
        for site in &settings.sites {
            let mut of_site = Vec::new();
            for rule in &site.auth {
                let known = files.get(&*rule.users).cloned();
                let of_rule = known.map_or_else(|| Users::read(&rule.users).map(Arc::new), Ok)?;
                files.insert(&rule.users, Arc::clone(&of_rule));
                of_site.push(of_rule);
            }
            users.push(of_site);
        }
        Ok(Self {
            verified: VERIFIED.as_ref().ok_or(CredentialsError::NoRandomBytes)?,
            users,
            keys: settings.sites.iter().map(keys).collect::<Result<_, _>>()?,
        })
    }

    /// What `login` is remembered by for a rule of a site.
    pub(crate) fn tag(&self, login: &Login, site: usize, rule: usize) -> Tag {
        self.users[site][rule].tag(login, &self.verified.key)
    }

    /// An attempt to log in for a rule of a site.
    pub(crate) fn attempt(&self, login: Login, site: usize, rule: usize) -> Attempt {
        Attempt {
            tag: self.tag(&login, site, rule),
            login,
            users: Arc::clone(&self.users[site][rule]),
            verified: self.verified,
        }
    }

    /// The keys of a signed rule of a site.
    pub(crate) fn keys(&self, site: usize, rule: usize) -> &[SigningKey] {
        &self.keys[site][rule]
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

impl Attempt {
    pub(crate) fn tag(&self) -> Tag {
        self.tag
    }

    /// Until when the login is remembered, if it was verified lately, by any core.
    pub(crate) fn remembered(&self) -> Option<Instant> {
        let until = self.verified.until().get(&self.tag).copied();
        until.filter(|until| Instant::now() < *until)
    }

    /// Until when the login is remembered; `None` if it is wrong. Takes long, unless it was
    /// verified lately.
    pub(crate) fn verify(&self) -> Option<Instant> {
        if let Some(until) = self.remembered() {
            return Some(until);
        }
        let (name, password) = (self.login.name(), self.login.password());
        self.users.verify(name, password).then(|| {
            let now = Instant::now();
            let mut verified = self.verified.until();
            make_room(&mut verified, now, |until| *until);
            verified.insert(self.tag, now + REMEMBERED);
            now + REMEMBERED
        })
    }
}

impl VerifiedLogins {
    fn until(&self) -> MutexGuard<'_, HashMap<Tag, Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
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
