//! Building a virtual machine from its configuration, in steps that are short enough to be taken between turns.

use super::machine::{Bell, HostVcpu, HostVm};
use super::paced::Paced;
use super::ram::{self, Filling, Progress, Use};
use super::slot::{Body, Outside, VmKey};
use crate::boot_archive::Files;
use crate::cores::{Core, Shared};
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::platform_layout::{LOW_RAM_END, SHADOW_END, SWITCHED_BASE};
use arch::{Cr0Flags, Cr4Flags, EferFlags, Gpa, Gpr, MIB, Msr, Nanos, RFlags, SegmentRegister, Tsc};
use bus::Pipe;
use config::{Boot, Class, Cpu, VmConfig};
use core::num::{NonZeroU8, NonZeroU64};
use core::sync::atomic::AtomicBool;
use devices::{
    Contents, DebugConsole, DebugExit, FwCfg, MemorySizes, Pc, PcConfig, Screen, TestDevices,
    VIDEO_MEMORY_BYTES, VideoMemory, firmware_windows,
};
use hal::memory::FrameBlock;
use hal::vmx::{AddRamError, ApicPage, GuestSpace, Vmcs, VmxCpu};
use loader::{
    BootProtocol, EntryState, FirmwareSizes, Image, MemoryKind, MemoryLayout, MemoryRange, Module, Nodes,
    VmDescription,
};
use memory::{GuestMemory, RomOf};
use monitor::ControlError;
use sched::EntityId;
use vmm::lapic::{self, Role, TimerRate};
use vmm::paravirt::Features;
use vmm::{
    Clock, CpuModel, CpuState, CpuidConfig, CpuidPolicy, Inbox, Interruptibility, Leaf, Leave, MsrConfig,
    MsrState, Vcpu, VcpuConfig,
};
use vmx::{Secondary, VmxBackend};

/// Timer periods shorter than this are stretched, in nanoseconds.
const SHORTEST_TIMER_PERIOD_NS: u64 = 20_000;
/// Memory that guests leave to the host for tables, the heap and the rest, in bytes.
const HOST_RESERVE_BYTES: u64 = 8 * MIB;

/// The video BIOS in the archive, by the name that Debian's `seabios` has it under.
const VIDEO_BIOS: &str = "vgabios-stdvga.bin";

/// A virtual machine that is being built.
#[derive(Debug)]
pub(crate) struct Build {
    key: VmKey,
    ids: Box<[EntityId]>,
    memory_bytes: u64,
    /// What starts it, if no kernel is loaded.
    firmware: Option<FirmwareSizes>,
    cpuid: CpuidPolicy,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Memory is taken and zeroed.
    Ram(Filling),
    /// The images are loaded.
    Load(GuestSpace),
    /// The processors are made.
    Processors(Box<Frame>),
    /// Something failed.
    Failed,
}

/// All but the processors.
#[derive(Debug)]
struct Frame {
    vm: Arc<HostVm>,
    outside: Arc<Outside>,
    cpuid: CpuidPolicy,
    msrs: MsrState,
    state: CpuState,
    tsc_offset: u64,
    bodies: Vec<Box<Body>>,
}

/// How far the build is.
#[derive(Debug)]
pub(crate) enum Built {
    /// More is to do.
    Going,
    /// All is there.
    Done {
        /// The numbers of the vCPUs.
        ids: Box<[EntityId]>,
        /// The vCPUs, by number, loaded nowhere.
        bodies: Vec<Box<Body>>,
    },
}

impl Build {
    /// Begins to build what `config` describes, with the vCPUs `ids`. `promised` bytes of the free memory are other
    /// machines' that are being built.
    ///
    /// # Errors
    /// [`ControlError::OutOfMemory`] with the figures, [`ControlError::Refused`].
    pub(crate) fn begin(
        cpu: &VmxCpu,
        config: &VmConfig,
        files: &Files,
        key: VmKey,
        ids: Box<[EntityId]>,
        promised: u64,
    ) -> Result<Self, ControlError> {
        let memory_bytes = config.memory_mib * MIB;
        let firmware = firmware(config, files)?.map(|firmware| firmware.sizes());
        let firmware_bytes = firmware.map_or(0, |firmware| firmware.total_bytes());
        let layout = MemoryLayout::new(memory_bytes).map_err(|error| refused(config, &error.to_string()))?;
        let cpuid = cpuid_policy(cpu, config)?;
        let free = hal::memory::frames::counters().free_bytes.saturating_sub(promised);
        let video_bytes = match config.screen {
            config::Screen::None => 0,
            config::Screen::Vga => VIDEO_MEMORY_BYTES,
        };
        let needed = memory_bytes.saturating_add(firmware_bytes).saturating_add(video_bytes);
        if needed.saturating_add(HOST_RESERVE_BYTES) > free {
            return Err(ControlError::OutOfMemory { needed, free });
        }
        let mut features = paging::Features::LEAVES_2M;
        features.set(paging::Features::LEAVES_1G, cpu.capabilities().ept_gib_leaves());
        let apic = if cpu.controls().apic_page { ApicPage::Present } else { ApicPage::Absent };
        let space =
            GuestSpace::new(features, apic).map_err(|_| ControlError::OutOfMemory { needed, free })?;
        let stage = Stage::Ram(Filling::new(space, &ranges(&layout, firmware, config.screen), video_bytes));
        Ok(Self { key, ids, memory_bytes, firmware, cpuid, stage })
    }

    /// The numbers of its vCPUs.
    pub(crate) fn ids(&self) -> &[EntityId] {
        &self.ids
    }

    /// Bytes of RAM that are still to be taken.
    pub(crate) fn missing_bytes(&self) -> u64 {
        match &self.stage {
            Stage::Ram(filling) => filling.missing_bytes(),
            Stage::Load(_) | Stage::Processors(_) | Stage::Failed => 0,
        }
    }

    /// Goes on a little.
    ///
    /// # Errors
    /// [`ControlError`]; the build is over then, and dropping it gives back what was taken.
    pub(crate) fn step(
        &mut self,
        core: &mut Core,
        config: &VmConfig,
        files: &Files,
        variables: Option<&[u8]>,
    ) -> Result<Built, ControlError> {
        let stage = core::mem::replace(&mut self.stage, Stage::Failed);
        self.stage = match stage {
            Stage::Ram(filling) => {
                let missing = filling.missing_bytes();
                match filling.step() {
                    Ok(Progress::Going(filling)) => Stage::Ram(filling),
                    Ok(Progress::Done(mut space)) => {
                        self.open_windows(&mut space)?;
                        Stage::Load(space)
                    }
                    Err(ram::OutOfMemory) => return Err(out_of_memory(missing)),
                }
            }
            Stage::Load(space) => {
                let space = Arc::new(space);
                let state = match firmware(config, files)? {
                    Some(firmware) => {
                        let rom = RomOf(Arc::clone(&space));
                        firmware
                            .write(&Paced::new(&rom, core), variables)
                            .expect("there is memory for all of it");
                        CpuState::reset()
                    }
                    None => {
                        let memory = Paced::new(&space, core);
                        cpu_state(&load(&memory, config, files, self.memory_bytes)?)
                    }
                };
                Stage::Processors(Box::new(self.frame(core, config, files, space, state)))
            }
            Stage::Processors(mut frame) => {
                frame.add_processor(core, self.key)?;
                if frame.bodies.len() == self.ids.len() {
                    return Ok(Built::Done { ids: core::mem::take(&mut self.ids), bodies: frame.bodies });
                }
                Stage::Processors(frame)
            }
            Stage::Failed => return Err(ControlError::Failed(String::from("it failed before"))),
        };
        Ok(Built::Going)
    }

    /// Model-specific registers as the first instruction finds them.
    fn msrs(&self) -> MsrState {
        let registers = MsrState::new(&msr_config(&self.cpuid));
        if self.firmware.is_some() { registers.before_firmware() } else { registers }
    }

    /// Adds what firmware is seen through.
    fn open_windows(&self, space: &mut GuestSpace) -> Result<(), ControlError> {
        let Some(firmware) = &self.firmware else { return Ok(()) };
        for window in firmware_windows(firmware.image_bytes, firmware.variable_bytes) {
            match space.add_window(window) {
                Ok(()) => {}
                Err(AddRamError::OutOfTables) => return Err(out_of_memory(0)),
                Err(AddRamError::Place(error)) => panic!("windows are disjoint: {error:?}"),
            }
        }
        Ok(())
    }

    fn frame(
        &self,
        core: &Core,
        config: &VmConfig,
        files: &Files,
        space: Arc<GuestSpace>,
        state: CpuState,
    ) -> Frame {
        let now = hal::time::now();
        let (console, serial) = Pipe::ends();
        let pc = PcConfig {
            console: serial,
            wall_clock_unix_s: crate::clock::unix_seconds(),
            memory: memory_sizes(self.memory_bytes),
            debug_exit: if config.debug_exit { DebugExit::Present } else { DebugExit::Absent },
            debug_console: if config.debug_console { DebugConsole::OnConsole } else { DebugConsole::Silent },
            test_devices: if config.test_devices { TestDevices::Present } else { TestDevices::Absent },
            screen: screen(config, &space, files),
            fw_cfg: Some(firmware_configuration(config, &space)),
            firmware: self.firmware.as_ref().map(|firmware| devices::Firmware {
                memory: Arc::<GuestSpace>::clone(&space),
                rom: Arc::new(RomOf(Arc::clone(&space))),
                image_bytes: firmware.image_bytes,
                variable_bytes: firmware.variable_bytes,
            }),
        };
        let vm = build_vm(core.shared(), &self.ids, space, pc, now);
        let exclusive = AtomicBool::new(config.class == Class::Exclusive);
        Frame {
            vm: Arc::new(vm),
            outside: Arc::new(Outside { console, exclusive }),
            cpuid: self.cpuid.clone(),
            msrs: self.msrs(),
            state,
            tsc_offset: now.0.wrapping_neg(),
            bodies: Vec::with_capacity(self.ids.len()),
        }
    }
}

fn build_vm(
    shared: &'static Shared,
    ids: &[EntityId],
    space: Arc<GuestSpace>,
    pc: PcConfig,
    now: Tsc,
) -> HostVm {
    let unix = Nanos(pc.wall_clock_unix_s.saturating_mul(1_000_000_000));
    let inboxes = (0..).zip(ids).map(|(apic_id, _)| Arc::new(Inbox::new(apic_id))).collect();
    let bell = Bell { shared, ids: ids.into() };
    HostVm::new(space, Pc::new(pc), Clock::new(now, hal::time::tsc_hz()), inboxes, Box::new(bell))
        .with_wall_clock(unix)
}

/// The guest's screen. Its BIOS is the archive's, if that has one: only firmware in the guest needs it.
fn screen(config: &VmConfig, space: &GuestSpace, files: &Files) -> Screen {
    match (config.screen, space.video_memory()) {
        (config::Screen::Vga, Some(block)) => Screen::Vga {
            memory: VideoMemory::new(Arc::<FrameBlock>::clone(block)),
            rom: files.get(VIDEO_BIOS).map(Arc::from),
        },
        (config::Screen::None | config::Screen::Vga, _) => Screen::Absent,
    }
}

/// What firmware in the guest is told.
fn firmware_configuration(config: &VmConfig, space: &Arc<GuestSpace>) -> FwCfg {
    let memory_bytes = config.memory_mib * MIB;
    let vcpus = NonZeroU8::new(config.vcpus).unwrap_or(NonZeroU8::MIN);
    let mut contents = Contents::new(memory_bytes, vcpus.get().into(), vcpus.get().into());
    if let Ok(layout) = MemoryLayout::new(memory_bytes) {
        for file in loader::firmware_files(vcpus, &layout, config.numa_nodes.and_then(Nodes::new)) {
            contents.add_file(file.name, file.bytes).expect("a few files with short names");
        }
    }
    FwCfg::new(contents, Arc::<GuestSpace>::clone(space))
}

impl Frame {
    /// Makes the next vCPU. All have the same TSC.
    fn add_processor(&mut self, core: &mut Core, key: VmKey) -> Result<(), ControlError> {
        let index = self.bodies.len();
        let apic_id = u32::try_from(index).unwrap_or(u32::MAX);
        let cpu = core.empty_cpu();
        let cpuid = self.cpuid.for_vcpu(apic_id);
        let hidden = not_offered(&cpuid);
        let controls = cpu.controls().without(hidden);
        let mut vmcs = Vmcs::new(cpu, Arc::clone(&self.vm.memory), hidden)
            .map_err(|error| ControlError::Failed(error.to_string()))?;
        let inbox = Arc::clone(&self.vm.inboxes()[index]);
        vmcs.attach(Arc::clone(&inbox));
        let backend =
            VmxBackend::new(vmcs, controls, cpuid.cr4_allowed(), cpu.capabilities().preemption_timer_shift());
        let config = VcpuConfig {
            index,
            inbox,
            lapic: lapic_config(&cpuid, apic_id),
            msrs: self.msrs,
            xcr0_allowed: cpuid.xcr0_allowed(),
            cpuid,
            tsc_offset: self.tsc_offset,
            paravirt: paravirtual_features(cpu),
        };
        let state = if index == 0 { self.state } else { CpuState::reset() };
        let mut vcpu: HostVcpu = Vcpu::new(backend, config, &state);
        vcpu.backend_mut().vmcs_mut().unload(cpu);
        let (vm, outside) = (Arc::clone(&self.vm), Arc::clone(&self.outside));
        self.bodies.push(Box::new(Body {
            vcpu,
            vm,
            outside,
            key,
            last_leave: Leave::Halted,
            charged_ticks: 0,
        }));
        Ok(())
    }
}

/// How `memory_bytes` of RAM lie around the hole below 4 GiB.
fn memory_sizes(memory_bytes: u64) -> MemorySizes {
    let low = memory_bytes.min(LOW_RAM_END.get());
    MemorySizes { below_4g: low, above_4g: memory_bytes - low }
}

/// The ranges of memory of a machine, and what each becomes.
fn ranges(
    layout: &MemoryLayout,
    firmware: Option<FirmwareSizes>,
    screen: config::Screen,
) -> Vec<(MemoryRange, Use)> {
    let Some(firmware) = firmware else {
        let ram = match screen {
            config::Screen::None => layout.ram(),
            config::Screen::Vga => ram::without_legacy_video(&layout.ram()),
        };
        return ram.into_iter().map(|range| (range, Use::Ram)).collect();
    };
    let range = |start, bytes| MemoryRange { start, bytes, kind: MemoryKind::Reserved };
    let mut ranges: Vec<_> =
        layout.ram_around_firmware().into_iter().map(|range| (range, Use::Ram)).collect();
    ranges.push((range(SWITCHED_BASE, SHADOW_END - SWITCHED_BASE), Use::SwitchedRam));
    ranges.push((range(firmware.base(), firmware.total_bytes()), Use::Rom));
    ranges
}

/// The files of a machine that is started by firmware.
fn firmware<'a>(config: &'a VmConfig, files: &Files) -> Result<Option<loader::Firmware<'a>>, ControlError> {
    let Some(firmware) = &config.firmware else { return Ok(None) };
    let file = |name: &str| match files.get(name) {
        Some(bytes) => Ok(bytes),
        None => Err(refused(config, &alloc::format!("`{name}` is not in the boot archive"))),
    };
    let image = Image { name: &config.kernel, bytes: file(&config.kernel)? };
    let variables = match &firmware.variables {
        Some(name) => Some(Image { name, bytes: file(name)? }),
        None => None,
    };
    loader::Firmware::new(image, variables).map(Some).map_err(|error| refused(config, &error.to_string()))
}

/// Memory for `missing` bytes, or for tables, is not there.
fn out_of_memory(missing: u64) -> ControlError {
    let free = hal::memory::frames::counters().free_bytes;
    ControlError::OutOfMemory { needed: missing.max(arch::PAGE_SIZE), free }
}

fn load(
    memory: &impl GuestMemory,
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
    let mut modules = Vec::with_capacity(config.modules.len());
    for module in &config.modules {
        let file = Image { name: &module.file, bytes: image(&module.file)? };
        modules.push(Module { file, string: &module.string });
    }
    let description = VmDescription {
        memory_bytes,
        vcpus: NonZeroU8::new(config.vcpus).unwrap_or(NonZeroU8::MIN),
        nodes: config.numa_nodes.and_then(Nodes::new),
        kernel: Image { name: &config.kernel, bytes: kernel },
        boot: match config.boot {
            Boot::Detect => None,
            Boot::Linux => Some(BootProtocol::Linux),
            Boot::Linux32 => Some(BootProtocol::Linux32),
            Boot::Pvh => Some(BootProtocol::Pvh),
            Boot::Multiboot => Some(BootProtocol::Multiboot),
            Boot::Multiboot2 => Some(BootProtocol::Multiboot2),
            Boot::Flat { load_address, entry } => {
                Some(BootProtocol::Flat { load_address: Gpa::new(load_address), entry: Gpa::new(entry) })
            }
        },
        initramfs,
        modules: &modules,
        cmdline: &config.cmdline,
        screen: match config.screen {
            config::Screen::None => loader::Screen::None,
            config::Screen::Vga => loader::Screen::Text,
        },
    };
    loader::load(memory, &description).map_err(|error| refused(config, &error.to_string()))
}

fn refused(config: &VmConfig, why: &str) -> ControlError {
    ControlError::Refused(alloc::format!("vm \"{}\": {why}", config.name))
}

/// The instructions that a guest of `cpuid` is not to have.
fn not_offered(cpuid: &CpuidPolicy) -> Secondary {
    let mut hidden = Secondary::empty();
    hidden.set(Secondary::INVPCID, !cpuid.has_invpcid());
    hidden.set(Secondary::XSAVES, !cpuid.has_xsaves());
    hidden
}

/// What of KVM's paravirtual interface guests are offered.
const fn paravirtual_features(cpu: &VmxCpu) -> Features {
    if cpu.controls().has_apicv() { Features::HARDWARE_APIC } else { Features::SOFTWARE_APIC }
}

fn cpuid_policy(cpu: &VmxCpu, config: &VmConfig) -> Result<CpuidPolicy, ControlError> {
    let host = |leaf, subleaf| {
        let leaf = hal::cpu::cpuid(leaf, subleaf);
        Leaf { eax: leaf.eax, ebx: leaf.ebx, ecx: leaf.ecx, edx: leaf.edx }
    };
    // CPUID.(7,0):EDX reports the register.
    let has_capabilities = hal::cpu::cpuid(7, 0).edx & 1 << 29 != 0;
    let cpuid = CpuidConfig {
        model: match config.cpu {
            Cpu::Host => CpuModel::Host,
            Cpu::V2 => CpuModel::V2,
            Cpu::V3 => CpuModel::V3,
        },
        tsc_hz: hal::time::tsc_hz(),
        xcr0_allowed: cpu.xsave_mask(),
        rdtscp: cpu.controls().has_secondary(Secondary::RDTSCP),
        invpcid: cpu.controls().has_secondary(Secondary::INVPCID),
        xsaves: cpu.controls().has_secondary(Secondary::XSAVES),
        vcpus: config.vcpus,
        apic_id: 0,
        arch_capabilities: has_capabilities.then(|| hal::msr::try_read(Msr::ARCH_CAPABILITIES)).flatten(),
        paravirt_features: paravirtual_features(cpu).bits(),
    };
    CpuidPolicy::new(&host, &cpuid).map_err(|missing| {
        refused(config, &alloc::format!("field `cpu`: {missing}; use cpu = \"host\", or an older model"))
    })
}

fn lapic_config(cpuid: &CpuidPolicy, apic_id: u32) -> lapic::Config {
    let tsc_hz = NonZeroU64::new(hal::time::tsc_hz()).unwrap_or(NonZeroU64::MIN);
    let crystal_hz = NonZeroU64::new(cpuid.crystal_hz()).unwrap_or(tsc_hz);
    lapic::Config {
        id: apic_id,
        role: if apic_id == 0 { Role::Bootstrap } else { Role::Application },
        features: lapic::Features::all(),
        timer_rate: TimerRate::new(crystal_hz, tsc_hz),
        shortest_period: Tsc(u64::try_from(
            u128::from(tsc_hz.get()) * u128::from(SHORTEST_TIMER_PERIOD_NS) / 1_000_000_000,
        )
        .unwrap_or(u64::MAX)),
        physical_address_bits: cpuid.physical_address_bits(),
    }
}

fn msr_config(cpuid: &CpuidPolicy) -> MsrConfig {
    MsrConfig {
        microcode_revision: microcode_revision(),
        physical_address_bits: cpuid.physical_address_bits(),
        arch_capabilities: cpuid.arch_capabilities(),
        xss: cpuid.has_xsaves(),
    }
}

/// The host's microcode revision, which guests read to know which errata are mended.
fn microcode_revision() -> u32 {
    hal::msr::try_read(Msr::BIOS_SIGN_ID).and_then(|raw| u32::try_from(raw >> 32).ok()).unwrap_or(0)
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
