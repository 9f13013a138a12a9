//! Which site answers for a host.

use std::collections::HashMap;

/// The names of all sites, by which one is chosen.
#[derive(Debug)]
pub struct SiteNames {
    exact: HashMap<String, usize>,
    /// Suffixes with their dot, the longest first.
    wildcards: Vec<(String, usize)>,
    default: usize,
}

impl SiteNames {
    /// The names of each site, in the order of the configuration.
    pub fn of<'s>(sites: impl IntoIterator<Item = &'s [String]>) -> Self {
        let (mut exact, mut wildcards, mut default) = (HashMap::new(), Vec::new(), None);
        for (number, names) in sites.into_iter().enumerate() {
            if names.is_empty() {
                default.get_or_insert(number);
            }
            for name in names {
                match name.strip_prefix('*') {
                    Some(suffix) => wildcards.push((suffix.to_owned(), number)),
                    None => {
                        exact.entry(name.clone()).or_insert(number);
                    }
                }
            }
        }
        wildcards.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        Self {
            exact,
            wildcards,
            default: default.unwrap_or(0),
        }
    }

    /// The number of the site with this name, else of that with the longest matching wildcard, else
    /// of the default: the first without names, or the first. The name is that of a Host as
    /// `site_name` of `tidegate_http` has it. Does not allocate.
    pub fn find(&self, name: &str) -> usize {
        let wildcard = || {
            let mut wildcards = self.wildcards.iter();
            wildcards.find(|(suffix, _)| name.len() > suffix.len() && name.ends_with(suffix))
        };
        self.exact
            .get(name)
            .or_else(|| wildcard().map(|(_, number)| number))
            .copied()
            .unwrap_or(self.default)
    }

    /// The number of the site of a request that names no host.
    pub fn default_site(&self) -> usize {
        self.default
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_name_decides() {
        let sites = [
            vec!["*.a.test".to_owned()],
            vec![],
            vec!["x.a.test".to_owned(), "*.b.a.test".to_owned()],
        ];
        let names = SiteNames::of(sites.iter().map(Vec::as_slice));
        let rows = [
            ("x.a.test", 2),
            ("y.a.test", 0),
            ("c.b.a.test", 2),
            ("b.a.test", 0),
            ("a.test", 1),
            (".a.test", 1),
            ("other", 1),
        ];
        for (name, site) in rows {
            assert_eq!(names.find(name), site, "{name}");
        }
        assert_eq!(names.default_site(), 1);
        let all_named = SiteNames::of(sites[..1].iter().map(Vec::as_slice));
        assert_eq!(all_named.find("other"), 0);
    }
}
