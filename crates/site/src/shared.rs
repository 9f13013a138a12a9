//! What the sites of one core share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tidegate_uring::Shares;

use crate::cache::{Cache, Hasher};
use crate::coarse_timer::Watch;
use crate::config::CacheConfig;
use crate::decompress::Decoders;
use crate::listing::Readers;
use crate::stalls::Stalls;

/// Numbers of roots: no two that one core opens have the same.
pub(crate) type Numbers = Rc<Cell<u32>>;

/// What the sites of one core share.
pub(crate) struct Shared {
    pub(crate) cache: RefCell<Cache>,
    pub(crate) hasher: Hasher,
    pub(crate) numbers: Numbers,
    pub(crate) readers: Rc<Readers>,
    pub(crate) decoders: Rc<Decoders>,
    /// Workers that look-ups may occupy.
    pub(crate) workers: Rc<Shares>,
    pub(crate) watch: Rc<Watch>,
    pub(crate) stalls: Arc<Stalls>,
    pub(crate) config: CacheConfig,
}
