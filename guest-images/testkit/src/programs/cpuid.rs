//! CPUID as one consistent story.
//!
//! Source: SDM Vol. 2, "CPUID"; Vol. 1, "Enumeration of CPU Support for XSAVE Features".

use super::{Failure, Verdict, expect, expect_within};
use crate::console::report;
use crate::machine::cpu::{Msr, cpuid, rdtsc, read_msr};
use crate::{apic, chipset};

/// Checks what leaves say about each other and about the machine.
pub(super) fn consistency() -> Verdict {
    let max = cpuid(0, 0).eax;
    expect_within("highest basic leaf", u64::from(max), 1, 0x40)?;
    let features = cpuid(1, 0);
    let hypervisor = features.ecx >> 31 & 1 == 1;
    if hypervisor {
        expect_within(
            "highest hypervisor leaf",
            u64::from(cpuid(0x4000_0000, 0).eax),
            0x4000_0000,
            0x4000_ffff,
        )?;
    }
    // PAE, MSR, APIC, SSE2, FXSR, long mode, NX: nothing 64-bit runs without them.
    for (what, bit) in
        [("MSR", 5), ("PAE", 6), ("APIC", 9), ("FXSR", 24), ("SSE", 25), ("SSE2", 26), ("TSC", 4)]
    {
        expect(what, features.edx >> bit & 1, 1u32)?;
    }
    let extended = cpuid(0x8000_0000, 0).eax;
    expect_within("highest extended leaf", u64::from(extended), 0x8000_0008, 0x8000_00ff)?;
    let extended_features = cpuid(0x8000_0001, 0);
    expect("long mode", extended_features.edx >> 29 & 1, 1u32)?;
    expect("no-execute", extended_features.edx >> 20 & 1, 1u32)?;
    expect_within("physical address bits", u64::from(cpuid(0x8000_0008, 0).eax & 0xff), 32, 52)?;
    expect("APIC id", features.ebx >> 24, apic::id() & 0xff)?;
    expect("boot processor", read_msr(Msr::ApicBase) >> 8 & 1, 1u64)?;
    expect("a leaf past the end is like the last one or zero", u64::from(past_the_end(max)), 1u64)?;
    if max >= 0xb && cpuid(0xb, 0).ebx != 0 {
        expect("x2APIC id of leaf 0xb", cpuid(0xb, 0).edx, apic::id())?;
    }
    if max >= 0xd && features.ecx >> 26 & 1 == 1 {
        xsave_sizes()?;
    }
    if max >= 7 {
        let leaf7 = cpuid(7, 0);
        let avx2_without_avx = leaf7.ebx >> 5 & 1 == 1 && features.ecx >> 28 & 1 == 0;
        expect("AVX2 needs AVX", u64::from(avx2_without_avx), 0u64)?;
        let avx512_without_avx2 = leaf7.ebx >> 16 & 1 == 1 && leaf7.ebx >> 5 & 1 == 0;
        expect("AVX-512 needs AVX2", u64::from(avx512_without_avx2), 0u64)?;
    }
    if max >= 0x15 {
        tsc_frequency()?;
    }
    Ok(())
}

fn past_the_end(max: u32) -> bool {
    let beyond = cpuid(max + 1, 0);
    let last = cpuid(max, 0);
    let zero = beyond.eax | beyond.ebx | beyond.ecx | beyond.edx == 0;
    zero || (beyond.eax == last.eax && beyond.ebx == last.ebx)
}

/// The XSAVE area holds every component that leaf 0xd offers, and none overlaps the legacy part.
fn xsave_sizes() -> Verdict {
    let leaf = cpuid(0xd, 0);
    let supported = u64::from(leaf.edx) << 32 | u64::from(leaf.eax);
    expect("x87 and SSE are always there", supported & 0b11, 0b11u64)?;
    let mut end = 576;
    for component in 2..63u32 {
        let detail = cpuid(0xd, component);
        if supported >> component & 1 == 0 {
            // A supervisor component (bit 0 of ECX) is not part of XCR0.
            if detail.ecx & 1 == 0 {
                expect("an absent component has no size", detail.eax, 0u32)?;
            }
            continue;
        }
        expect_within("component size", u64::from(detail.eax), 8, 16384)?;
        expect_within("component offset", u64::from(detail.ebx), 576, 65536)?;
        end = end.max(detail.ebx + detail.eax);
    }
    expect("area for all components", leaf.ecx, end)?;
    expect_within("area for those enabled", u64::from(leaf.ebx), 576, u64::from(end))
}

/// Leaf 0x15's frequency against the 8254, within 5 %.
fn tsc_frequency() -> Verdict {
    let leaf = cpuid(0x15, 0);
    if leaf.eax == 0 || leaf.ebx == 0 || leaf.ecx == 0 {
        return Ok(());
    }
    let claimed = u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax);
    let measured = measured_tsc_hz(claimed)?;
    report!("testkit: cpuid: TSC {claimed} Hz by leaf 0x15, {measured} Hz by the 8254");
    expect_within("TSC frequency by the 8254", measured, claimed - claimed / 20, claimed + claimed / 20)
}

/// A look at both clocks.
struct Reading {
    count: u16,
    tsc: u64,
}

fn reading() -> Reading {
    Reading { count: chipset::pit_count(), tsc: rdtsc() }
}

/// Counts TSC ticks while the 8254 counts down for 3.4 ms. A machine that shares its processor is away at times: only
/// readings that follow each other closely count.
fn measured_tsc_hz(claimed: u64) -> Result<u64, Failure> {
    const PIT_HZ: u64 = 1_193_182;
    const COUNTS: u16 = 0x1000;
    // An eighth of a millisecond, within the tolerance.
    let longest_gap = claimed / 8_000;
    chipset::start_pit(0xffff);
    let mut last = reading();
    let mut start: Option<Reading> = None;
    for _ in 0..1_000_000 {
        let now = reading();
        // Also at first, when the new count is not loaded yet.
        let is_continuous = now.tsc - last.tsc <= longest_gap && now.count <= last.count;
        last = Reading { ..now };
        start = match start {
            Some(first) if is_continuous => {
                let counts = first.count - now.count;
                if counts >= COUNTS {
                    return Ok((now.tsc - first.tsc) * PIT_HZ / u64::from(counts));
                }
                Some(first)
            }
            None if is_continuous => Some(now),
            Some(_) | None => None,
        };
    }
    Err(Failure { what: "the 8254 counts down", got: u64::from(last.count), want: u64::from(COUNTS) })
}
