//! One method an instruction: what a test's guest executes.

use crate::machine::PROMPT;
use crate::{Effect, Machine, Step};
use arch::{Exception, Gpa, Gpr, Gva, Msr, Port, RFlags, SegmentRegister, Vector, Width};
use memory::GuestMemory;
use vmm::{CrAccess, Direction, EptFault, Event, IoExit, Leaf, Leave, MemoryAccess, VcpuBackend, VmExit};

/// What came of one instruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Executed {
    /// Why the vCPU left; [`Leave::HostInterrupt`] when the guest simply went on.
    pub leave: Leave,
    /// The exception that the guest got for it. Its handler has returned already.
    pub fault: Option<Exception>,
    /// How far RIP moved before any event.
    pub advanced: u64,
    /// The interrupts and NMIs (as vector 2) that the guest took afterwards.
    pub interrupts: Vec<Vector>,
}

impl Machine {
    /// Plays `step` as one instruction.
    ///
    /// # Panics
    /// When the machine breaks one of its own rules.
    pub fn execute(&mut self, step: Step) -> Executed {
        let (rip, seen) = (self.cpu().rip(), self.cpu().deliveries().len());
        let leave = self.play_until([step], PROMPT);
        self.check(leave);
        let deliveries = self.cpu().deliveries()[seen..].to_vec();
        let after = deliveries.first().map_or(self.cpu().rip(), |delivery| delivery.rip);
        let mut executed =
            Executed { leave, fault: None, advanced: after.wrapping_sub(rip), interrupts: Vec::new() };
        for delivery in deliveries {
            match delivery.event {
                Event::Exception(exception) => executed.fault = Some(exception),
                Event::Interrupt(vector) => executed.interrupts.push(vector),
                Event::Nmi => executed.interrupts.push(Vector(2)),
            }
        }
        if executed.fault.is_some() {
            self.cpu_mut().apply(Effect::Iret);
        }
        executed
    }

    /// Plays `step`, which must neither end the guest nor fault.
    fn carry_out(&mut self, step: Step) -> Executed {
        let executed = self.execute(step);
        assert_eq!((executed.leave, executed.fault), (Leave::HostInterrupt, None));
        executed
    }

    /// CPUID.
    pub fn cpuid(&mut self, leaf: u32, subleaf: u32) -> Leaf {
        let step = Step::exit(VmExit::Cpuid).set(Gpr::Rax, leaf.into()).set(Gpr::Rcx, subleaf.into());
        self.carry_out(step);
        let gprs = self.cpu().gprs();
        Leaf {
            eax: gprs.get32(Gpr::Rax),
            ebx: gprs.get32(Gpr::Rbx),
            ecx: gprs.get32(Gpr::Rcx),
            edx: gprs.get32(Gpr::Rdx),
        }
    }

    /// RDMSR.
    ///
    /// # Errors
    /// The exception that the guest gets.
    pub fn rdmsr(&mut self, msr: Msr) -> Result<u64, Exception> {
        let executed = self.execute(Step::exit(VmExit::ReadMsr).set(Gpr::Rcx, msr.0.into()));
        executed.fault.map_or_else(|| Ok(self.cpu().gprs().edx_eax()), Err)
    }

    /// WRMSR.
    ///
    /// # Errors
    /// The exception that the guest gets.
    pub fn wrmsr(&mut self, msr: Msr, value: u64) -> Result<Executed, Exception> {
        let step = Step::exit(VmExit::WriteMsr)
            .set(Gpr::Rcx, msr.0.into())
            .set(Gpr::Rax, value & 0xffff_ffff)
            .set(Gpr::Rdx, value >> 32);
        let executed = self.execute(step);
        executed.fault.map_or(Ok(executed), Err)
    }

    /// A control-register access with `value` in the operand register.
    ///
    /// # Errors
    /// The exception that the guest gets.
    pub fn access_cr(&mut self, access: CrAccess, value: u64) -> Result<(), Exception> {
        let step = match access {
            CrAccess::WriteCr0(gpr)
            | CrAccess::WriteCr4(gpr)
            | CrAccess::WriteCr8(gpr)
            | CrAccess::ReadCr8(gpr) => Step::exit(VmExit::Cr(access)).set(gpr, value),
            CrAccess::Clts | CrAccess::Lmsw(_) => Step::exit(VmExit::Cr(access)),
        };
        self.execute(step).fault.map_or(Ok(()), Err)
    }

    /// OUT.
    pub fn output(&mut self, port: u16, width: Width, value: u32) -> Executed {
        let exit = IoExit::new(Port(port), width, Direction::Out, false);
        self.carry_out(Step::exit(VmExit::Io(exit)).set(Gpr::Rax, value.into()))
    }

    /// OUT of a byte.
    pub fn outb(&mut self, port: u16, value: u8) -> Executed {
        self.output(port, Width::One, value.into())
    }

    /// IN: all of RAX afterwards.
    pub fn input(&mut self, port: u16, width: Width) -> u64 {
        let exit = IoExit::new(Port(port), width, Direction::In, false);
        self.carry_out(Step::exit(VmExit::Io(exit)));
        self.cpu().gprs().get(Gpr::Rax)
    }

    /// IN of a byte: AL.
    pub fn inb(&mut self, port: u16) -> u8 {
        self.input(port, Width::One).to_le_bytes()[0]
    }

    /// HLT.
    pub fn hlt(&mut self) -> Executed {
        self.execute(Step::exit(VmExit::Hlt).length(1))
    }

    /// Puts `code` where the guest is.
    ///
    /// # Panics
    /// When that is not RAM.
    pub fn write_code(&self, code: &[u8]) {
        let at = self.cpu().segment(SegmentRegister::Cs).base.wrapping_add(self.cpu().rip());
        self.vm.memory.write(Gpa::new(at), code).expect("code is in RAM");
    }

    /// Executes the instruction `code`, whose access to `gpa` (at the same linear address) second-level
    /// translation refuses.
    pub fn touch(&mut self, code: &[u8], gpa: u64, access: MemoryAccess) -> Executed {
        self.write_code(code);
        let fault = EptFault { gpa: Gpa::new(gpa), gva: Gva::new(gpa), translated: true, access };
        self.execute(Step::exit(VmExit::Ept(fault)))
    }

    /// MOV EAX, [RBX] at `gpa`.
    pub fn load(&mut self, gpa: u64) -> u32 {
        self.cpu_mut().gprs_mut().set(Gpr::Rbx, gpa);
        let executed = self.touch(&[0x8b, 0x03], gpa, MemoryAccess::Read);
        assert_eq!((executed.leave, executed.fault, executed.advanced), (Leave::HostInterrupt, None, 2));
        self.cpu().gprs().get32(Gpr::Rax)
    }

    /// MOV [RBX], EAX at `gpa`.
    pub fn store(&mut self, gpa: u64, value: u32) -> Executed {
        self.cpu_mut().gprs_mut().set(Gpr::Rbx, gpa);
        self.cpu_mut().gprs_mut().set(Gpr::Rax, value.into());
        let executed = self.touch(&[0x89, 0x03], gpa, MemoryAccess::Write);
        assert_eq!((executed.leave, executed.fault, executed.advanced), (Leave::HostInterrupt, None, 2));
        executed
    }

    /// The guest runs for `ticks` without an exit of its own.
    pub fn run_for(&mut self, ticks: u64) -> Executed {
        self.execute(Step::run(ticks))
    }

    /// The guest sets IF, long enough ago that no shadow is left.
    pub fn enable_interrupts(&mut self) {
        self.cpu_mut().apply(Effect::SetFlags(RFlags::INTERRUPT_FLAG));
    }

    /// The guest clears IF.
    pub fn disable_interrupts(&mut self) {
        self.cpu_mut().apply(Effect::ClearFlags(RFlags::INTERRUPT_FLAG));
    }

    /// The guest's handler returns.
    pub fn iret(&mut self) {
        self.cpu_mut().apply(Effect::Iret);
    }

    /// Switches the local APIC to x2APIC mode and enables it.
    ///
    /// # Panics
    /// When it refuses.
    pub fn switch_to_x2apic(&mut self) {
        self.wrmsr(Msr::APIC_BASE, 0xfee0_0d00).expect("x2APIC mode is offered");
        self.wrmsr(Msr(0x80f), 0x1ff).expect("SVR");
    }

    /// Initializes both 8259s: vectors 0x20 and 0x28, every input unmasked.
    pub fn initialize_pics(&mut self) {
        for (base, vector, cascade) in [(0x20, 0x20, 4), (0xa0, 0x28, 2)] {
            self.outb(base, 0x11);
            for value in [vector, cascade, 1, 0] {
                self.outb(base + 1, value);
            }
        }
    }

    /// Programs the 8254's timer 0 as a rate generator with `count`.
    pub fn start_pit(&mut self, count: u16) {
        self.outb(0x43, 0x34);
        for byte in count.to_le_bytes() {
            self.outb(0x40, byte);
        }
    }

    /// Lets the serial port interrupt for received characters, without FIFOs.
    pub fn enable_uart(&mut self) {
        self.outb(0x3fc, 0x08);
        self.outb(0x3f9, 0x01);
    }

    /// Programs the I/O APIC's `pin` with `entry`, from device memory.
    pub fn set_ioapic_pin(&mut self, pin: u8, entry: u32) {
        self.store(0xfec0_0000, 0x10 + 2 * u32::from(pin));
        self.store(0xfec0_0010, entry);
    }
}
