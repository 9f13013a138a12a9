//! The error pages of a site.

use std::rc::Rc;
use std::time::Instant;

use tidegate_config::Respond;
use tidegate_http::{Accepted, Status};

use crate::cache::{Cache, Target};
use crate::error::Error;
use crate::file::File;
use crate::lookup::representation::Purpose;
use crate::site::freshness::Freshness;
use crate::site::{Cached, Name, Site, get_fresh};

impl Site {
    /// Whether the site has a page for a status, which [`Site::error_page`] looks up.
    pub fn names_error_page(&self, status: Status) -> bool {
        self.error_page_path(status).is_some()
    }

    pub(super) fn error_page_path(&self, status: Status) -> Option<&str> {
        let path = self.config.error_pages.get(&status)?;
        Some(path)
    }

    /// The site's page for a status, if it has one.
    ///
    /// Dropped: the lookup is cancelled, and nothing is cached.
    pub async fn error_page(
        self: &Rc<Self>,
        status: Status,
        accepted: Accepted,
        now: Instant,
    ) -> Option<Rc<File>> {
        let path = self.error_page_path(status)?;
        self.page(path, accepted, &Freshness::new(now)).await
    }

    /// The page of a rule's response: its own, else that of the site for the status.
    ///
    /// Dropped: the lookup is cancelled, and nothing is cached.
    pub async fn respond_page(
        self: &Rc<Self>,
        respond: &Respond,
        accepted: Accepted,
        now: Instant,
    ) -> Option<Rc<File>> {
        let own = respond.page.as_deref();
        let path = own.or_else(|| self.error_page_path(respond.status))?;
        self.page(path, accepted, &Freshness::new(now)).await
    }

    /// The cached page, fresh or not: its file system does not answer.
    pub(super) fn page_from_cache(&self, path: &str, accepted: Accepted) -> Option<Rc<File>> {
        let root = self.roots.of(path.as_bytes())?.number();
        let cache = self.shared.cache.borrow();
        let entry = cache.get(self.key(root, Purpose::ErrorPage, &Name::Path(path.as_bytes())))?;
        match &entry.target {
            Target::Resource(resource) => resource.choose(accepted).cloned(),
            Target::MissingSlash | Target::NotFound => None,
        }
    }

    /// Looks the page up. If its root cannot be revalidated, the last known directory is used.
    pub(super) async fn page(
        self: &Rc<Self>,
        path: &str,
        accepted: Accepted,
        freshness: &Freshness,
    ) -> Option<Rc<File>> {
        let root = match self.root_or_origin(path.as_bytes(), freshness).await {
            Err(Error::Stalled) => return self.page_from_cache(path, accepted),
            Err(_) => Some(self.roots.of(path.as_bytes())?.current().ok()?),
            Ok(root) => root,
        };
        let resource = self
            .own_file(root.as_ref(), Purpose::ErrorPage, path, freshness)
            .await
            .ok()??;
        // A page is not worth a decompression.
        resource.choose(accepted).cloned()
    }

    /// A cached 404 with its page.
    pub(super) fn cached_not_found(
        &self,
        cache: &Cache,
        accepted: Accepted,
        now: Instant,
    ) -> Cached {
        let Some(path) = self.error_page_path(Status::NOT_FOUND) else {
            return Cached::NotFound { page: None };
        };
        let root = self.roots.fresh_number(path.as_bytes(), now);
        let name = Name::Path(path.as_bytes());
        let key = self.key(root, Purpose::ErrorPage, &name);
        match get_fresh(cache, key, now).map(|entry| &entry.target) {
            Some(Target::Resource(resource)) => Cached::NotFound {
                page: resource.choose(accepted).cloned(),
            },
            Some(Target::MissingSlash | Target::NotFound) => Cached::NotFound { page: None },
            None => Cached::Miss,
        }
    }
}
