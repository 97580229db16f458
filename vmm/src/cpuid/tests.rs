//! Tests of the policy: what is hidden, what mirrors the processor's state, and that the topology is one story.

mod models;

use super::*;

fn host(leaf: u32, subleaf: u32) -> Leaf {
    match (leaf, subleaf) {
        (0, _) => Leaf::new(0x1f, 0x756e_6547, 0x6c65_746e, 0x4965_6e69),
        // Eight cores of two threads: data, instructions, second level, third level.
        (4, 0) => Leaf::new(0x1c00_4121, 0x1c0_003f, 0x3f, 0),
        (4, 1) => Leaf::new(0x1c00_4122, 0x1c0_003f, 0x3f, 0),
        (4, 2) => Leaf::new(0x1c00_4143, 0x3c0_003f, 0x3ff, 0),
        (4, 3) => Leaf::new(0x1c03_c163, 0x2c0_003f, 0x3fff, 6),
        (4, _) => Leaf::default(),
        (XSAVE_LEAF, 1) => Leaf::new(0xf, 0, 0, 0),
        (XSAVE_LEAF, 2) => Leaf::new(256, 576, 0, 0),
        (XSAVE_LEAF, 5) => Leaf::new(64, 1088, 2, 0),
        (XSAVE_LEAF, 6) => Leaf::new(512, 1152, 2, 0),
        (XSAVE_LEAF, 7) => Leaf::new(1024, 1664, 2, 0),
        (XSAVE_LEAF, 9) => Leaf::new(8, 2688, 0, 0),
        (0x8000_0008, _) => Leaf::new(48 << 8 | 46, 0, 0, 0),
        _ => Leaf::new(u32::MAX, u32::MAX, u32::MAX, u32::MAX),
    }
}

fn config(vcpus: u8, apic_id: u32) -> CpuidConfig {
    CpuidConfig {
        model: CpuModel::Host,
        tsc_hz: 2_893_202_417,
        xcr0_allowed: 0x2e7,
        rdtscp: true,
        invpcid: true,
        xsaves: true,
        vcpus,
        apic_id,
        arch_capabilities: None,
        paravirt_features: 0,
    }
}

fn policy() -> CpuidPolicy {
    made(&config(1, 0))
}

fn made(config: &CpuidConfig) -> CpuidPolicy {
    CpuidPolicy::new(&host, config).expect("every host is its own model")
}

fn context() -> CpuidContext {
    CpuidContext { cr4: Cr4Flags::empty(), xcr0: 1, apic_enabled: true }
}

#[test]
fn osxsave_and_ospke_mirror_cr4() {
    let policy = policy();
    assert_eq!(policy.get(1, 0, context).ecx & OSXSAVE, 0);
    let cr4 = Cr4Flags::OSXSAVE | Cr4Flags::PROTECTION_KEY_USER;
    let with = || CpuidContext { cr4, ..context() };
    assert_ne!(policy.get(1, 0, with).ecx & OSXSAVE, 0);
    assert_ne!(policy.get(7, 0, with).ecx & OSPKE, 0);
}

#[test]
fn features_without_a_model_stay_hidden() {
    let one = policy().get(1, 0, context);
    assert_eq!(one.ecx & (1 << 3 | 1 << 5 | 1 << 6), 0, "MONITOR, VMX, SMX");
    assert_eq!(policy().get(7, 0, context).edx & (1 << 26), 0, "IBRS");
    assert_eq!(policy().get(7, 0, context).ecx & (1 << 16), 0, "LA57");
    assert!(!policy().cr4_allowed().contains(Cr4Flags::L5_PAGING), "LA57");
}

#[test]
fn a_disabled_apic_leaves_cpuid() {
    let without = || CpuidContext { apic_enabled: false, ..context() };
    assert_eq!(policy().get(1, 0, without).edx & (1 << 9), 0);
}

#[test]
fn xsave_sizes_follow_xcr0() {
    let policy = policy();
    assert_eq!(policy.get(XSAVE_LEAF, 0, context).ebx, 576);
    let wide = || CpuidContext { xcr0: 0x227, ..context() };
    assert_eq!(policy.get(XSAVE_LEAF, 0, wide).ebx, 2696);
    assert_eq!(policy.get(XSAVE_LEAF, 0, wide).ecx, 2696);
    // 576 + 256 = 832, a multiple of 64, then 64, then 8.
    assert_eq!(policy.get(XSAVE_LEAF, 1, wide).ebx, 904);
}

#[test]
fn xsaves_is_offered_where_guests_can_run_it() {
    assert_eq!(policy().get(XSAVE_LEAF, 1, context), Leaf::new(0xf, 576, 0, 0));
    assert!(policy().has_xsaves());
    let without = made(&CpuidConfig { xsaves: false, ..config(1, 0) });
    assert_eq!(without.get(XSAVE_LEAF, 1, context).eax, 7);
    let older = made(&CpuidConfig { model: CpuModel::V3, ..config(1, 0) });
    assert!(!without.has_xsaves() && !older.has_xsaves());
    assert!(older.has_invpcid() && !made(&CpuidConfig { model: CpuModel::V2, ..config(1, 0) }).has_invpcid());
}

#[test]
fn leaf_15_gives_the_tsc_frequency_exactly() {
    for hz in [100_000_000, 2_893_202_417, 5_000_000_000] {
        let leaf = tsc_leaf(hz);
        assert_eq!(u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax), hz);
    }
}

#[test]
fn leaves_out_of_range_answer_as_the_highest_basic_leaf() {
    let policy = policy();
    for subleaf in 0..3 {
        let highest = policy.get(LAST_BASIC, subleaf, context);
        assert_eq!(policy.get(LAST_BASIC + 1, subleaf, context), highest);
        assert_eq!(policy.get(0x8000_0009, subleaf, context), highest);
    }
    assert_eq!(policy.get(0x4000_0100, 0, context), Leaf::default());
}

#[test]
fn every_leaf_and_subleaf_is_answered() {
    let policy = policy();
    for leaf in (0..0x40).chain(0x4000_0000..0x4000_0010).chain(0x8000_0000..0x8000_0020) {
        for subleaf in (0..70).chain([u32::MAX]) {
            policy.get(leaf, subleaf, context);
        }
    }
}

#[test]
fn paravirtual_features_are_passed_on_without_hints() {
    let plain = policy().get(HYPERVISOR + 1, 0, context);
    assert_eq!(plain, Leaf::new(KVM_FEATURE_NOP_IO_DELAY, 0, 0, 0));
    let config = CpuidConfig { paravirt_features: 0x0100_0009, ..config(1, 0) };
    let served = made(&config).get(HYPERVISOR + 1, 0, context);
    assert_eq!(served, Leaf::new(0x0100_000b, 0, 0, 0));
}

/// What a kernel makes of the topology leaves, in the way of Linux: package, core and thread of the processor that
/// asks, and how many of each there can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    apic_id: u32,
    package: u32,
    core: u32,
    thread: u32,
    cores: u32,
    threads_per_core: u32,
}

fn place(policy: &CpuidPolicy, leaf: u32) -> Place {
    let threads = policy.get(leaf, 0, context);
    assert_eq!(threads.ecx, 1 << 8, "the first domain is the thread's");
    let (mut package_shift, mut logical) = (threads.eax & 0x1f, threads.ebx & 0xffff);
    for subleaf in 1.. {
        let domain = policy.get(leaf, subleaf, context);
        assert_eq!((domain.ecx & 0xff, domain.edx), (subleaf, threads.edx));
        match domain.ecx >> 8 & 0xff {
            0 => {
                assert_eq!((domain.eax, domain.ebx), (0, 0));
                break;
            }
            2 => (package_shift, logical) = (domain.eax & 0x1f, domain.ebx & 0xffff),
            other => panic!("domain of type {other}"),
        }
    }
    let core_shift = threads.eax & 0x1f;
    Place {
        apic_id: threads.edx,
        package: threads.edx >> package_shift,
        core: threads.edx >> core_shift & ((1 << (package_shift - core_shift)) - 1),
        thread: threads.edx & ((1 << core_shift) - 1),
        cores: logical / (threads.ebx & 0xffff),
        threads_per_core: threads.ebx & 0xffff,
    }
}

#[test]
fn a_machine_is_one_package_of_single_threaded_cores() {
    for vcpus in 1..=64_u8 {
        for id in 0..u32::from(vcpus) {
            let policy = made(&config(vcpus, id));
            let expected = Place {
                apic_id: id,
                package: 0,
                core: id,
                thread: 0,
                cores: vcpus.into(),
                threads_per_core: 1,
            };
            assert_eq!(place(&policy, 0xb), expected);
            assert_eq!(place(&policy, 0x1f), expected);
        }
    }
}

#[test]
fn the_shift_to_the_package_is_the_least_that_holds_every_id() {
    for vcpus in 1..=64_u8 {
        let shift = made(&config(vcpus, 0)).get(0xb, 1, context).eax;
        assert!(1 << shift >= u32::from(vcpus) && (1 << shift) / 2 < u32::from(vcpus), "{vcpus}: {shift}");
    }
}

#[test]
fn the_old_leaves_tell_the_same_topology() {
    for vcpus in 1..=64_u8 {
        for id in 0..u32::from(vcpus) {
            let policy = made(&config(vcpus, id));
            let one = policy.get(1, 0, context);
            assert_eq!(one.ebx >> 24, id);
            assert_eq!(one.edx & HTT != 0, vcpus > 1, "HTT of {vcpus}");
            let logical = one.ebx >> 16 & 0xff;
            assert_eq!(logical, 1 << policy.get(0xb, 1, context).eax);
            for subleaf in 0..4 {
                let cache = policy.get(4, subleaf, context).eax;
                assert_eq!((cache >> 26) + 1, logical, "as many cores as logical processors");
                let sharing = (cache >> 14 & 0xfff) + 1;
                assert_eq!(sharing, if subleaf < 3 { 1 } else { logical }, "cache {subleaf} of {vcpus}");
            }
            assert_eq!(policy.get(0x8000_0008, 0, context).ecx, 0);
        }
    }
}

#[test]
fn processors_of_a_machine_differ_in_their_id_alone() {
    for vcpus in [1, 2, 3, 33, 64_u8] {
        let first = made(&config(vcpus, 0));
        for id in 0..u32::from(vcpus) {
            let derived = first.for_vcpu(id);
            assert_eq!(derived, made(&config(vcpus, id)));
            assert_eq!(derived.for_vcpu(0), first);
            for leaf in (0..0x21).chain(HYPERVISOR..HYPERVISOR + 3).chain(0x8000_0000..0x8000_0009) {
                for subleaf in 0..10 {
                    let mut mine = derived.get(leaf, subleaf, context);
                    let its = first.get(leaf, subleaf, context);
                    match leaf {
                        1 => mine.ebx &= 0x00ff_ffff,
                        0xb | 0x1f | 0x20 => mine.edx = 0,
                        _ => (),
                    }
                    assert_eq!(mine, its, "leaf {leaf:#x}, subleaf {subleaf}");
                }
            }
        }
    }
}

#[test]
fn a_single_processor_is_told_as_before_there_were_several() {
    let policy = policy();
    assert_eq!(policy.get(1, 0, context).ebx >> 16, 1);
    assert_eq!(policy.get(4, 3, context).eax, 0x163);
    assert_eq!(policy.get(0xb, 0, context), Leaf::new(0, 1, 0x100, 0));
    assert_eq!(policy.get(0xb, 1, context), Leaf::new(0, 1, 0x201, 0));
}

#[test]
fn counts_beyond_their_fields_do_not_spill() {
    let policy = made(&config(255, 254));
    assert_eq!(policy.get(1, 0, context).ebx >> 16, 254 << 8 | 0xff);
    assert_eq!(policy.get(4, 3, context).eax, 63 << 26 | 255 << 14 | 0x163);
}
