//! What others leave for a vCPU while it runs elsewhere or sleeps: interrupts, NMI, INIT, start-up, and where to find
//! its local APIC.
//!
//! A sender sets bits here and then has the vCPU looked at ([`Host::wake`](crate::Host::wake)); the vCPU takes them
//! before it enters its guest. The requests for edge-triggered interrupts are laid out as the processor's own
//! posted-interrupt descriptor (SDM Vol. 3C, "Posted-Interrupt Processing"), so that the hardware can take them without
//! an exit where it can; those for level-triggered ones are apart, as their EOI has to be prepared for.

use crate::lapic::Addressing;
use alloc::boxed::Box;
use arch::Vector;
use bitflags::bitflags;
use bus::TriggerMode;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

bitflags! {
    /// What waits in an inbox.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Signals: u32 {
        /// Interrupt requests were posted.
        const POSTED = 1 << 8;
        /// An NMI.
        const NMI = 1 << 9;
        /// INIT.
        const INIT = 1 << 10;
        /// A start-up IPI, whose vector is in the low byte.
        const START_UP = 1 << 11;
        /// A message with a vector below 16, which the local APIC reports as an error.
        const ILLEGAL_VECTOR = 1 << 12;
        /// The 8259 pair's output or the next device deadline changed: for the vCPU that serves the devices.
        const DEVICES = 1 << 13;
        /// A pulse on LINT1, the pin for NMIs.
        const LINT1 = 1 << 14;
        /// A message to have the 8259 pair acknowledged.
        const EXTERNAL = 1 << 15;
        /// The vector of a start-up IPI.
        const VECTOR = 0xff;
    }
}

/// The requests, as the processor reads and clears them (SDM Vol. 3C, "Format of Posted-Interrupt Descriptor").
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct PostedDescriptor {
    /// One bit a vector.
    pub requests: [AtomicU64; 4],
    /// Outstanding notification (bit 0), suppress notification (bit 1), notification vector (23:16), destination
    /// (63:32). The last three are for devices that post; vCPUs look at the first alone.
    pub control: AtomicU64,
    reserved: [u64; 3],
}

/// [`PostedDescriptor::control`]: a notification is on its way.
const OUTSTANDING: u64 = 1 << 0;

/// A descriptor with a page of its own: 64 bytes of alignment are enough for the manual, not for every emulator.
#[derive(Debug, Default)]
#[repr(C, align(4096))]
struct DescriptorPage(PostedDescriptor);

/// What a sender has to do when it has left something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tell {
    /// Nothing: somebody has told the vCPU since it last looked.
    Nobody,
    /// Have the vCPU looked at.
    Wake,
    /// Send the notification, on which the processor takes the requests without leaving its guest.
    Notify,
}

/// One vCPU's inbox.
#[derive(Debug)]
pub struct Inbox {
    descriptor: Box<DescriptorPage>,
    /// Requests for level-triggered interrupts.
    levels: [AtomicU64; 4],
    /// The processor takes edge-triggered requests by itself when it is notified.
    self_service: AtomicBool,
    signals: AtomicU32,
    address: AtomicU64,
}

/// The lowest vector that an interrupt may have.
const FIRST_LEGAL_VECTOR: u8 = 16;

impl Inbox {
    /// The inbox of a processor with this APIC ID, as after reset.
    pub fn new(id: u32) -> Self {
        Self {
            descriptor: Box::default(),
            levels: [const { AtomicU64::new(0) }; 4],
            self_service: AtomicBool::new(false),
            signals: AtomicU32::new(0),
            address: AtomicU64::new(Addressing::after_reset(id).to_word()),
        }
    }

    /// The requests, for the processor.
    pub fn descriptor(&self) -> &PostedDescriptor {
        &self.descriptor.0
    }

    /// Says whether the processor takes edge-triggered requests by itself. It may change at any time: a request that was
    /// left for the other way is found in both.
    pub(crate) fn set_self_service(&self, on: bool) {
        self.self_service.store(on, Ordering::SeqCst);
    }

    /// Whether anything waits. Cheap: asked before each turn.
    #[inline]
    pub fn has_signals(&self) -> bool {
        self.signals.load(Ordering::Acquire) != 0
            || self.descriptor.0.control.load(Ordering::Acquire) & OUTSTANDING != 0
    }

    /// How the local APIC is addressed.
    pub fn addressing(&self) -> Addressing {
        Addressing::from_word(self.address.load(Ordering::Relaxed))
    }

    /// Whether the local APIC is addressed at all: it is not disabled.
    #[inline]
    pub(crate) fn is_addressable(&self) -> bool {
        Addressing::is_enabled_in(self.address.load(Ordering::Relaxed))
    }

    /// Tells senders how the local APIC is addressed from now on.
    pub(crate) fn publish(&self, addressing: Addressing) {
        self.address.store(addressing.to_word(), Ordering::Release);
    }

    /// Requests an interrupt.
    #[inline]
    pub fn post(&self, vector: Vector, trigger: TriggerMode) -> Tell {
        if vector.0 < FIRST_LEGAL_VECTOR {
            return wake_if(self.signal(Signals::ILLEGAL_VECTOR));
        }
        let (word, bit) = (usize::from(vector.0 >> 6), 1 << (vector.0 & 63));
        match trigger {
            TriggerMode::Edge => {
                self.descriptor.0.requests[word].fetch_or(bit, Ordering::SeqCst);
                if self.self_service.load(Ordering::SeqCst) {
                    let before = self.descriptor.0.control.fetch_or(OUTSTANDING, Ordering::SeqCst);
                    return if before & OUTSTANDING == 0 { Tell::Notify } else { Tell::Nobody };
                }
            }
            TriggerMode::Level => {
                self.levels[word].fetch_or(bit, Ordering::SeqCst);
            }
        }
        wake_if(self.signal(Signals::POSTED))
    }

    /// Leaves an NMI. Returns whether the vCPU must be told.
    pub fn nmi(&self) -> bool {
        self.signal(Signals::NMI)
    }

    /// Leaves a message to have the 8259 pair acknowledged. Returns whether the vCPU must be told.
    pub(crate) fn external_interrupt(&self) -> bool {
        self.signal(Signals::EXTERNAL)
    }

    /// Leaves a pulse on LINT1. Returns whether the vCPU must be told.
    pub(crate) fn lint1(&self) -> bool {
        self.signal(Signals::LINT1)
    }

    /// Leaves an INIT, which a start-up IPI that waits does not survive. Returns whether the vCPU must be told.
    pub fn init(&self) -> bool {
        let replaced = |bits| Some(bits & !Signals::START_UP.bits() & !0xff | Signals::INIT.bits());
        let before = self.signals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, replaced);
        before == Ok(0)
    }

    /// Leaves a start-up IPI, unless one waits. Returns whether the vCPU must be told.
    pub fn start_up(&self, vector: Vector) -> bool {
        let added = |bits: u32| {
            let waits = bits & Signals::START_UP.bits() != 0;
            (!waits).then_some(bits | Signals::START_UP.bits() | u32::from(vector.0))
        };
        let before = self.signals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, added);
        before == Ok(0)
    }

    /// Tells the vCPU to look at the devices that it serves. Returns whether it must be told.
    pub(crate) fn devices(&self) -> bool {
        self.signal(Signals::DEVICES)
    }

    /// Adds a signal; whoever adds the first tells the vCPU.
    fn signal(&self, signal: Signals) -> bool {
        self.signals.fetch_or(signal.bits(), Ordering::SeqCst) == 0
    }

    /// Takes what waits, but for the requests.
    pub(crate) fn take_signals(&self) -> Signals {
        Signals::from_bits_retain(self.signals.swap(0, Ordering::SeqCst))
    }

    /// Takes the requests, lowest vector first: the edge-triggered, then the level-triggered.
    pub(crate) fn take_requests(&self, mut take: impl FnMut(Vector, TriggerMode)) {
        // First, as the processor does: whoever posts from now on notifies anew.
        self.descriptor.0.control.fetch_and(!OUTSTANDING, Ordering::SeqCst);
        empty(&self.descriptor.0.requests, |vector| take(vector, TriggerMode::Edge));
        empty(&self.levels, |vector| take(vector, TriggerMode::Level));
    }
}

const fn wake_if(first: bool) -> Tell {
    if first { Tell::Wake } else { Tell::Nobody }
}

/// Takes the vectors out of a set of requests, the lowest first.
fn empty(requests: &[AtomicU64; 4], mut take: impl FnMut(Vector)) {
    for (word, first) in requests.iter().zip([0_u8, 64, 128, 192]) {
        if word.load(Ordering::SeqCst) == 0 {
            continue;
        }
        let mut waiting = word.swap(0, Ordering::SeqCst);
        while waiting != 0 {
            #[expect(clippy::cast_possible_truncation, reason = "a bit number is below 64")]
            take(Vector(first + waiting.trailing_zeros() as u8));
            waiting &= waiting - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(inbox: &Inbox) -> Vec<(u8, TriggerMode)> {
        let mut taken = Vec::new();
        inbox.take_requests(|vector, trigger| taken.push((vector.0, trigger)));
        taken
    }

    #[test]
    fn requests_come_out_once_with_their_trigger() {
        let inbox = Inbox::new(0);
        assert_eq!(inbox.post(Vector(0xff), TriggerMode::Edge), Tell::Wake);
        assert_eq!(inbox.post(Vector(0x40), TriggerMode::Level), Tell::Nobody, "somebody told already");
        assert_eq!(inbox.take_signals(), Signals::POSTED);
        assert_eq!(requests(&inbox), [(0xff, TriggerMode::Edge), (0x40, TriggerMode::Level)]);
        assert_eq!(requests(&inbox), []);
        assert_eq!(inbox.post(Vector(0x40), TriggerMode::Edge), Tell::Wake, "to be told again");
        assert_eq!(requests(&inbox), [(0x40, TriggerMode::Edge)]);
    }

    #[test]
    fn a_processor_that_serves_itself_is_notified_once_until_it_has_looked() {
        let inbox = Inbox::new(0);
        inbox.set_self_service(true);
        assert_eq!(inbox.post(Vector(0x31), TriggerMode::Edge), Tell::Notify);
        assert_eq!(inbox.post(Vector(0x32), TriggerMode::Edge), Tell::Nobody);
        assert!(inbox.has_signals(), "also for software that looks");
        // What the processor does (SDM Vol. 3C, "Posted-Interrupt Processing").
        inbox.descriptor().control.fetch_and(!1, Ordering::SeqCst);
        let taken = inbox.descriptor().requests[0].swap(0, Ordering::SeqCst);
        assert_eq!(taken, 1 << 0x31 | 1 << 0x32);
        assert!(!inbox.has_signals());
        assert_eq!(inbox.post(Vector(0x31), TriggerMode::Edge), Tell::Notify);
        assert_eq!(requests(&inbox), [(0x31, TriggerMode::Edge)]);
        assert!(!inbox.has_signals());
    }

    #[test]
    fn a_level_triggered_request_is_not_for_the_processor() {
        let inbox = Inbox::new(0);
        inbox.set_self_service(true);
        assert_eq!(inbox.post(Vector(0x31), TriggerMode::Level), Tell::Wake);
        assert!(inbox.descriptor().requests.iter().all(|word| word.load(Ordering::SeqCst) == 0));
        assert_eq!(inbox.take_signals(), Signals::POSTED);
        assert_eq!(requests(&inbox), [(0x31, TriggerMode::Level)]);
    }

    #[test]
    fn init_ends_a_start_up_that_waits_and_the_first_start_up_counts() {
        let inbox = Inbox::new(0);
        inbox.start_up(Vector(0x12));
        inbox.init();
        assert_eq!(inbox.take_signals(), Signals::INIT);
        inbox.init();
        inbox.start_up(Vector(0x34));
        inbox.start_up(Vector(0x56));
        let signals = inbox.take_signals();
        assert!(signals.contains(Signals::INIT | Signals::START_UP));
        assert_eq!(signals.bits() & 0xff, 0x34);
    }

    #[test]
    fn illegal_vectors_are_no_requests() {
        let inbox = Inbox::new(0);
        inbox.post(Vector(15), TriggerMode::Edge);
        assert_eq!(inbox.take_signals(), Signals::ILLEGAL_VECTOR);
        assert_eq!(requests(&inbox), []);
    }

    #[test]
    fn descriptor_has_the_layout_of_the_manual() {
        assert_eq!((size_of::<PostedDescriptor>(), align_of::<PostedDescriptor>()), (64, 64));
        assert_eq!(core::mem::offset_of!(PostedDescriptor, control), 32);
        assert_eq!(core::ptr::from_ref(Inbox::new(0).descriptor()).addr() % 4096, 0);
    }
}
