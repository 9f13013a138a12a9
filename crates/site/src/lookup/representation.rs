//! The header fields of the representations of a resource.

use std::borrow::Cow;

use tidegate_http::{Coding, Representation, RepresentationFields, Validators};

use crate::rules::headers::HeaderSet;

/// What decides between the SPA fallback and 404.
pub(crate) const FALLBACK_VARY: &str = "Accept, Sec-Fetch-Dest, Sec-Fetch-Mode";

/// What a file is sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The resource of its own path.
    Itself,
    /// The SPA fallback, for navigations to paths that lead to nothing.
    Fallback,
    /// The body of an error.
    ErrorPage,
}

/// The fields that all representations of one resource share.
pub(crate) struct ResourceFields<'a> {
    pub(crate) content_type: Cow<'a, str>,
    purpose: Purpose,
    vary: String,
    set: HeaderSet<'a>,
}

impl<'a> ResourceFields<'a> {
    /// `set` has the fields of the site's rules, which may replace Content-Type and add to Vary.
    pub(crate) fn new(
        purpose: Purpose,
        content_type: &'a str,
        has_variants: bool,
        mut set: HeaderSet<'a>,
    ) -> Self {
        let fallback = match purpose {
            Purpose::Fallback => FALLBACK_VARY,
            Purpose::Itself | Purpose::ErrorPage => "",
        };
        let coding = if has_variants { "Accept-Encoding" } else { "" };
        Self {
            purpose,
            content_type: set.take("content-type").unwrap_or(content_type.into()),
            vary: join(&[&set.take("vary").unwrap_or_default(), fallback, coding]),
            set,
        }
    }

    /// The fields of one representation. `has_ranges`: it can be sent in parts.
    pub(crate) fn representation(
        &self,
        coding: Option<Coding>,
        validators: Validators,
        has_ranges: bool,
    ) -> RepresentationFields {
        let representation = Representation {
            content_type: &self.content_type,
            coding,
            validators,
            vary: &self.vary,
            accept_ranges: has_ranges && self.purpose != Purpose::ErrorPage,
            others: &self.set.fields(),
        };
        representation.fields()
    }
}

fn join(lists: &[&str]) -> String {
    let lists: Vec<_> = lists
        .iter()
        .copied()
        .filter(|list| !list.is_empty())
        .collect();
    lists.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vary_names_all_that_could_have_made_a_difference() {
        let table = [
            (Purpose::Itself, false, ""),
            (Purpose::Itself, true, "Accept-Encoding"),
            (Purpose::ErrorPage, true, "Accept-Encoding"),
            (
                Purpose::Fallback,
                false,
                "Accept, Sec-Fetch-Dest, Sec-Fetch-Mode",
            ),
            (
                Purpose::Fallback,
                true,
                "Accept, Sec-Fetch-Dest, Sec-Fetch-Mode, Accept-Encoding",
            ),
        ];
        for (purpose, has_variants, expected) in table {
            let fields = ResourceFields::new(purpose, "a/b", has_variants, HeaderSet::default());
            assert_eq!(fields.vary, expected, "{purpose:?}");
        }
    }
}
