//! What happens at an exception, an NMI and an interrupt in the hypervisor itself.

use arch::Vector;
use core::sync::atomic::Ordering;

use super::stubs::TrapFrame;
use crate::memory::stacks;
use crate::{cpu, flight, image, percpu, smp};

const NMI: u64 = 2;
const DOUBLE_FAULT: u64 = 8;
const PAGE_FAULT: u64 = 14;
/// Vectors below this are exceptions.
const EXCEPTIONS: u64 = 32;

/// The registers at the exception that led to the panic in progress on this CPU, if one did. A second call finds none.
pub fn last_fault() -> Option<TrapFrame> {
    percpu::try_current()?.fault.try_lock()?.take()
}

const fn name(vector: u64) -> &'static str {
    match vector {
        0 => "#DE divide error",
        1 => "#DB debug exception",
        3 => "#BP breakpoint",
        4 => "#OF overflow",
        5 => "#BR bound range exceeded",
        6 => "#UD invalid opcode",
        7 => "#NM device not available",
        8 => "#DF double fault",
        10 => "#TS invalid TSS",
        11 => "#NP segment not present",
        12 => "#SS stack-segment fault",
        13 => "#GP general protection",
        14 => "#PF page fault",
        16 => "#MF x87 floating-point error",
        17 => "#AC alignment check",
        18 => "#MC machine check",
        19 => "#XM SIMD floating-point exception",
        20 => "#VE virtualization exception",
        21 => "#CP control protection",
        _ => "reserved exception",
    }
}

/// Called by the stubs, interrupts off.
pub(super) extern "C" fn dispatch(frame: &mut TrapFrame) {
    match frame.vector {
        // May come at any instruction: no locks, no log.
        NMI => {
            let cpu = percpu::try_current();
            flight::record(flight::Tag::Nmi, frame.rip, cpu.map_or(0, |cpu| u64::from(cpu.index)));
            smp::halt_if_told();
            if let Some(cpu) = cpu {
                cpu.count_nmi();
            }
        }
        0..EXCEPTIONS => match image::fixup(frame.rip) {
            Some(resume) => frame.rip = resume,
            None => fault(frame),
        },
        vector => match u8::try_from(vector) {
            Ok(vector) => super::handle_device(Vector(vector)),
            Err(_) => {
                percpu::current().spurious_count.fetch_add(1, Ordering::Relaxed);
            }
        },
    }
}

/// An exception in the hypervisor is a bug of ours, or of the machine.
fn fault(frame: &TrapFrame) -> ! {
    flight::record(flight::Tag::Exception, frame.vector, frame.rip);
    if let Some(cpu) = percpu::try_current()
        && let Some(mut last) = cpu.fault.try_lock()
    {
        *last = Some(*frame);
    }
    let address = cpu::cr2();
    match frame.vector {
        PAGE_FAULT | DOUBLE_FAULT if stacks::is_guard(address) => {
            panic!(
                "{}: stack overflow at {:#x}, the guard page holds {address:#x}",
                name(frame.vector),
                frame.rip
            )
        }
        PAGE_FAULT => panic!(
            "{} at {:#x}: address {address:#x}, error code {:#x}",
            name(frame.vector),
            frame.rip,
            frame.error_code
        ),
        vector => panic!("{} at {:#x}: error code {:#x}", name(vector), frame.rip, frame.error_code),
    }
}
