//! The hypervisor as the monitor sees and steers it.
//!
//! Counters of a vCPU that runs are read when it is between two turns: the core that runs it is made to leave the guest
//! and lets go of it for the moment that copying takes.

use crate::cores::{Shared, Status};
use crate::vm::{Body, Ended, Fleet, Guest, LastRun, Phase, Slot, duration, shown, shown_restart, times_of};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use devices::{Stroke, View};
use hal::boot::Machine;
use log::LevelFilter;
use monitor::{
    Control, ControlError, CoreShares, ExitRecord, ExitStats, Feature, FeatureState, HostCpu, HostInfo,
    HostMemory, Mitigation, Nodes, Overrides, Picture, SchedulingChange, Snapshot, VcpuInfo, VcpuStats,
    VcpuTimes, VmInfo, VmState, VmStats, VmSummary, VmTimes, WakeDelays,
};
use sched::{CoreId, EntityId};
use vmm::{ExitReason, RunState, Stats};
use vmx::Secondary;

/// The longest that a screenshot may be, in bytes as it is encoded: minutes on a serial line.
const MOST_PICTURE_BYTES: usize = 1 << 20;

/// The machines, and what the monitor's commands set off.
#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) fleet: Fleet,
    memory_bytes: u64,
    ended: Vec<Ended>,
    destroyed: Vec<String>,
}

impl Operator {
    pub(crate) const fn new(fleet: Fleet, machine: &Machine) -> Self {
        Self { fleet, memory_bytes: machine.memory_bytes, ended: Vec::new(), destroyed: Vec::new() }
    }

    /// The machines that a command ended since the last call.
    pub(crate) fn take_ended(&mut self) -> Vec<Ended> {
        core::mem::take(&mut self.ended)
    }

    /// The machines that a command destroyed since the last call.
    pub(crate) fn take_destroyed(&mut self) -> Vec<String> {
        core::mem::take(&mut self.destroyed)
    }

    fn shared(&self) -> &'static Shared {
        self.fleet.core.shared()
    }

    fn summary(guest: &Guest) -> VmSummary {
        let state = state(guest);
        let uptime = match state {
            VmState::Running | VmState::Paused => duration(hal::time::now().since(guest.started_at).0),
            VmState::Stopped | VmState::Crashed | VmState::Refused => Duration::ZERO,
        };
        let exits = match guest.machine() {
            Some(machine) => machine.each(|_, body| body.vcpu.stats().exits()).iter().sum(),
            None => guest.last_run.iter().map(|run| run.stats.exits()).sum(),
        };
        VmSummary {
            name: guest.config.name.clone(),
            state,
            vcpus: u32::from(guest.config.vcpus),
            memory_bytes: guest.config.memory_mib << 20,
            exits,
            uptime,
        }
    }

    fn guest(&self, name: &str) -> Result<&Guest, ControlError> {
        Ok(&self.fleet.guests()[self.fleet.find(name)?])
    }

    /// What the screen of the machine `name` shows now.
    fn screen(&self, name: &str) -> Result<View, ControlError> {
        let machine = self.guest(name)?.machine().ok_or(ControlError::NotRunning)?;
        machine.screen().ok_or_else(|| {
            ControlError::Refused(String::from(
                "it has no screen; screen = \"vga\" in craton.toml gives it one",
            ))
        })
    }

    fn vcpu_info(&self, guest: &Guest, id: EntityId, body: &Body) -> VcpuInfo {
        let slot = self.shared().slot(id);
        let (mut times, _) = times_of(self.shared(), id);
        times.exits = body.vcpu.stats().exits();
        VcpuInfo {
            id: u32::try_from(body.vcpu.index()).unwrap_or(u32::MAX),
            activity: Cow::Borrowed(activity(guest, self.shared(), id, slot, body)),
            rip: body.vcpu.last_rip(),
            host_cpu: slot.ran_on().map(|core| core.0),
            times,
        }
    }

    /// What the core `core` does, in words.
    fn core_activity(&self, core: CoreId) -> String {
        let post = self.shared().post(core);
        match post.status() {
            Status::Absent => String::from("does not start"),
            Status::LeftOut => String::from("cannot run guests"),
            Status::Up => {
                let who = post.turn().and_then(|id| self.owner(id));
                let what = who.unwrap_or_else(|| String::from("idle"));
                // The operator's commands run on it, between turns.
                if core.0 == 0 { String::from("monitor") } else { what }
            }
        }
    }

    /// The vCPU with the number `id`, by the name of its machine.
    fn owner(&self, id: EntityId) -> Option<String> {
        self.fleet.guests().iter().find_map(|guest| {
            let number = guest.machine()?.ids.iter().position(|other| *other == id)?;
            Some(format!("{} vCPU {number}", guest.config.name))
        })
    }
}

fn state(guest: &Guest) -> VmState {
    match &guest.phase {
        Phase::Off => VmState::Stopped,
        Phase::Crashed => VmState::Crashed,
        Phase::Refused => VmState::Refused,
        Phase::Starting(_) | Phase::Running(_) => VmState::Running,
        Phase::Paused(_) => VmState::Paused,
    }
}

/// What a vCPU does. It was running if its core had to be interrupted for this look.
fn activity(guest: &Guest, shared: &Shared, id: EntityId, slot: &Slot, body: &Body) -> &'static str {
    if matches!(guest.phase, Phase::Paused(_)) {
        return "paused";
    }
    match body.vcpu.run_state() {
        RunState::Halted => "halted",
        RunState::WaitForSipi => "waiting for SIPI",
        RunState::Stopped(_) => "stopped",
        RunState::Runnable => {
            let on = slot.loaded_on().map(|core| shared.post(core));
            if on.is_some_and(|post| post.had_last_turn(id)) { "running" } else { "waiting" }
        }
    }
}

fn exit_rows(stats: &Stats) -> Vec<ExitStats> {
    let row = |reason: &ExitReason| {
        let row = stats.reason(*reason);
        ExitStats { reason: Cow::Borrowed(reason.name()), count: row.count, ticks: row.host_ticks }
    };
    ExitReason::ALL.iter().map(row).filter(|row| row.count > 0).collect()
}

fn vcpu_stats(stats: &Stats, times: VcpuTimes, wake_delays: WakeDelays) -> VcpuStats {
    VcpuStats {
        times: VcpuTimes { exits: stats.exits(), ..times },
        wake_delays,
        rows: exit_rows(stats),
        guest_ticks: Some(stats.guest_ticks()),
    }
}

fn exit_records(stats: &Stats) -> Vec<ExitRecord> {
    let record = |record: &vmm::ExitRecord| ExitRecord {
        reason: Cow::Borrowed(record.reason.name()),
        detail: record.detail,
        rip: record.rip,
        tsc: record.at.0,
    };
    stats.records().map(record).collect()
}

impl Control for Operator {
    fn version(&self) -> String {
        format!("Craton {}", env!("CARGO_PKG_VERSION"))
    }

    fn uptime(&self) -> Duration {
        Duration::from_micros(hal::time::uptime_us())
    }

    fn vms(&self) -> Vec<VmSummary> {
        self.fleet.guests().iter().map(Self::summary).collect()
    }

    fn vm_info(&self, name: &str) -> Result<VmInfo, ControlError> {
        let guest = self.guest(name)?;
        let vcpus = guest
            .machine()
            .map_or_else(Vec::new, |machine| machine.each(|id, body| self.vcpu_info(guest, id, body)));
        Ok(VmInfo {
            summary: Self::summary(guest),
            detail: guest.detail.clone(),
            kernel: guest.config.kernel.clone(),
            initramfs: guest.config.initramfs.clone(),
            command_line: guest.config.cmdline.clone(),
            nodes: guest.config.numa_nodes.map_or(Nodes::Untold, Nodes::Count),
            scheduling: shown(&guest.config),
            restart: shown_restart(&guest.config),
            vcpus,
        })
    }

    fn create(&mut self, name: &str, from: &str, overrides: &Overrides) -> Result<(), ControlError> {
        let from = self.fleet.find(from)?;
        self.fleet.create(name, from, overrides)
    }

    fn destroy(&mut self, name: &str) -> Result<(), ControlError> {
        let index = self.fleet.find(name)?;
        self.ended.extend(self.fleet.destroy(index));
        self.destroyed.push(String::from(name));
        Ok(())
    }

    fn start(&mut self, name: &str) -> Result<(), ControlError> {
        let index = self.fleet.find(name)?;
        self.fleet.start(index)
    }

    fn pause(&mut self, name: &str) -> Result<(), ControlError> {
        let index = self.fleet.find(name)?;
        self.fleet.pause(index)
    }

    fn resume(&mut self, name: &str) -> Result<(), ControlError> {
        let index = self.fleet.find(name)?;
        self.fleet.resume(index)
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

    fn set(&mut self, name: &str, change: &SchedulingChange) -> Result<(), ControlError> {
        let index = self.fleet.find(name)?;
        self.fleet.set(index, change)
    }

    fn stats(&self, name: &str) -> Result<VmStats, ControlError> {
        let guest = self.guest(name)?;
        let vcpus = match guest.machine() {
            Some(machine) => {
                let taken = machine.each(|id, body| (id, body.vcpu.stats().clone()));
                let shown = taken.iter().map(|(id, stats)| {
                    let (times, wake_delays) = times_of(self.shared(), *id);
                    vcpu_stats(stats, times, wake_delays)
                });
                shown.collect()
            }
            None => {
                let shown = |run: &LastRun| vcpu_stats(&run.stats, run.times, run.wake_delays.clone());
                guest.last_run.iter().map(shown).collect()
            }
        };
        Ok(VmStats { vcpus })
    }

    fn snapshot(&self) -> Snapshot {
        let vm = |guest: &Guest| {
            let times = |id, body: &mut Body| {
                let (times, _) = times_of(self.shared(), id);
                VcpuTimes { exits: body.vcpu.stats().exits(), ..times }
            };
            VmTimes {
                name: guest.config.name.clone(),
                state: state(guest),
                weight: guest.config.weight,
                vcpus: guest.machine().map_or_else(Vec::new, |machine| machine.each(times)),
            }
        };
        let vms = self.fleet.guests().iter().map(vm).collect();
        let now = hal::time::now();
        let up = self.shared().posts().filter(|(_, post)| post.status() == Status::Up);
        let cores = up.map(|(core, post)| {
            let shares = post.shares(now);
            let times = self.shared().scheduler.core_times(core);
            CoreShares {
                id: core.0,
                guest: duration(shares.guest),
                hypervisor: duration(shares.hypervisor),
                idle: duration(shares.idle),
                switches: times.switches,
                pulls: times.pulls,
                kicks: shares.kicks,
                switch_ticks: shares.switch_ticks,
                decisions: shares.decisions,
                decision_ticks: shares.decision_ticks,
            }
        });
        Snapshot { at: self.uptime(), vms, cores: cores.collect() }
    }

    fn recent_exits(&self, name: &str, vcpu: u32) -> Result<Vec<ExitRecord>, ControlError> {
        let guest = self.guest(name)?;
        let vcpus = u32::from(guest.config.vcpus);
        if vcpu >= vcpus {
            return Err(ControlError::NoSuchVcpu { vcpus });
        }
        let wanted = usize::try_from(vcpu).unwrap_or(usize::MAX);
        let stats = match guest.machine() {
            Some(machine) => machine.one(wanted, |body| body.vcpu.stats().clone()),
            None => guest.last_run.get(wanted).map(|run| run.stats.clone()),
        };
        Ok(stats.as_ref().map_or_else(Vec::new, exit_records))
    }

    fn screen_text(&self, name: &str) -> Result<Vec<String>, ControlError> {
        let view = self.screen(name)?;
        match view.text() {
            Some(text) => Ok(text.rows().collect()),
            None => {
                let (width, height) = view.size();
                let what = view.describe();
                Err(ControlError::Refused(format!("it shows {what}, {width} x {height}, not text")))
            }
        }
    }

    fn screenshot(&self, name: &str) -> Result<Picture, ControlError> {
        let view = self.screen(name)?;
        let (width, height) = view.size();
        let mut encoder = monitor::Encoder::new(width);
        let mut line = Vec::new();
        for y in 0..height {
            view.line(y, &mut line);
            encoder.line(&line);
            if encoder.length() > MOST_PICTURE_BYTES {
                return Err(ControlError::Refused(String::from(
                    "its picture is too large for the serial line",
                )));
            }
        }
        Ok(encoder.finish())
    }

    fn type_keys(&mut self, name: &str, strokes: &[Vec<u8>]) -> Result<(), ControlError> {
        let machine = self.guest(name)?.machine().ok_or(ControlError::NotRunning)?;
        let strokes: Option<Vec<Stroke>> = strokes.iter().map(|codes| Stroke::new(codes)).collect();
        let taken = strokes.is_some_and(|strokes| machine.type_keys(&strokes));
        if taken {
            Ok(())
        } else {
            Err(ControlError::Refused(String::from("too many keys wait already; type less, or later")))
        }
    }

    fn host(&self) -> HostInfo {
        let counters = hal::memory::frames::counters();
        let machines = self.fleet.guests().iter().filter_map(Guest::machine);
        let cpu = |(core, _)| HostCpu {
            id: core,
            apic_id: hal::percpu::cpu(core).map_or(u32::MAX, |cpu| cpu.apic_id),
            activity: self.core_activity(CoreId(core)),
        };
        HostInfo {
            cpu_model: brand_string(),
            tsc_hz: hal::time::tsc_hz(),
            uptime: self.uptime(),
            cpus: self.shared().posts().map(|(core, post)| (core.0, post)).map(cpu).collect(),
            memory: HostMemory {
                total: self.memory_bytes,
                free: counters.free_bytes,
                guests: machines.map(|machine| machine.memory_bytes()).sum(),
            },
            features: features(self.fleet.core.cpu()),
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
