//! A whole virtual machine around a scripted processor.

use crate::{ScriptedBackend, Step, host_leaf};
use arch::{
    Cr0Flags, Cr4Flags, EferFlags, Gpa, Nanos, RFlags, Segment, SegmentRegister, TableRegister, Tsc, Vector,
};
use bus::{Pipe, PipeEnd, Platform};
use core::num::NonZeroU64;
use devices::{DebugConsole, DebugExit, MemorySizes, Pc, PcConfig, PcState, Screen, TestDevices};
use memory::{GuestMemory, MemoryMap, VecBlock};
use std::sync::{Arc, Mutex};
use vmm::lapic::{self, LocalApic, Role, TimerRate};
use vmm::paravirt::Features;
use vmm::{
    Clock, CpuModel, CpuState, CpuidConfig, CpuidPolicy, Host, Inbox, InterruptSupport, Leave, Lending,
    MsrConfig, MsrState, RestoreError, RunState, Vcpu, VcpuBackend, VcpuConfig, Vm, VmSnapshot,
};

/// Where the simulated guest's code is, in every mode: linear and guest-physical.
pub const CODE: u64 = 0x1_0000;
/// A slice that never ends.
pub const PROMPT: Tsc = Tsc::NEVER;
/// The page tables of 64-bit mode: the first 4 GiB, one to one, in 1-GiB pages.
const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;

/// The mode in which the guest starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuMode {
    /// Real-address mode.
    Real,
    /// Protected mode, flat segments, no paging.
    Flat32,
    /// 64-bit mode at CPL 0.
    Long64,
}

/// How a machine is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setup {
    /// The mode in which the guest starts.
    pub mode: CpuMode,
    /// RAM from address 0, in bytes.
    pub ram_bytes: usize,
    /// The host's TSC when the machine is made; the guest's starts from zero.
    pub host_tsc: Tsc,
    /// The TSC's frequency. At the default of 1 GHz a tick is a nanosecond, and the local APIC's timer counts
    /// TSC ticks.
    pub tsc_hz: u64,
    /// The XSAVE components that the guest may enable.
    pub xcr0_allowed: u64,
    /// The shortest period of the local APIC's timer, in TSC ticks.
    pub shortest_period: Tsc,
    /// How many processors it has.
    pub vcpus: usize,
    /// The processor that the guest sees.
    pub model: CpuModel,
    /// The host's IA32_ARCH_CAPABILITIES.
    pub arch_capabilities: Option<u64>,
    /// How much of the guest's interrupts the host's processors deliver themselves.
    pub interrupts: InterruptSupport,
    /// And whether also while the guest reaches its local APIC through memory.
    pub lending: Lending,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            mode: CpuMode::Long64,
            ram_bytes: 0x4_0000,
            host_tsc: Tsc(1 << 40),
            tsc_hz: 1_000_000_000,
            xcr0_allowed: 0x2e7,
            shortest_period: Tsc(1000),
            vcpus: 1,
            model: CpuModel::Host,
            arch_capabilities: None,
            interrupts: InterruptSupport::Software,
            lending: Lending::Msrs,
        }
    }
}

/// A machine, its script and its console.
#[derive(Debug)]
pub struct Machine {
    /// The processor that executes: the bootstrap processor, unless [`Self::turn_to`] chose another.
    pub vcpu: Vcpu<ScriptedBackend>,
    /// The others. The one that executes has changed places with the bootstrap processor.
    others: Vec<Vcpu<ScriptedBackend>>,
    /// Everything around it.
    pub vm: Vm<MemoryMap<VecBlock>, Pc>,
    /// The operator's end of the serial port.
    pub console: PipeEnd,
    setup: Setup,
    lapic_config: lapic::Config,
    wakes: Wakes,
}

/// The processors that were to be woken, in order, and those that were to be notified.
#[derive(Clone, Debug, Default)]
struct Wakes(Arc<Mutex<Vec<usize>>>, Arc<Mutex<Vec<usize>>>);

impl Host for Wakes {
    fn wake(&self, vcpu: usize) {
        self.0.lock().expect("no test panics with it locked").push(vcpu);
    }

    fn notify(&self, vcpu: usize) {
        self.1.lock().expect("no test panics with it locked").push(vcpu);
    }
}

/// A saved machine.
#[derive(Debug)]
pub struct MachineSnapshot {
    vm: VmSnapshot<PcState>,
    ram: Vec<u8>,
    /// For what a real guest has in its memory: handler frames.
    backend: ScriptedBackend,
    setup: Setup,
}

impl MachineSnapshot {
    /// All but the RAM.
    pub const fn vm(&self) -> &VmSnapshot<PcState> {
        &self.vm
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new(Setup::default())
    }
}

impl Machine {
    /// A machine at power-on, with the guest stopped before its first instruction at [`CODE`].
    pub fn new(setup: Setup) -> Self {
        let mut memory = MemoryMap::new();
        memory.add(Gpa::new(0), VecBlock::new(setup.ram_bytes)).expect("RAM is the first region");
        let (console, serial) = Pipe::ends();
        let platform = Pc::new(PcConfig {
            console: serial,
            wall_clock_unix_s: 1_795_210_162,
            memory: MemorySizes { below_4g: setup.ram_bytes as u64, above_4g: 0 },
            debug_exit: DebugExit::Present,
            debug_console: DebugConsole::OnConsole,
            test_devices: TestDevices::Present,
            screen: Screen::Absent,
            fw_cfg: None,
            firmware: None,
        });
        let inboxes: Vec<Arc<Inbox>> =
            (0..setup.vcpus).map(|index| Arc::new(Inbox::new(id(index)))).collect();
        let wakes = Wakes::default();
        let clock = Clock::new(setup.host_tsc, setup.tsc_hz);
        let vm =
            Vm::new(memory, platform, clock, inboxes.clone().into_boxed_slice(), Box::new(wakes.clone()));
        let mut vcpus =
            inboxes.into_iter().enumerate().map(|(index, inbox)| build_vcpu(&setup, index, inbox));
        let (vcpu, lapic_config) = vcpus.next().expect("a machine has a processor");
        let others = vcpus.map(|(vcpu, _)| vcpu).collect();
        let machine = Self { vcpu, others, vm, console, setup, lapic_config, wakes };
        machine.write_page_tables();
        machine
    }

    /// A machine of the default kind that starts in `mode`.
    pub fn in_mode(mode: CpuMode) -> Self {
        Self::new(Setup { mode, ..Setup::default() })
    }

    /// Processor `index` executes from now on.
    ///
    /// # Panics
    /// When there is none.
    pub fn turn_to(&mut self, index: usize) {
        let now = self.vcpu.index();
        for chosen in [now, index].into_iter().filter(|chosen| *chosen != 0) {
            core::mem::swap(&mut self.vcpu, &mut self.others[chosen - 1]);
        }
        self.lapic_config.id = id(index);
        self.lapic_config.role = if index == 0 { Role::Bootstrap } else { Role::Application };
    }

    /// Processors that were to be woken since the last call, in order.
    ///
    /// # Panics
    /// Never: nothing panics with the list locked.
    pub fn take_wakes(&self) -> Vec<usize> {
        core::mem::take(&mut *self.wakes.0.lock().expect("no test panics with it locked"))
    }

    /// Processors that were to be notified of posted interrupts since the last call, in order.
    ///
    /// # Panics
    /// Never: nothing panics with the list locked.
    pub fn take_notified(&self) -> Vec<usize> {
        core::mem::take(&mut *self.wakes.1.lock().expect("no test panics with it locked"))
    }

    fn write_page_tables(&self) {
        // Present, writable; the leaves also large, accessed, dirty.
        let ok = self.vm.memory.write_u64(Gpa::new(PML4), PDPT | 3).is_ok()
            && (0..4).all(|gib| self.vm.memory.write_u64(Gpa::new(PDPT + gib * 8), gib << 30 | 0xe3).is_ok());
        assert!(ok, "the page tables fit in RAM");
    }

    /// The backend.
    pub const fn cpu(&self) -> &ScriptedBackend {
        self.vcpu.backend()
    }

    /// The backend.
    pub const fn cpu_mut(&mut self) -> &mut ScriptedBackend {
        self.vcpu.backend_mut()
    }

    /// The host's TSC.
    pub fn now(&self) -> Tsc {
        self.cpu().tsc()
    }

    /// The machine's time.
    pub fn time(&self) -> Nanos {
        self.vm.clock.nanos(self.now())
    }

    /// Plays `steps` until the script ends (a host interrupt, to the vCPU) or the vCPU leaves before.
    pub fn play(&mut self, steps: impl IntoIterator<Item = Step>) -> Leave {
        self.play_until(steps, PROMPT)
    }

    /// Plays `steps` in a slice that ends at `slice_end`.
    pub fn play_until(&mut self, steps: impl IntoIterator<Item = Step>, slice_end: Tsc) -> Leave {
        for step in steps {
            self.cpu_mut().push(step);
        }
        self.vcpu.run(&self.vm, slice_end)
    }

    /// Types `bytes` on the console; the host looks at the vCPU, as it does before every turn.
    pub fn type_in(&mut self, bytes: &[u8]) {
        for byte in bytes {
            assert!(self.console.send(*byte), "the pipe is full");
        }
        let time = self.time();
        self.vm.platform().console_input(time);
        self.vm.serve_platform();
        self.poll();
    }

    /// What the guest wrote to the console.
    pub fn console_output(&self) -> Vec<u8> {
        core::iter::from_fn(|| self.console.receive()).collect()
    }

    /// The host idles until the halted vCPU's next timer, and looks at it. Whether it wants to run again.
    pub fn idle(&mut self) -> bool {
        let next = self.vcpu.next_timer();
        if next != Tsc::NEVER && next > self.now() {
            let ticks = next - self.now();
            self.cpu_mut().elapse(ticks.0);
        }
        self.poll()
    }

    /// The host looks at the vCPU now.
    pub fn poll(&mut self) -> bool {
        let now = self.now();
        self.vcpu.poll(&self.vm, now)
    }

    /// The local APIC as it is now.
    ///
    /// # Panics
    /// When its own saved state does not restore.
    pub fn lapic(&self) -> LocalApic {
        let state = self.vcpu.save(self.now()).lapic;
        LocalApic::restore(self.lapic_config, &state).expect("a saved state restores")
    }

    /// The interrupt that the guest would take if it could, without taking it. `Some(None)` is the 8259's.
    pub fn waiting_interrupt(&self) -> Option<Option<Vector>> {
        let lapic = self.lapic();
        if self.vm.platform().external_interrupt() && lapic.accepts_external_interrupt() {
            return Some(None);
        }
        lapic.pending_vector().map(Some)
    }

    /// Saves the machine.
    ///
    /// # Panics
    /// When RAM cannot be read.
    pub fn save(&self) -> MachineSnapshot {
        let mut ram = vec![0; self.setup.ram_bytes];
        self.vm.memory.read(Gpa::new(0), &mut ram).expect("RAM");
        MachineSnapshot {
            vm: self.vm.save(vec![self.vcpu.save(self.now())], self.now()),
            ram,
            backend: self.cpu().clone(),
            setup: self.setup,
        }
    }

    /// The saved machine, on a host whose TSC reads `host_tsc`. The console is a new one.
    ///
    /// # Panics
    /// When the saved state does not restore.
    pub fn restore(snapshot: &MachineSnapshot, host_tsc: Tsc) -> Self {
        let mut machine = Self::new(Setup { host_tsc, ..snapshot.setup });
        machine.vm.memory.write(Gpa::new(0), &snapshot.ram).expect("RAM");
        machine.cpu_mut().copy_frames_from(&snapshot.backend);
        machine.resume(&snapshot.vm, host_tsc).expect("a saved machine restores");
        machine
    }

    /// Becomes the machine of `snapshot`, its RAM aside, on a host whose TSC reads `host_tsc`.
    ///
    /// # Errors
    /// [`RestoreError`] when the state is impossible or another processor's; nothing is changed then.
    pub fn resume(&mut self, snapshot: &VmSnapshot<PcState>, host_tsc: Tsc) -> Result<(), RestoreError> {
        let [vcpu] = snapshot.vcpus.as_slice() else { panic!("one processor is saved here") };
        self.vcpu.accepts(vcpu)?;
        self.vm.restore(snapshot, host_tsc)?;
        self.vcpu.restore(&self.vm, vcpu, host_tsc)
    }

    /// What must hold after every return of [`Vcpu::run`], whatever the guest did.
    ///
    /// # Panics
    /// When something does not hold.
    pub fn check(&self, leave: Leave) {
        let expected = match leave {
            Leave::HostInterrupt | Leave::HostNmi | Leave::HostMachineCheck | Leave::SliceEnd => {
                RunState::Runnable
            }
            Leave::Halted => RunState::Halted,
            Leave::Stopped(reason) => RunState::Stopped(reason),
        };
        assert_eq!(self.vcpu.run_state(), expected, "{leave:?}");
        assert_eq!(self.vcpu.stats().exits(), self.cpu().exits(), "every exit is counted");
        match leave {
            Leave::Halted => {
                assert!(self.cpu().rflags().contains(RFlags::INTERRUPT_FLAG), "a halt that can end");
                assert_eq!(self.waiting_interrupt(), None, "halted while an interrupt waits");
            }
            Leave::HostInterrupt => self.check_nothing_is_stranded(),
            Leave::HostNmi | Leave::HostMachineCheck | Leave::SliceEnd | Leave::Stopped(_) => {}
        }
    }

    /// After an entry that ended in a host interrupt: what waits was asked a window for, and what comes later has
    /// a deadline.
    fn check_nothing_is_stranded(&self) {
        let Some(entry) = self.cpu().entries().last() else { return };
        match self.waiting_interrupt() {
            Some(Some(vector)) if self.cpu().delivers_interrupts() => {
                assert!(
                    !self.cpu().is_open() || entry.interrupt_window,
                    "{vector:?} waits and the guest can take it"
                );
            }
            Some(vector) => {
                assert!(entry.interrupt_window, "{vector:?} waits and nobody asked for a window");
            }
            None => {}
        }
        if let Some(due) = self.lapic().timer_deadline().filter(|due| *due != Tsc::NEVER) {
            let guest_entry = entry.now.0.wrapping_sub(self.now().0).wrapping_add(self.cpu().guest_tsc().0);
            assert!(
                due.0 > guest_entry,
                "the guest was entered at {guest_entry:#x} with a timer due at {due:?}"
            );
            let left = due.0 - guest_entry;
            assert!(entry.deadline - entry.now <= Tsc(left), "the deadline is after the guest's timer");
        }
        // The first processor serves the devices.
        if self.vcpu.index() != 0 {
            return;
        }
        let device = self.vm.clock.tsc(self.vm.platform().next_deadline());
        assert!(entry.deadline <= device, "the deadline is after a device's timer");
    }
}

fn id(index: usize) -> u32 {
    u32::try_from(index).expect("few processors")
}

/// A processor of the machine `setup`, and how its local APIC is built.
fn build_vcpu(setup: &Setup, index: usize, inbox: Arc<Inbox>) -> (Vcpu<ScriptedBackend>, lapic::Config) {
    let cpuid = CpuidPolicy::new(
        &host_leaf,
        &CpuidConfig {
            model: setup.model,
            tsc_hz: setup.tsc_hz,
            xcr0_allowed: setup.xcr0_allowed,
            rdtscp: true,
            invpcid: true,
            xsaves: true,
            apic_id: id(index),
            vcpus: u8::try_from(setup.vcpus).expect("few processors"),
            arch_capabilities: setup.arch_capabilities,
            paravirt_features: Features::SOFTWARE_APIC.bits(),
        },
    )
    .expect("the pretended processor has everything");
    let one = NonZeroU64::MIN;
    let lapic_config = lapic::Config {
        id: id(index),
        role: if index == 0 { Role::Bootstrap } else { Role::Application },
        features: lapic::Features::all(),
        timer_rate: TimerRate::new(
            NonZeroU64::new(cpuid.crystal_hz()).unwrap_or(one),
            NonZeroU64::new(setup.tsc_hz).unwrap_or(one),
        ),
        shortest_period: setup.shortest_period,
        physical_address_bits: cpuid.physical_address_bits(),
    };
    let vcpu_config = VcpuConfig {
        index,
        inbox,
        lapic: lapic_config,
        msrs: MsrState::new(&MsrConfig {
            microcode_revision: 0x1234,
            physical_address_bits: cpuid.physical_address_bits(),
            arch_capabilities: cpuid.arch_capabilities(),
            xss: cpuid.has_xsaves(),
        }),
        xcr0_allowed: cpuid.xcr0_allowed(),
        cpuid,
        tsc_offset: setup.host_tsc.0.wrapping_neg(),
        paravirt: Features::SOFTWARE_APIC,
    };
    let mut backend = ScriptedBackend::new(setup.host_tsc);
    backend.support_interrupts(setup.interrupts, setup.lending, Arc::clone(&vcpu_config.inbox));
    (Vcpu::new(backend, vcpu_config, &start_state(setup.mode)), lapic_config)
}

/// The state in which the guest of `mode` starts.
fn start_state(mode: CpuMode) -> CpuState {
    let mut state = CpuState::reset();
    state.rip = CODE;
    let code = SegmentRegister::Cs as usize;
    match mode {
        CpuMode::Real => {
            state.segments[code] =
                Segment { selector: 0x1000, base: CODE, limit: 0xffff, access_rights: 0x9b };
            state.rip = 0;
        }
        CpuMode::Flat32 | CpuMode::Long64 => {
            let data = Segment { selector: 0x10, base: 0, limit: u32::MAX, access_rights: 0xc093 };
            for segment in &mut state.segments[..6] {
                *segment = data;
            }
            state.segments[code] =
                Segment { selector: 0x08, base: 0, limit: u32::MAX, access_rights: 0xc09b };
            state.segments[SegmentRegister::Ldtr as usize] = Segment::unusable();
            state.gdtr = TableRegister { base: 0x500, limit: 0xff };
            state.idtr = TableRegister { base: 0x600, limit: 0xfff };
            state.cr0 = Cr0Flags::PROTECTED_MODE_ENABLE | Cr0Flags::EXTENSION_TYPE | Cr0Flags::NUMERIC_ERROR;
        }
    }
    if mode == CpuMode::Long64 {
        state.segments[code].access_rights = 0xa09b;
        state.cr0 |= Cr0Flags::PAGING | Cr0Flags::WRITE_PROTECT;
        state.cr3 = PML4;
        state.cr4 = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION;
        state.efer = EferFlags::LONG_MODE_ENABLE | EferFlags::LONG_MODE_ACTIVE;
    }
    state
}
