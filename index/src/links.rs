//! The links of a graph on one level: much memory, gone over here and there.

use std::ops::{Deref, DerefMut};
use std::{fmt, io};

use zerocopy::FromBytes;

use crate::container::cast;
use crate::format::NONE;
use crate::map::Pages;

/// The links of all items on a level, list after list: a slice of ordinals.
///
/// While a graph is built they lie in large pages, which are given back at once when they are dropped; made of a vector they stay in that.
#[derive(Default)]
pub struct Links(Memory);

enum Memory {
    Pages(Pages),
    Vec(Vec<u32>),
}

impl Default for Memory {
    fn default() -> Self {
        Self::Vec(Vec::new())
    }
}

impl Links {
    /// So many places without a link.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn unused(places: usize) -> io::Result<Self> {
        let mut pages = Pages::zeroed(places * size_of::<u32>())?;
        pages.as_mut().fill(NONE as u8);
        Ok(Self(Memory::Pages(pages)))
    }
}

impl From<Vec<u32>> for Links {
    fn from(links: Vec<u32>) -> Self {
        Self(Memory::Vec(links))
    }
}

impl Deref for Links {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        match &self.0 {
            Memory::Pages(pages) => cast(pages.as_ref()).unwrap_or_default(),
            Memory::Vec(links) => links,
        }
    }
}

impl DerefMut for Links {
    fn deref_mut(&mut self) -> &mut [u32] {
        match &mut self.0 {
            Memory::Pages(pages) => <[u32]>::mut_from_bytes(pages.as_mut()).unwrap_or_default(),
            Memory::Vec(links) => links,
        }
    }
}

impl Clone for Links {
    fn clone(&self) -> Self {
        self.to_vec().into()
    }
}

impl PartialEq for Links {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Links {}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("len", &self.len()).finish_non_exhaustive()
    }
}
