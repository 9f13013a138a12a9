//! `[fleet]`: other nodes with the same sites.

use std::path::{Path, PathBuf};

use serde::ser::{Serialize, SerializeMap, Serializer};

/// `[fleet]`: a node asks the owner of an object before the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// The nodes, `HOST:PORT`; at least one, none twice. A host name stands for all of its
    /// addresses. This node may be among them.
    pub peers: Vec<String>,
    /// `HOST:PORT` on which they ask this node, as in `listen.address`; not a Unix socket.
    pub listen: String,
    /// `HOST:PORT` by which they know this node; `None`: the address of this host among those of
    /// `peers`.
    pub self_address: Option<String>,
    /// The file with the secret of all nodes; `None`: peers are not asked for one.
    pub token: Option<PathBuf>,
}

impl Serialize for Fleet {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let self_address = self.self_address.as_deref().unwrap_or_default();
        let token = self.token.as_deref().unwrap_or(Path::new(""));
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("peers", &self.peers)?;
        map.serialize_entry("listen", &self.listen)?;
        map.serialize_entry("self", self_address)?;
        map.serialize_entry("token", &token.to_string_lossy())?;
        map.end()
    }
}

/// Writes a fleet; `None` has no peers.
#[expect(
    clippy::ref_option,
    reason = "serde calls it with a reference to the field"
)]
pub(crate) fn fleet_or_none<S: Serializer>(
    fleet: &Option<Fleet>,
    to: S,
) -> Result<S::Ok, S::Error> {
    let none = Fleet {
        peers: Vec::new(),
        listen: String::new(),
        self_address: None,
        token: None,
    };
    fleet.as_ref().unwrap_or(&none).serialize(to)
}
