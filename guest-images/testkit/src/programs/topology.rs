//! CPUID on every CPU: the same processor, and one topology that all agree on.
//!
//! Source: SDM Vol. 2, "CPUID"; Vol. 3A, "Detecting Hardware Multi-Threading Support and Topology".

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Verdict, expect, expect_within};
use crate::apic;
use crate::machine::cpu::{Leaf, cpuid};
use crate::machine::percpu;
use crate::smp;

/// Levels of leaf 0xb: threads of a core, cores of a package.
const LEVEL_THREAD: u32 = 1;
const LEVEL_CORE: u32 = 2;
const EXTENDED_TOPOLOGY: u32 = 0xb;
const CACHES: u32 = 4;

/// Bits of leaf 1, EBX, that are the CPU's own: its identifier.
const OWN_OF_LEAF_1: u32 = 0xff00_0000;
/// Bit of leaf 1, ECX, that follows CR4.
const OSXSAVE: u32 = 1 << 27;
/// Bit of leaf 1, EDX: more than one logical processor in the package.
const MULTI_THREADED: u32 = 1 << 28;

/// The first CPU's [`fingerprint`].
static FIRST: AtomicU64 = AtomicU64::new(0);

/// How identifiers of a machine divide into package, core and thread.
#[derive(Clone, Copy)]
struct Shifts {
    thread: u32,
    core: u32,
}

/// What every CPU must see the same, in one number.
fn fingerprint() -> u64 {
    let mut sum = 0u64;
    let mut add = |leaf: Leaf| {
        for register in [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx] {
            sum = (sum ^ u64::from(register)).wrapping_mul(0x100_0000_01b3).rotate_left(5);
        }
    };
    let most = cpuid(0, 0).eax;
    for leaf in (0..=most).filter(|leaf| ![0xb, 0xd, 0x1f].contains(leaf)) {
        let values = cpuid(leaf, 0);
        add(match leaf {
            1 => Leaf { ebx: values.ebx & !OWN_OF_LEAF_1, ecx: values.ecx & !OSXSAVE, ..values },
            _ => values,
        });
    }
    for leaf in 0x8000_0000..=cpuid(0x8000_0000, 0).eax.min(0x8000_00ff) {
        add(cpuid(leaf, 0));
    }
    sum
}

/// The shifts of leaf 0xb, when it is there.
fn shifts() -> Option<Shifts> {
    if cpuid(0, 0).eax < EXTENDED_TOPOLOGY || cpuid(EXTENDED_TOPOLOGY, 0).ebx == 0 {
        return None;
    }
    let level = |number| cpuid(EXTENDED_TOPOLOGY, number).eax & 0x1f;
    Some(Shifts { thread: level(0), core: level(1) })
}

/// How many CPUs of the machine share the number that is left above `shift`.
fn sharing(id: u32, shift: u32) -> u64 {
    (0..smp::count()).filter(|&index| percpu::of(index).apic_id() >> shift == id >> shift).count() as u64
}

/// The least number of processors that leaf 0xb must have at level `number`: those of this machine that share what is
/// left of the identifier above `shift`. Bochs leaves room for two where it says that there is one.
fn siblings(id: u32, number: u32, shift: u32) -> u64 {
    if cpuid(EXTENDED_TOPOLOGY, number).ebx == 1 && shift == 1 { 1 } else { sharing(id, shift) }
}

/// What each CPU says of itself and of its package.
fn place() -> Verdict {
    let id = percpu::this().apic_id();
    expect("APIC id", apic::id(), id)?;
    let features = cpuid(1, 0);
    expect("initial APIC id of leaf 1", features.ebx >> 24, id & 0xff)?;
    let Some(shifts) = shifts() else { return Ok(()) };
    for (number, kind, shift) in [(0, LEVEL_THREAD, shifts.thread), (1, LEVEL_CORE, shifts.core)] {
        let level = cpuid(EXTENDED_TOPOLOGY, number);
        expect("x2APIC id of leaf 0xb", level.edx, id)?;
        expect("level number of leaf 0xb", level.ecx & 0xff, number)?;
        expect("level kind of leaf 0xb", level.ecx >> 8 & 0xff, kind)?;
        expect_within(
            "processors at a level of leaf 0xb",
            u64::from(level.ebx),
            siblings(id, number, shift),
            1 << shift,
        )?;
    }
    expect("x2APIC id behind the last level", cpuid(EXTENDED_TOPOLOGY, 2).edx, id)?;
    let behind = cpuid(EXTENDED_TOPOLOGY, 2).ecx >> 8 & 0xff;
    expect(
        "no third level of threads or cores",
        u64::from([LEVEL_THREAD, LEVEL_CORE].contains(&behind)),
        0u64,
    )?;
    let in_package = siblings(id, 1, shifts.core);
    if in_package > 1 {
        expect("more than one processor in the package", features.edx & MULTI_THREADED, MULTI_THREADED)?;
        expect_within(
            "identifiers in the package of leaf 1",
            u64::from(features.ebx >> 16 & 0xff),
            in_package,
            255,
        )?;
    }
    caches(in_package, shifts)
}

/// Leaf 4: each cache is shared by a part of the package, no smaller one by more than a larger one.
fn caches(in_package: u64, shifts: Shifts) -> Verdict {
    if cpuid(0, 0).eax < CACHES {
        return Ok(());
    }
    let mut last = 0;
    for number in 0..16 {
        let cache = cpuid(CACHES, number);
        if cache.eax & 0x1f == 0 {
            break;
        }
        let share = (cache.eax >> 14 & 0xfff) + 1;
        let cores = (cache.eax >> 26) + 1;
        let package = 1u32 << shifts.core;
        expect_within(
            "identifiers that share a cache",
            u64::from(share),
            last,
            u64::from(package.max(share)),
        )?;
        expect_within(
            "core identifiers of leaf 4",
            u64::from(cores.next_power_of_two()) << shifts.thread,
            in_package,
            u64::MAX,
        )?;
        last = u64::from(share);
    }
    Ok(())
}

/// One processor in several places.
pub(crate) fn topology() -> Verdict {
    smp::start_others()?;
    place()?;
    smp::each_in_turn(place)?;
    FIRST.store(fingerprint(), Relaxed);
    smp::each_in_turn(compare)?;
    for index in 0..smp::count() {
        let id = percpu::of(index).apic_id();
        expect("CPUs with one identifier", sharing(id, 0), 1u64)?;
    }
    Ok(())
}

/// Run by each other CPU: it sees what the first one sees.
fn compare() -> Verdict {
    expect("what CPUID says of the processor", fingerprint(), FIRST.load(Relaxed))
}
