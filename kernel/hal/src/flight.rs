//! The flight recorder: the last events of the machine, kept without locks so that any code may record, an NMI
//! handler included, and the panic path can show what led to it. Each CPU has a recorder of its own, so that recording
//! costs nothing shared.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arch::Tsc;

use crate::percpu::MAX_CPUS;
use crate::{cpu, percpu};

/// How many events are kept of each CPU.
pub const CAPACITY: usize = 128;

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
    /// The number of the CPU that recorded it; 0 before CPUs had numbers.
    pub cpu: u32,
    /// The tag's name.
    pub tag: &'static str,
    /// First word, explained by the [`Tag`].
    pub a: u64,
    /// Second word, explained by the [`Tag`].
    pub b: u64,
}

#[derive(Debug)]
struct Slot {
    at: AtomicU64,
    tag: AtomicU64,
    a: AtomicU64,
    b: AtomicU64,
}

/// The last events of one CPU.
#[derive(Debug)]
pub(crate) struct Ring {
    slots: [Slot; CAPACITY],
    /// Events ever recorded.
    next: AtomicUsize,
}

/// What happened before the CPU that booted had data of its own.
static EARLY: Ring = Ring::new();

impl Ring {
    /// Nothing happened yet.
    pub(crate) const fn new() -> Self {
        Self {
            slots: [const {
                Slot {
                    at: AtomicU64::new(0),
                    tag: AtomicU64::new(0),
                    a: AtomicU64::new(0),
                    b: AtomicU64::new(0),
                }
            }; CAPACITY],
            next: AtomicUsize::new(0),
        }
    }

    fn record(&self, at: Tsc, tag: Tag, a: u64, b: u64) {
        // Atomic although the ring is one CPU's: an NMI may record while something else is being recorded.
        let slot = &self.slots[self.next.fetch_add(1, Ordering::Relaxed) % CAPACITY];
        slot.tag.store(0, Ordering::Relaxed);
        slot.at.store(at.0, Ordering::Release);
        slot.a.store(a, Ordering::Relaxed);
        slot.b.store(b, Ordering::Relaxed);
        slot.tag.store(tag as u64, Ordering::Release);
    }

    /// How many events were ever recorded, and the number of the oldest that is kept.
    fn kept(&self) -> core::ops::Range<usize> {
        let next = self.next.load(Ordering::Relaxed);
        next.saturating_sub(CAPACITY)..next
    }

    /// The event with the number `index`; `None` while it is written.
    fn event(&self, cpu: u32, index: usize) -> Option<Event> {
        let slot = &self.slots[index % CAPACITY];
        let tag = slot.tag.load(Ordering::Acquire);
        (tag != 0).then(|| Event {
            at: Tsc(slot.at.load(Ordering::Relaxed)),
            cpu,
            tag: Tag::name(tag),
            a: slot.a.load(Ordering::Relaxed),
            b: slot.b.load(Ordering::Relaxed),
        })
    }
}

/// Records an event of this CPU.
pub fn record(tag: Tag, a: u64, b: u64) {
    let ring = percpu::try_current().map_or(&EARLY, |cpu| &cpu.flight);
    ring.record(cpu::rdtsc(), tag, a, b);
}

/// The recorded events of all CPUs, oldest first. An event that is written meanwhile may be missing. Needs no memory.
pub fn events() -> impl Iterator<Item = Event> {
    merged(|index| match index.checked_sub(1) {
        None => Some((0, &EARLY)),
        Some(index) => {
            let cpu = percpu::cpu(u32::try_from(index).ok()?)?;
            Some((cpu.index, &cpu.flight))
        }
    })
}

/// The events of the rings that `ring` gives for 0, 1 and so on until it gives none, by time.
fn merged<'a>(ring: impl Fn(usize) -> Option<(u32, &'a Ring)>) -> impl Iterator<Item = Event> {
    /// A ring for each CPU, and the early one.
    const RINGS: usize = MAX_CPUS + 1;
    // The number of the next event of each ring, and where its events end.
    let mut heads = [const { 0..0 }; RINGS];
    for (index, head) in heads.iter_mut().enumerate() {
        let Some((_, ring)) = ring(index) else { break };
        *head = ring.kept();
    }
    core::iter::from_fn(move || {
        let mut oldest: Option<(usize, Event)> = None;
        for (index, head) in heads.iter_mut().enumerate() {
            let Some((cpu, ring)) = ring(index) else { break };
            // What is being written is passed over.
            let event = loop {
                if head.start >= head.end {
                    break None;
                }
                match ring.event(cpu, head.start) {
                    None => head.start += 1,
                    found => break found,
                }
            };
            if let Some(event) = event
                && oldest.is_none_or(|(_, other)| event.at < other.at)
            {
                oldest = Some((index, event));
            }
        }
        let (index, event) = oldest?;
        heads[index].start += 1;
        Some(event)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn times(rings: &[Ring]) -> Vec<(u64, u32)> {
        let ring = |index: usize| rings.get(index).map(|ring| (u32::try_from(index).expect("few"), ring));
        merged(ring).map(|event| (event.at.0, event.cpu)).collect()
    }

    #[test]
    fn events_of_several_cpus_come_by_time() {
        let rings = [const { Ring::new() }; 3];
        for (ring, at) in [(0, 1), (0, 5), (2, 2), (0, 6), (2, 9)] {
            rings[ring].record(Tsc(at), Tag::Boot, 0, 0);
        }
        assert_eq!(times(&rings), [(1, 0), (2, 2), (5, 0), (6, 0), (9, 2)]);
    }

    #[test]
    fn the_oldest_events_make_room() {
        let rings = [Ring::new()];
        for at in 0..CAPACITY as u64 + 3 {
            rings[0].record(Tsc(at), Tag::Exit, at, 0);
        }
        let kept = times(&rings);
        assert_eq!((kept.len(), kept[0]), (CAPACITY, (3, 0)));
    }

    #[test]
    fn nothing_recorded_is_nothing_shown() {
        assert_eq!(times(&[]), []);
        assert_eq!(times(&[Ring::new()]), []);
    }
}
