//! A processor that carries out what a guest in xAPIC mode does to its local APIC's page: the guest must not be able to tell
//! it from the software path, but by the exits that it does not have.
//!
//! SDM Vol. 3C, "Virtualizing Memory-Mapped APIC Accesses".

use arch::{Gpr, Msr, Vector};
use proptest::prelude::*;
use vm_sim::{Effect, Machine, MachineSnapshot, Setup, Step};
use vmm::{
    CrAccess, EptFault, ExitReason, InterruptSupport, Leave, Lending, MemoryAccess, StopReason, VcpuBackend,
    VmExit,
};

const PAGE: u64 = 0xfee0_0000;
const TPR: u64 = 0x80;
const PPR: u64 = 0xa0;
const EOI: u64 = 0xb0;
const LDR: u64 = 0xd0;
const SVR: u64 = 0xf0;
const ISR1: u64 = 0x110;
const IRR1: u64 = 0x210;
const ESR: u64 = 0x280;
const ICR: u64 = 0x300;
const ICR_HIGH: u64 = 0x310;
const LVT_TIMER: u64 = 0x320;
const LVT_LINT0: u64 = 0x350;
const LVT_LINT1: u64 = 0x360;
const LVT_ERROR: u64 = 0x370;
const INITIAL_COUNT: u64 = 0x380;
const CURRENT_COUNT: u64 = 0x390;
const DIVIDE: u64 = 0x3e0;

const COM1_PIN: u8 = 4;
const LEVEL: u32 = 1 << 15;
const MYSELF: u32 = 1 << 18;
const ENABLED: u32 = 0x1ff;

fn machine(interrupts: InterruptSupport, vcpus: usize) -> Machine {
    let lending = Lending::Page;
    let mut machine = Machine::new(Setup { interrupts, lending, vcpus, ..Setup::default() });
    write(&mut machine, SVR, ENABLED);
    machine
}

fn lent() -> Machine {
    let machine = machine(InterruptSupport::Posted, 1);
    assert!(machine.cpu().delivers_interrupts());
    machine
}

fn read(machine: &mut Machine, offset: u64) -> u32 {
    machine.load(PAGE + offset)
}

fn write(machine: &mut Machine, offset: u64, value: u32) -> Vec<Vector> {
    machine.store(PAGE + offset, value).interrupts
}

/// All exits that `guest` has, without the host interrupts by which a script ends.
fn exits(machine: &mut Machine, guest: impl FnOnce(&mut Machine)) -> u64 {
    let count = |machine: &Machine| {
        machine.cpu().exits() - machine.vcpu.stats().reason(ExitReason::ExternalInterrupt).count
    };
    let before = count(machine);
    guest(machine);
    count(machine) - before
}

fn exits_of(machine: &mut Machine, reason: ExitReason, guest: impl FnOnce(&mut Machine)) -> u64 {
    let before = machine.vcpu.stats().reason(reason).count;
    guest(machine);
    machine.vcpu.stats().reason(reason).count - before
}

#[test]
fn the_page_is_lent_where_it_is_after_reset_while_it_is_enabled() {
    let mut machine = lent();
    write(&mut machine, SVR, 0xff);
    assert!(!machine.cpu().delivers_interrupts(), "disabled by software");
    write(&mut machine, SVR, ENABLED);
    assert!(machine.cpu().delivers_interrupts());
    machine.wrmsr(Msr::APIC_BASE, 0xfed0_0900).expect("elsewhere");
    assert!(!machine.cpu().delivers_interrupts(), "elsewhere");
    assert_eq!(machine.load(0xfed0_0000 + SVR), ENABLED);
    assert_eq!(machine.load(PAGE + SVR), u32::MAX, "nothing is there");
    machine.wrmsr(Msr::APIC_BASE, PAGE | 0x900).expect("back");
    assert!(machine.cpu().delivers_interrupts());
    machine.wrmsr(Msr::APIC_BASE, PAGE | 0xd00).expect("x2APIC mode");
    assert!(machine.cpu().delivers_interrupts());
    assert_eq!(machine.load(PAGE + SVR), u32::MAX, "nothing is there");
    let mut without = Machine::new(Setup { interrupts: InterruptSupport::Posted, ..Setup::default() });
    write(&mut without, SVR, ENABLED);
    assert!(!without.cpu().delivers_interrupts());
}

#[test]
fn registers_are_read_and_interrupts_taken_and_ended_without_exits() {
    let mut machine = lent();
    machine.enable_interrupts();
    let exits = exits(&mut machine, |machine| {
        assert_eq!(read(machine, SVR), ENABLED);
        assert_eq!(read(machine, 0x30) & 0xff, 0x14);
        write(machine, TPR, 0x20);
        assert_eq!(read(machine, TPR), 0x20);
        assert_eq!(write(machine, ICR, MYSELF | 0x31), [Vector(0x31)]);
        assert_eq!(read(machine, ISR1), 1 << 0x11);
        write(machine, EOI, 0);
        assert_eq!(read(machine, ISR1), 0);
        write(machine, ICR_HIGH, 0x0512_3456);
        assert_eq!(read(machine, ICR_HIGH), 0x0500_0000);
        assert_eq!(read(machine, ICR), MYSELF | 0x31);
    });
    assert_eq!(exits, 0);
}

#[test]
fn a_write_that_software_carries_out_is_one_exit_and_reads_back_as_it_took_effect() {
    for (offset, value, expected) in [
        (0x20, 0x0700_0000, 0),
        (LDR, 0x1234_5678, 0x1200_0000),
        (0xe0, 0x0000_0000, 0x0fff_ffff),
        (SVR, 0xffff_ff7f, 0x137f),
        (LVT_TIMER, 0xffff_ffff, 0x0007_00ff),
        (LVT_LINT0, 0x0001_f7ff, 0x0001_a7ff),
        (INITIAL_COUNT, 77, 77),
        (DIVIDE, 0xff, 0b1011),
        (ESR, 0xff, 0),
    ] {
        let mut machine = lent();
        let rip = machine.cpu().rip();
        let count = exits_of(&mut machine, ExitReason::ApicWrite, |machine| {
            write(machine, offset, value);
        });
        assert_eq!((count, machine.cpu().rip()), (1, rip + 2), "{offset:#x}");
        let value = read(&mut machine, offset);
        assert_eq!(value, expected, "{offset:#x}");
        assert!(machine.cpu().delivers_interrupts());
    }
}

#[test]
fn a_part_of_a_register_that_is_written_counts_for_nothing() {
    let mut machine = lent();
    write(&mut machine, TPR, 0x30);
    write(&mut machine, ICR, MYSELF | 0x31);
    machine.cpu_mut().set_lent_register(0xf0, 0xdead_beff);
    for offset in [0xf1, 0x81, 0x301, 0x302] {
        let executed = machine.execute(Step::exit(VmExit::ApicWrite(offset)));
        assert_eq!((executed.leave, executed.advanced), (Leave::HostInterrupt, 0));
    }
    assert_eq!((read(&mut machine, SVR), read(&mut machine, TPR)), (ENABLED, 0x30));
    assert_eq!((read(&mut machine, ICR), read(&mut machine, IRR1)), (MYSELF | 0x31, 1 << 0x11));
}

#[test]
fn another_timer_mode_stops_the_count_in_the_page_too() {
    let mut machine = lent();
    write(&mut machine, INITIAL_COUNT, 1_000_000);
    write(&mut machine, LVT_TIMER, 0x4_0040);
    assert_eq!(read(&mut machine, INITIAL_COUNT), 0);
}

#[test]
fn what_the_processor_leaves_is_emulated_on_the_whole_local_apic() {
    let mut machine = lent();
    write(&mut machine, TPR, 0x45);
    write(&mut machine, ICR, MYSELF | 0x31);
    write(&mut machine, INITIAL_COUNT, 1_000_000);
    let count = exits_of(&mut machine, ExitReason::ApicAccess, |machine| {
        assert_eq!(read(machine, PPR), 0x45);
        assert!((1..=1_000_000).contains(&read(machine, CURRENT_COUNT)));
        write(machine, CURRENT_COUNT, 5);
        write(machine, PPR, 5);
        write(machine, TPR + 4, 0xff);
        read(machine, 0x40);
    });
    assert_eq!(count, 6);
    assert!(machine.cpu().delivers_interrupts());
    assert_eq!((read(&mut machine, TPR), read(&mut machine, IRR1)), (0x45, 1 << 0x11));
    write(&mut machine, ESR, 0);
    assert_eq!(read(&mut machine, ESR), 1 << 7, "an illegal register");
}

#[test]
fn a_copy_from_a_device_to_the_page_writes_the_register() {
    let mut machine = lent();
    write(&mut machine, ICR, MYSELF | 0x31);
    // MOVSD from the I/O APIC's index, which is 0x60, to the task priority.
    machine.store(0xfec0_0000, 0x60);
    machine.cpu_mut().gprs_mut().set(Gpr::Rsi, 0xfec0_0000);
    machine.cpu_mut().gprs_mut().set(Gpr::Rdi, PAGE + TPR);
    let executed = machine.touch(&[0xa5], 0xfec0_0000, MemoryAccess::Read);
    assert_eq!((executed.leave, executed.advanced), (Leave::HostInterrupt, 1));
    assert!(machine.cpu().delivers_interrupts(), "lent again");
    assert_eq!((read(&mut machine, TPR), read(&mut machine, IRR1)), (0x60, 1 << 0x11));
}

#[test]
fn wide_and_crossing_accesses_do_as_without_the_page() {
    let mut machine = lent();
    for (code, offset, access) in [
        (&[0x48, 0x8b, 0x03][..], 0x20, MemoryAccess::Read),
        (&[0x48, 0x89, 0x03], TPR, MemoryAccess::Write),
        (&[0x8b, 0x03], 0x22, MemoryAccess::Read),
        (&[0x89, 0x03], 0x82, MemoryAccess::Write),
    ] {
        machine.cpu_mut().gprs_mut().set(Gpr::Rbx, PAGE + offset);
        machine.cpu_mut().gprs_mut().set(Gpr::Rax, 0x4142_4344);
        machine.write_code(code);
        let gpa = arch::Gpa::new(PAGE + offset);
        let fault = EptFault { gpa, gva: arch::Gva::new(0), translated: false, access };
        let executed = machine.execute(Step::exit(VmExit::ApicAccess(fault)));
        assert_eq!((executed.leave, executed.advanced), (Leave::HostInterrupt, code.len() as u64));
        assert_eq!(read(&mut machine, TPR), 0);
    }
}

#[test]
fn a_fetch_or_an_event_that_touches_the_page_ends_the_machine_as_ever() {
    let mut machine = lent();
    let gpa = arch::Gpa::new(PAGE);
    let fetch = EptFault { gpa, gva: arch::Gva::new(0), translated: false, access: MemoryAccess::Fetch };
    let executed = machine.execute(Step::exit(VmExit::ApicAccess(fetch)));
    assert_eq!(executed.leave, Leave::Stopped(StopReason::FetchOutsideRam(gpa)));
}

#[test]
fn a_level_is_broadcast_at_its_eoi_by_one_exit_and_an_edge_by_none() {
    for (entry, expected) in [(LEVEL, 1), (0, 0)] {
        let mut machine = lent();
        machine.enable_uart();
        machine.set_ioapic_pin(COM1_PIN, 0x34 | entry);
        machine.enable_interrupts();
        machine.type_in(b"a");
        assert_eq!(machine.run_for(10).interrupts, [Vector(0x34)]);
        assert_eq!(read(&mut machine, 0x190), u32::from(entry != 0) << 0x14);
        machine.enable_interrupts();
        let end = |machine: &mut Machine| {
            let again = write(machine, EOI, 0);
            assert_eq!(again.len(), usize::from(entry != 0), "a level that is still high comes again");
        };
        assert_eq!(exits_of(&mut machine, ExitReason::EoiInduced, end), expected);
    }
}

#[test]
fn an_ipi_of_a_lent_page_starts_another_processor_and_reaches_it() {
    let mut machine = machine(InterruptSupport::Posted, 2);
    write(&mut machine, ICR_HIGH, 1 << 24);
    write(&mut machine, ICR, 0x4500);
    write(&mut machine, ICR, 0x4612);
    let long_mode = machine.cpu().save();
    machine.turn_to(1);
    assert!(machine.poll());
    machine.run_for(1);
    machine.cpu_mut().restore(&long_mode);
    assert_eq!(read(&mut machine, SVR), 0xff, "not lent");
    write(&mut machine, SVR, ENABLED);
    machine.enable_interrupts();
    machine.run_for(1);
    machine.turn_to(0);
    machine.take_wakes();
    write(&mut machine, ICR, 0x4051);
    assert_eq!((machine.take_wakes(), machine.take_notified()), (vec![], vec![1]));
    machine.turn_to(1);
    let exits = exits(&mut machine, |machine| {
        let executed = machine.execute(Step::run(10).does(Effect::Notification));
        assert_eq!(executed.interrupts, [Vector(0x51)]);
    });
    assert_eq!(exits, 0);
}

/// Both kinds of machine, and whether they behave alike.
struct Pair {
    software: Machine,
    hardware: Machine,
}

impl Pair {
    fn new(hardware: InterruptSupport) -> Self {
        let mut pair =
            Self { software: machine(InterruptSupport::Software, 1), hardware: machine(hardware, 1) };
        pair.each(|machine| {
            machine.enable_uart();
            machine.initialize_pics();
            machine.set_ioapic_pin(COM1_PIN, 0x34 | LEVEL);
            write(machine, LVT_ERROR, 0x2e)
        });
        pair
    }

    /// Does the same to both, with the same result.
    fn each<R: PartialEq + core::fmt::Debug>(&mut self, act: impl Fn(&mut Machine) -> R) -> R {
        let (software, hardware) = (act(&mut self.software), act(&mut self.hardware));
        assert_eq!(software, hardware, "software and hardware differ");
        software
    }

    /// The guests see the same registers, and would be saved as the same.
    fn compare(&self) {
        let state = |machine: &Machine| {
            let state = machine.vcpu.save(machine.now());
            (state.lapic, state.cpu.rip, state.cpu.rflags, state.event, state.displaced)
        };
        assert_eq!(state(&self.software), state(&self.hardware));
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Write(u64, u32),
    Read(u64),
    Copy(u64),
    Cr8(u8),
    ReadCr8,
    Enable,
    Disable,
    Sti,
    Run(u16),
    Hlt,
    Key(u8),
    TakeKey,
    Lint0(u8),
    Base(u64),
    Iret,
    Snapshot,
}

/// Offsets of registers, of what is between them, and behind the last.
fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![8 => (0_u64..0x40).prop_map(|number| number << 4), 1 => (0_u64..0x400).prop_map(|word| word << 2)]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        // Not of those that are level-triggered, of which the processor leaves the trigger mode as it is.
        4 => (0x50_u32..0x100).prop_map(|vector| Act::Write(ICR, MYSELF | vector)),
        1 => (0_u32..0x10).prop_map(|vector| Act::Write(ICR, MYSELF | vector)),
        2 => (0x50_u32..0x100).prop_map(|vector| Act::Write(ICR, 0x4000 | vector)),
        1 => any::<u32>().prop_map(|value| Act::Write(ICR, value & !0x0700 | 0x50)),
        1 => Just(Act::Write(ICR_HIGH, 0)),
        1 => any::<u32>().prop_map(|value| Act::Write(ICR_HIGH, value)),
        6 => Just(Act::Write(EOI, 0)),
        3 => any::<u8>().prop_map(|value| Act::Write(TPR, value.into())),
        2 => (offset(), any::<u32>()).prop_map(|(offset, value)| {
            // No INIT, and nothing else that is more than an interrupt.
            let fixed = matches!(offset, ICR | LVT_LINT0 | LVT_LINT1);
            Act::Write(offset, if fixed { value & !0x0700 | 0x50 } else { value })
        }),
        2 => Just(Act::Write(SVR, ENABLED)),
        1 => Just(Act::Write(SVR, 0xff)),
        1 => Just(Act::Write(ESR, 0)),
        1 => (1_u32..5000).prop_map(|count| Act::Write(INITIAL_COUNT, count)),
        1 => prop::sample::select(vec![0x41, 0x2_0041, 0x4_0041, 0x1_0041]).prop_map(|entry| Act::Write(LVT_TIMER, entry)),
        1 => prop::sample::select(vec![0x8042, 0x42, 0x700, 0x1_8042]).prop_map(|entry| Act::Write(LVT_LINT0, entry)),
        5 => offset().prop_map(Act::Read),
        1 => offset().prop_map(Act::Copy),
        2 => (0_u8..20).prop_map(Act::Cr8),
        2 => Just(Act::ReadCr8),
        4 => Just(Act::Enable),
        2 => Just(Act::Disable),
        2 => Just(Act::Sti),
        3 => (1_u16..3000).prop_map(Act::Run),
        1 => Just(Act::Hlt),
        2 => any::<u8>().prop_map(Act::Key),
        2 => Just(Act::TakeKey),
        1 => (0_u8..2).prop_map(Act::Lint0),
        1 => prop::sample::select(vec![0xfee0_0900, 0xfee0_0900, 0xfed0_0900]).prop_map(Act::Base),
        3 => Just(Act::Iret),
        1 => Just(Act::Snapshot),
    ]
}

/// What came of `act`, as far as the guest can tell.
fn perform(machine: &mut Machine, act: Act) -> (Vec<Vector>, u64) {
    let nothing = (Vec::new(), 0);
    if matches!(act, Act::Write(..) | Act::Read(_) | Act::Copy(_)) {
        // The instruction is where the guest is: what can be taken comes first.
        let interrupts = machine.run_for(1).interrupts;
        if !interrupts.is_empty() {
            return (interrupts, 0);
        }
    }
    match act {
        Act::Write(offset, value) => {
            let executed = machine.store(PAGE + offset, value);
            (executed.interrupts, executed.advanced)
        }
        Act::Read(offset) => (Vec::new(), read(machine, offset).into()),
        Act::Copy(offset) => {
            machine.store(0xfec0_0000, 0x21);
            machine.cpu_mut().gprs_mut().set(Gpr::Rsi, 0xfec0_0000);
            machine.cpu_mut().gprs_mut().set(Gpr::Rdi, PAGE + offset);
            let executed = machine.touch(&[0xa5], 0xfec0_0000, MemoryAccess::Read);
            (executed.interrupts, executed.advanced)
        }
        Act::Cr8(value) => {
            let fault = machine.access_cr(CrAccess::WriteCr8(Gpr::Rbx), value.into()).is_err();
            (Vec::new(), fault.into())
        }
        Act::ReadCr8 => {
            machine.access_cr(CrAccess::ReadCr8(Gpr::Rbx), 0).expect("no fault");
            (Vec::new(), machine.cpu().gprs().get(Gpr::Rbx))
        }
        Act::Enable => {
            machine.enable_interrupts();
            nothing
        }
        Act::Disable => {
            machine.disable_interrupts();
            nothing
        }
        Act::Sti => (machine.execute(Step::run(2).does(Effect::Sti)).interrupts, 0),
        Act::Run(ticks) => (machine.run_for(ticks.into()).interrupts, 0),
        Act::Hlt => halt(machine),
        Act::Key(key) => {
            machine.type_in(&[key]);
            nothing
        }
        Act::TakeKey => (Vec::new(), machine.inb(0x3f8).into()),
        // The 8259 pair's output is the pin: COM1's input is 4 there.
        Act::Lint0(masked) => (machine.outb(0x21, 0xef | masked << 4).interrupts, 0),
        Act::Base(value) => (machine.wrmsr(Msr::APIC_BASE, value).expect("legal").interrupts, 0),
        Act::Iret => {
            machine.iret();
            nothing
        }
        Act::Snapshot => {
            let snapshot: MachineSnapshot = machine.save();
            *machine = Machine::restore(&snapshot, machine.now());
            assert_eq!(machine.save().vm(), snapshot.vm());
            nothing
        }
    }
}

fn halt(machine: &mut Machine) -> (Vec<Vector>, u64) {
    machine.enable_interrupts();
    let mut interrupts = machine.run_for(1).interrupts;
    if !interrupts.is_empty() {
        // A handler does not halt.
        return (interrupts, 0);
    }
    let executed = machine.hlt();
    interrupts.extend(executed.interrupts);
    if executed.leave == Leave::Halted {
        // A key ends every halt that the task priority and the service let it end.
        machine.type_in(b"k");
        if machine.poll() {
            interrupts.extend(machine.run_for(1).interrupts);
        } else {
            machine.vcpu.send_nmi();
            interrupts.extend(machine.run_for(1).interrupts);
            machine.iret();
        }
    }
    (interrupts, 0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever a guest does with its local APIC's page, it sees the same, and is saved as the same.
    #[test]
    fn the_guest_cannot_tell_software_from_hardware(
        acts in prop::collection::vec(act(), 1..120),
        posted in any::<bool>(),
    ) {
        let support = if posted { InterruptSupport::Posted } else { InterruptSupport::Virtual };
        let mut pair = Pair::new(support);
        for act in acts {
            pair.each(|machine| perform(machine, act));
            pair.compare();
        }
    }
}
