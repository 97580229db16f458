//! What the processor works on when it delivers a guest's interrupts itself: the virtual-APIC page, and the descriptor
//! in the vCPU's inbox into which others post.
//!
//! SDM Vol. 3C, "APIC Virtualization and Virtual Interrupts", "Posted-Interrupt Processing".

use crate::memory::frames::Order;
use crate::memory::{FrameBlock, OutOfFrames, direct_map};
use crate::{apic, interrupts, percpu};
use alloc::sync::Arc;
use arch::{Hpa, Vector};
use core::sync::atomic::{AtomicU32, Ordering};
use vmx::Inbox;

/// The page and the descriptor of one vCPU.
#[derive(Debug)]
pub(super) struct VirtualApic {
    page: FrameBlock,
    /// Kept for as long as a VMCS points into it.
    inbox: Option<Arc<Inbox>>,
}

impl VirtualApic {
    /// An empty page, and no descriptor.
    pub(super) fn new() -> Result<Self, OutOfFrames> {
        Ok(Self { page: FrameBlock::zeroed(Order::SMALL)?, inbox: None })
    }

    /// Where the page is.
    pub(super) fn page(&self) -> Hpa {
        self.page.hpa()
    }

    /// Whether there is a descriptor.
    pub(super) const fn has_descriptor(&self) -> bool {
        self.inbox.is_some()
    }

    /// Takes the descriptor of `inbox` and returns where it is.
    ///
    /// # Panics
    /// If the inbox is not on the heap.
    pub(super) fn attach(&mut self, inbox: Arc<Inbox>) -> Hpa {
        let address = core::ptr::from_ref(inbox.descriptor()).expose_provenance() as u64;
        let descriptor = direct_map::physical(address).expect("the heap is in the direct map");
        self.inbox = Some(inbox);
        descriptor
    }

    /// The vCPU moved to this core. Senders in software look for it by themselves; this is for whatever else reads the
    /// descriptor.
    pub(super) fn moved(&self) {
        /// The vector and the destination.
        const FIELDS: u64 = 0xffff_ffff_00ff_0000;
        let Some(inbox) = &self.inbox else { return };
        let id = u64::from(percpu::current().apic_id);
        let destination = if apic::is_x2apic() { id << 32 } else { id << 40 };
        let wanted = destination | u64::from(interrupts::NOTIFY) << 16;
        let replaced = |control: u64| Some(control & !FIELDS | wanted);
        // The closure takes any value, so that the update cannot fail.
        let _previous =
            inbox.descriptor().control.fetch_update(Ordering::SeqCst, Ordering::Relaxed, replaced);
    }

    fn register(&self, offset: u16) -> &AtomicU32 {
        let register = self.page.pointer().wrapping_add(usize::from(offset & 0xffc));
        // SAFETY: the block is a mapped page that lives as long as `self`, the masked offset is in it and aligned. The
        // processor changes it only while the guest runs, in which time this core runs nothing else.
        unsafe { AtomicU32::from_ptr(register.cast()) }
    }

    /// The register at `offset`.
    pub(super) fn read(&self, offset: u16) -> u32 {
        self.register(offset).load(Ordering::Relaxed)
    }

    /// The eight registers of the array that begins at `offset`, 16 bytes apart.
    #[inline]
    pub(super) fn read_array(&self, offset: u16) -> [u32; 8] {
        let at = |index: u16| self.read(offset.wrapping_add(16 * index));
        [at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)]
    }

    /// Sets the register at `offset`.
    pub(super) fn write(&self, offset: u16, value: u32) {
        self.register(offset).store(value, Ordering::Relaxed);
    }
}

/// Notifies the CPU numbered `index` that interrupts were posted for the vCPU that it runs: they are delivered without an
/// exit if that is so. Otherwise the CPU's loop gets to know that something came.
#[inline]
pub fn notify(index: u32) {
    if let Some(cpu) = percpu::cpu(index) {
        apic::send_interrupt(cpu.apic_id, Vector(interrupts::NOTIFY));
    }
}
