//! The hypervisor as the monitor sees and steers it.

use crate::vm::{Ended, Fleet, Guest, Phase};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use hal::boot::Machine;
use log::LevelFilter;
use monitor::{
    Control, ControlError, ExitRecord, ExitStats, Feature, FeatureState, HostCpu, HostInfo, HostMemory,
    Mitigation, VcpuInfo, VmInfo, VmState, VmStats, VmSummary,
};
use vmm::{ExitReason, RunState};
use vmx::Secondary;

/// The machines, and what the monitor's commands set off.
#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) fleet: Fleet,
    memory_bytes: u64,
    ended: Vec<Ended>,
}

fn duration(ticks: u64) -> Duration {
    let hz = hal::time::tsc_hz().max(1);
    let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(hz);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl Operator {
    pub(crate) const fn new(fleet: Fleet, machine: &Machine) -> Self {
        Self { fleet, memory_bytes: machine.memory_bytes, ended: Vec::new() }
    }

    /// The machines that a command ended since the last call.
    pub(crate) fn take_ended(&mut self) -> Vec<Ended> {
        core::mem::take(&mut self.ended)
    }

    fn summary(guest: &Guest) -> VmSummary {
        let state = match &guest.phase {
            Phase::Off => VmState::Stopped,
            Phase::Crashed => VmState::Crashed,
            Phase::Refused => VmState::Refused,
            Phase::Running(_) => VmState::Running,
        };
        let uptime = match state {
            VmState::Running => duration(hal::time::now().since(guest.started_at).0),
            VmState::Stopped | VmState::Crashed | VmState::Refused => Duration::ZERO,
        };
        VmSummary {
            name: guest.config.name.clone(),
            state,
            vcpus: u32::from(guest.config.vcpus),
            memory_bytes: guest.config.memory_mib << 20,
            exits: guest.stats().map_or(0, vmm::Stats::exits),
            uptime,
        }
    }

    fn guest(&self, name: &str) -> Result<&Guest, ControlError> {
        Ok(&self.fleet.guests()[self.fleet.find(name)?])
    }
}

impl Control for Operator {
    fn version(&self) -> String {
        format!("Craton {}", env!("CARGO_PKG_VERSION"))
    }

    fn vms(&self) -> Vec<VmSummary> {
        self.fleet.guests().iter().map(Self::summary).collect()
    }

    fn vm_info(&self, name: &str) -> Result<VmInfo, ControlError> {
        let guest = self.guest(name)?;
        let vcpus = guest.machine().map_or_else(Vec::new, |machine| {
            let activity = match machine.vcpu.run_state() {
                RunState::Runnable => "running",
                RunState::Halted => "halted",
                RunState::Stopped(_) => "stopped",
            };
            vec![VcpuInfo {
                id: 0,
                activity: Cow::Borrowed(activity),
                rip: machine.vcpu.last_rip(),
                exits: machine.vcpu.stats().exits(),
                host_cpu: 0,
            }]
        });
        Ok(VmInfo {
            summary: Self::summary(guest),
            detail: guest.detail.clone(),
            kernel: guest.config.kernel.clone(),
            initramfs: guest.config.initramfs.clone(),
            command_line: guest.config.cmdline.clone(),
            vcpus,
        })
    }

    fn start(&mut self, name: &str) -> Result<(), ControlError> {
        let index = self.fleet.find(name)?;
        self.fleet.start(index)
    }

    fn stop(&mut self, name: &str) -> Result<(), ControlError> {
        let index = self.fleet.find(name)?;
        let ended = self.fleet.stop(index)?;
        self.ended.push(ended);
        Ok(())
    }

    fn reset(&mut self, name: &str) -> Result<(), ControlError> {
        let index = self.fleet.find(name)?;
        self.fleet.reset(index)
    }

    fn stats(&self, name: &str) -> Result<VmStats, ControlError> {
        let stats = self.guest(name)?.stats();
        let rows = stats.map_or_else(Vec::new, |stats| {
            let row = |reason: &ExitReason| {
                let row = stats.reason(*reason);
                ExitStats { reason: Cow::Borrowed(reason.name()), count: row.count, ticks: row.host_ticks }
            };
            ExitReason::ALL.iter().map(row).filter(|row| row.count > 0).collect()
        });
        Ok(VmStats { rows, guest_ticks: stats.map(vmm::Stats::guest_ticks) })
    }

    fn recent_exits(&self, name: &str, vcpu: u32) -> Result<Vec<ExitRecord>, ControlError> {
        let guest = self.guest(name)?;
        let vcpus = u32::from(guest.config.vcpus);
        if vcpu >= vcpus {
            return Err(ControlError::NoSuchVcpu { vcpus });
        }
        Ok(guest.stats().map_or_else(Vec::new, |stats| {
            let record = |record: &vmm::ExitRecord| ExitRecord {
                reason: Cow::Borrowed(record.reason.name()),
                detail: record.detail,
                rip: record.rip,
                tsc: record.at.0,
            };
            stats.records().map(record).collect()
        }))
    }

    fn host(&self) -> HostInfo {
        let counters = hal::memory::frames::counters();
        let guests = self.fleet.guests().iter().filter_map(Guest::machine);
        let running = self
            .fleet
            .guests()
            .iter()
            .filter(|guest| {
                guest.machine().is_some_and(|machine| machine.vcpu.run_state() == RunState::Runnable)
            })
            .count();
        let cpu = hal::percpu::current();
        HostInfo {
            cpu_model: brand_string(),
            tsc_hz: hal::time::tsc_hz(),
            uptime: Duration::from_micros(hal::time::uptime_us()),
            cpus: vec![HostCpu {
                id: cpu.index,
                apic_id: cpu.apic_id,
                activity: format!("monitor; {running} vCPUs want to run"),
            }],
            memory: HostMemory {
                total: self.memory_bytes,
                free: counters.free_bytes,
                guests: guests.map(|machine| machine.vm.memory.size()).sum(),
            },
            features: features(self.fleet.cpu()),
            mitigations: mitigations(),
        }
    }

    fn log_level(&self) -> LevelFilter {
        log::max_level()
    }

    fn set_log_level(&mut self, level: LevelFilter) {
        log::set_max_level(level);
    }

    fn reboot(&mut self) {
        hal::power::reboot();
    }

    fn power_off(&mut self) -> Result<(), ControlError> {
        hal::power::power_off();
    }
}

/// CPUID leaves 0x8000_0002 to 0x8000_0004.
fn brand_string() -> String {
    let mut bytes = Vec::with_capacity(48);
    for leaf in 0x8000_0002..=0x8000_0004 {
        let answer = hal::cpu::cpuid(leaf, 0);
        for word in [answer.eax, answer.ebx, answer.ecx, answer.edx] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }
    String::from_utf8_lossy(&bytes).trim_matches(['\0', ' ']).to_string()
}

fn features(cpu: &hal::vmx::VmxCpu) -> Vec<Feature> {
    let capabilities = cpu.capabilities();
    let controls = cpu.controls();
    let used = |name: &'static str| Feature { name: Cow::Borrowed(name), state: FeatureState::Used };
    let secondary = |name: &'static str, control: Secondary| {
        let allowed = capabilities.secondary >> 32 & u64::from(control.bits()) != 0;
        let state = match (controls.has_secondary(control), allowed) {
            (true, _) => FeatureState::Used,
            (false, true) => FeatureState::Unused,
            (false, false) => FeatureState::Absent,
        };
        Feature { name: Cow::Borrowed(name), state }
    };
    let gib_leaves = if capabilities.ept_gib_leaves() { FeatureState::Used } else { FeatureState::Absent };
    let x2apic = if hal::apic::is_x2apic() { FeatureState::Used } else { FeatureState::Absent };
    vec![
        used("VMX"),
        used("VMX-preemption timer"),
        used("MSR bitmaps"),
        used("I/O bitmaps"),
        secondary("EPT", Secondary::EPT),
        Feature { name: Cow::Borrowed("EPT 1-GiB leaves"), state: gib_leaves },
        secondary("VPID", Secondary::VPID),
        secondary("unrestricted guest", Secondary::UNRESTRICTED_GUEST),
        secondary("RDTSCP", Secondary::RDTSCP),
        secondary("INVPCID", Secondary::INVPCID),
        secondary("WBINVD exiting", Secondary::WBINVD_EXITING),
        secondary("APIC-access virtualization", Secondary::VIRTUALIZE_APIC_ACCESSES),
        secondary("XSAVES", Secondary::XSAVES),
        Feature { name: Cow::Borrowed("x2APIC (host)"), state: x2apic },
    ]
}

/// What the processor says of its speculation issues. This version takes no countermeasure of its own, and says so.
///
/// SDM Vol. 4, IA32_ARCH_CAPABILITIES.
fn mitigations() -> Vec<Mitigation> {
    let has_register = hal::cpu::cpuid(7, 0).edx & 1 << 29 != 0;
    let word = if has_register { hal::msr::try_read(arch::Msr::ARCH_CAPABILITIES).unwrap_or(0) } else { 0 };
    let issue = |name: &'static str, immune_bit: u32| {
        let status = if word & 1 << immune_bit != 0 {
            "not affected (IA32_ARCH_CAPABILITIES)"
        } else {
            "possibly affected; no countermeasure in this version"
        };
        Mitigation { name: Cow::Borrowed(name), status: Cow::Borrowed(status) }
    };
    vec![
        issue("Meltdown, L1TF", 0),
        issue("Spectre v2 (enhanced IBRS)", 1),
        issue("MDS", 5),
        issue("iTLB multihit", 6),
        issue("TAA", 8),
    ]
}
