//! What a hostile guest does: everything it must not.

use super::{Verdict, exception, expect, expect_fault};
use crate::apic::IPI_VECTOR;
use crate::console::{SCRATCH, report};
use crate::ipi::{SelfInterrupt, send_to_self};
use crate::machine::cpu::{self, in8, in16, in32, out8, out16, out32};
use crate::machine::provoke::{self, FORBIDDEN, UnknownMsr};

/// RDMSR and WRMSR of numbers that no CPU has are #GP(0) with RIP unchanged.
pub(super) fn unknown_msr() -> Verdict {
    for msr in UnknownMsr::ALL {
        let trap = expect_fault("rdmsr", provoke::rdmsr(msr.number()), exception::GP)?;
        expect("rdmsr error code", trap.error, 0u64)?;
        expect("rdmsr rip", trap.rip_offset.cast_unsigned(), 0u64)?;
        let trap = expect_fault("wrmsr", provoke::wrmsr_unknown(msr), exception::GP)?;
        expect("wrmsr error code", trap.error, 0u64)?;
        expect("wrmsr rip", trap.rip_offset.cast_unsigned(), 0u64)?;
    }
    Ok(())
}

/// Ports without a device read all ones, and writes to them are lost.
pub(super) fn unknown_port() -> Verdict {
    for port in [0x2468, 0xbeec, 0x1f00] {
        out8(port, 0x55);
        out16(port, 0x5555);
        out32(port, 0x5555_5555);
        expect("byte", in8(port), 0xffu8)?;
        expect("word", in16(port), 0xffffu16)?;
        expect("double word", in32(port), 0xffff_ffffu32)?;
    }
    out8(SCRATCH, 0xa5);
    expect("the scratch register remembers", in8(SCRATCH), 0xa5u8)
}

/// Physical addresses without memory or device read all ones, and writes to them are lost.
pub(super) fn unknown_mmio() -> Verdict {
    for offset in [0, 4, 0xffc] {
        cpu::Mmio::Nothing.write(offset, 0x5555_5555);
        expect("double word", cpu::Mmio::Nothing.read(offset), 0xffff_ffffu32)?;
    }
    Ok(())
}

/// VMX, SVM and SMX instructions are #UD: this machine has none of them.
pub(super) fn vmx_instructions() -> Verdict {
    for (name, instruction) in FORBIDDEN {
        let trap = expect_fault(name, instruction(), exception::UD)?;
        expect(name, trap.rip_offset.cast_unsigned(), 0u64)?;
    }
    if let Err(trap) = provoke::vmcall() {
        expect("vmcall", trap.vector, exception::UD)?;
    }
    Ok(())
}

/// Three faults in a row.
pub(super) fn triple_fault() -> Verdict {
    cpu::triple_fault()
}

/// Ends the machine with a status, if it has the port for that.
pub(super) fn debug_exit() -> Verdict {
    const DEBUG_EXIT: u16 = 0xf4;
    out8(DEBUG_EXIT, 21);
    cpu::halt_forever()
}

/// Runs where there is no memory.
pub(super) fn unmapped_jump() -> Verdict {
    let trap = cpu::jump_to(cpu::Mmio::Nothing.base() as u64);
    report!("testkit: unmapped-jump: exception {}", trap.vector);
    expect("an instruction of all ones is #UD", trap.vector, exception::UD)
}

/// Stops for good.
pub(super) fn hlt_if0() -> Verdict {
    cpu::halt_forever()
}

/// Never gives the CPU back.
pub(super) fn spin() -> Verdict {
    cpu::disable_interrupts();
    loop {
        core::hint::black_box(0);
    }
}

/// Writes to a device for ever.
pub(super) fn port_flood() -> Verdict {
    loop {
        out8(SCRATCH, 0);
    }
}

/// Writes to where nothing is for ever, a page an instruction.
pub(super) fn mmio_flood() -> Verdict {
    loop {
        cpu::fill_nothing();
    }
}

/// Prints for ever.
pub(super) fn chatter() -> Verdict {
    loop {
        report!("chatter chatter chatter chatter chatter chatter chatter");
    }
}

/// Interrupts itself for ever.
pub(super) fn ipi_storm() -> Verdict {
    cpu::enable_interrupts();
    loop {
        send_to_self(SelfInterrupt::Fixed(IPI_VECTOR));
    }
}

/// Asks the platform for a reset as soon as it runs, each time.
pub(super) fn reset_loop() -> Verdict {
    const RESET_CONTROL: u16 = 0xcf9;
    const HARD_RESET: u8 = 0x06;
    out8(RESET_CONTROL, HARD_RESET);
    cpu::halt_forever()
}
