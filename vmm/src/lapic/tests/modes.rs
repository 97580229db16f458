//! The modes, what each change keeps, and accesses of every size.

use super::*;

const LVT_THERMAL: u16 = 0x330;
const LVT_PERFORMANCE: u16 = 0x340;
const ENTRIES: [u16; 6] = [LVT_TIMER, LVT_THERMAL, LVT_PERFORMANCE, LVT_LINT0, LVT_LINT1, LVT_ERROR];

fn flags(mode: Mode) -> u64 {
    match mode {
        Mode::Disabled => 0,
        Mode::XApic => ENABLED,
        Mode::X2Apic => ENABLED | X2APIC,
    }
}

/// SDM Vol. 3A, "x2APIC State Transitions".
#[test]
fn every_transition_is_legal_or_faults_as_the_manual_says() {
    let all = [Mode::Disabled, Mode::XApic, Mode::X2Apic];
    let illegal = [(Mode::Disabled, Mode::X2Apic), (Mode::X2Apic, Mode::XApic)];
    for from in all {
        let mut apic = LocalApic::new(config());
        match from {
            Mode::Disabled => apic.set_base(DEFAULT_BASE).expect("legal"),
            Mode::XApic => {}
            Mode::X2Apic => apic.set_base(DEFAULT_BASE | flags(Mode::X2Apic)).expect("legal"),
        }
        for to in all {
            let mut changed = apic.clone();
            let result = changed.set_base(DEFAULT_BASE | flags(to));
            assert_eq!(result.is_err(), illegal.contains(&(from, to)), "{from:?} to {to:?}");
            assert_eq!(changed.mode(), if result.is_ok() { to } else { from });
        }
        let before = apic.clone();
        assert_eq!(apic.set_base(DEFAULT_BASE | X2APIC), Err(GeneralProtection), "from {from:?}");
        assert_eq!(apic, before);
    }
}

#[test]
fn x2apic_mode_keeps_all_but_logical_destination_and_the_command_registers_high_half() {
    let mut apic = apic();
    write(&mut apic, TPR, 0x20);
    write(&mut apic, LVT_TIMER, 0x2_00ec);
    write(&mut apic, DIVIDE, 0xb);
    write(&mut apic, LDR, 0x0800_0000);
    write(&mut apic, DFR, 0);
    write(&mut apic, ICR_HIGH, 0xff00_0000);
    write(&mut apic, INITIAL, 1_000_000);
    accept(&mut apic, 0x61);
    apic.acknowledge(Vector(0x61));
    accept(&mut apic, 0x62);
    apic.set_base(DEFAULT_BASE | BOOTSTRAP | ENABLED | X2APIC).expect("legal");
    let expected = [
        (ID, 3),
        (TPR, 0x20),
        (PPR, 0x60),
        (LDR, 1 << 3),
        (SVR, 0x1ff),
        (LVT_TIMER, 0x2_00ec),
        (DIVIDE, 0xb),
        (INITIAL, 1_000_000),
        (ICR_LOW, 0),
        (ISR + 0x30, 1 << 1),
        (IRR + 0x30, 1 << 2),
    ];
    for (offset, value) in expected {
        assert_eq!(apic.read_msr(msr(offset), NOW), Ok(value), "{offset:#x}");
    }
    assert!(apic.timer_deadline().is_some(), "the timer goes on");
    assert_eq!(apic.end_of_interrupt(), Effect::None);
    assert_eq!(apic.pending_vector(), Some(Vector(0x62)));
}

#[test]
fn leaving_x2apic_mode_by_way_of_disabled_is_a_reset_without_firmware() {
    let mut apic = x2apic();
    apic.write_msr(msr(LVT_TIMER), 0x4_0055, NOW).expect("legal");
    apic.write_msr(Msr::TSC_DEADLINE, NOW.0 + 100, NOW).expect("legal");
    apic.set_base(DEFAULT_BASE | BOOTSTRAP).expect("legal");
    apic.set_base(DEFAULT_BASE | BOOTSTRAP | ENABLED).expect("legal");
    let mut expected = LocalApic::new(config());
    write(&mut expected, LVT_LINT0, 0x1_0000);
    assert_eq!(apic, expected);
}

#[test]
fn the_page_moves_with_the_base_and_only_in_xapic_mode() {
    let mut apic = apic();
    for page in [0x1000, 0xfed4_0000, 0x7f_ffff_f000] {
        apic.set_base(page | ENABLED).expect("any page");
        assert_eq!(apic.mmio_page(), Some(Gpa::new(page)));
        assert_eq!(read(&mut apic, SVR), 0x1ff, "the registers are as before");
    }
    apic.set_base(0x1000 | ENABLED | X2APIC).expect("legal");
    assert_eq!(apic.mmio_page(), None);
    let state = apic.save();
    assert_eq!(LocalApic::restore(config(), &state).map(|apic| apic.base()), Ok(0x1c00));
}

#[test]
fn the_bootstrap_flag_is_softwares_to_write_and_init_knows_better() {
    let mut apic = apic();
    apic.set_base(DEFAULT_BASE | ENABLED).expect("legal");
    assert_eq!(apic.base() & BOOTSTRAP, 0);
    apic.init();
    assert!(apic.accepts_external_interrupt(), "it is the bootstrap processor still");
    apic.reset();
    assert_eq!(apic.base() & BOOTSTRAP, BOOTSTRAP);
}

#[test]
fn every_entry_is_masked_by_reset_and_by_software_disable_and_keeps_its_own_bits() {
    let own = [0x7_00ff, 0x1_07ff, 0x1_07ff, 0x1_a7ff, 0x1_a7ff, 0x1_00ff];
    let mut apic = LocalApic::new(Config { role: Role::Application, ..config() });
    for offset in ENTRIES {
        assert_eq!(read(&mut apic, offset), 0x1_0000, "{offset:#x}");
        write(&mut apic, offset, 0x45);
        assert_eq!(read(&mut apic, offset), 0x1_0045, "disabled by software: {offset:#x}");
    }
    write(&mut apic, SVR, 0x1ff);
    for (offset, bits) in ENTRIES.into_iter().zip(own) {
        assert_eq!(read(&mut apic, offset), 0x1_0045, "enabling unmasks nothing: {offset:#x}");
        write(&mut apic, offset, u32::MAX);
        assert_eq!(read(&mut apic, offset), bits, "{offset:#x}");
        write(&mut apic, offset, 0x45);
        assert_eq!(read(&mut apic, offset), 0x45, "{offset:#x}");
    }
    write(&mut apic, SVR, 0xff);
    for offset in ENTRIES {
        assert_eq!(read(&mut apic, offset), 0x1_0045, "{offset:#x}");
    }
}

#[test]
fn there_is_no_entry_for_corrected_machine_checks() {
    let mut apic = apic();
    assert_eq!(read(&mut apic, VERSION) >> 16 & 0xff, 5, "six entries");
    write(&mut apic, 0x2f0, 0x45);
    write(&mut apic, ESR, 0);
    assert_eq!((read(&mut apic, 0x2f0), read(&mut apic, ESR)), (0, 1 << 7));
    assert_eq!(x2apic().read_msr(msr(0x2f0), NOW), Err(GeneralProtection));
}

#[test]
fn the_focus_bit_is_kept_in_xapic_mode_and_reserved_in_x2apic_mode() {
    let mut apic = apic();
    write(&mut apic, SVR, 0x3fe);
    assert_eq!(read(&mut apic, SVR), 0x3fe);
    assert_eq!(LocalApic::restore(config(), &apic.save()), Ok(apic));
    assert_eq!(x2apic().write_msr(msr(SVR), 0x3ff, NOW), Err(GeneralProtection));
}

#[test]
fn the_arbitration_priority_follows_the_manuals_formula() {
    let cases = [
        (0, 0, 0, 0),
        (0x35, 0, 0, 0x35),
        (0x35, 0x30, 0, 0x35),
        (0x35, 0x40, 0, 0x40),
        (0x35, 0x20, 0x60, 0x20),
        (0x7f, 0x20, 0x70, 0x70),
        (0x50, 0x20, 0x90, 0x20),
        (0x60, 0x20, 0xc0, 0x40),
    ];
    for (task, requested, in_service, expected) in cases {
        let mut apic = apic();
        if in_service != 0 {
            accept(&mut apic, in_service);
            apic.acknowledge(Vector(in_service));
        }
        if requested != 0 {
            accept(&mut apic, requested);
        }
        write(&mut apic, TPR, task);
        assert_eq!(read(&mut apic, APR), expected, "{task:#x} {requested:#x} {in_service:#x}");
    }
}

#[test]
fn every_access_to_the_page_is_defined() {
    for offset in 0..0x1000_u16 {
        for width in [Width::One, Width::Two, Width::Four, Width::Eight] {
            let mut apic = apic();
            let whole = apic.read_mmio(offset & !0xf, Width::Four, NOW);
            let value = apic.read_mmio(offset, width, NOW);
            let expected =
                if offset & 0xf < 4 { (whole >> ((offset & 0xf).min(3) * 8)) & width.mask() } else { 0 };
            assert_eq!(value, expected, "{offset:#x} {width:?}");
            let before = apic.clone();
            let effect = apic.write_mmio(offset, width, u64::MAX, NOW);
            if offset & 0xf != 0 || width != Width::Four {
                assert_eq!((effect, &apic), (Effect::None, &before), "{offset:#x} {width:?}");
            }
        }
    }
}

#[test]
fn a_read_of_what_is_not_there_is_an_error_once() {
    let mut apic = apic();
    write(&mut apic, LVT_ERROR, 0xfe);
    for offset in [0x000, 0x010, 0x040, 0x290, 0x2e0, 0x3a0, 0x3d0, SELF_IPI, 0x400, 0xff0] {
        assert_eq!(read(&mut apic, offset), 0, "{offset:#x}");
        assert_eq!(apic.pending_vector(), Some(Vector(0xfe)), "{offset:#x}");
        apic.acknowledge(Vector(0xfe));
        apic.end_of_interrupt();
        read(&mut apic, offset);
        assert_eq!(apic.pending_vector(), None, "not again before the register is written");
        write(&mut apic, ESR, 0x55);
        assert_eq!(read(&mut apic, ESR), 1 << 7);
    }
    assert_eq!(read(&mut apic, 0xc0), 0, "remote read has its register and no error");
    write(&mut apic, ESR, 0);
    assert_eq!(read(&mut apic, ESR), 0);
}

#[test]
fn the_lowest_bits_of_the_task_priority_show_and_do_not_count() {
    let mut apic = apic();
    accept(&mut apic, 0x40);
    write(&mut apic, TPR, 0x3f);
    assert_eq!((read(&mut apic, PPR), apic.pending_vector()), (0x3f, Some(Vector(0x40))));
    write(&mut apic, TPR, 0xffff_ff41);
    assert_eq!((read(&mut apic, TPR), read(&mut apic, PPR), apic.cr8()), (0x41, 0x41, 4));
    assert_eq!(apic.pending_vector(), None);
    apic.set_cr8(3);
    assert_eq!(read(&mut apic, TPR), 0x30, "CR8 clears the lowest bits");
}
