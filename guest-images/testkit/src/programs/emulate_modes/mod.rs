//! `emulate-diff` in all modes and under all kinds of paging: real-address, virtual-8086, protected, compatibility and
//! 64-bit mode; no paging, 32-bit paging with and without large pages, PAE and 4-level paging. `count=` says how many
//! instructions, `seed=` which, `mode=` and `paging=` that only some are wanted (a bit each, in the order of the report).
//!
//! In 16-bit and 32-bit code every operand goes through a segment with a base, a limit and a type of its own: data,
//! read-only, expand-down, code. Compared are registers, flags, exceptions with their error codes and addresses, DR6,
//! memory, the stack, and accessed and dirty flags at both levels above the operands. Memory is at 16 MiB and above.

mod generate;
mod surroundings;

use core::sync::atomic::Ordering::Relaxed;

use super::emulate_diff::forms::{FORMS, Field, Form};
use super::emulate_diff::generate::{Case, Features, Operand, Override, long_case, pick};
use super::random::Random;
use super::{Failure, Verdict};
use crate::console::report;
use crate::machine::arena::{self, CR4_KEYS, CR4_SMAP, CR4_SMEP, FS, GS, Segment, Setup, World};
use crate::machine::cpu::cpuid;
use crate::machine::trial::{self, Outcome, Registers, Vectors, WINDOW, WINDOW_BYTES};
use crate::options::{EVENTS, MODE, PAGING, SEED, STRICT};
use generate::Made;
use surroundings::{MODES, PAGINGS, Plan};

/// Where the processor works on memory itself, where the other run does, and the device: all three at the same place of
/// their 4 MiB.
const NATIVE: u64 = 0x130_0000;
const OTHER: u64 = 0x170_0000;
const DEVICE: u64 = 0xfef0_0000;
/// Mismatches that are reported before the program gives up.
const PATIENCE: u64 = 8;
/// The most words that are looked at for one case.
const MOST_WORDS: usize = 96;
const TRAP: u64 = 1 << 8;
const CHANGING: u64 = 0xcd5;

/// What decides over an access besides the mode.
#[derive(Clone, Copy)]
struct Rights {
    write_protect: bool,
    cr4: u64,
    keys: u32,
    flags: [u64; 2],
    directory: u64,
}

/// A case of any mode.
struct Trial {
    plan: Plan,
    rights: Rights,
    made: Made,
    rflags: u64,
    undefined: u64,
    vectors: bool,
}

/// What one way of running it came to.
#[derive(PartialEq)]
struct End {
    outcome: Outcome,
    stack: [u64; 2],
    vectors: Option<Vectors>,
    entries: [u64; 3],
}

#[derive(Default)]
struct Tally {
    ends: [u64; 32],
    modes: [u64; MODES.len()],
    pagings: [u64; PAGINGS.len()],
    faults: u64,
    mismatches: u64,
}

struct Bench {
    has_device: bool,
    features: Features,
    offered: u64,
}

/// Runs the cases.
pub(super) fn emulate_modes() -> Verdict {
    let bench = Bench::new();
    if !bench.has_memory() {
        report!("emulate-modes: no memory at 16 MiB: nothing was tried");
        return Ok(());
    }
    bench.synchronize();
    let mut random = Random::new(SEED.get());
    let mut tally = Tally::default();
    let count = EVENTS.get();
    for number in 0..count {
        let trial = bench.make(&mut random);
        tally.modes[trial.plan.mode()] += 1;
        for (slot, (paging, _)) in tally.pagings.iter_mut().zip(PAGINGS) {
            *slot += u64::from(paging == trial.plan.paging);
        }
        if !bench.agree(&mut random, &trial, &mut tally) {
            report!("emulate-modes: case {number} of seed {}", SEED.get());
            tally.mismatches += 1;
            if tally.mismatches == PATIENCE {
                break;
            }
        }
    }
    for (vector, ends) in tally.ends.into_iter().enumerate().filter(|(_, ends)| *ends != 0) {
        report!("emulate-modes: exception {vector} ended {ends}");
    }
    for (name, count) in MODES.iter().zip(tally.modes) {
        report!("emulate-modes: {count} in {name} mode");
    }
    for ((_, name), count) in PAGINGS.iter().zip(tally.pagings) {
        report!("emulate-modes: {count} with {name}");
    }
    report!(
        "emulate-modes: {count} instructions, {} ended in a fault, on {}, {} differ",
        tally.faults,
        if bench.has_device { "memory and a device" } else { "memory alone" },
        tally.mismatches
    );
    if tally.mismatches == 0 {
        Ok(())
    } else {
        Err(Failure { what: "instructions that differ", got: tally.mismatches, want: 0 })
    }
}

impl Bench {
    fn new() -> Self {
        let leaf = cpuid(1, 0);
        let has = |bit: u32| leaf.ecx & 1 << bit != 0;
        let features = Features { avx: has(28) && has(26), movbe: has(22), cmpxchg16b: has(13) };
        trial::prepare();
        arena::prepare();
        trial::enable_vectors(features.avx);
        trial::enable_alignment_checks();
        let leaf = cpuid(7, 0);
        let offer = |register: u32, bit: u32, flag: u64| if register & 1 << bit != 0 { flag } else { 0 };
        let offered =
            offer(leaf.ebx, 7, CR4_SMEP) | offer(leaf.ebx, 20, CR4_SMAP) | offer(leaf.ecx, 3, CR4_KEYS);
        let pattern = 0x1234_5678_9abc_def0;
        trial::set_device_word(DEVICE, pattern);
        let has_device = trial::device_word(DEVICE) == pattern;
        report!("emulate-modes: CR4 bits {offered:#x}");
        Self { has_device, features, offered }
    }

    fn has_memory(&self) -> bool {
        let pattern = 0x0bad_cafe_dead_beef;
        [NATIVE, OTHER + WINDOW_BYTES].into_iter().all(|at| {
            trial::set_device_word(at, pattern);
            trial::device_word(at) == pattern
        })
    }

    fn other(&self) -> u64 {
        if self.has_device { DEVICE } else { OTHER }
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
        trial::set_device_word(NATIVE + offset, value);
        trial::set_device_word(OTHER + offset, value);
        if self.has_device {
            trial::set_device_word(DEVICE + offset, value);
        }
    }

    fn form(&self, random: &mut Random, plan: &Plan) -> &'static Form {
        let long = matches!(plan.world, World::Long(_));
        let old = matches!(plan.world, World::Real | World::Virtual8086);
        loop {
            let form = &FORMS[pick(random, FORMS.len())];
            let movbe = matches!(form.opcode, [0x0f, 0x38, 0xf0 | 0xf1]);
            if (form.vex.is_none() || self.features.avx && !old)
                && (!movbe || self.features.movbe)
                && (!form.only_64 || long)
            {
                return form;
            }
        }
    }

    fn make(&self, random: &mut Random) -> Trial {
        let plan = loop {
            let plan = Plan::any(random);
            let paging = PAGINGS.iter().position(|(paging, _)| *paging == plan.paging).unwrap_or(0);
            if MODE.get() & 1 << plan.mode() != 0 && PAGING.get() & 1 << paging != 0 {
                break plan;
            }
        };
        let rights = plan.rights(random, self.offered);
        let form = self.form(random, &plan);
        if let World::Long(ring) = plan.world {
            let case = loop {
                let case = long_case(random, self.features, form, ring);
                if !plan.contained() || case.operands().all(is_inside) {
                    break case;
                }
            };
            return of_long(plan, rights, &case);
        }
        let made = generate::make(random, &plan, form);
        let mut rflags = 2 | random.next() & CHANGING;
        for (bit, of) in [(TRAP, 10), (1 << 16, 8), (1 << 18, 5)] {
            if random.below(of) == 0 {
                rflags |= bit;
            }
        }
        Trial { plan, rights, made, rflags, undefined: form.undefined, vectors: form.field == Field::Vector }
    }

    /// Runs `trial` both ways; `false` if they differ, which is reported.
    fn agree(&self, random: &mut Random, trial: &Trial, tally: &mut Tally) -> bool {
        let devices = match random.below(6) {
            0 if !trial.plan.contained() => [true, false],
            1 if !trial.plan.contained() => [false, true],
            _ => [true, true],
        };
        let pages = [0, 1].map(|page| {
            let base = if devices[page] { self.other() } else { OTHER };
            base + 0x1000 * page as u64
        });
        let vectors: Vectors = core::array::from_fn(|_| core::array::from_fn(|_| random.next()));
        let fresh = random.next();
        trial::write_code(trial.made.offset, trial.made.code.bytes());
        let words = || trial.words();
        let mut before = [0; MOST_WORDS];
        for (slot, offset) in before.iter_mut().zip(words()) {
            *slot = trial::device_word(NATIVE + offset);
        }
        if fresh & 4 != 0 {
            // An emulator may remember what it has seen before: let it see this one, and take back what came of it.
            self.run(trial, &vectors, pages);
            for (offset, before) in words().zip(before) {
                self.set(offset, before);
            }
        }
        let native = self.run(trial, &vectors, [NATIVE, NATIVE + 0x1000]);
        let other = self.run(trial, &vectors, pages);
        let vector = usize::try_from(native.outcome.vector).unwrap_or(0).min(31);
        tally.ends[vector] += 1;
        if !matches!(native.outcome.vector, 1 | 3) {
            tally.faults += 1;
        }
        let ignored = if STRICT.get() == 0 { trial.undefined } else { 0 };
        let without = |outcome: Outcome| Outcome { rflags: outcome.rflags & !ignored, ..outcome };
        let same = without(native.outcome) == without(other.outcome)
            && native.stack == other.stack
            && native.vectors == other.vectors
            && native.entries == other.entries;
        let mut first_difference = None;
        for offset in words() {
            let native = trial::device_word(NATIVE + offset);
            let page = usize::from(offset >= 0x1000);
            if trial::device_word(pages[page] + offset % 0x1000) != native && first_difference.is_none() {
                first_difference = Some(offset);
            }
        }
        if same && first_difference.is_none() {
            for (offset, before) in words().zip(before) {
                let native = trial::device_word(NATIVE + offset);
                if native != before {
                    self.set(offset, native);
                }
            }
            if let Some(offset) = words().nth(1).filter(|_| fresh & 3 == 0) {
                self.set(offset, fresh);
            }
            return true;
        }
        describe(trial, devices, &native, &other);
        if let Some(offset) = first_difference {
            report!("  memory differs at window offset {offset:#x}");
        }
        self.synchronize();
        false
    }

    fn run(&self, trial: &Trial, vectors: &Vectors, pages: [u64; 2]) -> End {
        let setup = trial.setup(pages);
        for word in [0, -1] {
            trial::stack_word(word).store(0x5555_aaaa_0f0f_3c3c, Relaxed);
        }
        if trial.vectors {
            trial::load_vectors(vectors, self.features.avx);
        }
        let made = &trial.made;
        let outcome = arena::run(&setup, made.offset, made.eip, trial.rflags, &made.registers);
        End {
            outcome,
            stack: [0, -1].map(|word| trial::stack_word(word).load(Relaxed)),
            vectors: trial.vectors.then(|| trial::store_vectors(self.features.avx)),
            entries: arena::entries(&setup),
        }
    }
}

impl Trial {
    fn setup(&self, pages: [u64; 2]) -> Setup {
        let mut segments = self.made.segments;
        for (segment, follows) in segments.iter_mut().zip(self.made.follows) {
            if follows {
                segment.base = segment.base.wrapping_add(pages[0]).wrapping_sub(WINDOW) & 0xffff_ffff;
            }
        }
        Setup {
            world: self.plan.world,
            paging: self.plan.paging,
            write_protect: self.rights.write_protect,
            cr4: self.rights.cr4,
            keys: self.rights.keys,
            segments,
            pages,
            flags: self.rights.flags,
            directory: self.rights.directory,
        }
    }

    /// The words of the window that the instruction may change.
    fn words(&self) -> impl Iterator<Item = u64> {
        let window = arena::window(self.plan.world);
        self.made.operands.iter().flatten().flat_map(move |operand| {
            let first = (operand.target & 0xffff_ffff).wrapping_sub(window).wrapping_sub(operand.before) & !7;
            let words = (operand.before + operand.after) / 8 + 1;
            (0..words).map(move |word| first.wrapping_add(8 * word)).filter(|offset| *offset < WINDOW_BYTES)
        })
    }
}

/// Whether nothing of `operand` is outside of the window.
fn is_inside(operand: Operand) -> bool {
    let offset = operand.target.wrapping_sub(WINDOW);
    (0x100..WINDOW_BYTES - 0x100).contains(&offset)
}

fn of_long(plan: Plan, rights: Rights, case: &Case) -> Trial {
    let mut segments = [Segment { base: 0, limit: 0, rights: 0, big: false }; 6];
    match case.base {
        Some((Override::Fs, base)) => segments[FS].base = base,
        Some((Override::Gs, base)) => segments[GS].base = base,
        None => {}
    }
    let registers: Registers = case.registers;
    let made = Made {
        code: case.code,
        offset: case.offset,
        eip: 0,
        registers,
        segments,
        follows: [false; 6],
        operands: [Some(case.first), case.second, None],
    };
    Trial { plan, rights, made, rflags: case.rflags, undefined: case.undefined, vectors: case.vectors }
}

fn describe(trial: &Trial, devices: [bool; 2], native: &End, other: &End) {
    const RESUME_FLAG: u64 = 1 << 16;
    let (made, rights) = (&trial.made, &trial.rights);
    report!("emulate-modes: {:02x?} {:?}", made.code.bytes(), trial.plan);
    report!(
        "  rflags {:#x} cr4 {:#x} wp {} keys {:#x} pages {:x?} directory {:#x} devices {devices:?}",
        trial.rflags,
        rights.cr4,
        rights.write_protect,
        rights.keys,
        rights.flags,
        rights.directory
    );
    report!("  registers {:x?} eip {:#x}", made.registers, made.eip);
    for segment in made.segments {
        let Segment { base, limit, rights, big } = segment;
        report!("  segment base {base:#x} limit {limit:#x} rights {rights:#x} big {big}");
    }
    for operand in made.operands.iter().flatten() {
        report!("  operand at {:#x}", operand.target);
    }
    let (a, b) = (native.outcome, other.outcome);
    let fact = |name: &str, a: u64, b: u64| {
        if a != b {
            report!("  {name}: {a:#x} natively, {b:#x} emulated");
        }
    };
    report!("  natively vector {} error {:#x} cr2 {:#x}", a.vector, a.error, a.cr2);
    fact("vector", a.vector, b.vector);
    fact("error code", a.error, b.error);
    fact("rip", a.rip, b.rip);
    fact("cr2", a.cr2, b.cr2);
    fact("dr6", a.dr6, b.dr6);
    fact("rflags", a.rflags & !RESUME_FLAG, b.rflags & !RESUME_FLAG);
    fact("resume flag", a.rflags & RESUME_FLAG, b.rflags & RESUME_FLAG);
    for (number, (a, b)) in a.registers.into_iter().zip(b.registers).enumerate() {
        if a != b {
            report!(
                "  register {number}: {:#x} before, {a:#x} natively, {b:#x} emulated",
                made.registers[number]
            );
        }
    }
    for (entry, (a, b)) in native.entries.into_iter().zip(other.entries).enumerate() {
        if a != b {
            report!("  flags of entry {entry}: {a:#x} natively, {b:#x} emulated");
        }
    }
    if native.stack != other.stack {
        report!("  stack: {:x?} natively, {:x?} emulated", native.stack, other.stack);
    }
    if native.vectors != other.vectors {
        report!("  vector registers differ");
    }
}
