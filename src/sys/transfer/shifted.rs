//! Gives things on their way to other ids: those of a container with a user namespace are not the host's.

use std::io::Read;

use super::{Item, Sink};
use crate::fault::Result;
use crate::idmap::IdMap;

/// Which way things go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// Into the namespace: the ids inside become those of the host.
    Container,
    /// Out of it.
    Host,
}

/// Hands things on with other owners; without a map as they are.
pub struct Shifted<'a> {
    /// Where they are put.
    pub sink: &'a mut dyn Sink,
    /// The ids.
    pub map: Option<&'a IdMap>,
    /// Which way they go.
    pub towards: Towards,
}

impl Shifted<'_> {
    fn given(&self, mut item: Item) -> Item {
        if let Some(map) = self.map {
            let owner = (item.attributes.uid, item.attributes.gid);
            let owner = if self.towards == Towards::Container { map.shift(owner) } else { map.unshift(owner) };
            (item.attributes.uid, item.attributes.gid) = owner;
        }
        item
    }
}

impl Sink for Shifted<'_> {
    fn put(&mut self, item: Item) -> Result<()> {
        let item = self.given(item);
        self.sink.put(item)
    }

    fn put_stream(&mut self, item: Item, content: &mut dyn Read) -> Result<()> {
        let item = self.given(item);
        self.sink.put_stream(item, content)
    }

    fn finish(&mut self) -> Result<()> {
        self.sink.finish()
    }
}
