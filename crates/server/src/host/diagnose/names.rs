//! The names of the sites.

use tidegate_config::{Place, Settings};

use crate::host::diagnose::diagnostic::Diagnostic;

/// The topic of names.
pub(super) const NAMES: &str = "names";

/// Sites named `_`, which is nginx's name for a server that answers for all other hosts.
pub(super) fn catch_all_names(settings: &Settings) -> Vec<Diagnostic> {
    let reason = "`_` is a name like any other: the site that answers for all other hosts has no \
                  names; leave them out";
    every_name(settings)
        .filter(|(_, name)| *name == "_")
        .map(|(place, _)| Diagnostic::warning(NAMES, place, reason))
        .collect()
}

/// Each name of each site with its place.
pub(super) fn every_name(settings: &Settings) -> impl Iterator<Item = (Place, &str)> {
    settings.sites.iter().enumerate().flat_map(|(site, entry)| {
        let place = Place::of("site").item(site).key("names");
        let names = entry.names.iter().enumerate();
        names.map(move |(number, name)| (place.clone().item(number), name.as_str()))
    })
}
