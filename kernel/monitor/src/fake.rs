//! A scripted hypervisor for the tests: two virtual machines, and a record of what was asked.

use crate::control::*;
use core::time::Duration;
use log::LevelFilter;

pub(crate) struct FakeControl {
    pub(crate) vms: Vec<VmSummary>,
    pub(crate) calls: Vec<String>,
    pub(crate) level: LevelFilter,
    pub(crate) power_off_fails: bool,
}

impl FakeControl {
    pub(crate) fn two_vms() -> Self {
        let vm = |name: &str, state, vcpus, mib: u64, exits, seconds| VmSummary {
            name: name.into(),
            state,
            vcpus,
            memory_bytes: mib << 20,
            exits,
            uptime: Duration::from_secs(seconds),
        };
        Self {
            vms: vec![
                vm("debian", VmState::Running, 2, 512, 12_345, 187),
                vm("probe", VmState::Stopped, 1, 16, 0, 0),
            ],
            calls: Vec::new(),
            level: LevelFilter::Info,
            power_off_fails: false,
        }
    }

    fn vm(&self, name: &str) -> Result<&VmSummary, ControlError> {
        self.vms.iter().find(|vm| vm.name == name).ok_or(ControlError::NoSuchVm)
    }

    fn change(&mut self, verb: &str, name: &str, from: VmState, to: VmState) -> Result<(), ControlError> {
        let vm = self.vms.iter_mut().find(|vm| vm.name == name).ok_or(ControlError::NoSuchVm)?;
        if vm.state != from {
            return Err(match vm.state {
                VmState::Running => ControlError::AlreadyRunning,
                VmState::Stopped | VmState::Crashed | VmState::Refused => ControlError::NotRunning,
            });
        }
        vm.state = to;
        self.calls.push(format!("{verb} {name}"));
        Ok(())
    }
}

impl Control for FakeControl {
    fn version(&self) -> String {
        "craton 0.1.0".into()
    }

    fn vms(&self) -> Vec<VmSummary> {
        self.vms.clone()
    }

    fn vm_info(&self, name: &str) -> Result<VmInfo, ControlError> {
        let summary = self.vm(name)?.clone();
        let detail = if summary.state == VmState::Stopped { "powered off by the guest" } else { "" };
        let vcpus = (0..summary.vcpus)
            .map(|id| VcpuInfo { id, activity: "halted".into(), rip: 0x1000, exits: 5, host_cpu: 0 })
            .collect();
        Ok(VmInfo {
            summary,
            detail: detail.into(),
            kernel: "vmlinuz".into(),
            initramfs: Some("initramfs".into()),
            command_line: "console=ttyS0".into(),
            vcpus,
        })
    }

    fn start(&mut self, name: &str) -> Result<(), ControlError> {
        self.change("start", name, VmState::Stopped, VmState::Running)
    }

    fn stop(&mut self, name: &str) -> Result<(), ControlError> {
        self.change("stop", name, VmState::Running, VmState::Stopped)
    }

    fn reset(&mut self, name: &str) -> Result<(), ControlError> {
        self.change("reset", name, VmState::Running, VmState::Running)
    }

    fn stats(&self, name: &str) -> Result<VmStats, ControlError> {
        self.vm(name)?;
        let row = |reason: &'static str, count, ticks| ExitStats { reason: reason.into(), count, ticks };
        Ok(VmStats {
            rows: vec![row("CPUID", 1_000, 100_000), row("VMCALL", 0, 0), row("HLT", 3_000, 600_000)],
            guest_ticks: Some(99_300_000),
        })
    }

    fn recent_exits(&self, name: &str, vcpu: u32) -> Result<Vec<ExitRecord>, ControlError> {
        let vm = self.vm(name)?;
        if vcpu >= vm.vcpus {
            return Err(ControlError::NoSuchVcpu { vcpus: vm.vcpus });
        }
        if vm.exits == 0 {
            return Ok(Vec::new());
        }
        let record =
            |reason: &'static str, detail, rip, tsc| ExitRecord { reason: reason.into(), detail, rip, tsc };
        Ok(vec![
            record("CPUID", 0, 0xffff_ffff_8100_0000, 1_000),
            record("I/O instruction", 0x3f8_0003, 0x1000, 1_250),
        ])
    }

    fn host(&self) -> HostInfo {
        HostInfo {
            cpu_model: "a processor".into(),
            tsc_hz: 2_095_078_000,
            uptime: Duration::from_secs(200),
            cpus: vec![HostCpu { id: 0, apic_id: 0, activity: "debian vCPU 0".into() }],
            memory: HostMemory { total: 2 << 30, free: 1504 << 20, guests: 528 << 20 },
            features: vec![
                Feature { name: "EPT".into(), state: FeatureState::Used },
                Feature { name: "posted interrupts".into(), state: FeatureState::Absent },
            ],
            mitigations: vec![Mitigation { name: "L1TF".into(), status: "not affected".into() }],
        }
    }

    fn log_level(&self) -> LevelFilter {
        self.level
    }

    fn set_log_level(&mut self, level: LevelFilter) {
        self.level = level;
    }

    fn reboot(&mut self) {
        self.calls.push("reboot".into());
    }

    fn power_off(&mut self) -> Result<(), ControlError> {
        self.calls.push("power off".into());
        if self.power_off_fails { Err(ControlError::Failed("no ACPI".into())) } else { Ok(()) }
    }
}
