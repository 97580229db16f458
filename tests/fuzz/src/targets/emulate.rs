//! The instruction emulator: any bytes as code, in any mode, over page tables and registers that the input spoils.

mod processor;

use crate::subject::digest;
use crate::{Bytes, Seen};
use arch::{Gpa, Port, RFlags, Width};
use emulate::{Emulated, Emulator, MAX_INSTRUCTION_LENGTH, Mmio, Ports, REP_SLICE};
use memory::{GuestMemory, MemoryMap, VecBlock};
use processor::Processor;

/// RAM reaches from 0 to here.
const RAM_BYTES: usize = 0x1_0000;
/// Where code is; an instruction at the end of this page goes on in the next.
const CODE: u64 = 0x8000;
/// Data, and behind it the stack.
const DATA: u64 = 0xa000;
/// Memory without RAM, where devices answer.
const DEVICE: u64 = 0xfee0_0000;
/// The most operations of one input.
const OPERATIONS: u32 = 200;
/// The most accesses of one step: two an iteration of a string instruction, each in pieces.
const ACCESSES: u64 = REP_SLICE as u64 * 8;

/// First bytes of instructions that are emulated.
const OPENINGS: &[&[u8]] = &[
    &[0x01],
    &[0x03],
    &[0x10],
    &[0x29],
    &[0x38],
    &[0x63],
    &[0x69],
    &[0x6b],
    &[0x6c],
    &[0x6d],
    &[0x6e],
    &[0x6f],
    &[0x80],
    &[0x81],
    &[0x83],
    &[0x85],
    &[0x87],
    &[0x88],
    &[0x89],
    &[0x8a],
    &[0x8b],
    &[0x8c],
    &[0x8f],
    &[0xa1],
    &[0xa3],
    &[0xa4],
    &[0xa5],
    &[0xa7],
    &[0xab],
    &[0xad],
    &[0xaf],
    &[0xc1],
    &[0xc7],
    &[0xd3],
    &[0xe5],
    &[0xef],
    &[0xf6],
    &[0xf7],
    &[0xfe],
    &[0xff],
    &[0x0f, 0x10],
    &[0x0f, 0x11],
    &[0x0f, 0x28],
    &[0x0f, 0x29],
    &[0x0f, 0x44],
    &[0x0f, 0x6f],
    &[0x0f, 0x7f],
    &[0x0f, 0x95],
    &[0x0f, 0xa3],
    &[0x0f, 0xa5],
    &[0x0f, 0xab],
    &[0x0f, 0xae],
    &[0x0f, 0xaf],
    &[0x0f, 0xb1],
    &[0x0f, 0xb6],
    &[0x0f, 0xba],
    &[0x0f, 0xbc],
    &[0x0f, 0xbf],
    &[0x0f, 0xc1],
    &[0x0f, 0xc3],
    &[0x0f, 0xc7],
    &[0x0f, 0xe7],
    &[0x0f, 0x38, 0xf0],
    &[0x0f, 0x38, 0xf1],
    &[0xc5],
    &[0xc4, 0xe1],
    &[0x62, 0xf1],
];
const PREFIXES: &[u8] = &[0xf3, 0xf2, 0x66, 0x67, 0xf0, 0x48, 0x4c, 0x64, 0x36];

/// Devices that answer what the input's accesses amount to so far.
#[derive(Clone, Copy, Default)]
struct Devices {
    accesses: u64,
    digest: u64,
}

impl Devices {
    fn accessed(&mut self, address: u64, width: Width, value: u64) -> u64 {
        assert_eq!(value & !width.mask(), 0, "more was written than fits");
        self.accesses += 1;
        self.digest = digest(&[self.digest, address, value, width as u64]);
        self.digest & width.mask()
    }
}

impl Mmio for Devices {
    fn mmio_read(&mut self, gpa: Gpa, width: Width) -> u64 {
        self.mmio_access(gpa, width, 0)
    }

    fn mmio_write(&mut self, gpa: Gpa, width: Width, value: u64) {
        self.mmio_access(gpa, width, value);
    }
}

impl Devices {
    fn mmio_access(&mut self, gpa: Gpa, width: Width, value: u64) -> u64 {
        const PAGE: u64 = 0x1000;
        assert!(gpa.get() % PAGE + width as u64 <= PAGE, "an access crosses a page");
        self.accessed(gpa.get(), width, value)
    }
}

impl Ports for Devices {
    fn port_read(&mut self, port: Port, width: Width) -> u32 {
        let [value, _high] = halves(self.accessed(u64::from(port.0), width, 0));
        value
    }

    fn port_write(&mut self, port: Port, width: Width, value: u32) {
        self.accessed(u64::from(port.0), width, u64::from(value));
    }
}

fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

/// Plays the input: changes to the machine, and instructions.
///
/// # Panics
/// When something does not hold.
pub(super) fn run(mut bytes: Bytes<'_>, seen: &mut Seen) {
    let mut memory = MemoryMap::new();
    memory.add(Gpa::new(0), VecBlock::new(RAM_BYTES)).expect("the first region");
    let mut cpu = Processor::in_mode(bytes.byte(), &memory);
    let mut emulator = Emulator::new();
    for _ in 0..OPERATIONS {
        if bytes.is_empty() {
            break;
        }
        match bytes.byte() {
            0..=63 => {
                let register = usize::from(bytes.byte()) % cpu.gprs.len();
                cpu.gprs[register] = number(&mut bytes);
            }
            64..=79 => {
                // Anything in RAM, page tables and code included.
                let at = u64::from(bytes.word()) & !7;
                memory.write_u64(Gpa::new(at), bytes.qword()).expect("RAM");
            }
            80..=95 => {
                let at = u64::from(bytes.word()) & !7;
                let entry = memory.read_u64(Gpa::new(at)).expect("RAM");
                let flipped = entry ^ 1 << (bytes.byte() & 63);
                memory.write_u64(Gpa::new(at), flipped).expect("RAM");
            }
            96..=111 => cpu.spoil(&mut bytes),
            112..=127 => cpu.rflags = RFlags::from_bits_retain(bytes.qword()),
            128..=255 => execute(&mut bytes, &mut cpu, &mut emulator, &memory, seen),
        }
    }
}

/// A number that is an address of something more often than chance.
fn number(bytes: &mut Bytes<'_>) -> u64 {
    match bytes.byte() {
        0..=63 => bytes.magnitude(),
        64..=127 => DATA + u64::from(bytes.below(0x2000)),
        128..=191 => DEVICE + u64::from(bytes.below(0x2000)),
        192..=223 => u64::from(bytes.byte()),
        224..=255 => u64::from(bytes.byte()).wrapping_neg(),
    }
}

/// Puts an instruction somewhere and carries it out.
fn execute(
    bytes: &mut Bytes<'_>,
    cpu: &mut Processor,
    emulator: &mut Emulator,
    memory: &MemoryMap<VecBlock>,
    seen: &mut Seen,
) {
    let code = instruction(bytes);
    cpu.rip = match bytes.byte() {
        0..=191 => CODE,
        192..=239 => CODE + 0xfff - u64::from(bytes.byte() % 15),
        240..=255 => number(bytes),
    };
    if let Some(room) = (RAM_BYTES as u64).checked_sub(cpu.rip) {
        let room = usize::try_from(room).unwrap_or(0).min(code.len());
        memory.write(Gpa::new(cpu.rip), &code[..room]).expect("RAM");
    }
    let before = cpu.clone();
    let mut devices = Devices::default();
    let outcome = emulator.step(cpu, memory, &mut devices, None);
    assert!(devices.accesses <= ACCESSES, "{} accesses of one step", devices.accesses);
    assert_eq!(cpu.rip, before.rip, "RIP is the caller's to move");
    let is_repeated = code.iter().any(|byte| matches!(byte, 0xf2 | 0xf3));
    let kind = match outcome {
        Emulated::Done { next_rip } => {
            let length = next_rip.wrapping_sub(before.rip) & 0xffff;
            // CALL, RET, and the group with JMP and CALL through memory.
            let may_branch = code.iter().any(|byte| matches!(byte, 0xc2 | 0xc3 | 0xe8 | 0xff));
            assert!(
                length <= MAX_INSTRUCTION_LENGTH as u64 || may_branch,
                "an instruction of {length} bytes"
            );
            0
        }
        Emulated::Again => 1,
        Emulated::Fault(exception) => {
            if !is_repeated {
                assert!(*cpu == before, "{exception:?} is not all that came of it");
            }
            2 + u64::from(exception.vector().0)
        }
        Emulated::Unsupported { .. } | Emulated::FetchOutsideRam(_) => {
            assert!(*cpu == before && devices.accesses == 0, "something came of nothing");
            40
        }
    };
    let opening = code.first_chunk().copied().map_or(0, u32::from_le_bytes);
    seen.note(1, digest(&[kind, u64::from(opening & 0xffff)]));
    seen.note(2, digest(&[kind, devices.accesses, u64::from(cpu.mode())]));
}

/// Fifteen bytes that begin like something emulated, more often than not.
fn instruction(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let mut code = Vec::with_capacity(2 * MAX_INSTRUCTION_LENGTH);
    for _ in 0..bytes.byte() % 4 {
        code.push(bytes.choose(PREFIXES));
    }
    if bytes.byte() & 7 != 0 {
        code.extend_from_slice(bytes.choose(OPENINGS));
    }
    while code.len() < MAX_INSTRUCTION_LENGTH {
        code.push(bytes.byte());
    }
    code.truncate(MAX_INSTRUCTION_LENGTH);
    code
}
