//! Model-specific registers: memory types, machine check, system calls, identification; what they keep and what they refuse.
//!
//! Source: SDM Vol. 4, "Architectural MSRs"; Vol. 3A, "Memory Type Range Registers (MTRRs)", "Programming the PAT"; Vol. 3B,
//! "Machine-Check Architecture".

use super::{Check, Checked, Group, Stop, check, fault_free, gp, value};
use crate::machine::cpu::{Msr, cpuid, rdtsc, read_msr};
use crate::machine::msr::{TestMsr, read_efer, try_efer};
use crate::programs::{expect, expect_within};

pub(super) const GROUP: Group = Group::new(CHECKS);

const CHECKS: &[Check] = &[
    check("pat.reset-value", || Ok(expect("types", read(TestMsr::PAT)?, PAT_RESET)?)),
    check("pat.reads-back", || keeps(TestMsr::PAT, &[0x0001_0405_0607_0001, PAT_RESET])),
    check("pat.reserved-type-2-gp", || refuses(TestMsr::PAT, PAT_RESET & !0xff | 2)),
    check("pat.reserved-type-3-gp", || refuses(TestMsr::PAT, PAT_RESET & !0xff | 3)),
    check("pat.reserved-type-8-gp", || refuses(TestMsr::PAT, PAT_RESET & !0xff | 8)),
    check("pat.reserved-bits-of-last-entry-gp", || refuses(TestMsr::PAT, PAT_RESET | 0xf8 << 56)),
    check("mtrr.capabilities-variable-ranges", || {
        Ok(expect_within("count", read(TestMsr::MTRR_CAP)? & 0xff, 1, 10)?)
    }),
    check("mtrr.capabilities-fixed-and-wc", || {
        Ok(expect("bits", read(TestMsr::MTRR_CAP)? & 0x500, 0x500u64)?)
    }),
    check("mtrr.capabilities-read-only-gp", || gp(TestMsr::MTRR_CAP.write(0))),
    check("mtrr.default-reads-back", || {
        let before = read(TestMsr::MTRR_DEFAULT)?;
        let result = keeps(TestMsr::MTRR_DEFAULT, &[0xc00, 0xc06]);
        fault_free(TestMsr::MTRR_DEFAULT.write(before))?;
        result
    }),
    check("mtrr.default-reserved-type-gp", || refuses(TestMsr::MTRR_DEFAULT, 0xc02)),
    check("mtrr.default-reserved-bit-8-gp", || refuses(TestMsr::MTRR_DEFAULT, 0xd06)),
    check("mtrr.default-reserved-bit-12-gp", || refuses(TestMsr::MTRR_DEFAULT, 0x1c06)),
    check("mtrr.default-upper-half-gp", || refuses(TestMsr::MTRR_DEFAULT, 1 << 32 | 0xc06)),
    check("mtrr.fixed-64k-reads-back", || fixed(TestMsr::MTRR_FIX_64K)),
    check("mtrr.fixed-16k-reads-back", || fixed(TestMsr::MTRR_FIX_16K_80000)),
    check("mtrr.fixed-4k-reads-back", || fixed(TestMsr::MTRR_FIX_4K_F8000)),
    check("mtrr.fixed-reserved-type-gp", || refuses(TestMsr::MTRR_FIX_4K_F8000, 0x0606_0606_0606_0602)),
    check("mtrr.variable-base-reads-back", || {
        let (base, _) = last_pair()?;
        let before = read(base)?;
        let result = keeps(base, &[0xd000_0000, 0xd000_0001, 0x8000_0006]);
        fault_free(base.write(before))?;
        result
    }),
    check("mtrr.variable-base-reserved-type-gp", || refuses(last_pair()?.0, 0xd000_0002)),
    check("mtrr.variable-base-reserved-bits-gp", || refuses(last_pair()?.0, 0xd000_0106)),
    check("mtrr.variable-base-above-width-gp", || refuses(last_pair()?.0, 1 << width() | 6)),
    check("mtrr.variable-mask-reads-back", || {
        let (_, mask) = last_pair()?;
        let before = read(mask)?;
        let result = keeps(mask, &[0xf000_0000, 0]);
        fault_free(mask.write(before))?;
        result
    }),
    check("mtrr.variable-mask-reserved-bits-gp", || refuses(last_pair()?.1, 0xf000_0001)),
    check("mtrr.variable-mask-above-width-gp", || refuses(last_pair()?.1, 1 << width())),
    check("mce.capabilities-count", || Ok(expect_within("banks", read(TestMsr::MCG_CAP)? & 0xff, 0, 31)?)),
    check("mce.status-clear", || Ok(expect("status", read(TestMsr::MCG_STATUS)?, 0u64)?)),
    check("mce.capabilities-read-only-gp", || gp(TestMsr::MCG_CAP.write(0))),
    check("mce.bank-status-zero-and-clearable", || {
        for bank in 0..banks()? {
            let status = TestMsr::machine_check(bank, 1);
            fault_free(status.write(0))?;
            expect("status", read(status)?, 0u64)?;
        }
        Ok(())
    }),
    check("mce.bank-status-nonzero-gp", || {
        if banks()? == 0 {
            return Err(Stop::Skipped("no banks"));
        }
        gp(TestMsr::machine_check(0, 1).write(1))
    }),
    check("mce.behind-the-last-bank-gp", || {
        let count = banks()?;
        if count >= 28 {
            return Err(Stop::Skipped("all banks are there"));
        }
        gp(TestMsr::machine_check(28, 1).read().map(drop))
    }),
    check("msr.tsc-counts", || Ok(expect("counts", u64::from(read(TestMsr::TSC)? < rdtsc()), 1u64)?)),
    check("msr.platform-id-read-only-gp", || gp(TestMsr::PLATFORM_ID.write(0))),
    check("msr.microcode-revision-reads", || {
        TestMsr::MICROCODE_REVISION
            .read()
            .map(drop)
            .or_else(|trap| Ok(expect("exception", trap.vector, u64::MAX)?))
    }),
    check("msr.feature-control-reads", || {
        TestMsr::FEATURE_CONTROL
            .read()
            .map(drop)
            .or_else(|trap| Ok(expect("exception", trap.vector, u64::MAX)?))
    }),
    check("msr.tsc-adjust-moves-counter", tsc_adjust),
    check("msr.tsc-aux-reads-back", || keeps(TestMsr::TSC_AUX, &[0x1234, 0])),
    check("msr.tsc-aux-upper-half-gp", || refuses(TestMsr::TSC_AUX, 1 << 32)),
    check("msr.sysenter-cs-reads-back", || keeps(TestMsr::SYSENTER_CS, &[0x1234, 0])),
    check("msr.sysenter-esp-reads-back", || keeps(TestMsr::SYSENTER_ESP, &[0xffff_8000_1234_5678, 0])),
    check("msr.sysenter-eip-reads-back", || keeps(TestMsr::SYSENTER_EIP, &[0xffff_8000_1234_5678, 0])),
    check("msr.sysenter-esp-noncanonical-gp", || refuses(TestMsr::SYSENTER_ESP, NON_CANONICAL)),
    check("msr.sysenter-eip-noncanonical-gp", || refuses(TestMsr::SYSENTER_EIP, NON_CANONICAL)),
    check("msr.star-reads-back", || keeps(TestMsr::STAR, &[0x1234_5678_9abc_def0, 0])),
    check("msr.lstar-reads-back", || keeps(TestMsr::LSTAR, &[0xffff_8000_1234_5678, 0])),
    check("msr.lstar-noncanonical-gp", || refuses(TestMsr::LSTAR, NON_CANONICAL)),
    check("msr.cstar-noncanonical-gp", || refuses(TestMsr::CSTAR, NON_CANONICAL)),
    check("msr.cstar-reads-back", || keeps(TestMsr::CSTAR, &[0x7fff_1234_5678, 0])),
    check("msr.fmask-reads-back", || keeps(TestMsr::FMASK, &[0x4_7700, 0])),
    check("msr.fmask-upper-half-gp", || refuses(TestMsr::FMASK, 1 << 32)),
    check("msr.fs-base-reads-back", || keeps(TestMsr::FS_BASE, &[0xffff_8000_0000_0000, 0])),
    check("msr.fs-base-noncanonical-gp", || refuses(TestMsr::FS_BASE, NON_CANONICAL)),
    check("msr.kernel-gs-base-reads-back", || keeps(TestMsr::KERNEL_GS_BASE, &[0x7fff_0000_0000, 0])),
    check("msr.kernel-gs-base-noncanonical-gp", || refuses(TestMsr::KERNEL_GS_BASE, NON_CANONICAL)),
    check("msr.gs-base-is-this-cpus", || {
        Ok(expect("not zero", u64::from(read_msr(Msr::GsBase) != 0), 1u64)?)
    }),
    check("msr.misc-enable-fast-strings", || Ok(expect("bit 0", read(TestMsr::MISC_ENABLE)? & 1, 1u64)?)),
    check("msr.debug-control-clear", || Ok(expect("register", read(TestMsr::DEBUG_CONTROL)?, 0u64)?)),
    check("msr.xss-reserved-gp", || {
        if cpuid(0xd, 1).eax & 8 == 0 {
            return Err(Stop::Skipped("no XSAVES"));
        }
        refuses(TestMsr::XSS, 1 << 63)
    }),
    check("msr.vmx-as-cpuid-says", || {
        let result = TestMsr::VMX_BASIC.read().map(drop);
        if cpuid(1, 0).ecx >> 5 & 1 == 1 { fault_free(result) } else { gp(result) }
    }),
    check("msr.deadline-as-cpuid-says", || {
        let result = TestMsr::TSC_DEADLINE.read().map(drop);
        if cpuid(1, 0).ecx >> 24 & 1 == 1 { fault_free(result) } else { gp(result) }
    }),
    check("efer.long-mode-bits", || Ok(expect("LME and LMA", efer()? & 0x500, 0x500u64)?)),
    check("efer.sce-toggles", || {
        let bit = efer()? & 1;
        let seen = try_efer(bit ^ 1, bit).map_err(trapped)?;
        Ok(expect("SCE", seen & 1, bit ^ 1)?)
    }),
    check("efer.lme-while-paging-gp", || gp(try_efer(0, 1 << 8).map(drop))),
    check("efer.reserved-bit-1-gp", || gp(try_efer(1 << 1, 0).map(drop))),
    check("efer.reserved-bit-9-gp", || gp(try_efer(1 << 9, 0).map(drop))),
    check("efer.reserved-bit-63-gp", || gp(try_efer(1 << 63, 0).map(drop))),
    check("efer.svme-as-cpuid-says", || {
        let has = cpuid(0x8000_0001, 0).ecx >> 2 & 1 == 1;
        let result = try_efer(1 << 12, 0).map(drop);
        if has { fault_free(result) } else { gp(result) }
    }),
    value("efer.lma-cannot-be-cleared", || Ok(try_efer(0, 1 << 10).map_or(u64::MAX, |seen| seen & 0x500))),
];

const PAT_RESET: u64 = 0x0007_0406_0007_0406;
const NON_CANONICAL: u64 = 0x8000_0000_0000_0000;

fn trapped(trap: crate::machine::trap::Trap) -> Stop {
    Stop::Failed(crate::programs::Failure { what: "exception", got: trap.vector, want: u64::MAX })
}

fn read(msr: TestMsr) -> Checked<u64> {
    msr.read().map_err(trapped)
}

fn efer() -> Checked<u64> {
    read_efer().map_err(trapped)
}

fn width() -> u32 {
    cpuid(0x8000_0008, 0).eax & 0xff
}

fn banks() -> Checked<u32> {
    Ok(u32::try_from(read(TestMsr::MCG_CAP)? & 0xff).unwrap_or(0))
}

/// The last of the variable ranges: the firmware needs the first ones.
fn last_pair() -> Checked<(TestMsr, TestMsr)> {
    let count = u32::try_from(read(TestMsr::MTRR_CAP)? & 0xff).unwrap_or(0);
    if count == 0 {
        return Err(Stop::Skipped("no variable ranges"));
    }
    Ok(TestMsr::mtrr_variable((count - 1).min(9)))
}

/// The register reads back as written; then it is as before.
fn keeps(msr: TestMsr, values: &[u64]) -> Checked {
    let before = read(msr)?;
    let mut verdict = Ok(());
    for value in values {
        verdict = verdict.and_then(|()| fault_free(msr.write(*value)));
        verdict = verdict.and_then(|()| Ok(expect("register", read(msr)?, *value)?));
    }
    fault_free(msr.write(before))?;
    verdict
}

/// A write of the value is #GP and changes nothing.
fn refuses(msr: TestMsr, value: u64) -> Checked {
    let before = read(msr)?;
    let result = msr.write(value);
    let after = read(msr)?;
    fault_free(msr.write(before))?;
    gp(result)?;
    Ok(expect("register", after, before)?)
}

fn fixed(msr: TestMsr) -> Checked {
    keeps(msr, &[0x0606_0606_0606_0606, 0x0001_0405_0606_0500])
}

/// A change of the adjustment moves the counter by as much.
fn tsc_adjust() -> Checked {
    const STEP: u64 = 1 << 40;
    if cpuid(7, 0).ebx >> 1 & 1 == 0 {
        return Err(Stop::Skipped("no TSC adjustment"));
    }
    let before = read(TestMsr::TSC_ADJUST)?;
    let start = rdtsc();
    fault_free(TestMsr::TSC_ADJUST.write(before.wrapping_add(STEP)))?;
    let moved = rdtsc().wrapping_sub(start);
    let seen = read(TestMsr::TSC_ADJUST)?;
    fault_free(TestMsr::TSC_ADJUST.write(before))?;
    expect("adjustment", seen, before.wrapping_add(STEP))?;
    Ok(expect_within("counter", moved, STEP, STEP + (1 << 32))?)
}
