//! The flight recorder: the last events of the machine, kept without locks so that any code may record, an NMI
//! handler included, and the panic path can show what led to it.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arch::Tsc;

use crate::cpu;

/// How many events are kept.
pub const CAPACITY: usize = 256;

/// What happened. The two words of an event are explained by its tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Tag {
    /// A stage of the boot began: number of the stage, unused.
    Boot = 1,
    /// A device interrupt: vector, CPU index.
    Interrupt = 2,
    /// A non-maskable interrupt: RIP, CPU index.
    Nmi = 3,
    /// An exception in the hypervisor itself: vector, RIP.
    Exception = 4,
    /// A guest was entered for the first time: VM number, guest RIP.
    FirstEntry = 5,
    /// An exit that stopped or changed a VM: exit reason, guest RIP.
    Exit = 6,
    /// A VM changed its state: VM number, state number.
    VmState = 7,
    /// Frames were handed out: order, physical address.
    FramesTaken = 8,
    /// A VM entry failed: VM-instruction error, guest RIP.
    EntryFailed = 9,
}

impl Tag {
    const fn name(raw: u64) -> &'static str {
        match raw {
            1 => "boot",
            2 => "interrupt",
            3 => "nmi",
            4 => "exception",
            5 => "first-entry",
            6 => "exit",
            7 => "vm-state",
            8 => "frames",
            9 => "entry-failed",
            _ => "?",
        }
    }
}

/// One recorded event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// When it was recorded.
    pub at: Tsc,
    /// The tag's name.
    pub tag: &'static str,
    /// First word, explained by the [`Tag`].
    pub a: u64,
    /// Second word, explained by the [`Tag`].
    pub b: u64,
}

struct Slot {
    at: AtomicU64,
    tag: AtomicU64,
    a: AtomicU64,
    b: AtomicU64,
}

static SLOTS: [Slot; CAPACITY] = [const {
    Slot { at: AtomicU64::new(0), tag: AtomicU64::new(0), a: AtomicU64::new(0), b: AtomicU64::new(0) }
}; CAPACITY];
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Records an event.
pub fn record(tag: Tag, a: u64, b: u64) {
    let slot = &SLOTS[NEXT.fetch_add(1, Ordering::Relaxed) % CAPACITY];
    slot.tag.store(0, Ordering::Relaxed);
    slot.at.store(cpu::rdtsc().0, Ordering::Relaxed);
    slot.a.store(a, Ordering::Relaxed);
    slot.b.store(b, Ordering::Relaxed);
    slot.tag.store(tag as u64, Ordering::Release);
}

/// The recorded events, oldest first. An event that is written meanwhile may be missing.
pub fn events() -> impl Iterator<Item = Event> {
    let next = NEXT.load(Ordering::Relaxed);
    (next.saturating_sub(CAPACITY)..next).filter_map(|index| {
        let slot = &SLOTS[index % CAPACITY];
        let tag = slot.tag.load(Ordering::Acquire);
        (tag != 0).then(|| Event {
            at: Tsc(slot.at.load(Ordering::Relaxed)),
            tag: Tag::name(tag),
            a: slot.a.load(Ordering::Relaxed),
            b: slot.b.load(Ordering::Relaxed),
        })
    })
}
