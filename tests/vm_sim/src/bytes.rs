//! Any bytes as a guest: the entry that property tests and fuzzers share.
//!
//! The bytes choose what a hostile guest, its operator and its host do next: exits of every kind with every
//! register value, accesses to every device, console input, NMIs, slices of any length, snapshots. After every
//! turn [`Machine::check`] must hold.

use crate::{CpuMode, Effect, Machine, Setup, Step};
use arch::platform_layout::IOAPIC_BASE;
use arch::{Exception, Gpa, Gpr, Gva, Msr, Nanos, Port, RFlags, Segment, SegmentRegister, Tsc, Width};
use bus::Platform;
use memory::GuestMemory;
use vmm::{
    CrAccess, Direction, EntryFailure, EptFault, InterruptSupport, IoExit, Leave, MemoryAccess, RawExit,
    StopReason, VcpuBackend, VmExit,
};

/// Turns that one input gets at most.
const TURNS: u32 = 2000;
/// Host ticks that the guest may run in one turn.
const TURN_TICKS: u64 = 1 << 25;
/// Host ticks for which the host may leave the guest alone: a virtual machine gets years old, not centuries.
const ABSENCE_TICKS: u64 = 1 << 44;

/// What became of a guest of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Played {
    /// How many exits it had.
    pub exits: u64,
    /// How it ended, `None` if the bytes ended first.
    pub stopped: Option<StopReason>,
}

/// Bytes that are read until they end; then zeros.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| self.byte())
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    fn dword(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn qword(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A value, mostly an interesting one.
    fn value(&mut self) -> u64 {
        match self.byte() {
            0 => 0,
            1 => u64::MAX,
            2 => u64::from(u32::MAX),
            3 => 1 << (self.byte() & 63),
            4 => (1 << (self.byte() & 63)) - 1,
            byte @ 5..128 => byte.into(),
            128..192 => self.word().into(),
            192..240 => self.dword().into(),
            240.. => self.qword(),
        }
    }

    fn pick<T: Copy, const N: usize>(&mut self, from: [T; N]) -> T {
        from[usize::from(self.byte()) % N]
    }

    fn gpr(&mut self) -> Gpr {
        Gpr::from_encoding(self.byte().into())
    }

    fn port(&mut self) -> Port {
        const BASES: [u16; 14] =
            [0x20, 0x40, 0x60, 0x70, 0x80, 0x92, 0xa0, 0x3f8, 0x4d0, 0x600, 0x608, 0xcf8, 0xcfc, 0xfffc];
        match self.byte() {
            0 => Port(self.word()),
            byte => Port(BASES[usize::from(byte) % BASES.len()].saturating_add(u16::from(self.byte() & 7))),
        }
    }

    fn msr(&mut self) -> u32 {
        match self.byte() {
            0 => self.dword(),
            byte @ 1..128 => 0x800 + u32::from(byte & 0x3f),
            byte @ 128..160 => 0x200 + u32::from(byte & 0x1f),
            _ => self.pick([
                0x10,
                0x1b,
                0x3a,
                0x3b,
                0x6e0,
                0x277,
                0x2ff,
                0x1a0,
                0x17a,
                0xda0,
                0xc000_0080,
                0x8b,
            ]),
        }
    }

    fn gpa(&mut self) -> u64 {
        match self.byte() {
            0..16 => 0xfee0_0000 + u64::from(self.word() & 0xfff),
            16..80 => 0xfee0_0000 + u64::from(self.byte() & 0x3f) * 16,
            80..128 => 0xfec0_0000 + self.pick([0, 0x10, 0x40, 4, 0xfff]),
            128..176 => 0xd000_0000 + u64::from(self.word()),
            176..208 => 0x3_ff00 + u64::from(self.byte()) * 2,
            208.. => self.value(),
        }
    }

    fn exception(&mut self) -> Exception {
        let bits = self.qword();
        self.pick([Exception::Debug { dr6: bits & 0x600f }, Exception::AlignmentCheck])
    }
}

/// Plays `bytes` as the life of a virtual machine.
///
/// # Panics
/// When the virtual machine does what it never may, whatever its guest does: that is the finding.
pub fn run_bytes(bytes: &[u8]) -> Played {
    let mut bytes = Bytes(bytes);
    let mode = bytes.pick([CpuMode::Long64, CpuMode::Flat32, CpuMode::Real]);
    let interrupts =
        bytes.pick([InterruptSupport::Software, InterruptSupport::Virtual, InterruptSupport::Posted]);
    let mut machine = Machine::new(Setup { mode, interrupts, ..Setup::default() });
    warm_up(&mut machine, bytes.byte());
    for _ in 0..TURNS {
        if bytes.is_empty() {
            break;
        }
        let step = turn(&mut machine, &mut bytes);
        if let Some(reason) = play(&mut machine, &mut bytes, step) {
            return Played { exits: machine.cpu().exits(), stopped: Some(reason) };
        }
    }
    Played { exits: machine.cpu().exits(), stopped: None }
}

/// What an operating system has done when it gets interesting, in parts that the bits of `parts` choose.
fn warm_up(machine: &mut Machine, parts: u8) {
    let has = |bit: u8| parts & 1 << bit != 0;
    if has(0) {
        machine.enable_interrupts();
    }
    if has(1) {
        // x2APIC mode, enabled by software, timer unmasked: one-shot, periodic, TSC-deadline or reserved.
        machine.switch_to_x2apic();
        let mode = u64::from(parts >> 6) << 17;
        let _fault = machine.wrmsr(Msr(0x832), mode | 0x40);
    }
    if has(2) {
        machine.initialize_pics();
        machine.start_pit(1000);
    }
    if has(3) {
        machine.enable_uart();
    }
    let devices = &mut machine.vm.platform();
    for pin in [2_u64, 4, 8, 9] {
        if has(4) {
            // Edge-triggered, or level-triggered; to APIC ID 0.
            let low = (0x30 + pin) | u64::from(has(5)) << 15;
            devices.mmio_write(IOAPIC_BASE, Width::Four, 0x10 + 2 * pin, Nanos(0));
            devices.mmio_write(IOAPIC_BASE + 0x10, Width::Four, low, Nanos(0));
        }
    }
}

/// Runs the vCPU for one turn; the reason if it stopped.
fn play(machine: &mut Machine, bytes: &mut Bytes<'_>, step: Option<Step>) -> Option<StopReason> {
    let slice_end = match bytes.byte() {
        0..200 => Tsc::NEVER,
        ticks => machine.now() + Tsc(u64::from(ticks - 200) * 64),
    };
    let entries = machine.cpu().entries().len();
    let leave = machine.play_until(step, slice_end);
    machine.check(leave);
    for entry in &machine.cpu().entries()[entries..] {
        assert!(entry.now < slice_end && entry.deadline <= slice_end, "{entry:?} is past {slice_end:?}");
    }
    match leave {
        Leave::Stopped(reason) => {
            let again = machine.play([]);
            assert_eq!(again, Leave::Stopped(reason), "what stopped stays stopped");
            return Some(reason);
        }
        Leave::Halted => halt(machine),
        Leave::SliceEnd => assert!(machine.now() >= slice_end, "the slice was cut short"),
        Leave::HostInterrupt | Leave::HostNmi | Leave::HostMachineCheck => {}
    }
    None
}

/// The host idles until something wakes the guest; a key is what does in the end.
fn halt(machine: &mut Machine) {
    for _ in 0..4 {
        if machine.vcpu.next_timer() - machine.now() > Tsc(ABSENCE_TICKS) || machine.idle() {
            break;
        }
    }
    if !machine.poll() {
        machine.vcpu.send_nmi();
        assert!(machine.poll(), "an NMI wakes a halted processor");
    }
}

/// What happens next.
fn turn(machine: &mut Machine, bytes: &mut Bytes<'_>) -> Option<Step> {
    match bytes.byte() % 24 {
        0..3 => {
            let (register, value) = (bytes.gpr(), bytes.value());
            machine.cpu_mut().apply(Effect::Set(register, value));
            None
        }
        3 => {
            flags(machine, bytes);
            None
        }
        4 => {
            code(machine, bytes);
            None
        }
        5..7 => Some(Step::exit(VmExit::Cpuid)),
        7 => {
            let msr = bytes.msr();
            Some(Step::exit(VmExit::ReadMsr).set(Gpr::Rcx, msr.into()))
        }
        8..11 => {
            let (msr, value) = (bytes.msr(), bytes.value());
            let value = if bytes.byte() & 1 == 0 { value } else { near(machine, value) };
            let step = Step::exit(VmExit::WriteMsr).set(Gpr::Rcx, msr.into());
            Some(step.set(Gpr::Rax, value & 0xffff_ffff).set(Gpr::Rdx, value >> 32))
        }
        11..14 => Some(io(machine, bytes)),
        14..17 => Some(memory(machine, bytes)),
        17 => Some(control_register(bytes)),
        18 => {
            let (register, value) = (bytes.byte() >> 7, bytes.value());
            let step = Step::exit(VmExit::Xsetbv).set(Gpr::Rcx, register.into());
            Some(step.set(Gpr::Rax, value & 0xffff_ffff).set(Gpr::Rdx, value >> 32))
        }
        19 if bytes.byte() & 1 == 0 => {
            // With interrupts off that is the end, which is to be rare.
            if bytes.byte() & 7 != 0 {
                machine.enable_interrupts();
            }
            Some(Step::exit(VmExit::Hlt).length(1))
        }
        19 => Some(Step::exit(bytes.pick([
            VmExit::Vmcall,
            VmExit::CacheFlush,
            VmExit::Rdpmc,
            VmExit::Pause,
            VmExit::NotOffered,
            VmExit::Nmi,
            VmExit::MachineCheck,
            VmExit::Init,
        ]))),
        20 => {
            let exception = bytes.exception();
            let step = Step::exit(VmExit::Exception(exception));
            Some(if bytes.byte() & 1 == 0 { step.cutting_off() } else { step })
        }
        21 => Some(Step::run(bytes.value() % TURN_TICKS)),
        22 => {
            outside(machine, bytes);
            None
        }
        _ => Some(ending(bytes)),
    }
}

/// A time near the guest's TSC.
fn near(machine: &Machine, value: u64) -> u64 {
    machine.cpu().guest_tsc().0.wrapping_add(value).wrapping_sub(64)
}

fn flags(machine: &mut Machine, bytes: &mut Bytes<'_>) {
    let choice = bytes.byte();
    let flag = bytes.pick([
        RFlags::INTERRUPT_FLAG,
        RFlags::INTERRUPT_FLAG,
        RFlags::TRAP_FLAG,
        RFlags::DIRECTION_FLAG,
        RFlags::ALIGNMENT_CHECK,
        RFlags::IOPL_LOW | RFlags::IOPL_HIGH,
    ]);
    let shadowed = !machine.cpu().interruptibility().is_empty();
    machine.cpu_mut().apply(match choice % 8 {
        0..3 => Effect::SetFlags(flag),
        3..5 => Effect::ClearFlags(flag),
        5 => Effect::Iret,
        // STI and MOV SS in each other's shadow do not add up.
        6 if !shadowed => Effect::Sti,
        7 if !shadowed => Effect::MovSs,
        _ => Effect::Iret,
    });
}

/// Puts bytes where the guest is, or the guest somewhere else.
fn code(machine: &mut Machine, bytes: &mut Bytes<'_>) {
    match bytes.byte() & 7 {
        0 => {
            let rip = bytes.value();
            machine.cpu_mut().apply(Effect::Jump(rip));
        }
        1 => {
            let register = SegmentRegister::ALL[usize::from(bytes.byte() & 7)];
            let segment = Segment {
                selector: bytes.word(),
                base: bytes.value(),
                limit: bytes.dword(),
                access_rights: bytes.dword() & 0x1_f0ff,
            };
            machine.cpu_mut().state_mut().segments[register as usize] = segment;
        }
        2 => machine.cpu_mut().state_mut().cr3 = bytes.value(),
        length => {
            let code: [u8; 15] = bytes.array();
            let base = machine.cpu().segment(SegmentRegister::Cs).base;
            let at = Gpa::new(base.wrapping_add(machine.cpu().rip()));
            // Outside of RAM there is no code to put anywhere.
            let _outside = machine.vm.memory.write(at, &code[..usize::from(length) * 2]);
        }
    }
}

fn io(machine: &mut Machine, bytes: &mut Bytes<'_>) -> Step {
    let (port, choice) = (bytes.port(), bytes.byte());
    let direction = if choice & 1 == 0 { Direction::Out } else { Direction::In };
    let string = choice & 0xe == 0;
    // The hardware's encoding knows no port access of eight bytes.
    let width = bytes.pick([Width::One, Width::Two, Width::Four]);
    let value = bytes.value();
    let mut step = Step::exit(VmExit::Io(IoExit::new(port, width, direction, string)));
    if string {
        machine.cpu_mut().gprs_mut().set(Gpr::Rdx, port.0.into());
        let code = [0xf3, bytes.pick([0x6c, 0x6d, 0x6e, 0x6f]), 0];
        let base = machine.cpu().segment(SegmentRegister::Cs).base;
        let at = Gpa::new(base.wrapping_add(machine.cpu().rip()));
        let _outside = machine.vm.memory.write(at, &code);
    } else if direction == Direction::Out {
        step = step.set(Gpr::Rax, value);
    }
    step
}

fn memory(machine: &mut Machine, bytes: &mut Bytes<'_>) -> Step {
    const CODES: [&[u8]; 12] = [
        &[0x8b, 0x03],
        &[0x89, 0x03],
        &[0x89, 0x03],
        &[0x88, 0x03],
        &[0xc7, 0x03, 0x21, 0x01, 0x00, 0x00],
        &[0x0f, 0xb6, 0x03],
        &[0x87, 0x03],
        &[0xf3, 0xa5],
        &[0xf3, 0xab],
        &[0x01, 0x03],
        &[0xff, 0x33],
        &[0x48, 0x89, 0x03],
    ];
    let (gpa, choice) = (bytes.gpa(), bytes.byte());
    let code = CODES[usize::from(bytes.byte()) % CODES.len()];
    if choice & 0x80 == 0 {
        let base = machine.cpu().segment(SegmentRegister::Cs).base;
        let at = Gpa::new(base.wrapping_add(machine.cpu().rip()));
        let _outside = machine.vm.memory.write(at, code);
        for register in [Gpr::Rbx, Gpr::Rdi] {
            machine.cpu_mut().gprs_mut().set(register, gpa);
        }
        let count = bytes.value() & 0xffff;
        machine.cpu_mut().gprs_mut().set(Gpr::Rcx, count);
    }
    let access = match choice & 7 {
        0..3 => MemoryAccess::Read,
        3..7 => MemoryAccess::Write,
        _ if choice & 0x18 == 0 => MemoryAccess::Fetch,
        _ => MemoryAccess::Read,
    };
    let translated = choice & 0x60 != 0;
    let fault = EptFault { gpa: Gpa::new(gpa), gva: Gva::new(gpa), translated, access };
    let step = Step::exit(VmExit::Ept(fault));
    if choice & 0x60 == 0x60 && choice & 0x10 != 0 { step.cutting_off() } else { step }
}

fn control_register(bytes: &mut Bytes<'_>) -> Step {
    let (gpr, value) = (bytes.gpr(), bytes.value());
    let access = match bytes.byte() % 8 {
        0..2 => CrAccess::WriteCr0(gpr),
        2..4 => CrAccess::WriteCr4(gpr),
        4 => CrAccess::WriteCr8(gpr),
        5 => CrAccess::ReadCr8(gpr),
        6 => CrAccess::Clts,
        _ => CrAccess::Lmsw(bytes.word()),
    };
    Step::exit(VmExit::Cr(access)).set(gpr, value)
}

/// What the operator and the host do.
fn outside(machine: &mut Machine, bytes: &mut Bytes<'_>) {
    match bytes.byte() % 6 {
        0..2 => {
            let key = bytes.byte();
            // A full pipe drops the key.
            let _taken = machine.console.send(key);
            let time = machine.time();
            machine.vm.platform().console_input(time);
            machine.vm.serve_platform();
            machine.poll();
        }
        2 => machine.vcpu.send_nmi(),
        3 => {
            machine.console_output();
        }
        4 => {
            let ticks = bytes.value() % ABSENCE_TICKS;
            machine.cpu_mut().elapse(ticks);
        }
        _ => {
            let snapshot = machine.save();
            let host_tsc = Tsc((1 << 60) + bytes.value() % ABSENCE_TICKS);
            *machine = Machine::restore(&snapshot, host_tsc);
            let again = machine.save();
            assert_eq!(again.vm(), snapshot.vm(), "a restored machine saves as the same");
        }
    }
}

/// Exits that end the guest: rare, or nothing else would be seen.
fn ending(bytes: &mut Bytes<'_>) -> Step {
    let raw = RawExit { reason: bytes.word(), qualification: bytes.qword() };
    Step::exit(match bytes.byte() {
        0 => VmExit::TripleFault,
        1 => VmExit::TaskSwitch,
        2 => VmExit::EntryFailure(EntryFailure::Refused(raw)),
        3 => VmExit::EntryFailure(EntryFailure::Instruction(raw.reason.into())),
        4 => VmExit::Unhandled(raw),
        5..64 => VmExit::ExternalInterrupt,
        64..128 => VmExit::Pause,
        _ => VmExit::Cpuid,
    })
}
