//! The backend on a VMCS in a map.

use super::*;
use crate::LiveRegisters;
use crate::controls::tests::generous;
use crate::fake_vmcs::FakeVmcs;
use arch::TableRegister;
use vmm::EventKind;

fn backend() -> VmxBackend<FakeVmcs> {
    let controls = Controls::negotiate(&generous()).expect("all is allowed");
    let allowed = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION | Cr4Flags::PAGE_SIZE_EXTENSION;
    VmxBackend::new(FakeVmcs::default(), controls, allowed, 5)
}

#[test]
fn the_guest_sees_its_own_cr0_and_the_processor_sees_ne() {
    let mut backend = backend();
    let wanted = Cr0Flags::PROTECTED_MODE_ENABLE | Cr0Flags::CACHE_DISABLE | Cr0Flags::EXTENSION_TYPE;
    backend.set_cr0(wanted);
    assert_eq!(backend.cr0(), wanted);
    let real = Cr0Flags::from_bits_truncate(backend.vmcs().read(field::GUEST_CR0));
    assert!(real.contains(Cr0Flags::NUMERIC_ERROR) && !real.contains(Cr0Flags::CACHE_DISABLE));
}

#[test]
fn registers_that_stay_in_the_processor_take_what_wrmsr_takes() {
    let mut backend = backend();
    let kernel = 0xffff_8000_0000_1000;
    for (msr, value) in
        [(Msr::STAR, u64::MAX), (Msr::LSTAR, kernel), (Msr::CSTAR, kernel), (Msr::FMASK, 0x4_7700)]
    {
        assert!(backend.write_msr(msr, value), "{msr}");
    }
    let live = backend.vmcs().live;
    assert_eq!((live.star, live.lstar, live.cstar, live.fmask), (u64::MAX, kernel, kernel, 0x4_7700));
    for (msr, value) in
        [(Msr::LSTAR, 1 << 47), (Msr::CSTAR, 1 << 63), (Msr::FMASK, 1 << 32), (Msr::TSC_AUX, 1 << 32)]
    {
        assert!(!backend.write_msr(msr, value), "{msr}");
    }
    assert_eq!(backend.vmcs().live, live);
}

#[test]
fn the_guest_does_not_see_vmxe() {
    let mut backend = backend();
    backend.set_cr4(Cr4Flags::PAGE_SIZE_EXTENSION);
    assert_eq!(backend.cr4(), Cr4Flags::PAGE_SIZE_EXTENSION);
    assert_ne!(backend.vmcs().read(field::GUEST_CR4) & Cr4Flags::VIRTUAL_MACHINE_EXTENSIONS.bits(), 0);
}

#[test]
fn every_register_bit_that_paging_depends_on_is_told() {
    let told = |cr0, cr4, efer| {
        let mut backend = backend();
        backend.set_cr0(cr0);
        backend.set_cr4(cr4);
        backend.set_efer(efer);
        backend.paging_registers()
    };
    let (cr0, cr4, efer) = (Cr0Flags::empty(), Cr4Flags::empty(), EferFlags::empty());
    let mut seen = vec![told(cr0, cr4, efer)];
    for bit in [Cr0Flags::PROTECTED_MODE_ENABLE, Cr0Flags::WRITE_PROTECT, Cr0Flags::PAGING] {
        seen.push(told(bit, cr4, efer));
    }
    // Of those of CR4, the ones that this guest may have.
    for bit in [Cr4Flags::PHYSICAL_ADDRESS_EXTENSION, Cr4Flags::PAGE_SIZE_EXTENSION] {
        seen.push(told(cr0, bit, efer));
    }
    for bit in [EferFlags::LONG_MODE_ENABLE, EferFlags::LONG_MODE_ACTIVE, EferFlags::NO_EXECUTE_ENABLE] {
        seen.push(told(cr0, cr4, bit));
    }
    for (index, registers) in seen.iter().enumerate() {
        assert!(!seen[..index].contains(registers), "{index}");
    }
}

#[test]
fn long_mode_follows_efer_into_the_entry_controls() {
    let mut backend = backend();
    backend.set_efer(EferFlags::LONG_MODE_ENABLE | EferFlags::LONG_MODE_ACTIVE);
    assert_ne!(backend.vmcs().read(field::VM_ENTRY_CONTROLS) & 1 << 9, 0);
    backend.set_efer(EferFlags::empty());
    assert_eq!(backend.vmcs().read(field::VM_ENTRY_CONTROLS) & 1 << 9, 0);
}

#[test]
fn the_deadline_becomes_a_bounded_timer_value() {
    let mut backend = backend();
    backend.run(Tsc(1000), Tsc(1000 + 64));
    assert_eq!(backend.vmcs().read(field::PREEMPTION_TIMER), 2);
    backend.run(Tsc(1000), Tsc(1));
    assert_eq!(backend.vmcs().read(field::PREEMPTION_TIMER), 0);
    backend.run(Tsc(1000), Tsc::NEVER);
    assert_ne!(backend.vmcs().read(field::PREEMPTION_TIMER), 0);
}

#[test]
fn advancing_ends_the_shadow_of_sti_and_steps_under_tf() {
    let mut backend = backend();
    backend.vmcs.set(field::GUEST_RIP, 0x1000);
    backend.vmcs.set(field::EXIT_INSTRUCTION_LENGTH, 3);
    backend.vmcs.set(field::GUEST_INTERRUPTIBILITY, 1 | 8);
    backend.vmcs.set(field::GUEST_RFLAGS, 0x102);
    backend.advance();
    assert_eq!(backend.rip(), 0x1003);
    assert_eq!(backend.interruptibility(), Interruptibility::NMI);
    assert_eq!(backend.vmcs().read(field::GUEST_PENDING_DEBUG_EXCEPTIONS), PENDING_BS);
}

#[test]
fn the_resume_flag_ends_with_its_instruction() {
    let mut backend = backend();
    backend.vmcs.set(field::GUEST_RFLAGS, 0x1_0046);
    backend.advance_to(0x2000);
    assert_eq!(backend.rflags().bits(), 0x46);
    assert_eq!(backend.vmcs().read(field::GUEST_PENDING_DEBUG_EXCEPTIONS), 0);
}

#[test]
fn an_event_that_an_ept_violation_cut_off_is_delivered_again() {
    let mut backend = backend();
    backend.vmcs.set(field::EXIT_REASON, 48);
    backend.vmcs.set(field::IDT_VECTORING_INFO, 0x8000_0b0e);
    backend.vmcs.set(field::IDT_VECTORING_ERROR_CODE, 6);
    backend.run(Tsc(0), Tsc(1));
    backend.recover_event();
    assert!(backend.has_pending_event());
    assert_eq!(backend.vmcs().read(field::VM_ENTRY_INTERRUPTION_INFO), 0x8000_0b0e);
    assert_eq!(backend.vmcs().read(field::VM_ENTRY_EXCEPTION_ERROR_CODE), 6);
}

#[test]
fn a_cut_off_nmi_does_not_block_itself() {
    let mut backend = backend();
    backend.vmcs.set(field::EXIT_REASON, 48);
    backend.vmcs.set(field::IDT_VECTORING_INFO, 0x8000_0202);
    backend.vmcs.set(field::GUEST_INTERRUPTIBILITY, 8);
    backend.run(Tsc(0), Tsc(1));
    backend.recover_event();
    assert_eq!(backend.interruptibility(), Interruptibility::empty());
}

#[test]
fn a_fault_while_a_fault_is_delivered_becomes_a_double_fault() {
    let mut backend = backend();
    backend.inject(Event::Exception(Exception::GeneralProtection(0)));
    backend.inject(Event::Exception(Exception::SegmentNotPresent(8)));
    assert_eq!(backend.vmcs().read(field::VM_ENTRY_INTERRUPTION_INFO) & 0xff, 8);
}

#[test]
fn real_mode_gets_no_error_code() {
    let mut backend = backend();
    backend.restore(&CpuState::reset());
    backend.inject(Event::Exception(Exception::GeneralProtection(0)));
    assert_eq!(backend.vmcs().read(field::VM_ENTRY_INTERRUPTION_INFO), 0x8000_030d);
}

#[test]
fn a_debug_exception_in_the_shadow_of_mov_ss_keeps_the_step_pending() {
    let mut backend = backend();
    backend.vmcs.set(field::GUEST_RFLAGS, 0x102);
    backend.vmcs.set(field::GUEST_INTERRUPTIBILITY, 2);
    backend.inject(Event::Exception(Exception::Debug { dr6: 1 }));
    assert_eq!(backend.vmcs().read(field::GUEST_PENDING_DEBUG_EXCEPTIONS), PENDING_BS);
}

fn vectors(list: &[u8]) -> VectorSet {
    let mut set = VectorSet::EMPTY;
    for number in list {
        set.insert(Vector(*number));
    }
    set
}

fn lent(task_priority: u8, in_service: &[u8], requested: &[u8]) -> VmxBackend<FakeVmcs> {
    let mut backend = backend();
    let registers =
        ApicRegisters { task_priority, in_service: vectors(in_service), requested: vectors(requested) };
    backend.lend_apic(Lending::Msrs, &registers, vectors(&[0x31, 0xff]));
    assert_eq!(backend.lent_apic(), registers);
    backend
}

#[test]
fn lent_registers_are_in_the_page_where_the_manual_has_them() {
    let mut backend = lent(0x25, &[0x31, 0x52], &[0x41, 0xfe]);
    assert_eq!(backend.vmcs().apic_mode, ApicMode::Virtual);
    assert_eq!(backend.lent_register(0x80), 0x25, "TPR");
    assert_eq!(backend.lent_register(0x110), 1 << 0x11, "ISR, vectors 32 to 63");
    assert_eq!(backend.lent_register(0x120), 1 << 0x12, "ISR, vectors 64 to 95");
    assert_eq!(backend.lent_register(0x1f0), 1 << 31, "TMR, vectors 224 to 255");
    assert_eq!(backend.lent_register(0x270), 1 << 30, "IRR, vectors 224 to 255");
    assert_eq!(backend.vmcs().read(field::GUEST_INTERRUPT_STATUS), 0x52fe, "SVI and RVI");
    assert_eq!(backend.vmcs().read(field::EOI_EXIT_BITMAP0), 1 << 0x31);
    assert_eq!(backend.vmcs().read(field::EOI_EXIT_BITMAP3), 1 << 63);
    // What the processor may have done since.
    backend.vmcs_mut().write_apic(0x80, 0x10);
    backend.vmcs_mut().write_apic(0x120, 0);
    let back = backend.take_back_apic();
    assert_eq!(backend.vmcs().apic_mode, ApicMode::Software);
    let expected = ApicRegisters {
        task_priority: 0x10,
        in_service: vectors(&[0x31]),
        requested: vectors(&[0x41, 0xfe]),
    };
    assert_eq!(back, expected);
}

#[test]
fn a_page_is_lent_with_the_registers_that_software_keeps() {
    let mut backend = backend();
    assert!(backend.lends_page());
    let registers = ApicRegisters { task_priority: 0x30, ..ApicRegisters::default() };
    backend.lend_apic(Lending::Page, &registers, VectorSet::EMPTY);
    assert_eq!(backend.vmcs().apic_mode, ApicMode::Page);
    backend.set_lent_register(0xf0, 0x1ff);
    assert_eq!(backend.vmcs().page[&0xf0], 0x1ff);
    assert_eq!(backend.lent_register(0x80), 0x30);
    assert_eq!(backend.take_back_apic(), registers);
    assert_eq!(backend.vmcs().apic_mode, ApicMode::Software);
}

#[test]
fn a_request_raises_rvi_and_never_lowers_it() {
    let mut backend = lent(0, &[0x21], &[]);
    backend.request(vectors(&[0x51, 0x33]));
    assert_eq!(backend.vmcs().read(field::GUEST_INTERRUPT_STATUS), 0x2151);
    backend.request(vectors(&[0x44]));
    assert_eq!(backend.vmcs().read(field::GUEST_INTERRUPT_STATUS), 0x2151);
    assert_eq!(backend.lent_apic().requested, vectors(&[0x33, 0x44, 0x51]));
    backend.request(VectorSet::EMPTY);
    assert_eq!(backend.vmcs().read(field::GUEST_INTERRUPT_STATUS), 0x2151);
}

#[test]
fn what_waits_must_outrank_task_priority_and_service_by_class() {
    let none = VectorSet::EMPTY;
    assert!(!lent(0, &[], &[]).interrupt_waits(none));
    assert!(lent(0, &[], &[0x31]).interrupt_waits(none));
    assert!(!lent(0x30, &[], &[0x3f]).interrupt_waits(none), "class of the task priority");
    assert!(!lent(0, &[0x31], &[0x3f]).interrupt_waits(none), "class in service");
    assert!(lent(0x2f, &[0x21], &[0x30]).interrupt_waits(none));
    assert!(lent(0x2f, &[0x21], &[]).interrupt_waits(vectors(&[0x30])), "one that is not in the page yet");
}

#[test]
fn level_triggered_vectors_are_written_only_when_they_change() {
    let mut backend = lent(0, &[], &[]);
    backend.vmcs_mut().set(field::EOI_EXIT_BITMAP0, 7_u64);
    backend.set_level_triggered(vectors(&[0x31, 0xff]));
    assert_eq!(backend.vmcs().read(field::EOI_EXIT_BITMAP0), 7, "as before: not written");
    backend.set_level_triggered(vectors(&[0x32]));
    assert_eq!(backend.vmcs().read(field::EOI_EXIT_BITMAP0), 1 << 0x32);
    assert_eq!(backend.vmcs().read(field::EOI_EXIT_BITMAP3), 0);
    assert_eq!((backend.lent_register(0x190), backend.lent_register(0x1f0)), (1 << 0x12, 0));
}

/// A state in which every register differs from its reset value and from every other.
fn busy_state() -> CpuState {
    let reset = CpuState::reset();
    let mut state = CpuState {
        rip: 0x1001,
        rflags: RFlags::from_bits_retain(0x202),
        cr0: reset.cr0 | Cr0Flags::PROTECTED_MODE_ENABLE,
        cr2: 0x1002,
        cr3: 0x3000,
        cr4: Cr4Flags::PHYSICAL_ADDRESS_EXTENSION,
        efer: EferFlags::SYSTEM_CALL_EXTENSIONS,
        pdptes: [0x4001, 0x5001, 0x6001, 0x7001],
        gdtr: TableRegister { base: 0x1004, limit: 0x11 },
        idtr: TableRegister { base: 0x1005, limit: 0x12 },
        breakpoints: [0x21, 0x22, 0x23, 0x24],
        dr6: 0xffff_4ff1,
        dr7: 0x701,
        pending_debug: PENDING_BREAKPOINT | 1,
        pat: 0x0606_0606_0606_0606,
        sysenter_cs: 0x31,
        sysenter_esp: 0x32,
        sysenter_eip: 0x33,
        star: 0x34,
        lstar: 0x35,
        cstar: 0x36,
        fmask: 0x37,
        kernel_gs_base: 0x38,
        tsc_aux: 0x39,
        interruptibility: Interruptibility::STI,
        ..reset
    };
    for (number, register) in (0x40..).zip(&mut state.gprs.0) {
        *register = number;
    }
    for (number, segment) in (0x60_u16..).zip(&mut state.segments) {
        segment.selector = number;
        segment.base = u64::from(number) << 8;
    }
    state
}

#[test]
fn saved_state_restores_to_the_same_state() {
    let state = busy_state();
    let mut first = backend();
    first.restore(&state);
    let saved = first.save();
    assert_eq!(saved, state);
    let mut second = backend();
    second.inject(Event::Interrupt(Vector(9)));
    second.restore(&saved);
    assert!(!second.has_pending_event());
    assert_eq!(second.save(), state);
    assert_eq!(second.vmcs.live.breakpoints, state.breakpoints);
    assert_eq!(second.vmcs.read(field::GUEST_PDPTE3), 0x7001);
    assert_eq!(second.vmcs.read(field::GUEST_SYSENTER_EIP), 0x33);
}

#[test]
fn restoring_reset_state_leaves_nothing_of_another() {
    let mut backend = backend();
    backend.restore(&busy_state());
    backend.restore(&CpuState::reset());
    assert_eq!(backend.save(), CpuState::reset());
    assert_eq!(backend.vmcs.live, LiveRegisters::default());
}

#[test]
fn an_injected_fault_is_saved_with_its_error_code() {
    let mut original = backend();
    original.restore(&busy_state());
    original.inject(Event::Exception(Exception::StackFault(0x18)));
    let event = original.pending_event().expect("pending");
    assert_eq!((event.kind, event.error_code), (EventKind::HardwareException, Some(0x18)));
    let mut copy = backend();
    copy.restore(&original.save());
    copy.set_pending_event(Some(event));
    assert!(copy.has_pending_event());
    for (field, value) in
        [(field::VM_ENTRY_INTERRUPTION_INFO, 0x8000_0b0c), (field::VM_ENTRY_EXCEPTION_ERROR_CODE, 0x18)]
    {
        assert_eq!(copy.vmcs.read(field), value);
    }
    copy.set_pending_event(None);
    assert_eq!((copy.pending_event(), copy.has_pending_event()), (None, false));
}

#[test]
fn a_cut_off_software_interrupt_is_saved_with_its_length() {
    let mut original = backend();
    original.vmcs.set(field::EXIT_REASON, 48);
    original.vmcs.set(field::IDT_VECTORING_INFO, 0x8000_0480);
    original.vmcs.set(field::EXIT_INSTRUCTION_LENGTH, 2);
    original.run(Tsc(0), Tsc(1));
    original.recover_event();
    let event = original.pending_event().expect("pending");
    assert_eq!(
        (event.kind, event.vector, event.instruction_length),
        (EventKind::SoftwareInterrupt, Vector(0x80), 2)
    );
    let mut copy = backend();
    copy.set_pending_event(Some(event));
    assert_eq!(copy.vmcs.read(field::VM_ENTRY_INTERRUPTION_INFO), 0x8000_0480);
    assert_eq!(copy.vmcs.read(field::VM_ENTRY_INSTRUCTION_LENGTH), 2);
}

#[test]
fn int1_is_delivered_as_the_instruction_that_it_is() {
    let mut backend = backend();
    for (info, is_int1) in [(0x8000_0301, false), (0x8000_0501, true)] {
        backend.vmcs.set(field::EXIT_REASON, 0);
        backend.vmcs.set(field::EXIT_INTERRUPTION_INFO, info);
        backend.vmcs.set(field::EXIT_INSTRUCTION_LENGTH, 1);
        backend.run(Tsc(0), Tsc(1));
        assert_eq!((backend.deliver_int1(), backend.has_pending_event()), (is_int1, is_int1));
    }
    assert_eq!(backend.vmcs.read(field::VM_ENTRY_INTERRUPTION_INFO), 0x8000_0501);
    assert_eq!(backend.vmcs.read(field::VM_ENTRY_INSTRUCTION_LENGTH), 1);
}

#[test]
fn a_delivered_event_is_not_saved() {
    let mut backend = backend();
    backend.inject(Event::Nmi);
    backend.vmcs.set(field::EXIT_REASON, 12);
    backend.run(Tsc(0), Tsc(1));
    assert_eq!(backend.pending_event(), None);
}

#[test]
fn extended_state_survives() {
    let mut original = backend();
    original.vmcs.extended[600] = 0x5a;
    let saved = original.save_extended();
    assert_eq!(saved.layout(), original.extended_layout());
    let mut copy = backend();
    copy.restore_extended(&saved);
    assert_eq!(copy.vmcs.extended[600], 0x5a);
    assert_eq!(copy.save_extended(), saved);
}

#[test]
fn a_restored_shadow_has_its_step_pending_exactly_under_tf() {
    let mut backend = backend();
    let shadowed = CpuState { interruptibility: Interruptibility::MOV_SS, ..CpuState::reset() };
    backend.restore(&CpuState { pending_debug: PENDING_BS, ..shadowed });
    assert!(!backend.has_pending_trap());
    backend.restore(&CpuState { rflags: RFlags::from_bits_retain(0x102), ..shadowed });
    assert!(backend.has_pending_trap());
    assert_eq!(backend.save().pending_debug, PENDING_BS);
}

#[test]
fn an_interrupt_or_nmi_makes_way_for_an_exception() {
    for event in [Event::Interrupt(Vector(0x31)), Event::Nmi] {
        let mut backend = backend();
        backend.inject(event);
        assert_eq!(backend.displace_event(), Some(event));
        assert!(!backend.has_pending_event());
        assert_eq!(backend.displace_event(), None);
    }
}

#[test]
fn an_exception_stays_and_combines_with_the_next() {
    let mut backend = backend();
    backend.inject(Event::Exception(Exception::GeneralProtection(0)));
    assert_eq!(backend.displace_event(), None);
    assert!(backend.has_pending_event());
}

#[test]
fn machine_checks_stay_on_whatever_the_guest_says() {
    let controls = Controls::negotiate(&generous()).expect("all is allowed");
    let mut backend = VmxBackend::new(FakeVmcs::default(), controls, Cr4Flags::MACHINE_CHECK_EXCEPTION, 5);
    backend.set_cr4(Cr4Flags::empty());
    assert_eq!(backend.cr4(), Cr4Flags::empty());
    let real = Cr4Flags::from_bits_truncate(backend.vmcs.read(field::GUEST_CR4));
    assert!(real.contains(Cr4Flags::MACHINE_CHECK_EXCEPTION));
    backend.set_cr4(Cr4Flags::MACHINE_CHECK_EXCEPTION);
    assert_eq!(backend.cr4(), Cr4Flags::MACHINE_CHECK_EXCEPTION);
}
