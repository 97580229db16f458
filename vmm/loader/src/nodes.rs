//! Into how many nodes a guest's processors and memory are divided.

use core::num::NonZeroU8;

/// A number of nodes: 1 to [`Self::MOST`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nodes(NonZeroU8);

impl Nodes {
    /// The most that a guest is told of.
    pub const MOST: u8 = 8;

    /// `count` nodes; `None` for none and for more than [`Self::MOST`].
    pub const fn new(count: u8) -> Option<Self> {
        match NonZeroU8::new(count) {
            Some(nodes) if count <= Self::MOST => Some(Self(nodes)),
            Some(_) | None => None,
        }
    }

    /// How many there are.
    pub const fn get(self) -> u8 {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::Nodes;

    #[test]
    fn there_are_one_to_eight() {
        assert_eq!(
            [0, 1, 8, 9, 255].map(|count| Nodes::new(count).map(Nodes::get)),
            [None, Some(1), Some(8), None, None]
        );
    }
}
