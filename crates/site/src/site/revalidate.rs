//! Gets the target of a path: from the cache while it is fresh, then by revalidating the cached
//! resource, else by a lookup on disk. One request does that, and the others wait for its outcome.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use tidegate_http::Coding;

use crate::cache::{Entry, Target};
use crate::error::Error;
use crate::lookup::representation::Purpose;
use crate::lookup::{Lookup, MemoryLimits, Outcome};
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
        freshness: &Freshness,
    ) -> Result<Outcome, Error> {
        let key = self.key(self.roots.number(root), purpose, path);
        let now = freshness.now;
        let entry = self.shared.cache.borrow().get(key).cloned();
        let stale = match entry {
            Some(entry) if now < entry.fresh_until.get() => {
                return Ok(Outcome::Target(entry.target));
            }
            entry => entry.filter(|entry| now < entry.fresh_until.get() + self.shared.config.stale),
        };
        let stale = stale.map(|entry| Outcome::Target(entry.target));
        let work = || -> FlightFuture<Outcome> {
            let (site, root, path) = (Rc::clone(self), root.cloned(), path.to_vec());
            Box::pin(async move { site.revalidate(root.as_ref(), purpose, &path, now).await })
        };
        let outcome = self
            .flights
            .run_or_stale(key.to_key(), now, stale, work)
            .await?;
        Ok(freshness.take(outcome))
    }

    /// Revalidates the cached resource. Without one, if it changed, or to read a popular file into
    /// memory, looks the path up.
    async fn revalidate(
        &self,
        root: Option<&RootDir>,
        purpose: Purpose,
        path: &[u8],
        now: Instant,
    ) -> Result<Outcome, Error> {
        root.map_or(Ok(()), |root| root.ops.admit())?;
        let key = self.key(self.roots.number(root), purpose, path);
        let entry = self.shared.cache.borrow().get(key).cloned();
        if let Some(root) = root
            && let Some(Target::Resource(resource)) = entry.map(|entry| entry.target)
        {
            let popular = resource.popular();
            if !popular.is_empty() && self.shared.long.has_room() {
                return self.look_up(Some(root), purpose, path, now, &popular).await;
            }
            if resource.is_unchanged(root).await {
                let until = now + self.shared.config.valid;
                let cache = self.shared.cache.borrow();
                cache.refresh(key, &resource, until);
                return Ok(Outcome::Target(Target::Resource(resource)));
            }
        }
        self.look_up(root, purpose, path, now, &[]).await
    }

    /// Looks a path up on disk, and caches its target. Files of the `popular` codings may be long
    /// and yet be read into memory.
    async fn look_up(
        &self,
        root: Option<&RootDir>,
        purpose: Purpose,
        path: &[u8],
        now: Instant,
        popular: &[Option<Coding>],
    ) -> Result<Outcome, Error> {
        let lookup = || self.lookup(root, purpose, path, now, popular);
        let mut looked_up = lookup().run().await;
        if let Err(Error::Busy(_)) = looked_up {
            self.shared.cache.borrow_mut().close_files();
            looked_up = lookup().run().await;
        }
        let number = self.roots.number(root);
        let key = self.key(number, purpose, path);
        let (target, fresh_until) = match looked_up {
            Ok((Outcome::Target(target), until)) => (target, until),
            Ok((directory @ Outcome::Directory(_), _)) => {
                self.shared.cache.borrow_mut().remove(key);
                return Ok(directory);
            }
            Err(error) => {
                self.shared.cache.borrow_mut().remove(key);
                return Err(error);
            }
        };
        // The entries of a root that was replaced meanwhile were removed already.
        if self.roots.is_current(number) {
            let entry = Entry {
                target: target.clone(),
                fresh_until: Cell::new(fresh_until),
                last_used: Cell::new(now),
            };
            self.shared.cache.borrow_mut().insert(key, entry);
        }
        Ok(Outcome::Target(target))
    }

    fn lookup<'a>(
        &'a self,
        root: Option<&'a RootDir>,
        purpose: Purpose,
        path: &'a [u8],
        now: Instant,
        popular: &'a [Option<Coding>],
    ) -> Lookup<'a> {
        Lookup {
            root,
            now,
            fresh_until: now + self.shared.config.valid,
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
            purpose,
            path,
            dependencies: Vec::new(),
            headers_path: None,
        }
    }
}
