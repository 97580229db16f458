//! What the log says of a virtual machine's beginning and end.

use super::machine::Machine;
use alloc::format;
use alloc::string::{String, ToString};
use arch::{Gpr, SegmentRegister};
use monitor::ControlError;
use vmm::{CpuState, ExitReason, Stats, StopReason, VcpuBackend};
use vmx::Capabilities;

/// The one line that says why a machine did not start.
pub(super) fn start_error(name: &str, error: &ControlError) -> String {
    match error {
        ControlError::Refused(text) => text.clone(),
        ControlError::OutOfMemory { needed, free } => format!(
            "vm \"{name}\": field `memory_mib`: {} MiB wanted, {} MiB free; stop another machine or ask for less",
            needed >> 20,
            free >> 20
        ),
        ControlError::Failed(text) => format!("vm \"{name}\": cannot start: {text}"),
        ControlError::NoSuchVm
        | ControlError::AlreadyRunning
        | ControlError::NotRunning
        | ControlError::NoSuchVcpu { .. } => format!("vm \"{name}\": cannot start: {error:?}"),
    }
}

/// A machine starts.
pub(super) fn started(name: &str, machine: &Machine) {
    let statistics = machine.vm.memory.statistics();
    log::info!("vm {name}: starts with {} MiB; EPT: {statistics:?}", machine.vm.memory.size() >> 20);
}

/// Checks the state that a machine is about to start from against the manual's entry checks: emulators and nested
/// hosts accept states that silicon refuses. Returns how many rules are broken.
pub(super) fn check_entry(name: &str, machine: &Machine, capabilities: &Capabilities) -> usize {
    let physical_address_bits = hal::cpu::cpuid(0x8000_0008, 0).eax.to_le_bytes()[0];
    let vmcs = machine.vcpu.backend().vmcs();
    let violations = vmx::entry_check::check(vmcs, capabilities, physical_address_bits);
    for violation in &violations {
        log::error!("vm {name}: entry check failed: {violation}");
    }
    violations.len()
}

/// A machine ended: why, its counters, and a dump when that was not in order.
pub(super) fn ended(name: &str, machine: &Machine, reason: StopReason, capabilities: &Capabilities) {
    let why = reason.to_string();
    if reason.is_orderly() {
        log::info!("vm {name}: stopped: {why}");
    } else {
        let backend = machine.vcpu.backend();
        log::error!("vm {name}: stopped: {why}");
        dump(name, &backend.save());
        if let StopReason::EntryFailure(failure) = reason
            && check_entry(name, machine, capabilities) == 0
        {
            log::error!("vm {name}: {failure:?}, and no entry check of the manual's that we mirror fails");
        }
        last_exits(name, machine.vcpu.stats());
    }
    counters(name, machine.vcpu.stats());
}

fn dump(name: &str, state: &CpuState) {
    let register = |gpr| state.gprs.get(gpr);
    log::error!(
        "vm {name}: rip={:#018x} rsp={:#018x} rflags={:#x}",
        state.rip,
        register(Gpr::Rsp),
        state.rflags.bits()
    );
    for row in [
        [(Gpr::Rax, "rax"), (Gpr::Rbx, "rbx"), (Gpr::Rcx, "rcx"), (Gpr::Rdx, "rdx")],
        [(Gpr::Rsi, "rsi"), (Gpr::Rdi, "rdi"), (Gpr::Rbp, "rbp"), (Gpr::R8, "r8 ")],
        [(Gpr::R9, "r9 "), (Gpr::R10, "r10"), (Gpr::R11, "r11"), (Gpr::R12, "r12")],
    ] {
        let [a, b, c, d] = row.map(|(gpr, label)| format!("{label}={:#018x}", register(gpr)));
        log::error!("vm {name}: {a} {b} {c} {d}");
    }
    log::error!(
        "vm {name}: r13={:#018x} r14={:#018x} r15={:#018x}",
        register(Gpr::R13),
        register(Gpr::R14),
        register(Gpr::R15)
    );
    log::error!(
        "vm {name}: cr0={:#x} cr2={:#x} cr3={:#x} cr4={:#x} efer={:#x}",
        state.cr0.bits(),
        state.cr2,
        state.cr3,
        state.cr4.bits(),
        state.efer.bits()
    );
    for (register, segment) in SegmentRegister::ALL.iter().zip(&state.segments) {
        log::error!(
            "vm {name}: {register:?} selector={:#06x} base={:#x} limit={:#x} rights={:#x}",
            segment.selector,
            segment.base,
            segment.limit,
            segment.access_rights
        );
    }
}

/// How many of the last exits a dump shows.
const SHOWN_EXITS: usize = 16;

fn last_exits(name: &str, stats: &Stats) {
    let all = stats.records().count();
    for record in stats.records().skip(all.saturating_sub(SHOWN_EXITS)) {
        log::error!(
            "vm {name}: exit at tsc {}: {} {:#x}, rip {:#x}",
            record.at.0,
            record.reason.name(),
            record.detail,
            record.rip
        );
    }
}

/// Counters, one reason a line, so that tools can read them.
fn counters(name: &str, stats: &Stats) {
    log::info!(
        "vm {name}: stats: total_exits={} host_instr={} guest_instr={}",
        stats.exits(),
        stats.host_ticks(),
        stats.guest_ticks()
    );
    for reason in ExitReason::ALL {
        let row = stats.reason(reason);
        if row.count > 0 {
            log::info!("vm {name}: exit {} {} {}", reason.name(), row.count, row.host_ticks);
        }
    }
}
