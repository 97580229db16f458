//! The protocol around one vCPU: sleeping and waking without lost wake-ups, being held, being looked at.
//!
//! A vCPU is *asleep* (the scheduler has it blocked and an event wakes it), *awake* (the scheduler has it, queued or in
//! a turn on a core) or *parked* (nothing but the operator brings it back). Around the gate stand three other things:
//! the vCPU's inbox, the scheduler, and the lock on the vCPU's body, which a core holds for the length of a turn.
//!
//! **No wake-up is lost.** A sender leaves something in the inbox, then calls [`Gate::wake`]. The vCPU takes what is
//! there at the beginning of each turn, after [`Gate::begin_turn`], and looks once more after [`Gate::sleep`].
//! - The sender finds it asleep: exactly one sender turns that to awake and has the scheduler queue it.
//! - The sender finds it awake and in no turn: the next turn begins after the fence in `wake`, and so sees the inbox.
//!   Should the sender have read before `begin_turn` wrote that a turn runs, the two fences order its write to the
//!   inbox before the turn's look at it.
//! - The sender finds it awake in a turn: that core is interrupted, ends the turn, and begins another.
//! - The sender finds it awake while it is on its way to sleep: the scheduler is told to block it *before* the gate
//!   says asleep, and the fence in `sleep` stands between that and the last look at the inbox. Either the sender sees
//!   asleep, or the last look sees the inbox; then the vCPU wakes itself.
//! - The sender finds it parked: whoever brings it back wakes it whatever its inbox holds.
//!
//! **A wake-up too many is harmless**: the vCPU gets a turn, finds nothing, sleeps again. So a vCPU that gets a turn
//! while the gate says asleep (a sender's call to the scheduler came late) is simply awake from then on.
//!
//! **A pick may be old.** Between a core being given the vCPU by the scheduler and its taking the body, the operator may
//! have parked the vCPU and let it go again. So at the end of a turn after which the vCPU wants another, the core has the
//! scheduler queue it again if the scheduler does not have it as running there.
//!
//! **Holding.** [`Gate::hold`] forbids turns. Whoever then takes the body's lock has the vCPU out of the guest; it
//! blocks the vCPU in the scheduler and calls [`Gate::park`]. A late wake-up may still queue it: the core that is given
//! it finds it held ([`Permit::Held`]) and does the same. [`Gate::release`] is called under the body's lock too.
//!
//! **Looking.** [`Gate::claim`] asks the core that runs the vCPU to let go of the body between two turns: a core that
//! is about to take the body waits while there are claims. A claimant holds the body for a few microseconds and waits
//! for nothing while it does.

use crate::word::Word;
use core::sync::atomic::AtomicU32;

const ASLEEP: u32 = 0;
const AWAKE: u32 = 1;
const PARKED: u32 = 2;

const FREE: u32 = 0;
const HELD: u32 = 1;

/// No core.
pub(crate) const NOBODY: u32 = u32::MAX;

/// What a waker must do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tell {
    /// Nothing: the vCPU will look by itself.
    Nobody,
    /// Have the scheduler queue the vCPU.
    Scheduler,
    /// Interrupt this core, which runs the vCPU.
    Core(u32),
}

/// Whether a turn may begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Permit {
    /// It began.
    Go,
    /// The vCPU is held: block it in the scheduler and [`Gate::park`] it.
    Held,
}

/// The gate of one vCPU.
#[derive(Debug)]
pub struct Gate<W = AtomicU32> {
    state: W,
    held: W,
    /// The core in whose turn it is.
    pub(crate) in_turn_on: W,
    claims: W,
}

impl<W: Word> Default for Gate<W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W: Word> Gate<W> {
    /// The gate of a vCPU that does not exist yet: parked and held.
    pub fn new() -> Self {
        Self { state: W::new(PARKED), held: W::new(HELD), in_turn_on: W::new(NOBODY), claims: W::new(0) }
    }

    /// The inbox holds something, or a timer is due. Any core may call it, at any time.
    #[inline]
    pub fn wake(&self) -> Tell {
        W::fence();
        loop {
            match self.state.load() {
                AWAKE => {
                    let core = self.in_turn_on.load();
                    return if core == NOBODY { Tell::Nobody } else { Tell::Core(core) };
                }
                ASLEEP if self.state.replace(ASLEEP, AWAKE) => return Tell::Scheduler,
                ASLEEP => {}
                _ => return Tell::Nobody,
            }
        }
    }

    /// A turn begins on `core`, which holds the body's lock. The inbox is looked at after this.
    #[inline]
    pub fn begin_turn(&self, core: u32) -> Permit {
        if self.held.load() == HELD {
            return Permit::Held;
        }
        self.state.store(AWAKE);
        self.in_turn_on.store(core);
        W::fence();
        Permit::Go
    }

    /// The turn is over; the body is still locked.
    #[inline]
    pub fn end_turn(&self) {
        self.in_turn_on.store(NOBODY);
    }

    /// The vCPU sleeps, and the scheduler has it blocked already. The inbox is looked at after this. The body is locked.
    #[inline]
    pub fn sleep(&self) {
        self.state.store(ASLEEP);
        W::fence();
    }

    /// No turn begins from now on; one that runs goes on until its core is interrupted.
    pub fn hold(&self) {
        self.held.store(HELD);
        W::fence();
    }

    /// Nothing wakes the vCPU from now on. It is held, the body is locked, and the scheduler has it blocked.
    pub fn park(&self) {
        self.state.store(PARKED);
    }

    /// Ends [`Self::hold`], under the body's lock. [`Self::wake`] must follow, and tells the scheduler.
    pub fn release(&self) {
        self.held.store(FREE);
        self.state.store(ASLEEP);
        W::fence();
    }

    /// The core that runs the vCPU now, a moment ago.
    pub fn in_turn_on(&self) -> Option<u32> {
        let core = self.in_turn_on.load();
        (core != NOBODY).then_some(core)
    }

    /// Whether turns are forbidden.
    pub fn is_held(&self) -> bool {
        self.held.load() == HELD
    }

    /// Somebody wants the body between two turns.
    pub fn claim(&self) {
        self.claims.add(1);
        W::fence();
    }

    /// Ends [`Self::claim`].
    pub fn unclaim(&self) {
        self.claims.add(u32::MAX);
    }

    /// Whether somebody waits for the body.
    #[inline]
    pub fn is_claimed(&self) -> bool {
        self.claims.load() != 0
    }
}
