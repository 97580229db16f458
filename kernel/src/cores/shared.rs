//! What all cores share: the scheduler, the slots of the vCPUs, and each core's post.

use super::post::Post;
use crate::vm::{Slot, VmKey};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use arch::Tsc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use sched::{CoreId, EntityId, MAX_ENTITIES, Params, Scheduler};
use spin::{Mutex, Once};
use turns::Tell;
use vmm::StopReason;

/// The core that looks after the operator: terminal, log, lifecycle.
pub(crate) const OPERATOR_CORE: CoreId = CoreId(0);

/// The most vCPUs that all virtual machines together may have while they run.
pub(crate) const MAX_VCPUS: usize = 1024;
const _: () = assert!(MAX_VCPUS <= MAX_ENTITIES);

/// A vCPU ended, and with it its virtual machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopped {
    /// Which start of which machine.
    pub(crate) key: VmKey,
    /// Which of its vCPUs.
    pub(crate) vcpu: usize,
    /// Why.
    pub(crate) reason: StopReason,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) scheduler: Scheduler,
    slots: Box<[Slot]>,
    posts: Box<[Post]>,
    /// At most one entry a vCPU, as one that stopped gets no further turn: room for all is taken at the beginning.
    stopped: Mutex<VecDeque<Stopped>>,
    /// There is something for the operator's core to look at.
    operator_wanted: AtomicBool,
    parkings: AtomicU32,
}

static SHARED: Once<Shared> = Once::new();

/// What the cores share, for `cores` of them, none of which is there yet.
pub(crate) fn init(cores: u32, params: Params) -> &'static Shared {
    SHARED.call_once(|| Shared {
        scheduler: Scheduler::new(cores, params),
        slots: (0..MAX_VCPUS).map(|_| Slot::new()).collect(),
        posts: (0..cores).map(|_| Post::new()).collect(),
        stopped: Mutex::new(VecDeque::with_capacity(MAX_VCPUS)),
        operator_wanted: AtomicBool::new(false),
        parkings: AtomicU32::new(0),
    })
}

/// What the cores share, once the first is up.
pub(crate) fn get() -> Option<&'static Shared> {
    SHARED.get()
}

/// Has the operator's core look around; does nothing before the cores are up.
pub(crate) fn call_operator() {
    if let Some(shared) = SHARED.get() {
        shared.call_operator();
    }
}

fn place(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Shared {
    /// The slot of `id`.
    #[inline]
    pub(crate) fn slot(&'static self, id: EntityId) -> &'static Slot {
        &self.slots[place(id.0)]
    }

    /// The post of `core`.
    #[inline]
    pub(crate) fn post(&self, core: CoreId) -> &Post {
        &self.posts[place(core.0)]
    }

    /// The posts of all cores, by number.
    pub(crate) fn posts(&self) -> impl Iterator<Item = (CoreId, &Post)> {
        (0..).map(CoreId).zip(&self.posts)
    }

    /// How many cores the machine has, those that are left out included.
    pub(crate) fn cores(&self) -> u32 {
        u32::try_from(self.posts.len()).unwrap_or(u32::MAX)
    }

    /// There is something for the vCPU `id`: it is given a core, or the core that runs it is interrupted. Never waits.
    #[inline]
    pub(crate) fn wake(&self, id: EntityId) {
        match self.slots[place(id.0)].gate.wake() {
            Tell::Nobody => {}
            Tell::Core(core) => self.interrupt(CoreId(core)),
            Tell::Scheduler => self.queue(id),
        }
    }

    /// There is something for the vCPU `id`, as `here`, which is about to ask the scheduler, found at `now`.
    #[inline]
    pub(super) fn wake_here(&self, here: CoreId, id: EntityId, now: Tsc) {
        match self.slots[place(id.0)].gate.wake() {
            Tell::Nobody => {}
            Tell::Core(core) => self.interrupt(CoreId(core)),
            Tell::Scheduler => {
                if let Some(core) = self.scheduler.wake_here(here, id, now) {
                    self.interrupt(core);
                }
            }
        }
    }

    /// Interrupts were posted for the vCPU `id`, which takes them without leaving its guest when it is notified.
    #[inline]
    pub(crate) fn notify(&self, id: EntityId) {
        match self.slots[place(id.0)].gate.wake() {
            Tell::Nobody => {}
            Tell::Core(core) => hal::vmx::notify(core),
            Tell::Scheduler => self.queue(id),
        }
    }

    /// Has the scheduler queue `id`, unless it has it queued.
    pub(super) fn queue(&self, id: EntityId) {
        if let Some(core) = self.scheduler.wake(id, hal::time::now()) {
            self.interrupt(core);
        }
        self.tell_cores();
    }

    /// Interrupts the cores that the scheduler wants to ask again.
    #[inline]
    pub(crate) fn tell_cores(&self) {
        while let Some(core) = self.scheduler.take_kick() {
            self.interrupt(core);
        }
    }

    /// How often vCPUs were parked.
    #[inline]
    pub(super) fn parkings(&self) -> u32 {
        self.parkings.load(Ordering::Relaxed)
    }

    /// A vCPU is parked. Called under the lock of its body.
    pub(super) fn count_parking(&self) {
        self.parkings.fetch_add(1, Ordering::Relaxed);
    }

    /// Has `core` leave the guest or the sleep that it is in.
    pub(crate) fn interrupt(&self, core: CoreId) {
        let post = self.post(core);
        if core.0 == hal::percpu::current().index && post.turn().is_none() {
            post.look_again();
            return;
        }
        post.count_kick();
        hal::smp::kick(core.0);
    }

    /// Asks `core` to give up the VMCS that is loaded there.
    pub(super) fn ask_release(&self, core: CoreId) {
        if self.post(core).ask_release() {
            self.interrupt(core);
        }
    }

    /// Has the operator's core look around when it comes to it: at once if it sleeps, else at the end of the turn there.
    #[inline]
    pub(crate) fn call_operator(&self) {
        if self.operator_wanted.load(Ordering::Relaxed) {
            return;
        }
        self.operator_wanted.store(true, Ordering::Release);
        // The operator's core says that it is idle before it looks here for the last time.
        fence(Ordering::SeqCst);
        if self.post(OPERATOR_CORE).is_idle() {
            self.interrupt(OPERATOR_CORE);
        }
    }

    /// Whether the operator's core was called since the last [`Self::answer_operator`].
    #[inline]
    pub(crate) fn is_operator_called(&self) -> bool {
        self.operator_wanted.load(Ordering::Relaxed)
    }

    /// The operator's core looks around now.
    #[inline]
    pub(crate) fn answer_operator(&self) -> bool {
        self.operator_wanted.load(Ordering::Relaxed) && self.operator_wanted.swap(false, Ordering::AcqRel)
    }

    /// Reports the end of a vCPU to the operator, at once.
    pub(super) fn report(&self, stopped: Stopped) {
        self.stopped.lock().push_back(stopped);
        self.operator_wanted.store(true, Ordering::Release);
        self.interrupt(OPERATOR_CORE);
    }

    /// The next vCPU that ended.
    pub(crate) fn take_stopped(&self) -> Option<Stopped> {
        self.stopped.lock().pop_front()
    }
}
