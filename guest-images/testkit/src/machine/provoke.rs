//! Instructions that fault by design, each in a probe.
//!
//! Source: SDM Vol. 3A, "Exception and Interrupt Reference"; Vol. 3C, "VMX Instruction Reference".

use core::arch::asm;

use super::trap::{Trap, probe};

/// What a provoked exception looks like; `Ok` when the instruction went through.
pub(crate) type Provoked = Result<(), Trap>;

/// An address above the mapped 4 GiB.
pub(crate) const UNMAPPED: u64 = 0x12_3456_7000;
/// An address whose upper bits disagree.
const NON_CANONICAL: u64 = 0x8000_0000_0000_0000;
/// Selector of the descriptor that is marked not present.
pub(crate) const ABSENT_SELECTOR: u16 = 0x18;
/// A selector beyond the end of the GDT.
pub(crate) const MISSING_SELECTOR: u16 = 0x1230;

/// DIV by zero.
pub(crate) fn divide_by_zero() -> Provoked {
    probe!(["div {zero:e}"], zero = in(reg) 0u32, inout("eax") 1 => _, inout("edx") 0 => _)
}

/// DIV whose quotient does not fit.
pub(crate) fn divide_overflow() -> Provoked {
    probe!(["div {one:e}"], one = in(reg) 1u32, inout("eax") 0 => _, inout("edx") 7 => _)
}

/// One NOP with the trap flag set.
pub(crate) fn single_step() -> Provoked {
    probe!(["pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop", "nop"])
}

/// INT3.
pub(crate) fn breakpoint() -> Provoked {
    probe!(["int3"])
}

/// UD2.
pub(crate) fn undefined() -> Provoked {
    probe!(["ud2"])
}

/// UD2, and how far RSP is from where it was once the handler has returned.
pub(crate) fn undefined_with_stack_drift() -> (Provoked, u64) {
    let (before, after): (u64, u64);
    // The probe resumes at the nearest label `3`: here, so that RSP is put back.
    let provoked = probe!(
        ["mov {before}, rsp", "ud2", "3:", "mov {after}, rsp", "mov rsp, {before}"],
        before = out(reg) before,
        after = out(reg) after,
    );
    (provoked, before.wrapping_sub(after))
}

/// A load from a non-canonical address.
pub(crate) fn load_non_canonical() -> Provoked {
    probe!(["mov {a}, [{a}]"], a = inout(reg) NON_CANONICAL => _)
}

/// A load from a non-canonical address through the stack segment.
pub(crate) fn load_non_canonical_stack() -> Provoked {
    // The probe resumes at the nearest label `3`: here, so that RBP is put back either way.
    probe!(["xchg rbp, {a}", "mov {b}, [rbp]", "3:", "xchg rbp, {a}"], a = inout(reg) NON_CANONICAL => _, b = out(reg) _)
}

/// Loads a data segment register with `selector`.
pub(crate) fn load_segment(selector: u16) -> Provoked {
    probe!(["mov fs, {s:x}"], s = in(reg) selector)
}

/// LGDT from a non-canonical address.
pub(crate) fn lgdt_non_canonical() -> Provoked {
    probe!(["lgdt [{a}]"], a = in(reg) NON_CANONICAL)
}

/// A load from [`UNMAPPED`].
pub(crate) fn load_unmapped() -> Provoked {
    probe!(["mov {a}, [{a}]"], a = inout(reg) UNMAPPED => _)
}

/// A store to [`UNMAPPED`].
pub(crate) fn store_unmapped() -> Provoked {
    probe!(["mov [{a}], {a}"], a = in(reg) UNMAPPED)
}

/// A jump to [`UNMAPPED`].
pub(crate) fn fetch_unmapped() -> Provoked {
    probe!(["jmp {a}"], a = in(reg) UNMAPPED)
}

unsafe extern "C" {
    /// The page directory entries of the first 4 GiB, built at boot.
    static boot_pd: [core::sync::atomic::AtomicU64; 2048];
}

/// Bit of a page-table entry: writable.
const PTE_WRITABLE: u64 = 1 << 1;
/// Bit of a 2 MiB entry that must be zero.
const PTE_RESERVED: u64 = 1 << 13;
/// Bit of a page-table entry: no execution.
const PTE_NO_EXECUTE: u64 = 1 << 63;

/// The page that the next three functions change: 2 MiB at 3 GiB - 2 MiB, where nothing of ours is.
pub(crate) const SPARE_PAGE: u64 = 0xbfe0_0000;

/// Changes the spare page's entry for the time of `access`.
fn with_spare_entry(change: impl Fn(u64) -> u64, access: impl Fn() -> Provoked) -> Provoked {
    // SAFETY: the table exists for the whole run and is only touched here, by atomic operations.
    let entry = unsafe { &boot_pd }.get(1535).expect("the table has 2048 entries");
    let before = entry.load(core::sync::atomic::Ordering::Relaxed);
    entry.store(change(before), core::sync::atomic::Ordering::SeqCst);
    flush_spare_page();
    let result = access();
    entry.store(before, core::sync::atomic::Ordering::SeqCst);
    flush_spare_page();
    result
}

fn flush_spare_page() {
    // SAFETY: INVLPG only drops a cached translation.
    unsafe {
        asm!("invlpg [{}]", in(reg) SPARE_PAGE, options(nostack));
    }
}

/// A store to a read-only page, with CR0.WP set.
pub(crate) fn store_read_only() -> Provoked {
    with_spare_entry(|entry| entry & !PTE_WRITABLE, || probe!(["mov [{a}], {a}"], a = in(reg) SPARE_PAGE))
}

/// A load through an entry with a reserved bit set.
pub(crate) fn load_reserved_bit() -> Provoked {
    with_spare_entry(
        |entry| entry | PTE_RESERVED,
        || probe!(["mov {a}, [{a}]"], a = inout(reg) SPARE_PAGE => _),
    )
}

/// A jump to a page that forbids execution.
pub(crate) fn fetch_no_execute() -> Provoked {
    with_spare_entry(|entry| entry | PTE_NO_EXECUTE, || probe!(["jmp {a}"], a = in(reg) SPARE_PAGE))
}

/// An x87 instruction with CR0.TS set.
pub(crate) fn float_with_task_switched() -> Provoked {
    let cr0: u64;
    // SAFETY: TS only makes floating-point instructions fault; this program is soft-float.
    unsafe {
        asm!("mov {0}, cr0", "mov {1}, {0}", "or {1}, 8", "mov cr0, {1}", out(reg) cr0, out(reg) _, options(nostack));
    }
    let result = probe!(["fninit"]);
    // SAFETY: puts CR0 back.
    unsafe {
        asm!("mov cr0, {}", in(reg) cr0, options(nostack));
    }
    result
}

/// CR4.VMXE, as a CPU without VMX must refuse it.
pub(crate) fn set_vmxe() -> Provoked {
    let cr4: u64;
    // SAFETY: reading CR4 changes nothing.
    unsafe {
        asm!("mov {}, cr4", out(reg) cr4, options(nostack));
    }
    let result = probe!(["mov cr4, {v}"], v = in(reg) cr4 | 1 << 13);
    // SAFETY: puts CR4 back.
    unsafe {
        asm!("mov cr4, {}", in(reg) cr4, options(nostack));
    }
    result
}

/// CR4 with a bit that no CPU defines.
pub(crate) fn set_cr4_reserved() -> Provoked {
    probe!(["mov {t}, cr4", "bts {t}, 40", "mov cr4, {t}"], t = out(reg) _)
}

/// CR0.PG without CR0.PE.
pub(crate) fn clear_protection() -> Provoked {
    probe!(["mov {t}, cr0", "and {t}, -2", "mov cr0, {t}"], t = out(reg) _)
}

/// RDMSR of `number`.
pub(crate) fn rdmsr(number: u32) -> Provoked {
    probe!(["rdmsr"], in("ecx") number, out("eax") _, out("edx") _)
}

/// An MSR number that no CPU has: the only ones that the test guest writes without knowing what they do.
#[derive(Clone, Copy)]
pub(crate) struct UnknownMsr(u32);

impl UnknownMsr {
    /// Outside of every range that Intel, AMD or a hypervisor documents.
    pub(crate) const ALL: [Self; 5] =
        [Self(0x0000_1fff), Self(0x0bad_c0de), Self(0x8000_0000), Self(0xc000_1fff), Self(0xffff_ffff)];

    /// The number that RDMSR takes.
    pub(crate) const fn number(self) -> u32 {
        self.0
    }
}

/// WRMSR of zeroes to an MSR that no CPU has.
pub(crate) fn wrmsr_unknown(msr: UnknownMsr) -> Provoked {
    probe!(["wrmsr"], in("ecx") msr.number(), in("eax") 0, in("edx") 0)
}

/// An instruction that only a hypervisor or the SMM monitor may execute, by name.
pub(crate) type Forbidden = (&'static str, fn() -> Provoked);

/// Must all be #UD where the guest has no VMX, SVM or SMX.
pub(crate) const FORBIDDEN: [Forbidden; 17] = [
    ("vmxon", || with_operand(|at| probe!(["vmxon qword ptr [{at}]"], at = in(reg) at))),
    ("vmxoff", || probe!(["vmxoff"])),
    ("vmclear", || with_operand(|at| probe!(["vmclear qword ptr [{at}]"], at = in(reg) at))),
    ("vmptrld", || with_operand(|at| probe!(["vmptrld qword ptr [{at}]"], at = in(reg) at))),
    ("vmptrst", || with_operand(|at| probe!(["vmptrst qword ptr [{at}]"], at = in(reg) at))),
    ("vmlaunch", || probe!(["vmlaunch"])),
    ("vmresume", || probe!(["vmresume"])),
    ("vmread", || probe!(["vmread {v}, {f}"], v = out(reg) _, f = in(reg) 0x681eu64)),
    ("vmwrite", || probe!(["vmwrite {f}, {v}"], f = in(reg) 0x681eu64, v = in(reg) 0u64)),
    ("invept", || {
        with_operand(|at| probe!(["invept {kind}, xmmword ptr [{at}]"], kind = in(reg) 2u64, at = in(reg) at))
    }),
    ("invvpid", || {
        with_operand(
            |at| probe!(["invvpid {kind}, xmmword ptr [{at}]"], kind = in(reg) 2u64, at = in(reg) at),
        )
    }),
    ("vmfunc", || probe!([".byte 0x0f, 0x01, 0xd4"], in("eax") 0, in("ecx") 0)),
    ("getsec", || probe!(["getsec"], inout("eax") 0 => _, inout("rcx") 0u64 => _)),
    ("vmrun", || probe!([".byte 0x0f, 0x01, 0xd8"], in("rax") 0u64)),
    ("stgi", || probe!([".byte 0x0f, 0x01, 0xdc"])),
    ("rsm", || probe!([".byte 0x0f, 0xaa"])),
    ("encls", || probe!([".byte 0x0f, 0x01, 0xcf"], in("eax") 0, in("rcx") 0u64)),
];

/// Gives `instruction` an aligned block of memory to name.
fn with_operand(instruction: impl Fn(*mut u64) -> Provoked) -> Provoked {
    #[repr(align(64))]
    struct Block([u64; 8]);
    let mut block = Block([0; 8]);
    instruction(block.0.as_mut_ptr())
}

/// VMCALL with a number that no hypervisor defines; `Ok` or #UD are both proper answers.
pub(crate) fn vmcall() -> Provoked {
    probe!(["vmcall"], inout("rax") -1000i64 => _)
}

/// SYSCALL with IA32_EFER.SCE clear.
pub(crate) fn syscall_disabled() -> Provoked {
    probe!(["syscall"], out("rcx") _, out("r11") _)
}
