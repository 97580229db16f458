//! A CPU that was started, from its own stack to its work.
//!
//! Until the boot CPU lets it go, a CPU takes no lock and no memory: should it get stuck, nothing else does.

use core::sync::atomic::{AtomicU64, Ordering};

use arch::Tsc;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};

use crate::memory::tables;
use crate::mtrr::Mtrrs;
use crate::percpu::{self, PerCpu};
use crate::{apic, boot, cpu, time};

/// How long the boot CPU waits for an answer, in microseconds.
const ANSWER_US: u64 = 1_000_000;

/// Registers as the boot CPU has them.
#[derive(Debug)]
pub(super) struct Registers {
    pub(super) cr0: u64,
    pub(super) cr4: u64,
    pub(super) mtrrs: Option<Mtrrs>,
}

/// What the boot CPU can tell a CPU that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Command {
    /// Go to work.
    Go,
    /// Halt for good.
    Halt,
}

/// The last order, a word that the boot CPU writes: one of these, or a question, whose number is larger.
const NOTHING: u64 = 0;
const GO: u64 = 1;
const HALT: u64 = 2;
/// Added to the number of a question about the time.
const QUESTION: u64 = 1 << 32;
/// Added to the number of a correction.
const CORRECTION: u64 = 1 << 33;

/// What the boot CPU and a CPU that comes up have in common. Each word has one writer.
#[derive(Debug)]
pub(super) struct Handshake {
    cpu: &'static PerCpu,
    entry: fn(u32) -> !,
    registers: Registers,
    /// Written by the boot CPU.
    order: AtomicU64,
    /// By how much to change the counter; written by the boot CPU.
    correction: AtomicU64,
    /// The number of orders that were carried out, the first being to come up. Written by the other CPU.
    carried_out: AtomicU64,
    /// The time when it was asked for. Written by the other CPU.
    time: AtomicU64,
}

impl Handshake {
    pub(super) const fn new(cpu: &'static PerCpu, entry: fn(u32) -> !, registers: Registers) -> Self {
        Self {
            cpu,
            entry,
            registers,
            order: AtomicU64::new(NOTHING),
            correction: AtomicU64::new(0),
            carried_out: AtomicU64::new(0),
            time: AtomicU64::new(0),
        }
    }

    /// Whether the CPU is ready for orders.
    pub(super) fn is_ready(&self) -> bool {
        self.carried_out.load(Ordering::Acquire) > 0
    }

    /// Gives the last order: the CPU does not look at this again.
    pub(super) fn order(&self, command: Command) {
        let word = match command {
            Command::Go => GO,
            Command::Halt => HALT,
        };
        self.order.store(word, Ordering::Release);
    }

    /// The CPU's time-stamp counter now; `None` when it does not answer.
    pub(super) fn ask_time(&self) -> Option<Tsc> {
        self.have_done(QUESTION).then(|| Tsc(self.time.load(Ordering::Relaxed)))
    }

    /// Has the CPU put its counter back by `ticks`.
    pub(super) fn correct(&self, ticks: i64) {
        self.correction.store(ticks.cast_unsigned(), Ordering::Relaxed);
        self.have_done(CORRECTION);
    }

    /// Gives the order `kind` and waits until it was carried out.
    fn have_done(&self, kind: u64) -> bool {
        let before = self.carried_out.load(Ordering::Relaxed);
        let end = time::now() + time::ticks(ANSWER_US);
        self.order.store(kind + before, Ordering::Release);
        while self.carried_out.load(Ordering::Acquire) == before {
            if time::now() >= end {
                return false;
            }
            core::hint::spin_loop();
        }
        true
    }

    /// Carries orders out until the last.
    fn serve(&self) -> Command {
        let mut done: u64 = 1;
        self.carried_out.store(done, Ordering::Release);
        loop {
            match self.order.load(Ordering::Acquire) {
                GO => return Command::Go,
                HALT => return Command::Halt,
                order if order == QUESTION + done => self.time.store(cpu::rdtsc().0, Ordering::Relaxed),
                order if order == CORRECTION + done => {
                    time::put_back(self.correction.load(Ordering::Relaxed).cast_signed());
                }
                _ => {
                    core::hint::spin_loop();
                    continue;
                }
            }
            done += 1;
            self.carried_out.store(done, Ordering::Release);
        }
    }
}

/// Where a CPU that took its ticket arrives, on its own stack and the kernel's page tables.
pub(super) extern "C" fn arrive(handshake: *const Handshake) -> ! {
    // SAFETY: the boot CPU made it for this CPU, which has the ticket: it is never freed.
    let handshake: &'static Handshake = unsafe { &*handshake };
    // SAFETY: this CPU's own data, interrupts off; `switch` loaded the kernel's page tables.
    unsafe { percpu::install(handshake.cpu) };
    // SAFETY: what the boot CPU, which is of the same make, runs the same code with. Bits that are fixed now are the same.
    unsafe { Cr0::write(Cr0Flags::from_bits_retain(handshake.registers.cr0)) };
    // SAFETY: as above.
    unsafe { Cr4::write(Cr4Flags::from_bits_retain(handshake.registers.cr4)) };
    boot::set_control_registers();
    if let Some(mtrrs) = &handshake.registers.mtrrs {
        // SAFETY: the boot CPU's; interrupts are off, and nobody uses this CPU's caches.
        unsafe { mtrrs.adopt() };
    }
    // SAFETY: no page with PWT was used here.
    unsafe { tables::set_pat() };
    // SAFETY: the handlers are in place, interrupts are off; the boot CPU has mapped the registers.
    unsafe { apic::init_this_cpu() };
    time::clear_adjustment();
    match handshake.serve() {
        Command::Go => (handshake.entry)(handshake.cpu.index),
        Command::Halt => cpu::halt_forever(),
    }
}
