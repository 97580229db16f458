//! Interrupts between CPUs in every delivery mode: who gets them, who does not.
//!
//! Each check sends, waits for those who must get it, then sends everybody an interrupt of lower priority: when that has
//! arrived, whatever else was on its way has arrived too, and nobody may have more than it should.
//!
//! Source: SDM Vol. 3A, "Issuing Interprocessor Interrupts", "Determining IPI Destination", "Logical Destination Mode in
//! x2APIC Mode", "Task and Processor Priorities".

use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use super::{Verdict, expect};
use crate::apic::{self, IPI_VECTOR, Mode, Model, NMI_VECTOR};
use crate::ipi::{self, Destination, Kind};
use crate::machine::cpu::{disable_interrupts, enable_interrupts, pause, set_task_priority};
use crate::machine::percpu;
use crate::smp;

/// Of lower priority than [`IPI_VECTOR`].
const FENCE_VECTOR: u8 = 0x44;
/// An identifier that no CPU has.
const NOBODY: u32 = 0x7e;
/// A vector that the local APIC refuses.
const ILLEGAL_VECTOR: u8 = 5;

/// One bit a CPU.
type Set = u64;

/// How many times each CPU handled a vector.
struct Census {
    vector: u8,
    counts: [u64; percpu::MAX],
}

impl Census {
    fn take(vector: u8) -> Self {
        Self { vector, counts: core::array::from_fn(|index| percpu::of(index).interrupts(vector)) }
    }

    /// Who has handled it since.
    fn since(&self, index: usize) -> u64 {
        percpu::of(index).interrupts(self.vector) - self.counts[index]
    }

    /// Whether each of `set` has.
    fn reached(&self, set: Set) -> bool {
        members(set).all(|index| self.since(index) > 0)
    }

    /// How many CPUs' handlers ran, all together.
    fn total(&self) -> u64 {
        (0..smp::count()).map(|index| self.since(index)).sum()
    }
}

fn members(set: Set) -> impl Iterator<Item = usize> {
    (0..smp::count()).filter(move |index| set >> index & 1 == 1)
}

/// All CPUs.
fn everybody() -> Set {
    Set::MAX >> (64 - smp::count())
}

/// All but the first, which sends.
fn others() -> Set {
    everybody() & !1
}

/// Sends and expects `set` to get it once, and nobody else.
fn delivers(what: &'static str, set: Set, destination: Destination, kind: Kind) -> Verdict {
    let vector = match kind {
        Kind::Fixed(vector) | Kind::LowestPriority(vector) => vector,
        Kind::Nmi | Kind::Init | Kind::InitDeassert | Kind::Startup(_) => NMI_VECTOR,
    };
    let census = Census::take(vector);
    ipi::send(destination, kind);
    smp::wait_until(|| census.reached(set));
    fence()?;
    for index in 0..smp::count() {
        let got = census.since(index);
        // Which CPU it was is in the upper half of the figures.
        let tag = (index as u64) << 32;
        expect(what, tag | got, tag | (set >> index & 1))?;
    }
    Ok(())
}

/// Sends with lowest priority and expects one of `set` to get it, and nobody else.
fn delivers_to_one(what: &'static str, set: Set, destination: Destination) -> Verdict {
    let census = Census::take(IPI_VECTOR);
    ipi::send(destination, Kind::LowestPriority(IPI_VECTOR));
    smp::wait_until(|| census.total() > 0);
    fence()?;
    expect(what, census.total(), 1u64)?;
    expect(what, members(set).map(|index| census.since(index)).sum::<u64>(), 1u64)
}

/// Waits until everything that was sent before has arrived.
fn fence() -> Verdict {
    for cpu in (0..smp::count()).map(percpu::of) {
        let before = cpu.interrupts(FENCE_VECTOR);
        ipi::send(smp::only(cpu), Kind::Fixed(FENCE_VECTOR));
        // This CPU's own comes through while it waits, too.
        smp::wait_until(|| cpu.interrupts(FENCE_VECTOR) > before);
        expect("the fence", cpu.interrupts(FENCE_VECTOR), before + 1)?;
    }
    Ok(())
}

/// All modes that the local APIC has in the mode in which it is driven.
pub(super) fn ipi_modes() -> Verdict {
    smp::start_others()?;
    physical()?;
    shorthands()?;
    match apic::chosen_mode() {
        Mode::XApic => {
            logical_flat()?;
            logical_cluster()?;
        }
        Mode::X2Apic => {
            logical_x2apic()?;
            let census = Census::take(IPI_VECTOR);
            ipi::send_by_self_register(IPI_VECTOR);
            smp::wait_until(|| census.reached(1));
            expect("self IPI register", census.total(), 1u64)?;
        }
    }
    ring()?;
    held_back()
}

/// By identifier, one, nobody, everybody.
pub(crate) fn physical() -> Verdict {
    for cpu in (0..smp::count()).map(percpu::of) {
        let set = 1 << cpu.index();
        delivers("fixed, physical", set, smp::only(cpu), Kind::Fixed(IPI_VECTOR))?;
        delivers("NMI, physical", set, smp::only(cpu), Kind::Nmi)?;
    }
    delivers("fixed, nobody's id", 0, Destination::Physical(NOBODY), Kind::Fixed(IPI_VECTOR))?;
    delivers("NMI, nobody's id", 0, Destination::Physical(NOBODY), Kind::Nmi)?;
    delivers("fixed, physical broadcast", everybody(), Destination::Broadcast, Kind::Fixed(IPI_VECTOR))
}

/// Self, all, others.
pub(crate) fn shorthands() -> Verdict {
    delivers("fixed, self", 1, Destination::Myself, Kind::Fixed(IPI_VECTOR))?;
    delivers("fixed, all", everybody(), Destination::All, Kind::Fixed(IPI_VECTOR))?;
    delivers("fixed, others", others(), Destination::Others, Kind::Fixed(IPI_VECTOR))?;
    delivers("NMI, others", others(), Destination::Others, Kind::Nmi)
}

/// What QEMU's TCG has wrong, in a program of its own: all ones is everybody in the cluster model, too, and a refused
/// vector goes nowhere. It would be an exception where it arrives.
pub(crate) fn details() -> Verdict {
    smp::start_others()?;
    assign(Model::Cluster)?;
    delivers(
        "fixed, logical cluster, all",
        everybody(),
        Destination::Logical(0xff),
        Kind::Fixed(IPI_VECTOR),
    )?;
    for destination in [Destination::Others, Destination::Broadcast, Destination::Myself] {
        delivers("illegal vector", 0, destination, Kind::Fixed(ILLEGAL_VECTOR))?;
    }
    Ok(())
}

/// The logical destination of a CPU, as 8 bits.
fn flat(index: usize) -> u8 {
    if index < 8 { 1 << index } else { 0 }
}

fn cluster(index: usize) -> u8 {
    // The sixteenth cluster's number stands for all.
    if index < 60 { u8::try_from(index / 4 * 16).unwrap_or(0) | 1 << (index % 4) } else { 0 }
}

/// Gives each CPU its logical destination.
fn assign(model: Model) -> Verdict {
    fn mine(model: Model) -> Verdict {
        let index = percpu::this().index();
        let destination = match model {
            Model::Flat => flat(index),
            Model::Cluster => cluster(index),
        };
        apic::set_logical_destination(model, destination);
        expect("logical destination reads back", apic::logical_destination() >> 24, destination)
    }
    mine(model)?;
    smp::each_in_turn(match model {
        Model::Flat => || mine(Model::Flat),
        Model::Cluster => || mine(Model::Cluster),
    })
}

pub(crate) fn logical_flat() -> Verdict {
    assign(Model::Flat)?;
    let reachable = everybody() & 0xff;
    for mask in [1, 2, 3, 5, 6, 0b1110, 0b1111_1111_1111 & reachable] {
        let set = mask & reachable;
        // All ones is everybody, bit or not.
        if mask == 0xff || set == 0 {
            continue;
        }
        let destination = Destination::Logical(u32::try_from(mask).unwrap_or(0));
        delivers("fixed, logical flat", set, destination, Kind::Fixed(IPI_VECTOR))?;
        delivers("NMI, logical flat", set, destination, Kind::Nmi)?;
        delivers_to_one("lowest priority, logical flat", set, destination)?;
    }
    delivers("fixed, logical flat, all", everybody(), Destination::Logical(0xff), Kind::Fixed(IPI_VECTOR))?;
    delivers("fixed, logical flat, nobody", 0, Destination::Logical(0), Kind::Fixed(IPI_VECTOR))
}

pub(crate) fn logical_cluster() -> Verdict {
    assign(Model::Cluster)?;
    for number in 0..smp::count().min(60).div_ceil(4) {
        for mask in [1u8, 2, 3, 0xa, 0xf] {
            let address = u8::try_from(number * 16).unwrap_or(0) | mask;
            let set = Set::from(mask) << (4 * number) & everybody();
            let destination = Destination::Logical(u32::from(address));
            delivers("fixed, logical cluster", set, destination, Kind::Fixed(IPI_VECTOR))?;
            if set != 0 {
                delivers_to_one("lowest priority, logical cluster", set, destination)?;
            }
        }
    }
    Ok(())
}

/// The logical destination that the identifier makes.
fn x2apic_destination(id: u32) -> u32 {
    (id >> 4) << 16 | 1 << (id & 0xf)
}

pub(crate) fn logical_x2apic() -> Verdict {
    smp::each_in_turn(|| {
        expect("logical destination of the id", apic::logical_destination(), x2apic_destination(apic::id()))
    })?;
    for mask in [1, 2, 3, 5, 6, 0b1110, 0xffff] {
        for number in 0..smp::count().div_ceil(16) {
            let address = u32::try_from(number).unwrap_or(0) << 16 | mask;
            let matches =
                |id: u32| x2apic_destination(id) >> 16 == address >> 16 && x2apic_destination(id) & mask != 0;
            let set = (0..smp::count())
                .filter(|&index| matches(percpu::of(index).apic_id()))
                .fold(0, |set, index| set | 1 << index);
            let destination = Destination::Logical(address);
            delivers("fixed, logical x2APIC", set, destination, Kind::Fixed(IPI_VECTOR))?;
            delivers("NMI, logical x2APIC", set, destination, Kind::Nmi)?;
            if set != 0 {
                delivers_to_one("lowest priority, logical x2APIC", set, destination)?;
            }
        }
    }
    delivers("fixed, logical x2APIC, nobody", 0, Destination::Logical(0), Kind::Fixed(IPI_VECTOR))?;
    delivers(
        "fixed, logical x2APIC, all",
        everybody(),
        Destination::Logical(u32::MAX),
        Kind::Fixed(IPI_VECTOR),
    )
}

/// Each of the others sends to its neighbour, and the last one to the first.
pub(crate) fn ring() -> Verdict {
    let census = Census::take(IPI_VECTOR);
    smp::each_in_turn(|| {
        let next = percpu::of((percpu::this().index() + 1) % smp::count());
        let before = next.interrupts(IPI_VECTOR);
        ipi::send(smp::only(next), Kind::Fixed(IPI_VECTOR));
        smp::wait_until(|| next.interrupts(IPI_VECTOR) > before);
        expect("from CPU to CPU", next.interrupts(IPI_VECTOR), before + 1)
    })?;
    expect("once around", census.total(), u64::try_from(smp::count() - 1).unwrap_or(0))
}

/// How far [`hold_back`] and its observer are.
static STEP: AtomicU64 = AtomicU64::new(0);

fn await_step(step: u64) {
    while STEP.load(Acquire) < step {
        pause();
    }
}

/// Run by the receiver: interrupts are held back first by the interrupt flag, then by the task priority.
fn hold_back() -> Verdict {
    let this = percpu::this();
    let before = this.interrupts(IPI_VECTOR);
    STEP.store(1, Release);
    await_step(2);
    expect("held back by the interrupt flag", this.interrupts(IPI_VECTOR), before)?;
    enable_interrupts();
    disable_interrupts();
    expect("two of one vector are one while they wait", this.interrupts(IPI_VECTOR), before + 1)?;
    set_task_priority(u64::from(IPI_VECTOR >> 4));
    enable_interrupts();
    STEP.store(3, Release);
    await_step(4);
    disable_interrupts();
    let held = this.interrupts(IPI_VECTOR);
    set_task_priority(0);
    smp::wait_until(|| this.interrupts(IPI_VECTOR) > before + 1);
    expect("held back by the task priority", held, before + 1)?;
    expect("let through once", this.interrupts(IPI_VECTOR), before + 2)
}

/// An interrupt waits where it arrived until it is let in, and is one however often it was sent.
pub(crate) fn held_back() -> Verdict {
    for cpu in smp::others() {
        STEP.store(0, Relaxed);
        smp::give(cpu, hold_back);
        for step in [2, 4] {
            smp::wait_until(|| STEP.load(Acquire) >= step - 1);
            ipi::send(smp::only(cpu), Kind::Fixed(IPI_VECTOR));
            ipi::send(smp::only(cpu), Kind::Fixed(IPI_VECTOR));
            smp::settle();
            STEP.store(step, Release);
        }
        smp::join(cpu)?;
    }
    Ok(())
}
