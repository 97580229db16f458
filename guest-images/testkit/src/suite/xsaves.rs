//! XSAVES and XRSTORS, which save extended state in the compacted format.
//!
//! Source: SDM Vol. 1, "Operation of XSAVES", "Operation of XRSTORS", "Compacted Format for the Extended Region of an XSAVE
//! Area"; SDM Vol. 2, "XSAVES", "XRSTORS".

use super::{Check, Checked, Group, Stop, check, fault, fault_free, gp};
use crate::machine::control::{self, cr0, cr4};
use crate::machine::cpu::{Switch, cpuid, set_osxsave, xsetbv};
use crate::machine::msr::TestMsr;
use crate::machine::pages::{self, PRESENT, Place, Shown, USER, WRITABLE};
use crate::machine::snippet::{Registers, Snippet, World, run, run_in};
use crate::machine::snippets as s;
use crate::programs::{exception, expect};

pub(super) const GROUP: Group = Group::new(CHECKS).needing(offered).resting(rest);

const CHECKS: &[Check] = &[
    check("xsaves.compacted-size-follows-xcr0", size),
    check("xsaves.no-size-beside-xcr0-and-xss", || {
        ready(1)?;
        Ok(expect("EBX", cpuid(0xd, 1).ebx, 576u32)?)
    }),
    check("xsaves.xss-reads-back", || {
        let before = TestMsr::XSS.read().map_err(|trap| expect_none(trap.vector))?;
        fault_free(TestMsr::XSS.write(before))
    }),
    check("xsaves.xss-takes-what-cpuid-says", xss_takes),
    check("xsaves.header-is-compacted", header),
    check("xsaves.needs-components-of-xcr0", || {
        ready(1)?;
        fault_free(run(s::XSAVES, &mut at_area(u64::MAX)))?;
        Ok(expect("XCOMP_BV", pages::peek(AREA, XCOMP_BV), COMPACTED | 1)?)
    }),
    check("xsaves.state-comes-back", state),
    check("xsaves.standard-format-refused-gp", || {
        ready(3)?;
        fault_free(run(s::XSAVE, &mut at_area(3)))?;
        gp(run(s::XRSTORS, &mut at_area(3)))
    }),
    check("xsaves.component-beyond-xcr0-refused-gp", || {
        ready(3)?;
        fault_free(run(s::XSAVES, &mut at_area(3)))?;
        pages::poke(AREA, XCOMP_BV, &(COMPACTED | 3 | 1 << 62).to_le_bytes());
        gp(run(s::XRSTORS, &mut at_area(3)))
    }),
    check("xsaves.misaligned-gp", || {
        ready(3)?;
        let mut registers = at_area(3);
        registers.rdi += 32;
        gp(run(s::XSAVES, &mut registers))
    }),
    check("xsaves.without-osxsave-ud", || {
        set_osxsave(Switch::Off);
        fault(run(s::XSAVES, &mut at_area(3)), exception::UD, 0)
    }),
    check("xsaves.xrstors-without-osxsave-ud", || {
        set_osxsave(Switch::Off);
        fault(run(s::XRSTORS, &mut at_area(3)), exception::UD, 0)
    }),
    check("xsaves.with-task-switched-nm", || {
        ready(3)?;
        fault_free(control::change_cr0(cr0::TS, 0))?;
        fault(run(s::XSAVES, &mut at_area(3)), exception::NM, 0)
    }),
    check("xsaves.user-gp", || user(s::XSAVES)),
    check("xsaves.xrstors-user-gp", || user(s::XRSTORS)),
];

/// The memory that takes the area, and the page that shows it.
const AREA: usize = 2;
/// A page with code for ring 3; its stack is the next.
const CODE: usize = 4;
const XSTATE_BV: usize = 512;
const XCOMP_BV: usize = 520;
const COMPACTED: u64 = 1 << 63;

fn offered() -> Checked {
    if cpuid(0xd, 1).eax & 8 == 0 { Err(Stop::Skipped("no XSAVES")) } else { Ok(()) }
}

fn rest() {
    pages::reset();
    set_osxsave(Switch::On);
    // What is wrong with it, the checks find.
    xsetbv(0, 1).ok();
}

fn expect_none(vector: u64) -> Stop {
    expect("no exception, but", vector, u64::MAX).err().map_or(Stop::Skipped("nothing"), Stop::Failed)
}

/// Has the instructions work with these components in XCR0.
fn ready(components: u64) -> Checked {
    fault_free(control::change_cr0(cr0::MP, cr0::EM | cr0::TS))?;
    fault_free(control::change_cr4(cr4::OSFXSR | cr4::OSXMMEXCPT, 0))?;
    set_osxsave(Switch::On);
    fault_free(xsetbv(0, components))
}

fn at_area(mask: u64) -> Registers {
    Registers {
        rax: mask & 0xffff_ffff,
        rdx: mask >> 32,
        rdi: Place::page(AREA as u64).address(),
        ..Registers::ZERO
    }
}

fn size() -> Checked {
    let leaf = cpuid(0xd, 0);
    let all = u64::from(leaf.edx) << 32 | u64::from(leaf.eax);
    ready(all)?;
    let mut bytes = 576u32;
    for number in (2..63u32).filter(|number| all >> number & 1 == 1) {
        let component = cpuid(0xd, number);
        let begin = if component.ecx & 2 == 0 { bytes } else { bytes.next_multiple_of(64) };
        bytes = begin + component.eax;
    }
    Ok(expect("EBX", cpuid(0xd, 1).ebx, bytes)?)
}

/// Each component that CPUID offers can be set, each other is refused.
fn xss_takes() -> Checked {
    let leaf = cpuid(0xd, 1);
    let offered = u64::from(leaf.edx) << 32 | u64::from(leaf.ecx);
    for bit in 0..64 {
        let value = 1u64 << bit;
        if offered & value == 0 {
            gp(TestMsr::XSS.write(value))?;
        } else {
            fault_free(TestMsr::XSS.write(value))?;
            fault_free(TestMsr::XSS.write(0))?;
        }
    }
    Ok(())
}

fn header() -> Checked {
    ready(3)?;
    let mut registers = Registers { rcx: 0x1234_5678, ..at_area(3) };
    fault_free(run(s::XSAVES_XMM0, &mut registers))?;
    expect("XCOMP_BV", pages::peek(AREA, XCOMP_BV), COMPACTED | 3)?;
    expect("SSE is in use", pages::peek(AREA, XSTATE_BV) & 2, 2u64)?;
    Ok(expect("XMM0", pages::peek(AREA, 160), 0x1234_5678u64)?)
}

fn state() -> Checked {
    ready(3)?;
    fault_free(run(s::XSAVES_XMM0, &mut Registers { rcx: 0x1234_5678, ..at_area(3) }))?;
    let mut registers = at_area(3);
    fault_free(run(s::XRSTORS_XMM0, &mut registers))?;
    Ok(expect("XMM0", registers.rcx, 0x1234_5678u64)?)
}

fn user(snippet: Snippet) -> Checked {
    ready(3)?;
    for page in [AREA, CODE, CODE + 1] {
        pages::map(page, Shown::Memory(page), PRESENT | WRITABLE | USER);
    }
    gp(run_in(World::User64, snippet, Place::page(CODE as u64), &mut at_area(3)))
}
