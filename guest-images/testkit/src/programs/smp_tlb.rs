//! A page moves from one frame to the other while CPUs look at it; each is told by an interrupt, and must not see the old
//! frame after it has said that it forgot it.
//!
//! Source: SDM Vol. 3A, "Propagation of Paging-Structure Changes to Multiple Processors".

use core::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};

use super::random::Random;
use super::{Verdict, expect, expect_within};
use crate::ipi::{self, Destination, Kind};
use crate::machine::cpu::{disable_interrupts, enable_interrupts, wait_for_interrupt};
use crate::machine::percpu;
use crate::machine::trap::{FLUSH_VECTOR, on_flush};
use crate::machine::window::{self, FRAMES};
use crate::smp;

/// Moves by each CPU that moves.
const MOVES: u64 = 60;
/// Most looks in a row.
const LOOKS: u64 = 60;
/// What is in the frame that nobody may see.
const POISON: u64 = u64::MAX;

/// How often the page has moved; its frame holds this number.
static MOVED: AtomicU64 = AtomicU64::new(0);
/// The move after which each CPU last forgot the page.
static FORGOT: [AtomicU64; percpu::MAX] = [const { AtomicU64::new(0) }; percpu::MAX];
/// Who moves the page.
static MOVER: AtomicUsize = AtomicUsize::new(0);
static IS_OVER: AtomicBool = AtomicBool::new(false);

/// The handler of the interrupt that announces a move.
fn forget() {
    let moved = MOVED.load(SeqCst);
    window::forget();
    FORGOT[percpu::this().index()].store(moved, SeqCst);
}

/// The first and the last CPU move the page, one after the other; everybody else looks.
pub(super) fn smp_tlb() -> Verdict {
    window::open();
    FRAMES[0].word().store(0, SeqCst);
    on_flush(forget);
    smp::start_others()?;
    for mover in [0, smp::count() - 1] {
        MOVER.store(mover, Relaxed);
        IS_OVER.store(false, Relaxed);
        smp::all_at_once(take_part, take_part)?;
    }
    Ok(())
}

fn take_part() -> Verdict {
    if percpu::this().index() != MOVER.load(Relaxed) {
        return watch();
    }
    window::forget();
    let verdict = move_page();
    IS_OVER.store(true, SeqCst);
    ipi::send(Destination::Others, Kind::Fixed(FLUSH_VECTOR));
    verdict
}

fn move_page() -> Verdict {
    let this = percpu::this().index();
    let watchers = || (0..smp::count()).filter(move |&index| index != this);
    for _ in 0..MOVES {
        let number = MOVED.load(SeqCst) + 1;
        let [old, new] = if number % 2 == 1 { [0, 1] } else { [1, 0] };
        FRAMES[new].word().store(number, SeqCst);
        window::show(new);
        window::forget();
        MOVED.store(number, SeqCst);
        if number.is_multiple_of(3) {
            for index in watchers() {
                ipi::send(smp::only(percpu::of(index)), Kind::Fixed(FLUSH_VECTOR));
            }
        } else {
            ipi::send(Destination::Others, Kind::Fixed(FLUSH_VECTOR));
        }
        let all_forgot = || watchers().all(|index| FORGOT[index].load(SeqCst) >= number);
        smp::wait_until(all_forgot);
        expect("all answer that they forgot", u64::from(all_forgot()), 1u64)?;
        FRAMES[old].word().store(POISON, SeqCst);
    }
    Ok(())
}

/// Looks and sleeps in turns until the moving is over.
fn watch() -> Verdict {
    let this = percpu::this().index();
    let mut random = Random::new(this as u64);
    let mut verdict = Ok(());
    while !IS_OVER.load(SeqCst) {
        let forgot = FORGOT[this].load(SeqCst);
        enable_interrupts();
        for _ in 0..random.below(LOOKS) {
            let at_least = FORGOT[this].load(SeqCst);
            let seen = window::look();
            // A move can be seen before it is counted.
            let at_most = MOVED.load(SeqCst) + 1;
            verdict = verdict.and(expect_within("the move that is seen", seen, at_least, at_most));
        }
        disable_interrupts();
        // Unless another move came meanwhile, its interrupt is still to come.
        if FORGOT[this].load(SeqCst) == forgot && !IS_OVER.load(SeqCst) {
            wait_for_interrupt();
        }
    }
    verdict
}
