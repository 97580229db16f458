//! Random instructions on memory and on a device that behaves like memory: what the processor executes itself and what a
//! hypervisor must emulate has to come to the same. `count=` says how many, `seed=` which.
//!
//! Registers, flags, exceptions with their error codes and addresses, memory, the stack and the accessed and dirty flags
//! of page tables are compared. Flags that the manual leaves undefined count, too, unless the processor is silicon
//! (`strict=0`). Without the device (no hypervisor, or one that was not asked for it) both runs are on memory. Half of
//! the cases are emulated twice and the second time counts, for the sake of emulators that remember.

pub(super) mod forms;
pub(super) mod generate;

use core::sync::atomic::Ordering::Relaxed;

use super::random::Random;
use super::{Failure, Verdict};
use crate::console::report;
use crate::machine::cpu::cpuid;
use crate::machine::trial::{
    self, MEMORY, Outcome, Ring, STACK_POINTER, Vectors, WINDOW, WINDOW_BYTES, flag,
};
use crate::options::{EVENTS, SEED, STRICT};
use generate::{Case, Features, Operand, case};

/// Where the device is, if there is one.
const DEVICE: u64 = 0xfef0_0000;
/// The copy of memory that the processor works on itself, and the one beside the device.
const NATIVE: usize = 0;
const OTHER: usize = 1;
/// Words of stack that are compared, from below the stack pointer to above it.
const STACK_WORDS: core::ops::Range<isize> = -1..1;
/// Mismatches that are reported before the program gives up.
const PATIENCE: u64 = 8;
/// The most words that are looked at for one case.
const MOST_WORDS: usize = 56;
const RESUME_FLAG: u64 = 1 << 16;

/// Runs the cases.
pub(super) fn emulate_diff() -> Verdict {
    let bench = Bench::new();
    let mut random = Random::new(SEED.get());
    let mut tally = Tally::default();
    let count = EVENTS.get();
    for number in 0..count {
        let case = case(&mut random, bench.features);
        if !bench.agree(&mut random, &case, &mut tally) {
            report!("emulate-diff: case {number} of seed {}", SEED.get());
            tally.mismatches += 1;
            if tally.mismatches == PATIENCE {
                break;
            }
        }
        if number % 4096 == 4095 && !bench.whole_memory_agrees() {
            report!("emulate-diff: memory differs that no case before {number} was about");
            tally.mismatches += 1;
            bench.synchronize();
        }
    }
    for (vector, ends) in tally.ends.into_iter().enumerate().filter(|(_, ends)| *ends != 0) {
        report!("emulate-diff: exception {vector} ended {ends}");
    }
    report!(
        "emulate-diff: {count} instructions, {} ended in a fault, {} on {}, {} differ",
        tally.faults,
        count - tally.faults,
        if bench.has_device { "memory and a device" } else { "memory alone" },
        tally.mismatches
    );
    if tally.mismatches == 0 {
        Ok(())
    } else {
        Err(Failure { what: "instructions that differ", got: tally.mismatches, want: 0 })
    }
}

#[derive(Default)]
struct Tally {
    /// How many ended in each exception: INT3 and the single step are traps behind the instruction.
    ends: [u64; 32],
    faults: u64,
    mismatches: u64,
}

/// What one way of running an instruction came to.
#[derive(PartialEq)]
struct Result {
    outcome: Outcome,
    stack: [u64; 2],
    vectors: Option<Vectors>,
    entries: [u64; 2],
}

struct Bench {
    has_device: bool,
    features: Features,
}

impl Bench {
    fn new() -> Self {
        let leaf = cpuid(1, 0);
        let has = |bit: u32| leaf.ecx & 1 << bit != 0;
        let features = Features { avx: has(28) && has(26), movbe: has(22), cmpxchg16b: has(13) };
        trial::prepare();
        trial::enable_vectors(features.avx);
        trial::enable_alignment_checks();
        if cpuid(7, 0).ebx & 1 << 20 != 0 {
            trial::enable_smap();
        }
        trial::set_device_word(DEVICE, 0x1234_5678_9abc_def0);
        let has_device = trial::device_word(DEVICE) == 0x1234_5678_9abc_def0;
        let bench = Self { has_device, features };
        bench.synchronize();
        bench
    }

    /// Where page `page` of the window is for the run that is not native.
    fn other_page(&self, page: usize, on_device: bool) -> u64 {
        if on_device && self.has_device {
            DEVICE + 0x1000 * page as u64
        } else {
            MEMORY[OTHER][page].address()
        }
    }

    /// Fills everything with the same.
    fn synchronize(&self) {
        let mut random = Random::new(77);
        for word in 0..WINDOW_BYTES / 8 {
            self.set(8 * word, random.next());
        }
    }

    /// Sets the word at `offset` everywhere.
    fn set(&self, offset: u64, value: u64) {
        let (page, word) = place(offset);
        for copy in &MEMORY {
            copy[page].0[word].store(value, Relaxed);
        }
        if self.has_device {
            trial::set_device_word(DEVICE + offset, value);
        }
    }

    /// Whether the word at `offset`, which was `before`, is the same in native memory and where `devices` says that the
    /// other run had it. The copies that it had not are brought up to date.
    fn word_agrees(&self, offset: u64, before: u64, devices: [bool; 2]) -> bool {
        let (page, word) = place(offset);
        let native = native_word(offset);
        let other = &MEMORY[OTHER][page].0[word];
        if !self.has_device {
            return other.load(Relaxed) == native;
        }
        if devices[page] {
            other.store(native, Relaxed);
            return trial::device_word(DEVICE + offset) == native;
        }
        if native != before {
            trial::set_device_word(DEVICE + offset, native);
        }
        other.load(Relaxed) == native
    }

    fn whole_memory_agrees(&self) -> bool {
        let same = |offset: u64| {
            let (page, word) = place(offset);
            let native = native_word(offset);
            MEMORY[OTHER][page].0[word].load(Relaxed) == native
                && (!self.has_device || trial::device_word(DEVICE + offset) == native)
        };
        (0..WINDOW_BYTES / 8).all(|word| same(8 * word))
    }

    /// Runs `case` both ways; `false` if they differ, which is reported.
    fn agree(&self, random: &mut Random, case: &Case, tally: &mut Tally) -> bool {
        let devices = match random.below(6) {
            0 => [true, false],
            1 => [false, true],
            _ => [true, true],
        };
        let flags: [u64; 2] = core::array::from_fn(|_| page_flags(random, case.ring));
        let vectors: Vectors = core::array::from_fn(|_| core::array::from_fn(|_| random.next()));
        let fresh = random.next();
        trial::write_code(case.offset, case.code.bytes());

        let words = || case.operands().flat_map(near);
        let mut before = [0; MOST_WORDS];
        for (slot, offset) in before.iter_mut().zip(words()) {
            *slot = native_word(offset);
        }
        if fresh & 4 != 0 {
            // An emulator may remember what it has seen before: let it see this one, and take back what came of it.
            self.run(case, &vectors, flags, |page| self.other_page(page, devices[page]));
            for (offset, before) in words().zip(before) {
                self.set(offset, before);
            }
        }
        let native = self.run(case, &vectors, flags, |page| MEMORY[NATIVE][page].address());
        let other = self.run(case, &vectors, flags, |page| self.other_page(page, devices[page]));
        let vector = usize::try_from(native.outcome.vector).unwrap_or(0).min(31);
        tally.ends[vector] += 1;
        if !matches!(native.outcome.vector, 1 | 3) {
            tally.faults += 1;
        }
        let ignored = if STRICT.get() == 0 { case.undefined } else { 0 };
        let same = native == other
            || (ignored != 0
                && without(native.outcome, ignored) == without(other.outcome, ignored)
                && native.stack == other.stack
                && native.vectors == other.vectors
                && native.entries == other.entries);
        let mut first_difference = None;
        for (offset, before) in words().zip(before) {
            if !self.word_agrees(offset, before, devices) && first_difference.is_none() {
                first_difference = Some(offset);
            }
        }
        if same && first_difference.is_none() {
            if let Some(offset) = words().nth(1).filter(|_| fresh & 3 == 0) {
                self.set(offset, fresh);
            }
            return true;
        }
        describe(case, flags, devices, &native, &other);
        if let Some(offset) = first_difference {
            report!("  memory differs at {:#x}", WINDOW + offset);
        }
        self.synchronize();
        false
    }

    fn run(&self, case: &Case, vectors: &Vectors, flags: [u64; 2], page: impl Fn(usize) -> u64) -> Result {
        for (number, flags) in flags.into_iter().enumerate() {
            trial::show(number, page(number), flags);
        }
        for word in STACK_WORDS {
            trial::stack_word(word).store(0x5555_aaaa_0f0f_3c3c, Relaxed);
        }
        if case.vectors {
            trial::load_vectors(vectors, self.features.avx);
        }
        let outcome = trial::run(case.offset, case.bits, case.ring, case.rflags, &case.registers);
        // An exception in ring 0 is pushed on the same stack: only what is above it stays.
        let pushed = outcome.registers[trial::RSP] < STACK_POINTER;
        let stack =
            [0, -1].map(|word| if pushed || word == 0 { trial::stack_word(word).load(Relaxed) } else { 0 });
        Result {
            outcome,
            stack,
            vectors: case.vectors.then(|| trial::store_vectors(self.features.avx)),
            entries: [0, 1].map(trial::flags_of),
        }
    }
}

/// Which page and which word of it the byte at `offset` in the window is in.
fn place(offset: u64) -> (usize, usize) {
    let word = usize::try_from(offset / 8).unwrap_or(0);
    (word / 512, word % 512)
}

/// The word at `offset` in the memory that the processor works on itself.
fn native_word(offset: u64) -> u64 {
    let (page, word) = place(offset);
    MEMORY[NATIVE][page].0[word].load(Relaxed)
}

/// The words of the window that an instruction may change that touches `operand`.
fn near(operand: Operand) -> impl Iterator<Item = u64> {
    let first = (operand.target & 0xffff_ffff).wrapping_sub(WINDOW).wrapping_sub(operand.before) & !7;
    let words = (operand.before + operand.after) / 8 + 1;
    (0..words).map(move |word| first.wrapping_add(8 * word)).filter(|offset| *offset < WINDOW_BYTES)
}

/// `outcome` without some flags.
fn without(outcome: Outcome, ignored: u64) -> Outcome {
    Outcome { rflags: outcome.rflags & !ignored, ..outcome }
}

/// Flags for a page of the window: mostly such that the instruction goes through.
fn page_flags(random: &mut Random, ring: Ring) -> u64 {
    let mut flags = flag::PRESENT | flag::WRITABLE | flag::ACCESSED | flag::DIRTY;
    let for_user = match ring {
        Ring::User => random.below(32) != 0,
        Ring::Kernel => random.below(8) == 0,
    };
    if for_user {
        flags |= flag::USER;
    }
    for (bit, of) in [(flag::PRESENT, 32), (flag::WRITABLE, 16), (flag::ACCESSED, 4), (flag::DIRTY, 4)] {
        if random.below(of) == 0 {
            flags &= !bit;
        }
    }
    flags
}

fn describe(case: &Case, flags: [u64; 2], devices: [bool; 2], native: &Result, other: &Result) {
    report!(
        "emulate-diff: {:02x?} {:?} {:?} rflags {:#x} targets {:x?} pages {flags:x?} devices {devices:?}",
        case.code.bytes(),
        case.bits,
        case.ring,
        case.rflags,
        [case.first.target, case.second.map_or(0, |operand| operand.target)]
    );
    let (a, b) = (native.outcome, other.outcome);
    let fact = |name: &str, a: u64, b: u64| {
        if a != b {
            report!("  {name}: {a:#x} natively, {b:#x} emulated");
        }
    };
    fact("vector", a.vector, b.vector);
    fact("error code", a.error, b.error);
    fact("rip", a.rip, b.rip);
    fact("cr2", a.cr2, b.cr2);
    fact("rflags", a.rflags & !RESUME_FLAG, b.rflags & !RESUME_FLAG);
    fact("resume flag", a.rflags & RESUME_FLAG, b.rflags & RESUME_FLAG);
    for (number, (a, b)) in a.registers.into_iter().zip(b.registers).enumerate() {
        if a != b {
            report!(
                "  register {number}: {:#x} before, {a:#x} natively, {b:#x} emulated",
                case.registers[number]
            );
        }
    }
    for (page, (a, b)) in native.entries.into_iter().zip(other.entries).enumerate() {
        if a != b {
            report!("  flags of page {page}: {a:#x} natively, {b:#x} emulated");
        }
    }
    if native.stack != other.stack {
        report!("  stack: {:x?} natively, {:x?} emulated", native.stack, other.stack);
    }
    if let (Some(a), Some(b)) = (native.vectors, other.vectors) {
        for (number, (a, b)) in a.into_iter().zip(b).enumerate() {
            if a != b {
                report!("  vector {number}: {a:x?} natively, {b:x?} emulated");
            }
        }
    }
}
