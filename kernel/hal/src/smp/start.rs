//! The boot CPU's part in starting the others.
//!
//! SDM Vol. 3A, "Typical BSP Initialization Sequence". One CPU at a time, so that each failure has a name and the pages of
//! the trampoline have one user.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use arch::{Hpa, Tsc};
use x86_64::registers::control::{Cr0, Cr4, Cr4Flags};

use super::arrival::{self, Command, Handshake};
use super::clock::{self, Skew};
use super::trampoline::{Destination, Trampoline};
use crate::acpi::Platform;
use crate::boot;
use crate::memory::OutOfFrames;
use crate::memory::stacks::{self, Stack};
use crate::mtrr::Mtrrs;
use crate::percpu::{self, MAX_CPUS, PerCpu, Tables};
use crate::{apic, cpu, time};

/// Between INIT and the first start-up IPI, in microseconds: the manual's.
const INIT_US: u64 = 10_000;
/// Between the two start-up IPIs, in microseconds: the manual's.
const STARTUP_US: u64 = 200;
/// A CPU that has not taken its ticket by then is taken for dead, in microseconds. The manual's example waits 100 ms.
const TICKET_US: u64 = 500_000;
/// A CPU that took its ticket and is not ready by then never will be, in microseconds.
const READY_US: u64 = 2_000_000;

/// Why a CPU was left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// No page below 1 MiB to start it at.
    NoLowMemory,
    /// As many CPUs as can be used are up.
    TooMany,
    /// Its APIC ID cannot be named without x2APIC.
    BeyondXApic,
    /// No memory for its stacks.
    OutOfFrames(OutOfFrames),
    /// It did not react to INIT and two start-up IPIs.
    Silent,
    /// It started and did not become ready.
    Stuck,
    /// Its TSC differs from the boot CPU's by this many ticks, and could not be corrected.
    Clock(i64),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLowMemory => f.write_str("there is no free memory below 640 KiB to start it at"),
            Self::TooMany => write!(f, "{MAX_CPUS} CPUs are up already"),
            Self::BeyondXApic => f.write_str("its APIC ID is out of reach without x2APIC"),
            Self::OutOfFrames(error) => write!(f, "no memory for its stacks: {error}"),
            Self::Silent => f.write_str("it does not answer"),
            Self::Stuck => f.write_str("it started but did not become ready"),
            Self::Clock(ticks) => write!(f, "its time-stamp counter is off by {ticks} ticks"),
        }
    }
}

/// A CPU that was left out. It does not run, now or later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failed {
    /// Its local APIC's ID.
    pub apic_id: u32,
    /// What went wrong.
    pub why: Why,
}

/// What came of [`start_others`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Started {
    /// The numbers of the CPUs that were started, as in [`PerCpu::index`].
    pub running: Vec<u32>,
    /// The CPUs that were left out.
    pub failed: Vec<Failed>,
}

/// What a CPU needs, ready before it starts: there it takes no memory and no lock. What one CPU did not touch, the next
/// one gets.
struct Equipment {
    stack: Stack,
    tables: &'static Tables,
}

impl Equipment {
    fn new() -> Result<Self, OutOfFrames> {
        Ok(Self { stack: stacks::allocate(boot::STACK_BYTES)?, tables: Tables::new()? })
    }
}

/// Starts all CPUs of `platform` but this one, the one that booted. Each has its number, descriptor tables, stacks and
/// local APIC, the same control registers, PAT, MTRRs and time as this one, and then runs `entry` with its number, with
/// interrupts off. One that fails is reported, here and in the log, and halts for good whenever it comes.
///
/// To be called once, when nothing else runs that needs the time.
pub fn start_others(platform: &Platform, entry: fn(u32) -> !) -> Started {
    let mut started = Started::default();
    let own = [percpu::current().apic_id, apic::reported_id()];
    let mut seen: Vec<u32> = own.into();
    // SAFETY: no other CPU was started yet.
    let trampoline = unsafe { Trampoline::write() };
    let model = Model::of_this_cpu();
    let mut spare = None;
    for found in &platform.cpus {
        let apic_id = found.apic_id;
        // INIT resets a CPU: never this one, and none that is up already, whatever the tables say.
        if seen.contains(&apic_id) {
            continue;
        }
        seen.push(apic_id);
        let result = match &trampoline {
            Some(trampoline) => start(trampoline, apic_id, entry, &model, &mut spare),
            None => Err(Why::NoLowMemory),
        };
        match result {
            Ok(index) => started.running.push(index),
            Err(why) => {
                log::warn!("the CPU with APIC ID {apic_id} is left out: {why}");
                started.failed.push(Failed { apic_id, why });
            }
        }
    }
    log::info!(
        "CPUs: {} of {} run",
        started.running.len() + 1,
        started.running.len() + 1 + started.failed.len()
    );
    started
}

/// What the boot CPU has and the others are to have too.
struct Model {
    root: Hpa,
    cr0: u64,
    cr4: u64,
    mtrrs: Option<Mtrrs>,
}

impl Model {
    fn of_this_cpu() -> Self {
        Self {
            root: cpu::cr3(),
            cr0: Cr0::read_raw(),
            // Each CPU switches VMX on for itself.
            cr4: (Cr4::read() - Cr4Flags::VIRTUAL_MACHINE_EXTENSIONS).bits(),
            mtrrs: Mtrrs::read(),
        }
    }
}

/// Starts the CPU with the APIC ID `apic_id` and returns its number.
fn start(
    trampoline: &Trampoline,
    apic_id: u32,
    entry: fn(u32) -> !,
    model: &Model,
    spare: &mut Option<Equipment>,
) -> Result<u32, Why> {
    if !apic::can_address(apic_id) {
        return Err(Why::BeyondXApic);
    }
    let index = percpu::cpus().count();
    let number = u32::try_from(index).ok().filter(|_| index < MAX_CPUS).ok_or(Why::TooMany)?;
    let equipment = match spare.take() {
        Some(equipment) => equipment,
        None => Equipment::new().map_err(Why::OutOfFrames)?,
    };
    let cpu = Box::into_raw(percpu::prepare(number, apic_id, equipment.tables));
    // SAFETY: it was just made; it is freed only when no CPU has got it.
    let shared: &'static PerCpu = unsafe { &*cpu };
    let handshake = Box::into_raw(Box::new(Handshake::new(
        shared,
        entry,
        arrival::Registers { cr0: model.cr0, cr4: model.cr4, mtrrs: model.mtrrs.clone() },
    )));
    let destination = Destination {
        resume: boot::switch_address(),
        root: model.root,
        stack_top: equipment.stack.top,
        entry: arrival::arrive as *const () as usize as u64,
        argument: handshake.expose_provenance() as u64,
    };
    // SAFETY: the stack, the data and the handshake are this CPU's alone. The CPU before has reached its destination, or
    // never got a ticket.
    unsafe { trampoline.offer(apic_id, destination) };
    if !take_ticket(trampoline, apic_id) {
        // SAFETY: no CPU got the ticket, so none has seen it.
        drop(unsafe { Box::from_raw(handshake) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(cpu) });
        *spare = Some(equipment);
        return Err(Why::Silent);
    }
    // From here on the CPU may use what it was given, for ever: nothing is taken back.
    // SAFETY: it was just made and is never freed.
    let handshake: &'static Handshake = unsafe { &*handshake };
    if !wait(READY_US, || handshake.is_ready()) {
        handshake.order(Command::Halt);
        return Err(Why::Stuck);
    }
    if let Err(ticks) = agree_on_time(handshake, apic_id) {
        handshake.order(Command::Halt);
        return Err(Why::Clock(ticks));
    }
    percpu::publish(shared);
    handshake.order(Command::Go);
    Ok(number)
}

/// Sends the interrupts that start the CPU, and waits until it has taken its ticket.
fn take_ticket(trampoline: &Trampoline, apic_id: u32) -> bool {
    // SAFETY: it is not this CPU and none that is up.
    unsafe { apic::send_init(apic_id) };
    time::spin_us(INIT_US);
    for patience_us in [STARTUP_US, TICKET_US] {
        // SAFETY: the trampoline is at that page.
        unsafe { apic::send_startup(apic_id, trampoline.page()) };
        if wait(patience_us, || trampoline.is_taken(apic_id)) {
            return true;
        }
    }
    if !trampoline.withdraw(apic_id) {
        return true;
    }
    // It goes back to waiting for a start-up IPI. Should it ignore that too, it finds no ticket.
    // SAFETY: as above; it holds nothing.
    unsafe { apic::send_init(apic_id) };
    false
}

/// Waits at most `us` microseconds for `done`.
fn wait(us: u64, done: impl Fn() -> bool) -> bool {
    let end = time::now() + time::ticks(us);
    while !done() {
        if time::now() >= end {
            return done();
        }
        core::hint::spin_loop();
    }
    true
}

/// Compares the CPU's time with this one's, and corrects it where they differ.
fn agree_on_time(handshake: &Handshake, apic_id: u32) -> Result<(), i64> {
    let skew = clock::compare(|| handshake.ask_time());
    let Skew::Off(ticks) = skew else { return Ok(()) };
    handshake.correct(ticks);
    match clock::compare(|| handshake.ask_time()) {
        Skew::None => {
            log::info!(
                "the CPU with APIC ID {apic_id} had its time-stamp counter corrected by {ticks} ticks"
            );
            Ok(())
        }
        Skew::Off(left) if Tsc(left.unsigned_abs()) <= clock::tolerable() => {
            log::warn!("the time-stamp counter of the CPU with APIC ID {apic_id} is off by {left} ticks");
            Ok(())
        }
        Skew::Off(left) => Err(left),
    }
}
