//! Counted loops around one instruction, and interrupts timed to the tick.
//!
//! Each loop is `ITERATIONS` times the instruction, a decrement and a jump, between two reads of the time stamp counter.
//! On a machine whose counter ticks once per instruction, the difference is the number of instructions executed by
//! everybody: this program and whoever runs below it.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64};

use super::cpu::{Mmio, Msr, disable_interrupts, halves, rdtsc, write_msr};
use super::trap::counter_of;

/// Round trips per figure.
pub(crate) const ITERATIONS: u64 = 1000;

/// Runs a loop around the instructions and returns the average per round.
macro_rules! measure {
    ([$($instruction:expr),+ $(,)?] $(, $($operands:tt)*)?) => {{
        let start = rdtsc();
        // SAFETY: the caller names every register that the instructions change; none of them writes memory.
        unsafe {
            asm!(
                ".balign 16",
                "2:",
                $($instruction,)+
                "dec {measure_count:e}",
                "jnz 2b",
                measure_count = inout(reg) ITERATIONS => _,
                $($($operands)*)?
            );
        }
        per_round(start)
    }};
}

/// The average of a loop that began at `start`, rounded to nearest.
fn per_round(start: u64) -> u64 {
    (rdtsc() - start + ITERATIONS / 2) / ITERATIONS
}

/// The loop alone.
pub(crate) fn empty() -> u64 {
    measure!([""])
}

/// VMCALL with a number that no hypervisor defines.
pub(crate) fn vmcall() -> u64 {
    measure!(["vmcall"], inout("rax") -1000i64 => _)
}

/// CPUID leaf 0, with the instruction that sets the leaf.
pub(crate) fn cpuid() -> u64 {
    let start = rdtsc();
    // SAFETY: reads no memory; RBX, which the compiler keeps, is put back behind the loop.
    unsafe {
        asm!(
            "mov r8, rbx",
            ".balign 16",
            "2:",
            "xor eax, eax",
            "cpuid",
            "dec {count:e}",
            "jnz 2b",
            "mov rbx, r8",
            count = inout(reg) ITERATIONS => _,
            out("r8") _, out("eax") _, inout("ecx") 0 => _, out("edx") _
        );
    }
    per_round(start)
}

/// RDMSR of IA32_APIC_BASE.
pub(crate) fn rdmsr() -> u64 {
    measure!(["rdmsr"], in("ecx") Msr::ApicBase.number(), out("eax") _, out("edx") _)
}

/// RDMSR of the x2APIC register at `offset`.
pub(crate) fn rdmsr_x2apic(offset: u16) -> u64 {
    measure!(["rdmsr"], in("ecx") Msr::X2Apic(offset).number(), out("eax") _, out("edx") _)
}

/// WRMSR of `value` to the x2APIC register at `offset`; the caller knows what comes of it.
pub(crate) fn wrmsr_x2apic(offset: u16, value: u64) -> u64 {
    let [low, high] = halves(value);
    measure!(["wrmsr"], in("ecx") Msr::X2Apic(offset).number(), in("eax") low, in("edx") high)
}

/// WRMSR of the TSC deadline, to zero: disarms a timer that is not armed.
pub(crate) fn wrmsr_deadline() -> u64 {
    measure!(["wrmsr"], in("ecx") Msr::TscDeadline.number(), in("eax") 0, in("edx") 0)
}

/// OUT of a byte to a port that is harmless to write.
pub(crate) fn out_port(port: u16) -> u64 {
    measure!(["out dx, al"], in("dx") port, in("al") 0u8)
}

/// IN of a byte.
pub(crate) fn in_port(port: u16) -> u64 {
    measure!(["in al, dx"], in("dx") port, out("al") _)
}

/// IN of a double word.
pub(crate) fn in_port_wide(port: u16) -> u64 {
    measure!(["in eax, dx"], in("dx") port, out("eax") _)
}

/// OUT of `address` to the PCI address port and IN from the data port, with the three instructions that set the registers.
pub(crate) fn pci_read(address: u32) -> u64 {
    measure!(
        ["mov edx, 0xcf8", "mov eax, {address:e}", "out dx, eax", "mov edx, 0xcfc", "in eax, dx"],
        address = in(reg) address, out("eax") _, out("edx") _
    )
}

/// A load from the device register at `offset`, a multiple of 4 in the device's page.
pub(crate) fn mmio_read(device: Mmio, offset: u16) -> u64 {
    measure!(["mov eax, [{at}]"], at = in(reg) device.register(offset).addr(), out("eax") _)
}

/// A store to the device register at `offset`, a multiple of 4 in the device's page; the caller knows what comes of it.
pub(crate) fn mmio_write(device: Mmio, offset: u16, value: u32) -> u64 {
    measure!(["mov [{at}], eax"], at = in(reg) device.register(offset).addr(), in("eax") value)
}

/// What a string instruction moves at a time.
#[derive(Clone, Copy)]
pub(crate) enum Element {
    /// MOVSB.
    Byte,
    /// MOVSD.
    DoubleWord,
    /// MOVSQ.
    QuadWord,
}

/// Copies per figure of [`copy_page`].
const COPIES: u64 = 2;

/// REP MOVS of 4 KiB of RAM to the first page of device memory that is there for tests.
pub(crate) fn copy_page(element: Element) -> u64 {
    static PAGE: [u64; 512] = [0x0123_4567_89ab_cdef; 512];
    macro_rules! copies {
        ($instruction:literal, $count:literal) => {{
            let start = rdtsc();
            // SAFETY: reads a static of 4 KiB and writes as much to a device that holds no Rust object.
            unsafe {
                asm!(
                    ".balign 16",
                    "2:",
                    "mov rsi, {from}",
                    "mov rdi, {to}",
                    concat!("mov ecx, ", $count),
                    concat!("rep ", $instruction),
                    "dec {copies:e}",
                    "jnz 2b",
                    from = in(reg) PAGE.as_ptr(),
                    to = in(reg) Mmio::Scratch.base(),
                    copies = inout(reg) COPIES => _,
                    out("rsi") _, out("rdi") _, out("rcx") _,
                    options(nostack)
                );
            }
            (rdtsc() - start + COPIES / 2) / COPIES
        }};
    }
    match element {
        Element::Byte => copies!("movsb", "4096"),
        Element::DoubleWord => copies!("movsd", "1024"),
        Element::QuadWord => copies!("movsq", "512"),
    }
}

/// What one timed interrupt cost.
pub(crate) struct Tick {
    /// From the wait's begin to its end.
    pub(crate) total: u64,
    /// Of these, the instructions of the waiting loop itself.
    pub(crate) waiting: u64,
}

/// Enables interrupts and spins until `vector` was handled once more, or `limit` rounds have passed (`None`).
///
/// Interrupts are off before and after.
pub(crate) fn spin_until(vector: u8, arm: impl FnOnce(), limit: u64) -> Option<Tick> {
    const INSTRUCTIONS_A_ROUND: u64 = 4;
    let counter = counter_of(vector);
    let before = counter.load(core::sync::atomic::Ordering::Relaxed);
    let start = rdtsc();
    arm();
    let left: u64;
    // SAFETY: reads one counter; the interrupt handlers save all registers and return.
    unsafe {
        asm!(
            "sti",
            "2:",
            "cmp [{counter}], {before}",
            "jne 3f",
            "dec {left}",
            "jnz 2b",
            "3:",
            "cli",
            counter = in(reg) counter.as_ptr(),
            before = in(reg) before,
            left = inout(reg) limit => left,
            options(nostack)
        );
    }
    let total = rdtsc() - start;
    (left != 0).then(|| Tick { total, waiting: (limit - left) * INSTRUCTIONS_A_ROUND })
}

/// Spins until `word` is no longer `value`, or `limit` rounds have passed (`None`); the instructions that it took.
pub(crate) fn spin_while(word: &AtomicU64, value: u64, limit: u64) -> Option<u64> {
    const INSTRUCTIONS_A_ROUND: u64 = 4;
    let left: u64;
    // SAFETY: reads one word that others may write.
    unsafe {
        asm!(
            "2:",
            "cmp [{word}], {value}",
            "jne 3f",
            "dec {left}",
            "jnz 2b",
            "3:",
            word = in(reg) word.as_ptr(),
            value = in(reg) value,
            left = inout(reg) limit => left,
            options(nostack)
        );
    }
    (left != 0).then(|| (limit - left) * INSTRUCTIONS_A_ROUND)
}

/// Instructions in each round of [`count_rounds`].
pub(crate) const INSTRUCTIONS_A_COUNTED_ROUND: u64 = 3;

/// Counts its own rounds until `is_over`: the time of a CPU that has nothing to do but to run.
pub(crate) fn count_rounds(is_over: &AtomicBool, rounds: &AtomicU64) {
    // SAFETY: reads a flag that others may write, and writes a counter that nobody else writes.
    unsafe {
        asm!(
            "2:",
            "inc qword ptr [{rounds}]",
            "cmp byte ptr [{is_over}], 0",
            "je 2b",
            rounds = in(reg) rounds.as_ptr(),
            is_over = in(reg) is_over.as_ptr(),
            options(nostack)
        );
    }
}

/// Arms the TSC deadline `delay` ahead, halts, and tells how long after the deadline the program ran again.
///
/// Interrupts are off before and after.
pub(crate) fn halt_until_deadline(delay: u64) -> u64 {
    disable_interrupts();
    let deadline = rdtsc() + delay;
    write_msr(Msr::TscDeadline, deadline);
    super::cpu::wait_for_interrupt();
    rdtsc().saturating_sub(deadline)
}

/// A way to let a pending interrupt in.
#[derive(Clone, Copy)]
pub(crate) enum Window {
    /// `sti` and its one instruction of grace.
    Sti,
    /// `sti; hlt`: the interrupt wakes the halted CPU.
    StiHlt,
    /// `sti; cpuid`: the grace covers an instruction that a hypervisor emulates, and ends with it.
    StiCpuid,
    /// `popf` lets it in at once.
    PopF,
}

/// Opens the window with an interrupt pending; returns the handler's return address minus the one expected.
///
/// Interrupts are off before and after.
pub(crate) fn interrupt_window(window: Window) -> i64 {
    let expected: u64;
    match window {
        // SAFETY: ends with interrupts off and every register as declared; handlers save all registers.
        Window::Sti => unsafe {
            asm!("lea {e}, [rip + 2f]", "sti", "nop", "2:", "nop", "cli", e = out(reg) expected);
        },
        // SAFETY: as above.
        Window::StiHlt => unsafe {
            asm!("lea {e}, [rip + 2f]", "sti", "hlt", "2:", "nop", "cli", e = out(reg) expected);
        },
        // SAFETY: as above; RBX, which the compiler keeps, is put back.
        Window::StiCpuid => unsafe {
            asm!(
                "mov r8, rbx", "lea {e}, [rip + 2f]", "xor eax, eax", "sti", "cpuid", "2:", "nop", "cli",
                "mov rbx, r8",
                e = out(reg) expected, out("rax") _, out("rcx") _, out("rdx") _, out("r8") _
            );
        },
        // SAFETY: as above.
        Window::PopF => unsafe {
            asm!(
                "lea {e}, [rip + 2f]", "pushfq", "or qword ptr [rsp], 0x200", "popfq", "2:", "nop", "cli",
                e = out(reg) expected
            );
        },
    }
    super::trap::last_interrupt_return().wrapping_sub(expected).cast_signed()
}
