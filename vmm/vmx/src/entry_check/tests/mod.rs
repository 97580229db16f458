//! Entry checks: valid guests pass; each rule is broken by a change of a field, and named.

mod entry_controls;
mod execution_controls;
mod guest_registers;
mod guest_segments;
mod guest_state;
mod host_state;

use super::{Violation, check, evaluate};
use crate::controls::tests::generous;
use crate::fake_vmcs::FakeVmcs;
use crate::field::{self, Field, FieldWidth};
use crate::{Capabilities, Controls, Secondary, VmcsAccess, VmxBackend};
use arch::{Cr0Flags, Cr4Flags, EferFlags, RFlags, Segment};
use std::collections::BTreeSet;
use vmm::{CpuState, VcpuBackend};

const PHYSICAL_BITS: u8 = 46;
/// The first address that is not physical.
const BEYOND: u64 = 1 << PHYSICAL_BITS;
/// The first address that is not canonical with 48 bits.
const NOT_CANONICAL: u64 = 1 << 47;

/// A VMCS and the processor that is to enter it.
struct Subject {
    vmcs: FakeVmcs,
    capabilities: Capabilities,
}

impl Subject {
    fn set<K, W: FieldWidth>(&mut self, field: Field<K, W>, value: W) {
        self.vmcs.set(field, value);
    }

    /// Inverts `bits` of a field.
    fn flip<K, W: FieldWidth>(&mut self, field: Field<K, W>, bits: impl Into<u64>) {
        let raw = self.vmcs.read(field).to_raw() ^ bits.into();
        self.vmcs.set(field, W::from_raw(raw));
    }

    fn broken(&self) -> Vec<Violation> {
        check(&self.vmcs, &self.capabilities, PHYSICAL_BITS)
    }
}

/// Generous, but without 5-level paging, with inactive activity states and four CR3 targets.
fn capabilities() -> Capabilities {
    Capabilities { misc: 5 | 0x1c0 | 4 << 16, cr4_fixed1: 0xff_efff, ..generous() }
}

fn subject(state: &CpuState) -> Subject {
    let capabilities = capabilities();
    let controls = Controls::negotiate(&capabilities).expect("all is allowed");
    let mut vmcs = FakeVmcs::default();
    set_controls(&mut vmcs, &controls);
    set_host(&mut vmcs);
    let allowed = Cr4Flags::all() - Cr4Flags::VIRTUAL_MACHINE_EXTENSIONS;
    let mut backend = VmxBackend::new(vmcs, controls, allowed, capabilities.preemption_timer_shift());
    backend.restore(state);
    Subject { vmcs: core::mem::take(backend.vmcs_mut()), capabilities }
}

fn set_controls(vmcs: &mut FakeVmcs, controls: &Controls) {
    vmcs.set(field::PIN_BASED_CONTROLS, controls.pin);
    vmcs.set(field::PROCESSOR_BASED_CONTROLS, controls.processor);
    vmcs.set(field::SECONDARY_CONTROLS, controls.secondary);
    vmcs.set(field::VM_EXIT_CONTROLS, controls.exit);
    vmcs.set(field::VM_ENTRY_CONTROLS, controls.entry);
    vmcs.set(field::VPID, 1);
    vmcs.set(field::IO_BITMAP_A, 0x1000);
    vmcs.set(field::IO_BITMAP_B, 0x2000);
    vmcs.set(field::MSR_BITMAP, 0x3000);
    vmcs.set(field::EPT_POINTER, 0x4000 | 3 << 3 | 6);
    vmcs.set(field::VMCS_LINK_POINTER, u64::MAX);
}

fn set_host(vmcs: &mut FakeVmcs) {
    vmcs.set(field::HOST_CR0, 0x8005_0033);
    vmcs.set(field::HOST_CR3, 0x5000);
    vmcs.set(field::HOST_CR4, 0x2020);
    vmcs.set(field::HOST_CS_SELECTOR, 0x08);
    vmcs.set(field::HOST_SS_SELECTOR, 0x10);
    vmcs.set(field::HOST_TR_SELECTOR, 0x18);
    vmcs.set(field::HOST_GS_BASE, 0xffff_8000_0000_0000);
    vmcs.set(field::HOST_TR_BASE, 0xffff_ffff_8000_0000);
    vmcs.set(field::HOST_RIP, 0xffff_ffff_8000_1000);
    vmcs.set(field::HOST_PAT, 0x0007_0406_0007_0406);
    vmcs.set(field::HOST_EFER, 0xd01);
}

/// A kernel in 64-bit mode with interrupts on.
fn long() -> Subject {
    subject(&long_state())
}

fn long_state() -> CpuState {
    let data = Segment { selector: 0x18, base: 0, limit: u32::MAX, access_rights: 0xc093 };
    let code = Segment { selector: 0x10, access_rights: 0xa09b, ..data };
    let tr = Segment { selector: 0x40, base: 0xffff_ffff_8100_0000, limit: 0x67, access_rights: 0x8b };
    CpuState {
        rip: 0xffff_ffff_8000_0000,
        rflags: RFlags::from_bits_retain(2) | RFlags::INTERRUPT_FLAG,
        cr0: Cr0Flags::PROTECTED_MODE_ENABLE | Cr0Flags::WRITE_PROTECT | Cr0Flags::PAGING,
        cr3: 0x10_0000,
        cr4: Cr4Flags::PHYSICAL_ADDRESS_EXTENSION,
        efer: EferFlags::LONG_MODE_ENABLE
            | EferFlags::LONG_MODE_ACTIVE
            | EferFlags::SYSTEM_CALL_EXTENSIONS
            | EferFlags::NO_EXECUTE_ENABLE,
        segments: [data, code, data, data, data, data, Segment::unusable(), tr],
        ..CpuState::reset()
    }
}

/// Reset: real mode, which needs an unrestricted guest.
fn real() -> Subject {
    subject(&CpuState::reset())
}

/// A 32-bit kernel with paging.
fn protected() -> Subject {
    subject(&protected_state())
}

fn protected_state() -> CpuState {
    let long = long_state();
    let mut segments = long.segments;
    segments[1].access_rights = 0xc09b;
    segments[7].base = 0xc100_0000;
    CpuState { rip: 0xc000_0000, cr4: Cr4Flags::empty(), efer: EferFlags::empty(), segments, ..long }
}

/// The 32-bit kernel, without "unrestricted guest".
fn restricted() -> Subject {
    let mut subject = protected();
    subject.flip(field::SECONDARY_CONTROLS, Secondary::UNRESTRICTED_GUEST.bits());
    subject
}

/// A virtual-8086 task of the 32-bit kernel.
fn virtual_8086() -> Subject {
    let mut state = protected_state();
    state.rip = 0x100;
    state.rflags |= RFlags::VIRTUAL_8086_MODE;
    let segment = Segment { selector: 0x1234, base: 0x1_2340, limit: 0xffff, access_rights: 0xf3 };
    state.segments[..6].fill(segment);
    subject(&state)
}

/// The 32-bit kernel with PAE paging.
fn pae() -> Subject {
    let mut state = protected_state();
    state.cr4 = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION;
    let mut subject = subject(&state);
    subject.set(field::GUEST_PDPTE0, (BEYOND / 2) | 1);
    subject.set(field::GUEST_PDPTE1, !1);
    subject
}

/// A change to a valid VMCS, and the rules that it breaks: these and no others.
struct Case {
    from: fn() -> Subject,
    breaks: BTreeSet<String>,
    change: Box<dyn Fn(&mut Subject)>,
}

fn case(from: fn() -> Subject, breaks: impl Into<String>, change: impl Fn(&mut Subject) + 'static) -> Case {
    Case { from, breaks: BTreeSet::from([breaks.into()]), change: Box::new(change) }
}

impl Case {
    /// The change breaks `rule` too.
    fn also(mut self, rule: impl Into<String>) -> Self {
        self.breaks.insert(rule.into());
        self
    }

    fn subject(&self) -> Subject {
        let mut subject = (self.from)();
        (self.change)(&mut subject);
        subject
    }
}

fn assert_each_breaks_its_rules(cases: &[Case]) {
    for case in cases {
        let broken: BTreeSet<_> = case.subject().broken().iter().map(|v| v.rule.to_owned()).collect();
        assert_eq!(broken, case.breaks);
    }
}

/// Asserts that `change` leaves a valid VMCS valid.
fn assert_allowed(from: fn() -> Subject, change: impl Fn(&mut Subject)) {
    let mut subject = from();
    change(&mut subject);
    assert_eq!(subject.broken(), []);
}

#[test]
fn valid_guests_break_no_rule() {
    for guest in [long, real, protected, restricted, virtual_8086, pae] {
        assert_eq!(guest().broken(), []);
    }
}

#[test]
fn every_rule_is_broken_by_some_case() {
    let sections = [
        execution_controls::cases(),
        entry_controls::cases(),
        host_state::cases(),
        guest_registers::cases(),
        guest_segments::cases(),
        guest_state::cases(),
    ];
    let (mut evaluated, mut broken) = (BTreeSet::new(), BTreeSet::new());
    for case in sections.iter().flatten() {
        let Subject { vmcs, capabilities } = case.subject();
        evaluate(&vmcs, &capabilities, PHYSICAL_BITS, &mut |violation, holds| {
            evaluated.insert(violation.rule);
            if !holds {
                broken.insert(violation.rule);
            }
        });
    }
    let untested: Vec<_> = evaluated.difference(&broken).collect();
    assert!(untested.is_empty(), "no case breaks {untested:#?}");
    assert!(evaluated.len() > 200, "{} rules", evaluated.len());
}

#[test]
fn a_violation_names_rule_value_and_section() {
    let mut subject = long();
    subject.set(field::GUEST_TR_ACCESS_RIGHTS, 0x89);
    let broken = subject.broken();
    let text = broken.first().map(ToString::to_string);
    let expected = "guest TR must be a busy TSS (in IA-32e mode, a 64-bit one) (is 0x89; SDM Vol. 3C, \
                    \"Checks on Guest Segment Registers\")";
    assert_eq!(text.as_deref(), Some(expected));
}

#[test]
fn any_vmcs_is_checked_without_overflow() {
    for value in [0, u64::MAX, 1 << 63, 0x5555_5555_5555_5555] {
        for bits in [0, 1, 32, 63, 64, u8::MAX] {
            let mut vmcs = FakeVmcs::default();
            for (_, encoding) in field::ALL {
                vmcs.fields.insert(*encoding, value);
            }
            assert!(!check(&vmcs, &capabilities(), bits).is_empty());
        }
    }
}
