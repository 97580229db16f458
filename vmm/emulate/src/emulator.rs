//! The emulator as its caller sees it: one instruction in, what became of it out.

use crate::access::Machine;
use crate::breakpoint::{Breakpoints, Watch};
use crate::cache::DecodeCache;
use crate::context::{Context, Mode};
use crate::decode::{DecodeError, decode};
use crate::execute::Progress;
use crate::fetch::{FetchError, fetch_leading, fetch_piece};
use crate::instruction::Instruction;
use crate::witness::Witness;
use crate::{Access, Cpu, MAX_INSTRUCTION_LENGTH, Mmio, Ports};
use arch::{Exception, Gpa, Gva};
use memory::GuestMemory;

/// What became of an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Emulated {
    /// It is done; the caller moves RIP to `next_rip`, and reports the single step if RFLAGS.TF is set.
    Done {
        /// Where the next instruction is.
        next_rip: u64,
    },
    /// A REP instruction did a slice of its iterations: RIP stays, and so does the instruction. With RFLAGS.TF
    /// set the slice is one iteration, after which the caller reports the single step; it also ends behind an
    /// iteration that met a breakpoint.
    Again,
    /// It ends in this exception. Registers are as before it, but for finished iterations of a REP instruction.
    Fault(Exception),
    /// There is such an instruction, but it is not emulated. Nothing was changed.
    Unsupported {
        /// Its bytes; those past `length` are zero.
        bytes: [u8; MAX_INSTRUCTION_LENGTH],
        /// How many bytes it has.
        length: u8,
    },
    /// Its bytes are at an address that is not RAM.
    FetchOutsideRam(Gpa),
}

/// A translation that the hardware made and reported with the exit, so that it need not be made again.
///
/// Sound only if the exit was for the access itself and not for one to the guest's page tables (exit
/// qualification bit 8 of an EPT violation), and if `gpa` is not RAM: the whole page is taken for device memory.
/// It serves the page of `gva`, for `access` alone, and for this one instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownTranslation {
    /// The linear address.
    pub gva: Gva,
    /// What it translates to.
    pub gpa: Gpa,
    /// What the hardware was about to do. A write serves reads of the page too.
    pub access: Access,
}

/// The emulator of one virtual processor.
#[derive(Clone, Debug, Default)]
pub struct Emulator {
    cache: DecodeCache,
}

impl Emulator {
    /// An emulator that has seen no instruction yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Emulates the instruction at RIP. `devices` answers every access outside of RAM; `known` saves the walk
    /// for the access that led here.
    #[inline]
    pub fn step<C: Cpu, M: GuestMemory + ?Sized, D: Mmio + Ports>(
        &mut self,
        cpu: &mut C,
        memory: &M,
        devices: &mut D,
        known: Option<KnownTranslation>,
    ) -> Emulated {
        let rip = cpu.rip();
        if Breakpoints::are_enabled(cpu.dr7()) {
            return self.step_by_fetch(cpu, memory, devices, known, Some(&mut Watch::of(cpu)));
        }
        if let Some(entry) = self.cache.recall(cpu, memory, rip) {
            if let (Some(plain), Some(known)) = (entry.plain, &known)
                && plain.carry_out(&entry.instruction, cpu, devices, known)
            {
                // 64-bit mode, so all of it counts.
                return Emulated::Done { next_rip: rip.wrapping_add(u64::from(entry.instruction.length)) };
            }
            let context = Context::of(cpu);
            return run(cpu, memory, devices, &context, &entry.instruction, known, None);
        }
        self.step_by_fetch(cpu, memory, devices, known, None)
    }

    /// [`Self::step`] of an instruction that must be fetched, or that `watch` is to look at.
    #[inline(never)]
    fn step_by_fetch<C: Cpu, M: GuestMemory + ?Sized, D: Mmio + Ports>(
        &mut self,
        cpu: &mut C,
        memory: &M,
        devices: &mut D,
        known: Option<KnownTranslation>,
        watch: Option<&mut Watch>,
    ) -> Emulated {
        let context = Context::of(cpu);
        let rip = cpu.rip();
        let instruction = match self.cached(cpu, memory, &context, rip) {
            Some(instruction) => instruction,
            None => match self.decode_at(cpu, memory, &context, rip) {
                Ok(instruction) => instruction,
                Err(other) => return other,
            },
        };
        run(cpu, memory, devices, &context, &instruction, known, watch)
    }

    /// The instruction at `rip` if it was decoded before and its bytes are still the same.
    #[inline]
    fn cached<C: Cpu, M: GuestMemory + ?Sized>(
        &mut self,
        cpu: &C,
        memory: &M,
        context: &Context,
        rip: u64,
    ) -> Option<Instruction> {
        if !self.cache.may_have(rip) {
            return None;
        }
        let bytes = fetch_leading(cpu, memory, context, rip)?;
        let entry = self.cache.find(rip, context.code_size, bytes)?;
        if context.mode == Mode::Long {
            entry.witness = Witness::of(cpu, memory, context, rip, &entry.bytes, entry.instruction.length);
        }
        Some(entry.instruction)
    }

    /// Fetches, decodes and keeps the instruction at `rip`.
    #[cold]
    fn decode_at<C: Cpu, M: GuestMemory + ?Sized>(
        &mut self,
        cpu: &C,
        memory: &M,
        context: &Context,
        rip: u64,
    ) -> Result<Instruction, Emulated> {
        let mut bytes = [0; MAX_INSTRUCTION_LENGTH];
        let mut have = 0;
        loop {
            let rest = bytes.get_mut(have..).unwrap_or_default();
            have += match fetch_piece(cpu, memory, context, rip.wrapping_add(have as u64), rest) {
                Ok(length) => length,
                Err(FetchError::Fault(exception)) => return Err(Emulated::Fault(exception)),
                Err(FetchError::OutsideRam(gpa)) => return Err(Emulated::FetchOutsideRam(gpa)),
            };
            match decode(bytes.get(..have).unwrap_or_default(), context.code_size, rip) {
                Ok(instruction) => {
                    let witness = Witness::of(cpu, memory, context, rip, &bytes, instruction.length);
                    self.cache.keep(rip, context.code_size, bytes, witness, instruction);
                    return Ok(instruction);
                }
                Err(DecodeError::Truncated) if have < MAX_INSTRUCTION_LENGTH => {}
                Err(DecodeError::Truncated | DecodeError::TooLong) => {
                    return Err(Emulated::Fault(Exception::GeneralProtection(0)));
                }
                Err(DecodeError::Invalid) => return Err(Emulated::Fault(Exception::InvalidOpcode)),
                Err(DecodeError::Unsupported { length }) => {
                    if let Some(past) = bytes.get_mut(length..) {
                        past.fill(0);
                    }
                    let length = u8::try_from(length).unwrap_or(u8::MAX);
                    return Err(Emulated::Unsupported { bytes, length });
                }
            }
        }
    }
}

#[inline]
fn run<C: Cpu, M: GuestMemory + ?Sized, D: Mmio + Ports>(
    cpu: &mut C,
    memory: &M,
    devices: &mut D,
    context: &Context,
    instruction: &Instruction,
    known: Option<KnownTranslation>,
    watch: Option<&mut Watch>,
) -> Emulated {
    let mut machine = Machine::new(cpu, memory, devices, context, known, watch);
    let progress = machine.execute(instruction);
    let met = machine.met();
    if met != 0 && progress.is_ok() {
        cpu.meet_breakpoints(met);
    }
    match progress {
        Ok(Progress::Done) => Emulated::Done { next_rip: context.behind(cpu.rip(), instruction) },
        Ok(Progress::Branched(target)) => Emulated::Done { next_rip: target },
        Ok(Progress::Again) => Emulated::Again,
        Err(exception) => Emulated::Fault(exception),
    }
}
