//! Control registers, XCR0 and CPUID: what they refuse, and that they agree.
//!
//! Source: SDM Vol. 3A, "Control Registers", "Extended Control Registers"; Vol. 2, "CPUID", "XSETBV".

use super::{Check, Checked, Group, Stop, check, fault, fault_free, gp, value};
use crate::machine::control::{self, cr0, cr4, try_cr0, try_cr3, try_cr4, try_cr8};
use crate::machine::cpu::{Switch, cpuid, set_osxsave, xgetbv, xsetbv};
use crate::machine::snippet::{Registers, Snippet, run};
use crate::machine::snippets as s;
use crate::programs::{exception, expect, expect_within};

pub(super) const GROUP: Group = Group::new(CHECKS);

const CHECKS: &[Check] = &[
    check("cr0.pg-without-pe-gp", || gp(try_cr0(0, cr0::PE).map(drop))),
    check("cr0.paging-off-in-long-mode-gp", || gp(try_cr0(0, cr0::PG).map(drop))),
    check("cr0.nw-without-cd-gp", || gp(try_cr0(cr0::NW, cr0::CD).map(drop))),
    check("cr0.upper-half-gp", || gp(try_cr0(1 << 32, 0).map(drop))),
    check("cr0.reserved-bit-is-ignored", || Ok(expect("bit 6", seen(try_cr0(1 << 6, 0))? & 1 << 6, 0u64)?)),
    check("cr0.et-stays-set", || Ok(expect("ET", seen(try_cr0(0, cr0::ET))? & cr0::ET, cr0::ET)?)),
    check("cr0.ne-toggles", || toggles_0(cr0::NE)),
    check("cr0.ts-toggles", || toggles_0(cr0::TS)),
    check("cr0.mp-toggles", || toggles_0(cr0::MP)),
    check("cr0.em-toggles", || toggles_0(cr0::EM)),
    check("cr0.wp-toggles", || toggles_0(cr0::WP)),
    check("cr0.am-toggles", || toggles_0(cr0::AM)),
    check("cr0.cd-toggles", || toggles_0(cr0::CD)),
    check("cr0.clts", || {
        fault_free(control::change_cr0(cr0::TS, 0))?;
        fault_free(run(s::CLTS, &mut Registers::ZERO.clone()))?;
        Ok(expect("TS", control::read_cr0() & cr0::TS, 0u64)?)
    }),
    check("cr0.lmsw-sets-ts", || {
        fault_free(run(s::LMSW, &mut Registers { rax: 0x9, ..Registers::ZERO }))?;
        Ok(expect("TS", control::read_cr0() & 0xf, cr0::TS | cr0::PE)?)
    }),
    check("cr0.lmsw-cannot-clear-pe", || {
        fault_free(run(s::LMSW, &mut Registers::ZERO.clone()))?;
        Ok(expect("PE", control::read_cr0() & cr0::PE, cr0::PE)?)
    }),
    check("cr0.smsw-is-cr0", || {
        let mut registers = Registers::ZERO;
        fault_free(run(s::SMSW, &mut registers))?;
        Ok(expect("low half", registers.rax & 0xffff, control::read_cr0() & 0xffff)?)
    }),
    check("cr2.keeps-64-bits", || {
        let mut registers = Registers { rax: 0xffff_8000_1234_5678, ..Registers::ZERO };
        fault_free(run(s::MOV_CR2, &mut registers))?;
        Ok(expect("CR2", control::read_cr2(), registers.rax)?)
    }),
    check("cr3.bit-above-width-gp", || gp(try_cr3(1 << width(), 0).map(drop))),
    check("cr3.bit-62-gp", || gp(try_cr3(1 << 62, 0).map(drop))),
    check("cr3.bit-63-without-pcid-gp", || gp(try_cr3(1 << 63, 0).map(drop))),
    check("cr3.caching-bits-keep", || Ok(expect("PWT and PCD", seen(try_cr3(0x18, 0))? & 0x18, 0x18u64)?)),
    check("cr4.pae-off-in-long-mode-gp", || gp(try_cr4(0, cr4::PAE).map(drop))),
    check("cr4.la57-change-in-long-mode-gp", || gp(try_cr4(cr4::LA57, 0).map(drop))),
    check("cr4.reserved-bit-15-gp", || gp(try_cr4(1 << 15, 0).map(drop))),
    check("cr4.reserved-bit-19-as-cpuid-says", || by_cpuid(1 << 19, cpuid(7, 0).ecx >> 23)),
    check("cr4.reserved-bit-31-gp", || gp(try_cr4(1 << 31, 0).map(drop))),
    check("cr4.upper-half-gp", || gp(try_cr4(1 << 40, 0).map(drop))),
    check("cr4.tsd-toggles", || by_cpuid(cr4::TSD, 1)),
    check("cr4.de-toggles", || by_cpuid(cr4::DE, 1)),
    check("cr4.pce-toggles", || by_cpuid(cr4::PCE, 1)),
    check("cr4.osfxsr-toggles", || by_cpuid(cr4::OSFXSR, 1)),
    check("cr4.osxmmexcpt-toggles", || by_cpuid(cr4::OSXMMEXCPT, 1)),
    check("cr4.umip-as-cpuid-says", || by_cpuid(cr4::UMIP, cpuid(7, 0).ecx >> 2)),
    check("cr4.smxe-as-cpuid-says", || by_cpuid(cr4::SMXE, cpuid(1, 0).ecx >> 6)),
    check("cr4.vmxe-as-cpuid-says", || by_cpuid(cr4::VMXE, cpuid(1, 0).ecx >> 5)),
    check("cr4.fsgsbase-as-cpuid-says", || by_cpuid(cr4::FSGSBASE, cpuid(7, 0).ebx)),
    check("cr4.pcide-as-cpuid-says", || by_cpuid(cr4::PCIDE, cpuid(1, 0).ecx >> 17)),
    check("cr4.osxsave-as-cpuid-says", || by_cpuid(cr4::OSXSAVE, cpuid(1, 0).ecx >> 26)),
    check("cr4.smep-as-cpuid-says", || by_cpuid(cr4::SMEP, cpuid(7, 0).ebx >> 7)),
    check("cr4.smap-as-cpuid-says", || by_cpuid(cr4::SMAP, cpuid(7, 0).ebx >> 20)),
    check("cr4.pke-as-cpuid-says", || by_cpuid(cr4::PKE, cpuid(7, 0).ecx >> 3)),
    check("cr4.cpuid-osxsave-follows", || {
        for (switch, bit) in [(Switch::On, 1u32), (Switch::Off, 0)] {
            set_osxsave(switch);
            expect("leaf 1", cpuid(1, 0).ecx >> 27 & 1, bit)?;
        }
        Ok(())
    }),
    check("cr8.reads-back", || {
        for class in [1u64, 9, 15] {
            expect("class", seen(try_cr8(class, 0xf))?, class)?;
        }
        Ok(())
    }),
    check("cr8.reserved-bit-4-gp", || gp(try_cr8(1 << 4, 0).map(drop))),
    check("cr8.reserved-bit-63-gp", || gp(try_cr8(1 << 63, 0).map(drop))),
    check("cr1.ud", || fault(run(s::READ_CR1, &mut Registers::ZERO.clone()), exception::UD, 0)),
    check("cr5.ud", || fault(run(s::READ_CR5, &mut Registers::ZERO.clone()), exception::UD, 0)),
    check("cr15.ud", || fault(run(s::READ_CR15, &mut Registers::ZERO.clone()), exception::UD, 0)),
    check("xcr0.xgetbv-without-osxsave-ud", || {
        set_osxsave(Switch::Off);
        fault(xgetbv(0).map(drop), exception::UD, 0)
    }),
    check("xcr0.xsetbv-without-osxsave-ud", || {
        set_osxsave(Switch::Off);
        fault(xsetbv(0, 1), exception::UD, 0)
    }),
    check("xcr0.x87-clear-gp", || xcr0_refuses(0)),
    check("xcr0.sse-without-x87-gp", || xcr0_refuses(2)),
    check("xcr0.avx-without-sse-gp", || xcr0_refuses(5)),
    check("xcr0.bndregs-alone-gp", || xcr0_refuses(1 | 1 << 3)),
    check("xcr0.opmask-alone-gp", || xcr0_refuses(7 | 1 << 5)),
    check("xcr0.zmm-without-opmask-gp", || xcr0_refuses(7 | 3 << 6)),
    check("xcr0.zmm-without-avx-gp", || xcr0_refuses(3 | 7 << 5)),
    check("xcr0.unsupported-bit-gp", || xcr0_refuses(1 | 1 << 62)),
    check("xcr0.bit-63-gp", || xcr0_refuses(1 | 1 << 63)),
    check("xcr0.index-1-gp", || {
        xsave()?;
        gp(xsetbv(1, 1))
    }),
    check("xcr0.xgetbv-index-2-gp", || {
        xsave()?;
        gp(xgetbv(2).map(drop))
    }),
    check("xcr0.sse-accepted", || xcr0_accepts(3)),
    check("xcr0.everything-cpuid-offers-accepted", || {
        let leaf = cpuid(0xd, 0);
        xcr0_accepts(u64::from(leaf.edx) << 32 | u64::from(leaf.eax))
    }),
    check("cpuid.highest-leaf", || Ok(expect_within("leaf", u64::from(cpuid(0, 0).eax), 0xd, 0x40)?)),
    check("cpuid.highest-extended-leaf", || {
        Ok(expect_within("leaf", u64::from(cpuid(0x8000_0000, 0).eax), 0x8000_0008, 0x8000_00ff)?)
    }),
    check("cpuid.beyond-highest-is-highest", || {
        let highest = cpuid(0, 0).eax;
        let (beyond, last) = (cpuid(highest + 1, 0), cpuid(highest, 0));
        expect("EAX", beyond.eax, last.eax)?;
        Ok(expect("EBX", beyond.ebx, last.ebx)?)
    }),
    check("cpuid.long-mode-and-nx", || {
        Ok(expect("bits", cpuid(0x8000_0001, 0).edx & (1 << 29 | 1 << 20), 1u32 << 29 | 1 << 20)?)
    }),
    check("cpuid.physical-width", || Ok(expect_within("bits", u64::from(width()), 36, 52)?)),
    check("cpuid.linear-width", || {
        Ok(expect(
            "bits",
            cpuid(0x8000_0008, 0).eax >> 8 & 0xff,
            if cpuid(7, 0).ecx >> 16 & 1 == 1 { 57u32 } else { 48 },
        )?)
    }),
    check("cpuid.brand-string-is-text", || {
        for leaf in 0x8000_0002..=0x8000_0004u32 {
            let leaf = cpuid(leaf, 0);
            for byte in [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx].into_iter().flat_map(u32::to_le_bytes) {
                expect("printable or the end", u64::from(byte == 0 || (0x20..0x7f).contains(&byte)), 1u64)?;
            }
        }
        Ok(())
    }),
    check("cpuid.leaf-2-count", || Ok(expect("low byte", cpuid(2, 0).eax & 0xff, 1u32)?)),
    check("cpuid.leaf-4-ends", || {
        let ends = (0..16).any(|index| cpuid(4, index).eax & 0x1f == 0);
        Ok(expect("a null cache", u64::from(ends), 1u64)?)
    }),
    check("cpuid.leaf-b-levels", || {
        expect("thread level", cpuid(0xb, 0).ecx >> 8 & 0xff, 1u32)?;
        Ok(expect("the same id at every level", cpuid(0xb, 1).edx, cpuid(0xb, 0).edx)?)
    }),
    check("cpuid.xsave-size-covers-legacy", || {
        Ok(expect_within("bytes", u64::from(cpuid(0xd, 0).ecx), 576, 0x4000)?)
    }),
    check("cpuid.xsave-components-fit", || {
        let most = cpuid(0xd, 0);
        for component in 2..32 {
            if most.eax >> component & 1 == 1 {
                let leaf = cpuid(0xd, component);
                expect("inside", u64::from(leaf.ebx + leaf.eax <= most.ecx), 1u64)?;
            }
        }
        Ok(())
    }),
    check("cpuid.clears-upper-halves", || {
        let mut registers = Registers {
            rax: u64::MAX << 32,
            rcx: u64::MAX << 32,
            rdx: u64::MAX,
            rbx: u64::MAX,
            ..Registers::ZERO
        };
        fault_free(run(s::CPUID, &mut registers))?;
        Ok(expect(
            "upper halves",
            (registers.rax | registers.rbx | registers.rcx | registers.rdx) >> 32,
            0u64,
        )?)
    }),
    check("cpuid.no-hypervisor-features-beyond-leaf", || {
        if cpuid(1, 0).ecx >> 31 == 0 {
            return Err(Stop::Skipped("no hypervisor"));
        }
        Ok(expect_within(
            "highest hypervisor leaf",
            u64::from(cpuid(0x4000_0000, 0).eax),
            0x4000_0000,
            0x4000_00ff,
        )?)
    }),
    value("cpuid.hypervisor-bit", || Ok(u64::from(cpuid(1, 0).ecx >> 31))),
    value("cpuid.family-model", || Ok(u64::from(cpuid(1, 0).eax & 0x0fff_0ff0))),
    value("cpuid.features-leaf-1-edx", || Ok(u64::from(cpuid(1, 0).edx))),
    value("cpuid.features-leaf-1-ecx", || Ok(u64::from(cpuid(1, 0).ecx & !(1 << 31)))),
    value("cpuid.features-leaf-7-ebx", || Ok(u64::from(cpuid(7, 0).ebx))),
    value("cpuid.features-extended-ecx", || Ok(u64::from(cpuid(0x8000_0001, 0).ecx))),
    value("cpuid.physical-and-linear-width", || Ok(u64::from(cpuid(0x8000_0008, 0).eax & 0xffff))),
    check("ud.ud2", || ud(s::UD2)),
    check("ud.ud1", || ud(s::UD1)),
    check("ud.aam-in-64-bit-mode", || ud(s::AAM)),
    check("ud.daa-in-64-bit-mode", || ud(s::DAA)),
    check("ud.into-in-64-bit-mode", || ud(s::INTO)),
    check("ud.push-cs-in-64-bit-mode", || ud(s::PUSH_CS)),
    check("ud.lock-nop", || ud(s::LOCK_NOP)),
    check("ud.mov-to-cs", || ud(s::MOV_CS)),
    check("ud.monitor-as-cpuid-says", || {
        let mut registers =
            Registers { rax: crate::machine::pages::Place::page(1).address(), ..Registers::ZERO };
        let result = run(s::MONITOR, &mut registers);
        if cpuid(1, 0).ecx >> 3 & 1 == 1 { fault_free(result) } else { fault(result, exception::UD, 0) }
    }),
    check("ud.rdtscp-as-cpuid-says", || {
        let result = run(s::RDTSCP, &mut Registers::ZERO.clone());
        if cpuid(0x8000_0001, 0).edx >> 27 & 1 == 1 {
            fault_free(result)
        } else {
            fault(result, exception::UD, 0)
        }
    }),
    check("ud.invpcid-as-cpuid-says", || {
        let mut registers =
            Registers { rax: 2, rdi: crate::machine::pages::Place::page(1).address(), ..Registers::ZERO };
        let result = run(s::INVPCID, &mut registers);
        if cpuid(7, 0).ebx >> 10 & 1 == 1 { fault_free(result) } else { fault(result, exception::UD, 0) }
    }),
    check("gp.invpcid-of-unknown-kind", || {
        if cpuid(7, 0).ebx >> 10 & 1 == 0 {
            return Err(Stop::Skipped("no INVPCID"));
        }
        let mut registers =
            Registers { rax: 4, rdi: crate::machine::pages::Place::page(1).address(), ..Registers::ZERO };
        gp(run(s::INVPCID, &mut registers))
    }),
    check("ud.rdfsbase-without-fsgsbase", || {
        fault_free(control::change_cr4(0, cr4::FSGSBASE))?;
        ud(s::RDFSBASE)
    }),
    check("ud.xgetbv-lock", || ud(s::LOCK_XGETBV)),
    check("ud.sysexit-is-gp-without-cs", || gp(run(s::SYSEXIT, &mut Registers::ZERO.clone()))),
    check("nm.x87-with-task-switched", || {
        fault_free(control::change_cr0(cr0::TS, 0))?;
        fault(run(s::FNINIT, &mut Registers::ZERO.clone()), exception::NM, 0)
    }),
    check("nm.x87-with-emulation", || {
        fault_free(control::change_cr0(cr0::EM, 0))?;
        fault(run(s::FNINIT, &mut Registers::ZERO.clone()), exception::NM, 0)
    }),
    check("nm.wait-needs-mp", || {
        fault_free(control::change_cr0(cr0::TS, cr0::MP))?;
        fault_free(run(s::FWAIT, &mut Registers::ZERO.clone()))?;
        fault_free(control::change_cr0(cr0::TS | cr0::MP, 0))?;
        fault(run(s::FWAIT, &mut Registers::ZERO.clone()), exception::NM, 0)
    }),
    check("mf.x87-invalid-operation", || {
        fault_free(control::change_cr0(cr0::MP | cr0::NE, cr0::EM | cr0::TS))?;
        let trap =
            crate::programs::expect_fault("FWAIT", run(s::X87_INVALID, &mut Registers::ZERO.clone()), 16)?;
        // The instruction behind raises it.
        Ok(expect("RIP at FWAIT", trap.rip_offset.cast_unsigned(), s::X87_INVALID.length() - 1)?)
    }),
    check("ud.sse-without-osfxsr", || {
        fault_free(control::change_cr0(cr0::MP, cr0::EM | cr0::TS))?;
        fault_free(control::change_cr4(0, cr4::OSFXSR))?;
        ud(s::XORPS)
    }),
];

fn width() -> u32 {
    cpuid(0x8000_0008, 0).eax & 0xff
}

fn ud(snippet: Snippet) -> Checked {
    fault(run(snippet, &mut Registers::ZERO.clone()), exception::UD, 0)
}

/// What a register read as while it was changed.
fn seen(result: Result<u64, crate::machine::trap::Trap>) -> Checked<u64> {
    match result {
        Ok(value) => Ok(value),
        Err(trap) => Err(Stop::Failed(crate::programs::Failure {
            what: "exception",
            got: trap.vector,
            want: u64::MAX,
        })),
    }
}

fn toggles_0(bit: u64) -> Checked {
    expect("set", seen(try_cr0(bit, 0))? & bit, bit)?;
    Ok(expect("clear", seen(try_cr0(0, bit))? & bit, 0u64)?)
}

/// A bit of CR4 can be set where bit 0 of `offered` is, and is #GP elsewhere.
fn by_cpuid(bit: u64, offered: u32) -> Checked {
    let result = try_cr4(bit, 0);
    if offered & 1 == 0 {
        return gp(result.map(drop));
    }
    Ok(expect("set", seen(result)? & bit, bit)?)
}

fn xsave() -> Checked {
    if cpuid(1, 0).ecx >> 26 & 1 == 0 {
        return Err(Stop::Skipped("no XSAVE"));
    }
    set_osxsave(Switch::On);
    Ok(())
}

fn xcr0_refuses(value: u64) -> Checked {
    xsave()?;
    let before = seen(xgetbv(0))?;
    let result = xsetbv(0, value);
    let after = seen(xgetbv(0))?;
    fault_free(xsetbv(0, before))?;
    gp(result)?;
    Ok(expect("XCR0", after, before)?)
}

fn xcr0_accepts(value: u64) -> Checked {
    xsave()?;
    let before = seen(xgetbv(0))?;
    fault_free(xsetbv(0, value))?;
    let after = seen(xgetbv(0))?;
    fault_free(xsetbv(0, before))?;
    Ok(expect("XCR0", after, value)?)
}
