//! The bitmaps of intercepted MSRs and ports. They are the same for all guests, and made once.

use super::operation::VmxError;
use crate::memory::FrameBlock;
use crate::memory::frames::Order;
use arch::{Hpa, PAGE_SIZE};
use memory::Block;
use spin::Once;
use vmx::{ApicMode, bitmap};

static SHARED: Once<Bitmaps> = Once::new();

/// What guests may do without an exit.
#[derive(Debug)]
pub(super) struct Bitmaps {
    /// While Craton delivers interrupts, or the guest reaches its local APIC through memory.
    software: FrameBlock,
    /// While the processor does, and the guest reaches its local APIC through MSRs.
    hardware: FrameBlock,
    ports: FrameBlock,
}

impl Bitmaps {
    /// The bitmaps; `rdtscp` gives TSC_AUX to guests, and is the same on all CPUs.
    ///
    /// # Errors
    /// [`VmxError::OutOfFrames`] the first time, when there are no frames for them.
    pub(super) fn shared(rdtscp: bool) -> Result<&'static Self, VmxError> {
        SHARED.try_call_once(|| Self::new(rdtscp))
    }

    fn new(rdtscp: bool) -> Result<Self, VmxError> {
        let msrs = |mode| {
            let mut bits = [0; bitmap::MSR_BITMAP_BYTES];
            bitmap::fill_msr_bitmap(&mut bits, rdtscp, mode);
            let block = FrameBlock::uninitialized(Order::SMALL)?;
            block.copy_in(0, &bits);
            Ok::<_, VmxError>(block)
        };
        // A set bit exits: a guest owns no port of the machine.
        let two_frames = Order::for_bytes(2 * PAGE_SIZE).expect("two frames are a block");
        let ports = FrameBlock::uninitialized(two_frames)?;
        for offset in [0, PAGE_SIZE] {
            ports.copy_in(offset, &[0xff; 4096]);
        }
        Ok(Self { software: msrs(ApicMode::Software)?, hardware: msrs(ApicMode::Virtual)?, ports })
    }

    /// The MSR bitmap for guests whose interrupts are delivered in `mode`.
    pub(super) fn msrs(&self, mode: ApicMode) -> Hpa {
        match mode {
            ApicMode::Software | ApicMode::Page => self.software.hpa(),
            ApicMode::Virtual => self.hardware.hpa(),
        }
    }

    /// The bitmap of ports 0 to 0x7fff; that of the others is in the next frame.
    pub(super) fn ports(&self) -> Hpa {
        self.ports.hpa()
    }
}
