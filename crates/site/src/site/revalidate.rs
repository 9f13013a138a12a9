//! Gets the target of a path: from the cache while it is fresh, then by revalidating the cached
//! resource, else by a lookup on disk. One request does that, and the others wait for its outcome.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use tidegate_http::Coding;

use crate::cache::resource::Resource;
use crate::cache::{Entry, Target};
use crate::error::Error;
use crate::lookup::object_loader::ObjectRequest;
use crate::lookup::representation::Purpose;
use crate::lookup::{Lookup, MemoryLimits, OriginLookup, Outcome};
use crate::root_dir::RootDir;
use crate::single_flight::FlightFuture;
use crate::site::Site;
use crate::site::freshness::Freshness;

impl Site {
    /// The outcome for `path`. While no disk answers, a stale one within `cache.stale`.
    pub(super) async fn outcome(
        self: &Rc<Self>,
        root: Option<&RootDir>,
        purpose: Purpose,
        path: &[u8],
        object: ObjectRequest,
        freshness: &Freshness,
    ) -> Result<Outcome, Error> {
        let name = self.name(path, object.query.as_deref());
        let key = self.key(self.roots.number(root), purpose, &name);
        let now = freshness.now;
        let entry = self.shared.cache.borrow().get(key).cloned();
        let stale = match entry {
            Some(entry) if now < entry.fresh_until.get() => {
                return Ok(Outcome::Target(entry.target));
            }
            entry => entry.filter(|entry| {
                now < entry.fresh_until.get() + self.shared.config.stale && !is_of_origin(entry)
            }),
        };
        let stale = stale.map(|entry| Outcome::Target(entry.target));
        let work = || -> FlightFuture<Outcome> {
            let (site, root, path) = (Rc::clone(self), root.cloned(), path.to_vec());
            Box::pin(async move {
                let target = LookupTarget {
                    root: root.as_ref(),
                    purpose,
                    path: &path,
                    object: &object,
                    now,
                };
                site.revalidate(target).await
            })
        };
        let outcome = self
            .flights
            .run_or_stale(key.to_key(), now, stale, work)
            .await?;
        Ok(freshness.take(outcome))
    }

    /// Revalidates the cached resource. Without one, if it changed, or to read a popular file into
    /// memory, looks the path up.
    async fn revalidate(&self, target: LookupTarget<'_>) -> Result<Outcome, Error> {
        let LookupTarget { root, now, .. } = target;
        root.map_or(Ok(()), |root| root.ops.admit())?;
        let name = self.name(target.path, target.object.query.as_deref());
        let key = self.key(self.roots.number(root), target.purpose, &name);
        let entry = self.shared.cache.borrow().get(key).cloned();
        if let Some(Target::Resource(resource)) = entry.map(|entry| entry.target) {
            let popular = resource.popular();
            if !popular.is_empty() && self.shared.long.has_room() {
                return self.look_up(target, Some(&resource), &popular).await;
            }
            if resource.is_of_origin() {
                return self.look_up(target, Some(&resource), &[]).await;
            }
            if let Some(root) = root
                && resource.is_unchanged(root).await
            {
                let until = now + self.shared.config.valid;
                let cache = self.shared.cache.borrow();
                cache.refresh(key, &resource, until);
                return Ok(Outcome::Target(Target::Resource(resource)));
            }
        }
        self.look_up(target, None, &[]).await
    }

    /// Looks a path up on disk and at the origin, and caches its target. Files of the `popular`
    /// codings may be long and yet be read into memory. `before` is what is cached.
    async fn look_up(
        &self,
        target: LookupTarget<'_>,
        before: Option<&Rc<Resource>>,
        popular: &[Option<Coding>],
    ) -> Result<Outcome, Error> {
        let lookup = || self.lookup(target, before, popular);
        let mut looked_up = lookup().run().await;
        if let Err(Error::Busy(_)) = looked_up {
            self.shared.cache.borrow_mut().close_files();
            looked_up = lookup().run().await;
        }
        let number = self.roots.number(target.root);
        let name = self.name(target.path, target.object.query.as_deref());
        let key = self.key(number, target.purpose, &name);
        let (found, fresh_until) = match looked_up {
            Ok((Outcome::Target(found), until)) => (found, until),
            Ok((other @ (Outcome::Directory(_) | Outcome::Elsewhere(..)), _)) => {
                self.shared.cache.borrow_mut().remove(key);
                return Ok(other);
            }
            Err(error) => {
                self.shared.cache.borrow_mut().remove(key);
                return Err(error);
            }
        };
        // The entries of a root that was replaced meanwhile were removed already.
        if self.roots.is_current(number) {
            let entry = Entry {
                target: found.clone(),
                fresh_until: Cell::new(fresh_until),
                last_used: Cell::new(target.now),
            };
            self.shared.cache.borrow_mut().insert(key, entry);
        }
        Ok(Outcome::Target(found))
    }

    fn lookup<'a>(
        &'a self,
        target: LookupTarget<'a>,
        before: Option<&'a Rc<Resource>>,
        popular: &'a [Option<Coding>],
    ) -> Lookup<'a> {
        Lookup {
            root: target.root,
            now: target.now,
            fresh_until: target.now + self.shared.config.valid,
            is_one_root: true,
            roots: &self.roots,
            config: &self.config,
            memory: MemoryLimits {
                inline_max: self.shared.config.inline_max,
                popular_max: self.shared.config.popular_max(),
                popular,
                long: &self.shared.long,
            },
            decompressed_max: self.shared.config.inline_max,
            purpose: target.purpose,
            path: target.path,
            dependencies: Vec::new(),
            headers_path: None,
            origin: self.origin.as_ref().map(|origin| OriginLookup {
                origin: &origin.origin,
                ops: &origin.ops,
                request: target.object,
                before,
            }),
        }
    }
}

/// What is looked up.
#[derive(Clone, Copy)]
struct LookupTarget<'a> {
    root: Option<&'a RootDir>,
    purpose: Purpose,
    path: &'a [u8],
    object: &'a ObjectRequest,
    now: Instant,
}

/// Whether an origin tells how long an entry may be used.
fn is_of_origin(entry: &Entry) -> bool {
    matches!(&entry.target, Target::Resource(resource) if resource.is_of_origin())
}
