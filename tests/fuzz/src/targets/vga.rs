//! The video adapter: its registers and memory by every way to them, and the pictures that it shows.

use crate::Bytes;
use crate::subject::{self, digest};
use arch::{Gpa, Nanos, Port, Width};
use bus::{Pipe, Platform};
use devices::{
    DebugConsole, DebugExit, MemorySizes, Pc, PcConfig, PcState, Screen, TestDevices, VideoMemory,
};
use memory::{Block, VecBlock};
use std::sync::Arc;

/// The least memory there can be, so that the ends of it are reached.
const MEMORY_BYTES: usize = 256 << 10;
const FRAMEBUFFER: u32 = 0xc000_0000;
const REGISTERS: u32 = 0xc100_0000;

/// A machine with a screen.
#[derive(Debug)]
pub(super) struct Subject {
    pc: Pc,
    memory: Arc<VecBlock>,
}

/// The machine's devices, and the video memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct State {
    pc: PcState,
    memory: Vec<u8>,
}

impl Subject {
    /// Reads a few lines of the picture.
    fn look(&self, at: u16, now: Nanos) -> u64 {
        let view = self.pc.screen(now).expect("there is a screen");
        let (width, height) = view.size();
        let mut line = Vec::new();
        view.line(u32::from(at) % height, &mut line);
        assert_eq!(line.len() as u64, u64::from(width) * 3);
        let sum = line.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        let text = view.text().map_or(0, |text| text.rows().map(|row| row.len() as u64).sum());
        digest(&[sum, text, u64::from(width), u64::from(height)])
    }
}

impl subject::Subject for Subject {
    type State = State;

    fn new() -> Self {
        let (_terminal, console) = Pipe::ends();
        let memory = Arc::new(VecBlock::new(MEMORY_BYTES));
        let mut pc = Pc::new(PcConfig {
            console,
            wall_clock_unix_s: 0,
            memory: MemorySizes { below_4g: 256 << 20, above_4g: 0 },
            test_devices: TestDevices::Absent,
            screen: Screen::Vga {
                memory: VideoMemory::new(Arc::<VecBlock>::clone(&memory)),
                rom: Some([0x55, 0xaa, 1].into()),
            },
            fw_cfg: None,
            firmware: None,
            debug_exit: DebugExit::Absent,
            debug_console: DebugConsole::Silent,
        });
        for (register, value) in [(0x10, FRAMEBUFFER), (0x18, REGISTERS), (0x04, 2)] {
            pc.port_write(Port(0xcf8), Width::Four, 0x8000_0800 | register, Nanos(0));
            pc.port_write(Port(0xcfc), Width::Four, value, Nanos(0));
        }
        Self { pc, memory }
    }

    fn act(&mut self, bytes: &mut Bytes<'_>, now: Nanos) -> u64 {
        match bytes.byte() % 12 {
            0..=3 => {
                let (port, width) = (Port(0x3b0 + u16::from(bytes.byte() % 0x32)), bytes.port_width());
                self.pc.port_write(port, width, bytes.dword(), now);
                0
            }
            4 => {
                let port = Port(0x3b0 + u16::from(bytes.byte() % 0x32));
                u64::from(self.pc.port_read(port, bytes.port_width(), now))
            }
            5..=6 => {
                self.pc.port_write(Port(0x1ce), Width::Two, u32::from(bytes.byte() % 12), now);
                self.pc.port_write(Port(0x1cf), Width::Two, bytes.dword(), now);
                u64::from(self.pc.port_read(Port(0x1cf), Width::Two, now))
            }
            7..=8 => {
                let (gpa, width) = (address(bytes), bytes.memory_width());
                self.pc.mmio_write(gpa, width, bytes.magnitude(), now);
                0
            }
            9..=10 => {
                let (gpa, width) = (address(bytes), bytes.memory_width());
                let value = self.pc.mmio_read(gpa, width, now);
                assert_eq!(value & !width.mask(), 0);
                value
            }
            _ => self.look(u16::from_le_bytes([bytes.byte(), bytes.byte()]), now),
        }
    }

    fn save(&self) -> State {
        let mut memory = vec![0; MEMORY_BYTES];
        self.memory.copy_out(0, &mut memory);
        State { pc: self.pc.save(), memory }
    }

    fn restore(&mut self, state: &State) {
        self.pc.restore(&state.pc);
        self.memory.copy_in(0, &state.memory);
    }
}

fn address(bytes: &mut Bytes<'_>) -> Gpa {
    let offset = u64::from(bytes.dword());
    Gpa::new(match bytes.byte() % 4 {
        0..=1 => 0xa_0000 + offset % 0x2_0000,
        2 => u64::from(FRAMEBUFFER) + offset % (16 << 20),
        _ => u64::from(REGISTERS) + offset % 0x1000,
    })
}
