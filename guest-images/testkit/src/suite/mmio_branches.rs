//! Near branches through device memory, and with the stack there.
//!
//! Source: SDM Vol. 2, "JMP", "CALL", "RET".

use super::{Check, Checked, Group, check, fault_free, gp};
use crate::apic;
use crate::machine::cpu::Mmio;
use crate::machine::pages::{self, PRESENT, Place, Shown, UNCACHED, USER, WRITABLE};
use crate::machine::snippet::{Registers, Snippet, World, run, run_in};
use crate::machine::snippets as s;
use crate::programs::{exception, expect, expect_fault};

pub(super) const GROUP: Group = Group::new(CHECKS).resting(rest);

const CHECKS: &[Check] = &[
    check("mmio-branch.jump-takes-both-halves", || reaches(s::JUMP_THROUGH)),
    check("mmio-branch.call-takes-both-halves", || reaches(s::CALL_THROUGH)),
    check("mmio-branch.jump-not-canonical-gp", || not_canonical(s::JUMP_THROUGH)),
    check("mmio-branch.call-not-canonical-gp", || not_canonical(s::CALL_THROUGH)),
    check("mmio-branch.jump-by-a-register", || by_register(s::C32_JUMP).map(drop)),
    check("mmio-branch.call-by-a-register", || {
        let behind = by_register(s::C32_CALL)?;
        Ok(expect("way back", pages::peek(STACK, 4096 - 64 - 4) & 0xffff_ffff, behind)?)
    }),
    check("mmio-branch.return-by-a-register", return_by_register),
];

/// The page of the window that shows a device, with memory on both sides.
const DEVICE: usize = 20;
/// Pages with code and its stack.
const CODE: usize = 4;
const STACK: usize = 5;
/// The register that keeps what is written.
const KEEPS: u16 = 0x380;

fn rest() {
    pages::reset();
    apic::stop_timer();
    pages::map(DEVICE, Shown::Device(Mmio::Nothing), PRESENT | WRITABLE | UNCACHED);
    pages::map(DEVICE - 1, Shown::Memory(2), PRESENT | WRITABLE);
    pages::map(DEVICE + 1, Shown::Memory(3), PRESENT | WRITABLE);
}

fn at(place: Place) -> Registers {
    Registers { rdi: place.address(), ..Registers::ZERO }
}

/// The low half of the address is memory's, the high one the device's.
fn reaches(snippet: Snippet) -> Checked {
    pages::poke(2, 4092, &[1, 2, 3, 4]);
    let place = Place::page(DEVICE as u64).plus(-4);
    let trap = expect_fault("branch", run(snippet, &mut at(place)), exception::PF)?;
    Ok(expect("to", trap.cr2, 0xffff_ffff_0403_0201u64)?)
}

/// The low half of the address is the device's, the high one memory's.
fn not_canonical(snippet: Snippet) -> Checked {
    pages::poke(3, 0, &[0, 0x80, 0, 0]);
    gp(run(snippet, &mut at(Place::page(DEVICE as u64).plus(4096 - 4))))
}

/// A branch to where the local APIC's register says, which is right behind it. Returns where that is.
fn by_register(snippet: Snippet) -> Checked<u64> {
    let place = Place::page(CODE as u64);
    let behind = place.address() + snippet.length();
    apic::write(KEEPS, u32::try_from(behind).unwrap_or(0));
    let rdi = Mmio::LocalApic.base() as u64 + u64::from(KEEPS);
    let mut registers = Registers { rdi, ..Registers::ZERO };
    fault_free(run_in(World::Compatible32, snippet, place, &mut registers))?;
    Ok(behind)
}

/// RET with the stack in the local APIC.
fn return_by_register() -> Checked {
    pages::map(DEVICE, Shown::Device(Mmio::LocalApic), PRESENT | WRITABLE | UNCACHED | USER);
    pages::map(CODE, Shown::Memory(CODE), PRESENT | USER);
    let place = Place::page(CODE as u64);
    let behind = place.address() + s::C32_RET.length();
    apic::write(KEEPS, u32::try_from(behind).unwrap_or(0));
    let rsp = Place::page(DEVICE as u64).plus(i64::from(KEEPS)).address();
    fault_free(run_in(World::User32, s::C32_RET, place, &mut Registers { rsp, ..Registers::ZERO }))
}
