//! A running virtual machine: memory, devices and one processor, built from its configuration.

use super::ram;
use crate::boot_archive::Files;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use arch::{Cr0Flags, Cr4Flags, EferFlags, Gpr, MIB, Nanos, RFlags, SegmentRegister, Tsc};
use bus::{Pipe, PipeEnd};
use config::{Boot, VmConfig};
use core::num::{NonZeroU8, NonZeroU64};
use devices::{MemorySizes, Pc, PcConfig};
use hal::vmx::{GuestSpace, Vmcs, VmxCpu};
use loader::{BootProtocol, EntryState, Image, MemoryLayout, VmDescription};
use monitor::ControlError;
use vmm::lapic::{self, Role, TimerRate};
use vmm::{
    Clock, CpuState, CpuidConfig, CpuidPolicy, Interruptibility, Leaf, MsrState, Vcpu, VcpuConfig, Vm,
};
use vmx::{Secondary, VmxBackend};

/// The processor of a virtual machine.
pub(crate) type HostVcpu = Vcpu<VmxBackend<Vmcs>>;
/// Everything around it.
pub(crate) type HostVm = Vm<Arc<GuestSpace>, Pc>;

/// Timer periods shorter than this are stretched, in nanoseconds.
const SHORTEST_TIMER_PERIOD_NS: u64 = 20_000;
/// Pages that no guest of this version reaches in time of need: what the host keeps for itself.
const HOST_RESERVE_BYTES: u64 = 8 * MIB;

/// A virtual machine that runs, or waits to.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) vcpu: HostVcpu,
    pub(crate) vm: HostVm,
    /// The operator's end of the serial port.
    pub(crate) console: PipeEnd,
    /// A device was touched from outside since the last poll.
    touched: bool,
}

impl Machine {
    /// Builds the machine that `config` describes and leaves its VMCS loaded on `cpu`, where none may be.
    pub(crate) fn build(cpu: &mut VmxCpu, config: &VmConfig, files: &Files) -> Result<Self, ControlError> {
        let memory_bytes = config.memory_mib * MIB;
        let space = Arc::new(build_space(cpu, config, memory_bytes)?);
        let entry = load(&space, config, files, memory_bytes)?;

        let now = hal::time::now();
        let (console, serial) = Pipe::ends();
        let low = memory_bytes.min(loader_hole_start());
        let pc = Pc::new(PcConfig {
            console: serial,
            wall_clock_unix_s: crate::clock::unix_seconds(),
            memory: MemorySizes { below_4g: low, above_4g: memory_bytes - low },
        });
        let vm = Vm { memory: Arc::clone(&space), platform: pc, clock: Clock::new(now, hal::time::tsc_hz()) };

        let controls = *cpu.controls();
        let cpuid = cpuid_policy(cpu);
        let vmcs = Vmcs::new(cpu, space).map_err(|error| ControlError::Failed(error.to_string()))?;
        let backend =
            VmxBackend::new(vmcs, controls, cpuid.cr4_allowed(), cpu.capabilities().preemption_timer_shift());
        let vcpu_config = VcpuConfig {
            lapic: lapic_config(&cpuid),
            msrs: MsrState::new(microcode_revision(), cpuid.physical_address_bits()),
            xcr0_allowed: cpu.xsave_mask(),
            cpuid,
            tsc_offset: now.0.wrapping_neg(),
        };
        let vcpu = Vcpu::new(backend, vcpu_config, &cpu_state(&entry));
        Ok(Self { vcpu, vm, console, touched: false })
    }

    /// Hands bytes from the operator to the guest's serial port; returns how many it took.
    pub(crate) fn type_in(&mut self, bytes: &[u8], now: Tsc) -> usize {
        let taken = bytes.iter().take_while(|byte| self.console.send(**byte)).count();
        let time = self.time(now);
        self.vm.platform.console_input(time);
        self.touched = true;
        taken
    }

    /// Tells the serial port that the operator's side took bytes from a full pipe.
    pub(crate) fn console_drained(&mut self, now: Tsc) {
        let time = self.time(now);
        self.vm.platform.console_input(time);
        self.touched = true;
    }

    /// Whether [`Self::poll`] could find anything for a halted processor at `now`.
    pub(crate) fn wants_poll(&self, now: Tsc) -> bool {
        self.touched || now >= self.vcpu.next_timer()
    }

    /// Looks after timers and devices of a halted processor; returns whether it wants the core. Its VMCS must be
    /// loaded.
    pub(crate) fn poll(&mut self, now: Tsc) -> bool {
        self.touched = false;
        self.vcpu.poll(&mut self.vm, now)
    }

    fn time(&self, now: Tsc) -> Nanos {
        self.vm.clock.nanos(now)
    }
}

/// Where the RAM below 4 GiB ends at the latest.
fn loader_hole_start() -> u64 {
    3 * arch::GIB
}

fn build_space(cpu: &VmxCpu, config: &VmConfig, memory_bytes: u64) -> Result<GuestSpace, ControlError> {
    let layout = MemoryLayout::new(memory_bytes).map_err(|error| refused(config, &error.to_string()))?;
    let free = hal::memory::frames::counters().free_bytes;
    let short = ControlError::OutOfMemory { needed: memory_bytes, free };
    if memory_bytes + HOST_RESERVE_BYTES > free {
        return Err(short);
    }
    let mut features = paging::Features::LEAVES_2M;
    features.set(paging::Features::LEAVES_1G, cpu.capabilities().ept_gib_leaves());
    let mut space = GuestSpace::new(features).map_err(|_| short.clone())?;
    ram::populate(&mut space, &layout.ram()).map_err(|_| short)?;
    Ok(space)
}

fn load(
    space: &Arc<GuestSpace>,
    config: &VmConfig,
    files: &Files,
    memory_bytes: u64,
) -> Result<EntryState, ControlError> {
    let image = |name: &String| match files.get(name) {
        Some(bytes) => Ok(bytes),
        None => Err(refused(config, &alloc::format!("`{name}` is not in the boot archive"))),
    };
    let kernel = image(&config.kernel)?;
    let initramfs = match &config.initramfs {
        Some(name) => Some(Image { name, bytes: image(name)? }),
        None => None,
    };
    let description = VmDescription {
        memory_bytes,
        vcpus: NonZeroU8::MIN,
        kernel: Image { name: &config.kernel, bytes: kernel },
        boot: match config.boot {
            Boot::Detect => None,
            Boot::Linux => Some(BootProtocol::Linux),
            Boot::Pvh => Some(BootProtocol::Pvh),
        },
        initramfs,
        cmdline: &config.cmdline,
    };
    loader::load(&**space, &description).map_err(|error| refused(config, &error.to_string()))
}

fn refused(config: &VmConfig, why: &str) -> ControlError {
    ControlError::Refused(alloc::format!("vm \"{}\": {why}", config.name))
}

fn cpuid_policy(cpu: &VmxCpu) -> CpuidPolicy {
    let host = |leaf, subleaf| {
        let leaf = hal::cpu::cpuid(leaf, subleaf);
        Leaf { eax: leaf.eax, ebx: leaf.ebx, ecx: leaf.ecx, edx: leaf.edx }
    };
    let config = CpuidConfig {
        tsc_hz: hal::time::tsc_hz(),
        xcr0_allowed: cpu.xsave_mask(),
        rdtscp: cpu.controls().has_secondary(Secondary::RDTSCP),
        invpcid: cpu.controls().has_secondary(Secondary::INVPCID),
        apic_id: 0,
    };
    CpuidPolicy::new(&host, &config)
}

fn lapic_config(cpuid: &CpuidPolicy) -> lapic::Config {
    let tsc_hz = NonZeroU64::new(hal::time::tsc_hz()).unwrap_or(NonZeroU64::MIN);
    let crystal_hz = NonZeroU64::new(cpuid.crystal_hz()).unwrap_or(tsc_hz);
    lapic::Config {
        id: 0,
        role: Role::Bootstrap,
        features: lapic::Features::X2APIC | lapic::Features::TSC_DEADLINE,
        timer_rate: TimerRate::new(crystal_hz, tsc_hz),
        shortest_period: Tsc(u64::try_from(
            u128::from(tsc_hz.get()) * u128::from(SHORTEST_TIMER_PERIOD_NS) / 1_000_000_000,
        )
        .unwrap_or(u64::MAX)),
        physical_address_bits: cpuid.physical_address_bits(),
    }
}

/// The host's microcode revision, which guests read to know which errata are mended.
fn microcode_revision() -> u32 {
    hal::msr::try_read(arch::Msr::BIOS_SIGN_ID).and_then(|raw| u32::try_from(raw >> 32).ok()).unwrap_or(0)
}

/// The processor's first state, from what the boot protocol asks for; the rest as after reset.
fn cpu_state(entry: &EntryState) -> CpuState {
    let mut gprs = entry.gprs;
    gprs.set(Gpr::Rsp, entry.rsp);
    CpuState {
        gprs,
        rip: entry.rip,
        rflags: RFlags::from_bits_retain(entry.rflags),
        cr0: Cr0Flags::from_bits_retain(entry.cr0),
        cr3: entry.cr3,
        cr4: Cr4Flags::from_bits_retain(entry.cr4),
        efer: EferFlags::from_bits_retain(entry.efer),
        segments: SegmentRegister::ALL.map(|register| entry.segment(register)),
        gdtr: entry.gdtr,
        idtr: entry.idtr,
        interruptibility: Interruptibility::empty(),
        ..CpuState::reset()
    }
}
