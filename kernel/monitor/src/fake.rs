//! A scripted hypervisor for the tests: two virtual machines, and a record of what was asked.

use crate::control::*;
use crate::definition::*;
use crate::error::ControlError;
use crate::picture::Picture;
use crate::times::*;
use core::time::Duration;
use log::LevelFilter;

pub(crate) struct FakeControl {
    pub(crate) vms: Vec<VmSummary>,
    pub(crate) calls: Vec<String>,
    /// What the next call that can fail answers.
    pub(crate) refuse: Option<ControlError>,
    pub(crate) uptime: Duration,
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
            refuse: None,
            uptime: Duration::from_secs(200),
            level: LevelFilter::Info,
            power_off_fails: false,
        }
    }

    fn vm(&self, name: &str) -> Result<&VmSummary, ControlError> {
        self.vms.iter().find(|vm| vm.name == name).ok_or(ControlError::NoSuchVm)
    }

    /// Lets time go by.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.uptime += time;
    }

    fn change(
        &mut self,
        verb: &str,
        name: &str,
        from: &[VmState],
        to: Option<VmState>,
    ) -> Result<(), ControlError> {
        if let Some(error) = self.refuse.take() {
            return Err(error);
        }
        let vm = self.vms.iter_mut().find(|vm| vm.name == name).ok_or(ControlError::NoSuchVm)?;
        if !from.contains(&vm.state) {
            return Err(match vm.state {
                VmState::Running if verb == "resume" => ControlError::NotPaused,
                VmState::Running => ControlError::AlreadyRunning,
                VmState::Paused => ControlError::Paused,
                VmState::Stopped | VmState::Crashed | VmState::Refused => ControlError::NotRunning,
            });
        }
        vm.state = to.unwrap_or(vm.state);
        self.calls.push(format!("{verb} {name}"));
        Ok(())
    }
}

/// A vCPU that runs a quarter of the time and waits for a tenth of it.
fn times_at(uptime: Duration) -> VcpuTimes {
    VcpuTimes { ran: uptime / 4, waited: uptime / 10, migrations: 2, exits: 10 * uptime.as_secs() }
}

impl Control for FakeControl {
    fn version(&self) -> String {
        "craton 0.1.0".into()
    }

    fn uptime(&self) -> Duration {
        self.uptime
    }

    fn vms(&self) -> Vec<VmSummary> {
        self.vms.clone()
    }

    fn vm_info(&self, name: &str) -> Result<VmInfo, ControlError> {
        let summary = self.vm(name)?.clone();
        let detail = if summary.state == VmState::Stopped { "powered off by the guest" } else { "" };
        let vcpus = (0..summary.vcpus)
            .map(|id| VcpuInfo {
                id,
                activity: "halted".into(),
                rip: 0x1000,
                host_cpu: (id == 0).then_some(1),
                times: times_at(self.uptime),
            })
            .collect();
        Ok(VmInfo {
            summary,
            detail: detail.into(),
            kernel: "vmlinuz".into(),
            initramfs: Some("initramfs".into()),
            command_line: "console=ttyS0".into(),
            nodes: Nodes::Count(2),
            scheduling: Scheduling {
                weight: 200,
                cap: Cap::Percent(50),
                cores: Cores::These(vec![0, 1]),
                class: Class::Normal,
            },
            restart: Restart::OnFailure,
            vcpus,
        })
    }

    fn create(&mut self, name: &str, from: &str, overrides: &Overrides) -> Result<(), ControlError> {
        if let Some(error) = self.refuse.take() {
            return Err(error);
        }
        let mut vm = self.vm(from)?.clone();
        if self.vm(name).is_ok() {
            return Err(ControlError::NameTaken);
        }
        vm.name = name.into();
        vm.state = VmState::Stopped;
        vm.vcpus = overrides.vcpus.map_or(vm.vcpus, u32::from);
        vm.memory_bytes = overrides.memory_mib.map_or(vm.memory_bytes, |mib| mib << 20);
        self.vms.push(vm);
        self.calls.push(format!("create {name} {from} {overrides:?}"));
        Ok(())
    }

    fn destroy(&mut self, name: &str) -> Result<(), ControlError> {
        if let Some(error) = self.refuse.take() {
            return Err(error);
        }
        self.vm(name)?;
        self.vms.retain(|vm| vm.name != name);
        self.calls.push(format!("destroy {name}"));
        Ok(())
    }

    fn start(&mut self, name: &str) -> Result<(), ControlError> {
        self.change("start", name, &[VmState::Stopped], Some(VmState::Running))
    }

    fn pause(&mut self, name: &str) -> Result<(), ControlError> {
        self.change("pause", name, &[VmState::Running], Some(VmState::Paused))
    }

    fn resume(&mut self, name: &str) -> Result<(), ControlError> {
        self.change("resume", name, &[VmState::Paused], Some(VmState::Running))
    }

    fn stop(&mut self, name: &str) -> Result<(), ControlError> {
        self.change("stop", name, &[VmState::Running, VmState::Paused], Some(VmState::Stopped))
    }

    fn reset(&mut self, name: &str) -> Result<(), ControlError> {
        self.change("reset", name, &[VmState::Running, VmState::Paused], Some(VmState::Running))
    }

    fn set(&mut self, name: &str, change: &SchedulingChange) -> Result<(), ControlError> {
        let verb = format!("set {change:?}");
        let any = [VmState::Running, VmState::Paused, VmState::Stopped, VmState::Crashed, VmState::Refused];
        self.change(&verb, name, &any, None)
    }

    fn stats(&self, name: &str) -> Result<VmStats, ControlError> {
        let vm = self.vm(name)?;
        let row = |reason: &'static str, count, ticks| ExitStats { reason: reason.into(), count, ticks };
        let vcpus = (0..vm.vcpus).map(|id| match id {
            0 => VcpuStats {
                times: times_at(self.uptime),
                wake_delays: WakeDelays {
                    buckets: vec![
                        DelayBucket { below_us: 8, count: 70 },
                        DelayBucket { below_us: 16, count: 30 },
                    ],
                    worst: Duration::from_micros(12),
                },
                rows: vec![row("CPUID", 1_000, 100_000), row("VMCALL", 0, 0), row("HLT", 1_000, 200_000)],
                guest_ticks: Some(99_300_000),
            },
            _ => VcpuStats {
                rows: vec![row("HLT", 2_000, 400_000)],
                guest_ticks: Some(0),
                ..VcpuStats::default()
            },
        });
        Ok(VmStats { vcpus: vcpus.collect() })
    }

    fn snapshot(&self) -> Snapshot {
        let vm = |vm: &VmSummary| VmTimes {
            name: vm.name.clone(),
            state: vm.state,
            weight: 100,
            vcpus: (0..vm.vcpus).map(|_| times_at(self.uptime)).collect(),
        };
        let core = CoreShares {
            id: 0,
            guest: self.uptime / 2,
            hypervisor: self.uptime / 100,
            idle: self.uptime * 49 / 100,
            switches: self.uptime.as_secs(),
            pulls: 3,
            kicks: 4,
            ..CoreShares::default()
        };
        Snapshot { at: self.uptime, vms: self.vms.iter().map(vm).collect(), cores: vec![core] }
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

    fn screen_text(&self, name: &str) -> Result<Vec<String>, ControlError> {
        match self.vm(name)?.state {
            VmState::Running => Ok(vec!["GRUB loading.".into(), String::new(), String::new()]),
            _ => Err(ControlError::NotRunning),
        }
    }

    fn screenshot(&self, name: &str) -> Result<Picture, ControlError> {
        self.vm(name)?;
        Ok(Picture { width: 2, height: 1, bytes: vec![1, 2, 3, 4, 0x81] })
    }

    fn type_keys(&mut self, name: &str, strokes: &[Vec<u8>]) -> Result<(), ControlError> {
        self.vm(name)?;
        self.calls.push(format!("type {name} {strokes:02x?}"));
        Ok(())
    }

    fn host(&self) -> HostInfo {
        HostInfo {
            cpu_model: "a processor".into(),
            tsc_hz: 2_095_078_000,
            uptime: self.uptime,
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
