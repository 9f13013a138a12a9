//! What the sites of one core share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tidegate_uring::Shares;

use crate::cache::{Cache, Hasher};
use crate::coarse_timer::CoarseTimer;
use crate::config::CacheConfig;
use crate::decompress::Decoders;
use crate::file::long_memory::LongMemory;
use crate::listing::DirectoryReader;
use crate::stalls::Stalls;

/// The last number given to a root: each that a core opens gets its own.
pub(crate) type RootNumbers = Rc<Cell<u32>>;

/// What the sites of one core share.
pub(crate) struct Shared {
    pub(crate) cache: RefCell<Cache>,
    pub(crate) hasher: Hasher,
    pub(crate) numbers: RootNumbers,
    pub(crate) directory_reader: Rc<DirectoryReader>,
    pub(crate) decoders: Rc<Decoders>,
    /// Workers of the ring that lookups may occupy.
    pub(crate) workers: Rc<Shares>,
    pub(crate) timer: Rc<CoarseTimer>,
    pub(crate) stalls: Arc<Stalls>,
    /// Of files above `inline_max` of `config`.
    pub(crate) long: LongMemory,
    pub(crate) config: CacheConfig,
}
