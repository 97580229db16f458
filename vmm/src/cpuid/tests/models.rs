//! Models: each is consistent, the fixed ones are the same on every host that has what they need, and a host that lacks
//! something is told what.

use super::*;
use crate::cpuid::flags::FEATURES;

fn of(model: CpuModel) -> CpuidConfig {
    CpuidConfig { model, ..config(2, 0) }
}

/// Every leaf that a guest can ask for, with all of XCR0 enabled.
fn leaves(policy: &CpuidPolicy) -> Vec<(u32, u32, Leaf)> {
    let context =
        || CpuidContext { cr4: Cr4Flags::OSXSAVE, xcr0: policy.xcr0_allowed().max(1), apic_enabled: true };
    let mut all = Vec::new();
    for leaf in (0..0x20).chain(HYPERVISOR..HYPERVISOR + 2).chain(0x8000_0000..0x8000_0009) {
        for subleaf in 0..10 {
            all.push((leaf, subleaf, policy.get(leaf, subleaf, context)));
        }
    }
    all
}

/// What must hold of every policy, whatever it was made from.
fn check(policy: &CpuidPolicy) {
    let unfounded: Vec<&str> =
        policy.flags.unfounded(policy.xcr0_allowed().max(3)).map(|feature| feature.name).collect();
    assert_eq!(unfounded, [""; 0], "features without what they need");
    let one = policy.get(1, 0, context);
    let seven = policy.get(7, 0, context);
    // XSAVE, its leaf and XCR0 are one story.
    assert_eq!(one.ecx & 1 << 26 != 0, policy.xcr0_allowed() != 0);
    assert_eq!(policy.get(XSAVE_LEAF, 0, context).eax != 0, policy.xcr0_allowed() != 0);
    assert_eq!(policy.cr4_allowed().contains(Cr4Flags::OSXSAVE), one.ecx & 1 << 26 != 0);
    for (bit, offered) in [(2, one.ecx & 1 << 28), (5, seven.ebx & 1 << 16), (9, seven.ecx & 1 << 3)]
        .map(|(bit, word)| (bit, word != 0))
    {
        assert!(!offered || policy.xcr0_allowed() & 1 << bit != 0, "component {bit}");
    }
    check_xsave(policy);
    // ARCH_CAPABILITIES is there exactly where it is reported.
    assert_eq!(seven.edx & 1 << 29 != 0, policy.arch_capabilities().is_some());
    // Nothing that has no model: IBRS, STIBP, L1D_FLUSH, core capabilities, SSBD, LA57.
    assert_eq!(seven.edx & (1 << 26 | 1 << 27 | 1 << 28 | 1 << 30 | 1 << 31), 0);
    let widths = policy.get(0x8000_0008, 0, context).eax;
    assert_eq!((widths & 0xff, widths >> 8), (policy.physical_address_bits().into(), 48));
    assert!((36..=52).contains(&policy.physical_address_bits()));
    assert_eq!(policy.get(0x8000_0007, 0, context).edx, 1 << 8, "invariant TSC");
    let brand: Vec<u8> = (0x8000_0002..0x8000_0005)
        .map(|leaf| policy.get(leaf, 0, context))
        .flat_map(|leaf| [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx])
        .flat_map(u32::to_le_bytes)
        .collect();
    assert_eq!(brand.len(), 48);
}

/// SDM Vol. 1, "Enumeration of CPU Support for XSAVE Instructions and XSAVE-Supported Features".
fn check_xsave(policy: &CpuidPolicy) {
    let allowed = policy.xcr0_allowed();
    if allowed == 0 {
        return;
    }
    let whole = || CpuidContext { xcr0: allowed, ..context() };
    let main = policy.get(XSAVE_LEAF, 0, whole);
    assert_eq!(u64::from(main.edx) << 32 | u64::from(main.eax), allowed);
    assert_eq!(main.ebx, main.ecx, "all is enabled");
    let mut compacted = 576_u32;
    for number in 2..63 {
        let leaf = policy.get(XSAVE_LEAF, number, whole);
        assert_eq!(leaf.eax != 0, allowed & 1 << number != 0, "component {number}");
        assert!(leaf.ebx + leaf.eax <= main.ecx, "component {number}");
        if leaf.eax != 0 {
            assert!(leaf.ebx >= 576, "component {number}");
            compacted = if leaf.ecx & 2 != 0 { compacted.next_multiple_of(64) } else { compacted } + leaf.eax;
        }
    }
    let extensions = policy.get(XSAVE_LEAF, 1, whole);
    assert_eq!(extensions.ebx, if extensions.eax & 2 != 0 { compacted } else { 0 });
    assert_eq!((extensions.ecx, extensions.edx), (0, 0), "no supervisor state");
}

#[test]
fn every_model_is_consistent() {
    for model in CpuModel::ALL {
        for arch_capabilities in [None, Some(u64::MAX)] {
            let config = CpuidConfig { arch_capabilities, ..of(model) };
            check(&made(&config));
        }
    }
}

/// Each feature that the host has not takes all with it that builds on it.
#[test]
fn a_host_without_any_one_feature_still_makes_a_consistent_processor() {
    for feature in FEATURES {
        let without = |leaf, subleaf| {
            let mut registers = host(leaf, subleaf);
            let flags = Flags::of([feature.flag]);
            match (leaf, subleaf) {
                (1, _) => {
                    registers.ecx &= !flags.word(Word::OneEcx);
                    registers.edx &= !flags.word(Word::OneEdx);
                }
                (7, _) => {
                    registers.ebx &= !flags.word(Word::SevenEbx);
                    registers.ecx &= !flags.word(Word::SevenEcx);
                    registers.edx &= !flags.word(Word::SevenEdx);
                }
                (XSAVE_LEAF, 1) => registers.eax &= !flags.word(Word::XsaveEax),
                (0x8000_0001, _) => {
                    registers.ecx &= !flags.word(Word::ExtendedEcx);
                    registers.edx &= !flags.word(Word::ExtendedEdx);
                }
                _ => {}
            }
            registers
        };
        check(&CpuidPolicy::new(&without, &of(CpuModel::Host)).expect("its own model"));
    }
}

#[test]
fn a_host_that_saves_less_state_offers_no_feature_that_needs_more() {
    for xcr0_allowed in [0, 1, 3, 7, 0xe7, 0x203, 0x207, 0x2e7] {
        let config = CpuidConfig { xcr0_allowed, ..of(CpuModel::Host) };
        let policy = made(&config);
        check(&policy);
        assert_eq!(
            policy.get(1, 0, context).ecx & 1 << 28 != 0,
            xcr0_allowed & 7 == 7,
            "AVX of {xcr0_allowed:#x}"
        );
        assert_eq!(policy.get(7, 0, context).ecx & 1 << 3 != 0, xcr0_allowed & 0x203 == 0x203, "PKU");
    }
}

/// A host of another generation: other sizes, other caches, fewer features than the first.
fn older(leaf: u32, subleaf: u32) -> Leaf {
    match (leaf, subleaf) {
        (1, _) => Leaf { eax: 0x0003_06c3, ebx: 0x0010_0800, ..host(1, 0) },
        (4, 0) => Leaf::new(0x1c00_4121, 0x02c0_003f, 0x7f, 0),
        (4, _) => Leaf::default(),
        (7, _) => Leaf::new(0, 0x27ab, 0, 0),
        (XSAVE_LEAF, 1) => Leaf::new(1, 0, 0, 0),
        (0x8000_0002..=0x8000_0006, _) => Leaf::new(1, 2, 3, 4),
        (0x8000_0008, _) => Leaf::new(48 << 8 | 39, 0, 0, 0),
        _ => host(leaf, subleaf),
    }
}

#[test]
fn a_fixed_model_is_the_same_on_every_host() {
    for model in [CpuModel::V2, CpuModel::V3] {
        let new = made(&CpuidConfig { arch_capabilities: Some(u64::MAX), ..of(model) });
        let old = CpuidPolicy::new(&older, &CpuidConfig { xcr0_allowed: 7, ..of(model) })
            .expect("it has all of it");
        check(&new);
        assert_eq!(leaves(&new), leaves(&old), "{model:?}");
        assert_eq!(new, old, "{model:?}");
    }
}

#[test]
fn the_models_have_the_levels_that_their_names_promise() {
    // The x86-64 psABI, "Micro-Architecture Levels".
    let v2 = made(&of(CpuModel::V2));
    let one = v2.get(1, 0, context);
    let level_2 = 1 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 23;
    assert_eq!((one.ecx & level_2, v2.get(0x8000_0001, 0, context).ecx & 1), (level_2, 1));
    assert_eq!((one.ecx & 1 << 26, v2.xcr0_allowed()), (0, 0), "no XSAVE");
    assert!(!v2.cr4_allowed().contains(Cr4Flags::OSXSAVE));
    let v3 = made(&of(CpuModel::V3));
    let (one, seven) = (v3.get(1, 0, context), v3.get(7, 0, context));
    let level_3 = level_2 | 1 << 12 | 1 << 22 | 1 << 26 | 1 << 28 | 1 << 29;
    assert_eq!(
        (one.ecx & level_3, seven.ebx & (1 << 3 | 1 << 5 | 1 << 8)),
        (level_3, 1 << 3 | 1 << 5 | 1 << 8)
    );
    assert_eq!(v3.get(0x8000_0001, 0, context).ecx & 1 << 5, 1 << 5, "LZCNT");
    assert_eq!(v3.xcr0_allowed(), 7);
    assert_eq!(v3.get(XSAVE_LEAF, 0, || CpuidContext { xcr0: 7, ..context() }).ebx, 832);
    assert_eq!(v3.physical_address_bits(), 39);
    assert_eq!(v3.get(4, 4, context), Leaf::default());
    let brand = v3.get(0x8000_0002, 0, context);
    assert_eq!(brand.eax.to_le_bytes(), *b"Crat");
}

#[test]
fn a_host_that_lacks_something_is_told_what() {
    let without_avx2 = |leaf, subleaf| match leaf {
        7 => Leaf { ebx: host(7, 0).ebx & !(1 << 5 | 1 << 8), ..host(7, 0) },
        0x8000_0008 => Leaf::new(48 << 8 | 36, 0, 0, 0),
        _ => host(leaf, subleaf),
    };
    let error = CpuidPolicy::new(&without_avx2, &of(CpuModel::V3)).expect_err("it lacks two");
    assert_eq!(
        alloc::format!("{error}"),
        "this host is no x86-64-v3: it lacks avx2, bmi2 and physical addresses of 39 bits (it has 36)"
    );
    let little_state = CpuidConfig { xcr0_allowed: 3, ..of(CpuModel::V3) };
    let error = CpuidPolicy::new(&host, &little_state).expect_err("no AVX state");
    assert_eq!(error.features, ["fma", "avx", "f16c", "avx2"]);
    let no_control = CpuidConfig { invpcid: false, rdtscp: false, ..of(CpuModel::V3) };
    let error = CpuidPolicy::new(&host, &no_control).expect_err("no VM-execution controls");
    assert_eq!(error.features, ["invpcid", "rdtscp"]);
    assert!(CpuidPolicy::new(&without_avx2, &of(CpuModel::Host)).is_ok());
}

#[test]
fn architectural_capabilities_tell_what_the_guest_need_not_mend() {
    let policy = |value| made(&CpuidConfig { arch_capabilities: value, ..of(CpuModel::Host) });
    assert_eq!(policy(None).arch_capabilities(), None);
    // RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, MDS_NO, TSX_CTRL, TAA_NO.
    assert_eq!(policy(Some(0x1ab)).arch_capabilities(), Some(0x121));
    for model in [CpuModel::V2, CpuModel::V3] {
        let config = CpuidConfig { arch_capabilities: Some(0x1ab), ..of(model) };
        assert_eq!(made(&config).arch_capabilities(), None, "not the same everywhere");
    }
}
