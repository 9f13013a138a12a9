//! Files of secrets that others may read.

use std::path::Path;

use tidegate_access::open_mode;
use tidegate_config::{Place, Settings};

use crate::host::diagnose::diagnostic::Diagnostic;

/// Files of secrets that all users of the host have access to. Keys of signed URLs are not used
/// then, and told of as faults. A file that cannot be read is one of others' faults, too.
pub(super) fn open_secrets(settings: &Settings) -> Vec<Diagnostic> {
    let mut all = Vec::new();
    let mut add = |topic, place: Place, file: &Path| {
        let mode = open_mode(file).ok().flatten();
        all.extend(mode.map(|mode| Diagnostic::warning(topic, place, reason(file, mode))));
    };
    for (number, files) in settings.tls.certificates.iter().enumerate() {
        let place = Place::of("tls").key("certificates").item(number);
        add("key", place.key("key"), &files.key);
    }
    if let Some(token) = &settings.admin.token {
        add("admin", Place::of("admin").key("token"), token);
    }
    if let Some(token) = settings
        .fleet
        .as_ref()
        .and_then(|fleet| fleet.token.as_ref())
    {
        add("fleet", Place::of("fleet").key("token"), token);
    }
    for (site, settings) in settings.sites.iter().enumerate() {
        for (rule, auth) in settings.auth.iter().enumerate() {
            let place = Place::of("site").item(site).key("auth").item(rule);
            add("credentials", place.key("users"), &auth.users);
        }
    }
    all
}

fn reason(file: &Path, mode: u32) -> String {
    let file = file.display();
    format!("all users have access to {file} (mode {mode:o}): `chmod o= {file}` takes it from them")
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_of_secrets_are_told_if_others_may_read_them() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let text = "[[tls.certificates]]\ncert = 'cert'\nkey = 'key'\n\
             [admin]\nlisten = '127.0.0.1:9'\ntoken = 'admin'\n\
             [fleet]\nlisten = '127.0.0.1:8'\npeers = ['a:1']\ntoken = 'fleet'\n\
             [[site]]\nroot = '.'\n[[site.auth]]\nmatch = '/**'\nusers = 'users'";
        let settings = Settings::parse(text, &at("t.toml")).unwrap();
        let told = || -> Vec<&str> {
            let found = open_secrets(&settings);
            found.iter().map(|one| one.topic).collect()
        };
        assert!(told().is_empty(), "there are none");
        let names = ["cert", "key", "admin", "fleet", "users"];
        for (name, mode) in names.into_iter().zip([0o644, 0o604, 0o644, 0o606, 0o644]) {
            fs::write(at(name), "").unwrap();
            fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
        }
        assert_eq!(told(), ["key", "admin", "fleet", "credentials"]);
        for name in names {
            fs::set_permissions(at(name), Permissions::from_mode(0o640)).unwrap();
        }
        assert!(told().is_empty());
    }
}
