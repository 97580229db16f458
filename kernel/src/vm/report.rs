//! What the log says of a virtual machine's beginning and end.

use super::machine::Machine;
use super::paced::Pace;
use super::slot::Body;
use crate::cores::Core;
use crate::host_use::HostUse;
use alloc::format;
use alloc::string::String;
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
        ControlError::Failed(_)
        | ControlError::NoSuchVm
        | ControlError::NameTaken
        | ControlError::AlreadyRunning
        | ControlError::NotRunning
        | ControlError::Paused
        | ControlError::NotPaused
        | ControlError::NoSuchVcpu { .. }
        | ControlError::NoSuchCore { .. } => format!("vm \"{name}\": cannot start: {}", error.reason(name)),
    }
}

/// A machine starts.
pub(super) fn started(name: &str, machine: &Machine) {
    let statistics = machine.vm.memory.statistics();
    let vcpus = machine.ids.len();
    let plural = if vcpus == 1 { "" } else { "s" };
    let mib = machine.memory_bytes() >> 20;
    log::info!("vm {name}: starts with {mib} MiB, {vcpus} vCPU{plural}; EPT: {statistics:?}");
}

/// Checks the state that the first processor of a parked machine is about to start from against the manual's entry
/// checks: emulators and nested hosts accept states that silicon refuses.
pub(super) fn check_first_entry(name: &str, machine: &Machine, core: &mut Core) {
    if let Some(first) = machine.ids.first() {
        core.look_loaded(*first, |body, cpu| {
            check_entry(name, body, cpu.capabilities());
        });
    }
}

/// Checks the state of a loaded processor. Returns how many rules are broken.
fn check_entry(name: &str, body: &Body, capabilities: &Capabilities) -> usize {
    let physical_address_bits = hal::cpu::cpuid(0x8000_0008, 0).eax.to_le_bytes()[0];
    let vmcs = body.vcpu.backend().vmcs();
    let violations = vmx::entry_check::check(vmcs, capabilities, physical_address_bits);
    for violation in &violations {
        log::error!("vm {name}: entry check failed: {violation}");
    }
    violations.len()
}

/// A machine, which is parked, ended: why, and a dump of the vCPU number `vcpu` when that was not in order.
pub(super) fn ended(name: &str, machine: &Machine, vcpu: usize, reason: StopReason, core: &mut Core) {
    if reason.is_orderly() {
        log::info!("vm {name}: stopped: {reason}");
        return;
    }
    if machine.ids.len() > 1 {
        log::error!("vm {name}: stopped: vCPU {vcpu}: {reason}");
    } else {
        log::error!("vm {name}: stopped: {reason}");
    }
    let Some(id) = machine.ids.get(vcpu) else { return };
    let mut seen = None;
    core.look_loaded(*id, |body, cpu| {
        if let StopReason::EntryFailure(failure) = reason
            && check_entry(name, body, cpu.capabilities()) == 0
        {
            log::error!("vm {name}: {failure:?}, and no entry check of the manual's that we mirror fails");
        }
        seen = Some((body.vcpu.backend().save(), body.vcpu.stats().clone()));
    });
    if let Some((state, stats)) = seen {
        let mut pace = Pace::new();
        let mut breathe = || pace.breathe(core);
        dump(name, &state, &mut breathe);
        last_exits(name, &stats, &mut breathe);
    }
}

/// A machine was destroyed: what is in use now, so that it can be seen that all came back.
pub(super) fn destroyed(name: &str, host: HostUse) {
    log::info!("vm {name}: destroyed; in use on the host: {host}");
}

/// Calls `breathe` between lines, as do those below.
fn dump(name: &str, state: &CpuState, breathe: &mut impl FnMut()) {
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
        breathe();
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
        breathe();
    }
}

/// How many of the last exits a dump shows.
const SHOWN_EXITS: usize = 16;

fn last_exits(name: &str, stats: &Stats, breathe: &mut impl FnMut()) {
    let all = stats.records().count();
    for record in stats.records().skip(all.saturating_sub(SHOWN_EXITS)) {
        log::error!(
            "vm {name}: exit at tsc {}: {} {:#x}, rip {:#x}",
            record.at.0,
            record.reason.name(),
            record.detail,
            record.rip
        );
        breathe();
    }
}

/// Counters of all vCPUs together, one reason a line, so that tools can read them.
pub(super) fn counters(name: &str, vcpus: &[Stats], core: &mut Core) {
    let mut pace = Pace::new();
    let sum = |of: &dyn Fn(&Stats) -> u64| vcpus.iter().map(of).sum::<u64>();
    log::info!(
        "vm {name}: stats: total_exits={} host_instr={} guest_instr={}",
        sum(&Stats::exits),
        sum(&Stats::host_ticks),
        sum(&Stats::guest_ticks)
    );
    for reason in ExitReason::ALL {
        let count = sum(&|stats| stats.reason(reason).count);
        if count > 0 {
            let ticks = sum(&|stats| stats.reason(reason).host_ticks);
            log::info!("vm {name}: exit {} {count} {ticks}", reason.name());
            pace.breathe(core);
        }
    }
}
