//! One place for a vCPU: its body, which one core holds at a time, and the gate through which it sleeps and wakes.
//!
//! Slots are made once, one for each number that the scheduler knows, and live for ever; a virtual machine that starts
//! puts its vCPUs into free ones. So a wake-up that comes late never meets freed memory: it meets a slot that is empty
//! or somebody else's, and is a wake-up too many there, which is harmless (see [`turns::Gate`]).
//!
//! **Order of locks**: a slot's body, then the devices of its virtual machine, then the scheduler's. Nobody holds two
//! bodies at once, except that a core which takes up a vCPU puts down the one that it had loaded (whose body nobody
//! holds for longer than a look, as its VMCS is on this core).
//!
//! **Nobody waits for ever.** Three things are waited for: a body (held for a turn, or for a look), a VMCS that is
//! loaded on another core, and a TLB shootdown.
//! - A core that waits holds no lock, and all the while does what others may wait for: it gives up the VMCS that is
//!   loaded on it when asked, and takes part in shootdowns.
//! - A turn ends a moment after its core is interrupted, whatever the guest does, and whoever waits for a body has
//!   interrupted that core. Between turns a core leaves a claimed body alone.
//! - Who holds a body outside a turn (to read counters, to park the vCPU) waits for nothing but the scheduler's locks,
//!   which are held for some hundred instructions.
//!
//! So of any two that wait for each other, each gives the other what it waits for.

use super::machine::{HostVcpu, HostVm};
use crate::cores::Shared;
use alloc::boxed::Box;
use alloc::sync::Arc;
use bus::PipeEnd;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use sched::CoreId;
use spin::{Mutex, MutexGuard};
use turns::Gate;
use vmm::Leave;

/// What the vCPUs of a virtual machine and the operator share beside the machine itself.
#[derive(Debug)]
pub(crate) struct Outside {
    /// The operator's end of the serial port. Only the operator sends and receives.
    pub(crate) console: PipeEnd,
    /// Its vCPUs have cores of their own, which must not be disturbed.
    pub(crate) exclusive: AtomicBool,
}

/// Which start of which virtual machine: never the same twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct VmKey(pub(crate) u64);

/// A vCPU and what it runs in.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) vcpu: HostVcpu,
    pub(crate) vm: Arc<HostVm>,
    pub(crate) outside: Arc<Outside>,
    pub(crate) key: VmKey,
    /// How its last turn ended.
    pub(crate) last_leave: Leave,
    /// Ticks of exit handling that its cores have been charged with.
    pub(crate) charged_ticks: u64,
}

/// No core.
const NOWHERE: u32 = u32::MAX;

/// A place for a vCPU.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Slot {
    /// Sleeping, waking, holding.
    pub(crate) gate: Gate,
    /// The core on which the VMCS is loaded. Written by that core alone, under the body's lock.
    loaded_on: AtomicU32,
    /// The core of the last turn.
    ran_on: AtomicU32,
    /// How often it went to sleep, to tell alarms of an earlier sleep.
    sleeps: AtomicU32,
    body: Mutex<Option<Box<Body>>>,
}

/// A body that is locked.
pub(crate) type BodyGuard = MutexGuard<'static, Option<Box<Body>>>;

impl Slot {
    /// An empty slot.
    pub(crate) fn new() -> Self {
        Self {
            gate: Gate::new(),
            loaded_on: AtomicU32::new(NOWHERE),
            ran_on: AtomicU32::new(NOWHERE),
            sleeps: AtomicU32::new(0),
            body: Mutex::new(None),
        }
    }

    /// The core on which the VMCS is loaded.
    #[inline]
    pub(crate) fn loaded_on(&self) -> Option<CoreId> {
        let core = self.loaded_on.load(Ordering::Acquire);
        (core != NOWHERE).then_some(CoreId(core))
    }

    /// Says where the VMCS is loaded. The caller is that core and holds the body.
    pub(crate) fn set_loaded_on(&self, core: Option<CoreId>) {
        self.loaded_on.store(core.map_or(NOWHERE, |core| core.0), Ordering::Release);
        if let Some(core) = core {
            self.ran_on.store(core.0, Ordering::Relaxed);
        }
    }

    /// The core that had the last turn.
    pub(crate) fn ran_on(&self) -> Option<CoreId> {
        let core = self.ran_on.load(Ordering::Relaxed);
        (core != NOWHERE).then_some(CoreId(core))
    }

    /// Numbers the sleep that begins. The caller holds the body.
    #[inline]
    pub(crate) fn next_sleep(&self) -> u32 {
        let number = self.sleeps.load(Ordering::Relaxed).wrapping_add(1);
        self.sleeps.store(number, Ordering::Relaxed);
        number
    }

    /// The number of the last sleep.
    #[inline]
    pub(crate) fn sleep_number(&self) -> u32 {
        self.sleeps.load(Ordering::Relaxed)
    }

    /// The body, if nobody holds it.
    #[inline]
    pub(crate) fn try_body(&'static self) -> Option<BodyGuard> {
        self.body.try_lock()
    }

    /// The body, of a vCPU whose VMCS is loaded on this core: nobody holds it for long.
    pub(crate) fn own_body(&'static self) -> BodyGuard {
        self.body.lock()
    }

    /// Has the vCPU leave its guest, and calls `look` with it while no core runs it; nothing when the slot is empty.
    /// `look` must not wait for another core. For the operator.
    pub(crate) fn look<R>(&'static self, shared: &Shared, look: impl FnOnce(&mut Body) -> R) -> Option<R> {
        self.gate.claim();
        let mut told = None;
        let mut body = loop {
            if let Some(body) = self.body.try_lock() {
                break body;
            }
            let core = self.gate.in_turn_on();
            if core != told {
                told = core;
                if let Some(core) = core {
                    shared.interrupt(CoreId(core));
                }
            }
            hal::shootdown::serve();
            core::hint::spin_loop();
        };
        let result = body.as_deref_mut().map(look);
        drop(body);
        self.gate.unclaim();
        result
    }

    /// Puts `body` into the empty slot, held, or takes the one that is there, held and loaded nowhere, out of it.
    pub(crate) fn exchange(&'static self, body: Option<Box<Body>>) -> Option<Box<Body>> {
        if body.is_some() {
            self.ran_on.store(NOWHERE, Ordering::Relaxed);
        }
        core::mem::replace(&mut *self.body.lock(), body)
    }
}
