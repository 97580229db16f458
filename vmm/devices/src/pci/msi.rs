//! Message-signalled interrupts from configuration space, with 64-bit addresses and masking of each vector.
//! PCI Local Bus Specification 3.0, "Message Signaled Interrupts".
//!
//! A message that cannot go waits in the pending bits, not only while its vector is masked but also while the function
//! may not write to memory. One whose address is not the local APICs' is lost, as nothing else takes it for one.

use super::config_space::ConfigSpace;
use super::spec::{BUS_MASTER, CAPABILITY_MSI, COMMAND};
use crate::lanes::low_half;
use bus::InterruptMessage;

const ENABLE: u32 = 1 << 16;
/// Log2 of how many vectors the function asks for, in the control register.
const CAPABLE_SHIFT: u32 = 17;
/// Log2 of how many software gives it.
const ENABLED_SHIFT: u32 = 20;
const ENABLED_MASK: u32 = 7 << ENABLED_SHIFT;
const WIDE: u32 = 1 << 23;
const MASKABLE: u32 = 1 << 24;

/// Offsets in the capability.
const ADDRESS_LOW: u16 = 4;
const ADDRESS_HIGH: u16 = 8;
const DATA: u16 = 12;
const MASK: u16 = 16;
const PENDING: u16 = 20;

/// Everything about the capability that a snapshot needs beside configuration space.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MsiState {
    pending: u32,
}

/// The capability of one function.
#[derive(Debug)]
pub(crate) struct Msi {
    offset: u16,
    /// Log2 of the vectors.
    order: u32,
    state: MsiState,
}

impl Msi {
    /// Adds the capability to `space`, with 2^`order` vectors; `order` is at most 5.
    pub(crate) fn define(space: &mut ConfigSpace, order: u32) -> Self {
        let order = order.min(5);
        let vectors = vector_mask(order);
        let control = order << CAPABLE_SHIFT | WIDE | MASKABLE;
        let offset = space.add_capability(
            CAPABILITY_MSI,
            &[(control, ENABLE | ENABLED_MASK), (0, !3), (0, u32::MAX), (0, 0xffff), (0, vectors), (0, 0)],
        );
        Self { offset, order, state: MsiState { pending: 0 } }
    }

    pub(crate) fn is_enabled(&self, space: &ConfigSpace) -> bool {
        space.get(self.offset) & ENABLE != 0
    }

    /// What the register at `offset` reads, if it is not what configuration space keeps.
    pub(crate) fn read(&self, offset: u16) -> Option<u32> {
        (offset == self.offset + PENDING).then_some(self.state.pending)
    }

    /// To be called when configuration space was written: disabled, nothing stays pending.
    pub(crate) fn written(&mut self, space: &ConfigSpace) {
        if !self.is_enabled(space) {
            self.state.pending = 0;
        }
    }

    /// The function sends its message number `index`. If it was given fewer vectors than it has messages, they share.
    pub(crate) fn send(&mut self, space: &ConfigSpace, index: u16) {
        if self.is_enabled(space) {
            let enabled = ((space.get(self.offset) & ENABLED_MASK) >> ENABLED_SHIFT).min(self.order);
            self.state.pending |= 1 << (u32::from(index) & ((1 << enabled) - 1));
        }
    }

    /// The pending vectors that can go.
    pub(crate) fn ready(&self, space: &ConfigSpace) -> u32 {
        if self.state.pending == 0 || !self.is_enabled(space) || space.get(COMMAND) & BUS_MASTER == 0 {
            return 0;
        }
        self.state.pending & !space.get(self.offset + MASK)
    }

    /// Takes a message that can go, of the lowest vector first.
    pub(crate) fn take(&mut self, space: &ConfigSpace) -> Option<InterruptMessage> {
        loop {
            let ready = self.ready(space);
            if ready == 0 {
                return None;
            }
            let vector = ready.trailing_zeros();
            self.state.pending &= !(1 << vector);
            let address = u64::from(space.get(self.offset + ADDRESS_LOW))
                | u64::from(space.get(self.offset + ADDRESS_HIGH)) << 32;
            // The function replaces the low bits of the data that number its vectors.
            let enabled = ((space.get(self.offset) & ENABLED_MASK) >> ENABLED_SHIFT).min(self.order);
            let low = (1_u32 << enabled) - 1;
            let data = u32::from(low_half(space.get(self.offset + DATA))) & !low | vector & low;
            let message = InterruptMessage::from_msi(address, data);
            if message.is_some() {
                return message;
            }
        }
    }

    pub(crate) fn reset(&mut self) {
        self.state.pending = 0;
    }

    pub(crate) fn save(&self) -> MsiState {
        self.state.clone()
    }

    pub(crate) fn restore(&mut self, state: &MsiState) {
        self.state.pending = state.pending & vector_mask(self.order);
    }
}

/// A bit for each of 2^`order` vectors; `order` is at most 5.
const fn vector_mask(order: u32) -> u32 {
    u32::MAX >> (32 - (1 << order))
}
