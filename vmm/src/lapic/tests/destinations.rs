//! Who a message is for, and what the interrupt command register makes of what is written.

use super::*;

fn at(id: u32, mode: Mode) -> LocalApic {
    let mut apic = LocalApic::new(Config { id, ..config() });
    match mode {
        Mode::XApic => {}
        Mode::Disabled => apic.set_base(DEFAULT_BASE).expect("legal"),
        Mode::X2Apic => apic.set_base(DEFAULT_BASE | ENABLED | X2APIC).expect("legal"),
    }
    apic
}

fn sent(apic: &mut LocalApic, value: u64) -> Option<Ipi> {
    let effect = match apic.mode() {
        Mode::X2Apic => apic.write_msr(msr(ICR_LOW), value, NOW).expect("legal"),
        Mode::XApic | Mode::Disabled => {
            let [low, high] =
                [value & 0xffff_ffff, value >> 32].map(|half| u32::try_from(half).expect("a half"));
            write(apic, ICR_HIGH, high);
            write(apic, ICR_LOW, low)
        }
    };
    match effect {
        Effect::SendIpi(ipi) => Some(ipi),
        Effect::None | Effect::BroadcastEoi(_) => None,
    }
}

#[test]
fn flat_addresses_are_bits_and_all_ones_is_everyone() {
    for own in 0..=255_u32 {
        let mut apic = at(0, Mode::XApic);
        write(&mut apic, LDR, own << 24);
        for address in 0..=255_u32 {
            let expected = address & own != 0 || address == 0xff;
            assert_eq!(apic.matches(Destination::Logical(address)), expected, "{address:#x} at {own:#x}");
        }
    }
}

#[test]
fn cluster_addresses_name_a_cluster_and_bits_in_it() {
    for own in 0..=255_u32 {
        let mut apic = at(0, Mode::XApic);
        write(&mut apic, DFR, 0x0fff_ffff);
        write(&mut apic, LDR, own << 24);
        for address in 0..=255_u32 {
            let cluster = address >> 4 == own >> 4 || address >> 4 == 0xf;
            let expected = cluster && address & own & 0xf != 0 || address == 0xff;
            assert_eq!(apic.matches(Destination::Logical(address)), expected, "{address:#x} at {own:#x}");
        }
    }
}

#[test]
fn the_x2apic_logical_address_follows_from_the_id() {
    for (id, logical) in [(0, 1), (1, 2), (15, 0x8000), (16, 0x1_0001), (0x25, 0x2_0020), (254, 0xf_4000)] {
        let mut apic = at(id, Mode::X2Apic);
        assert_eq!(apic.read_msr(msr(LDR), NOW), Ok(logical));
        let own = u32::try_from(logical).expect("32 bits");
        assert!(apic.matches(Destination::Logical(own)) && apic.matches(Destination::Logical(own | 0xffff)));
        assert!(apic.matches(Destination::Logical(u32::MAX)), "everyone");
        assert!(!apic.matches(Destination::Logical(own ^ 0x10_0000)), "another cluster");
        assert!(!apic.matches(Destination::Logical(own & 0xffff_0000)), "nobody of the cluster");
    }
}

#[test]
fn physical_addresses_are_ids_and_all_ones_is_everyone() {
    for mode in [Mode::XApic, Mode::X2Apic] {
        let apic = at(0x12, mode);
        assert!(apic.matches(Destination::Physical(0x12)));
        assert!(!apic.matches(Destination::Physical(0x13)) && !apic.matches(Destination::Physical(0x112)));
        assert!(apic.matches(Destination::Physical(0xff)), "an I/O APIC's broadcast: {mode:?}");
    }
    assert!(at(0x12, Mode::X2Apic).matches(Destination::Physical(u32::MAX)));
    for destination in [Destination::Physical(0x12), Destination::Physical(0xff), Destination::Logical(0xff)]
    {
        assert!(!at(0x12, Mode::Disabled).matches(destination));
    }
}

#[test]
fn the_8_bit_broadcast_is_one_in_xapic_mode_and_nobody_in_x2apic_mode() {
    let ipi = sent(&mut at(0, Mode::XApic), 0xff << 56 | 0x31).expect("to everyone");
    assert!(at(5, Mode::XApic).matches(ipi.message.destination));
    assert_eq!(sent(&mut at(0, Mode::X2Apic), 0xff << 32 | 0x31), None, "the ID 255");
    let ipi = sent(&mut at(0, Mode::X2Apic), 0xffff_ffff << 32 | 0x31).expect("to everyone");
    assert!(at(5, Mode::X2Apic).matches(ipi.message.destination));
    assert!(sent(&mut at(0, Mode::X2Apic), 0xff << 32 | 0xc_0031).is_some(), "a shorthand has no address");
}

#[test]
fn shorthands_say_who_whatever_the_address_says() {
    for mode in [Mode::XApic, Mode::X2Apic] {
        let recipients =
            |shorthand: u64| sent(&mut at(3, mode), shorthand << 18 | 0x31).map(|ipi| ipi.recipients);
        assert_eq!(recipients(0), Some(Recipients::Destination));
        assert_eq!(recipients(1), None, "stays inside");
        assert_eq!(recipients(2), Some(Recipients::All));
        assert_eq!(recipients(3), Some(Recipients::Others));
    }
}

#[test]
fn only_fixed_interrupts_can_be_sent_to_oneself_by_shorthand() {
    for mode in [2_u64, 3, 4, 5, 6, 7] {
        let mut apic = x2apic();
        assert_eq!(sent(&mut apic, 1 << 18 | mode << 8 | 0x31), None, "mode {mode}");
        assert_eq!(apic.pending_vector(), None, "mode {mode}");
    }
}

#[test]
fn every_delivery_mode_of_the_command_register_is_what_it_says() {
    let modes = [
        Some(DeliveryMode::Fixed),
        Some(DeliveryMode::LowestPriority),
        Some(DeliveryMode::Smi),
        None,
        Some(DeliveryMode::Nmi),
        Some(DeliveryMode::Init),
        Some(DeliveryMode::StartUp),
        None,
    ];
    for (code, expected) in (0_u64..).zip(modes) {
        for mode in [Mode::XApic, Mode::X2Apic] {
            let mode = sent(&mut at(0, mode), code << 8 | 0x31).map(|ipi| ipi.message.mode);
            assert_eq!(mode, expected, "{code}");
        }
    }
    assert_eq!(sent(&mut at(0, Mode::XApic), 0x8500), None, "INIT level de-assert");
    assert!(sent(&mut at(0, Mode::XApic), 0xc500).is_some(), "INIT level assert");
}

#[test]
fn an_illegal_vector_is_not_sent_and_is_an_error() {
    for vector in 0..16 {
        for (value, apic) in [(vector, apic()), (vector | 0x100, apic()), (vector | 2 << 18, x2apic())] {
            let mut apic = apic;
            assert_eq!(sent(&mut apic, value), None);
            assert_eq!(apic.save().new_errors, 1 << 5, "{value:#x}");
        }
        // These have no vector.
        assert!(sent(&mut apic(), vector | 0x400).is_some() && sent(&mut apic(), vector | 0x600).is_some());
    }
    let mut apic = x2apic();
    apic.write_msr(msr(SELF_IPI), 15, NOW).expect("no fault");
    assert_eq!((apic.save().new_errors, apic.pending_vector()), (1 << 5, None));
}

#[test]
fn an_apic_that_software_disabled_sends_but_takes_no_fixed_interrupt() {
    let mut apic = LocalApic::new(config());
    assert!(sent(&mut apic, 5 << 56 | 0x31).is_some());
    assert_eq!(sent(&mut apic, 1 << 18 | 0x31), None);
    assert_eq!(apic.pending_vector(), None);
}

#[test]
fn the_command_register_reads_as_written_and_idle() {
    let mut apic = apic();
    sent(&mut apic, 0x0200_0000_0000_0000 | 0xffff_ffff & !(7 << 8));
    assert_eq!((read(&mut apic, ICR_HIGH), read(&mut apic, ICR_LOW)), (0x0200_0000, 0x000c_c8ff));
    let mut extended = x2apic();
    sent(&mut extended, 0x1234_5678_0000_1831);
    assert_eq!(extended.read_msr(msr(ICR_LOW), NOW), Ok(0x1234_5678_0000_0831));
}
