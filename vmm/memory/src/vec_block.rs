//! Guest RAM on the heap, for host tests and simulations.

use crate::Block;
use alloc::vec;
use alloc::vec::Vec;
use spin::Mutex;

/// A block of zeroed bytes on the heap.
#[derive(Debug)]
pub struct VecBlock(Mutex<Vec<u8>>);

impl VecBlock {
    /// A block of `size` zero bytes.
    pub fn new(size: usize) -> Self {
        Self(Mutex::new(vec![0; size]))
    }

    fn exchange<const N: usize>(&self, offset: u64, current: [u8; N], new: [u8; N]) -> bool {
        let start = usize::try_from(offset).expect("offset was checked against the size");
        let mut bytes = self.0.lock();
        let word = &mut bytes[start..start + N];
        let equal = *word == current;
        if equal {
            word.copy_from_slice(&new);
        }
        equal
    }
}

impl Block for VecBlock {
    fn size(&self) -> u64 {
        self.0.lock().len() as u64
    }

    fn copy_out(&self, offset: u64, into: &mut [u8]) {
        let bytes = self.0.lock();
        let start = usize::try_from(offset).expect("offset was checked against the size");
        into.copy_from_slice(&bytes[start..start + into.len()]);
    }

    fn aligned_u64(&self, offset: u64) -> Option<u64> {
        let bytes = self.0.lock();
        let start = usize::try_from(offset).ok().filter(|start| start.is_multiple_of(8))?;
        let word = bytes.get(start..start.checked_add(8)?)?;
        word.try_into().ok().map(u64::from_le_bytes)
    }

    fn copy_in(&self, offset: u64, from: &[u8]) {
        let mut bytes = self.0.lock();
        let start = usize::try_from(offset).expect("offset was checked against the size");
        bytes[start..start + from.len()].copy_from_slice(from);
    }

    fn swap_u8(&self, offset: u64, value: u8) -> u8 {
        let start = usize::try_from(offset).expect("offset was checked against the size");
        core::mem::replace(&mut self.0.lock()[start], value)
    }

    fn compare_exchange_u32(&self, offset: u64, current: u32, new: u32) -> bool {
        self.exchange(offset, current.to_le_bytes(), new.to_le_bytes())
    }

    fn compare_exchange_u64(&self, offset: u64, current: u64, new: u64) -> bool {
        self.exchange(offset, current.to_le_bytes(), new.to_le_bytes())
    }
}
