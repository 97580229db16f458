//! All devices together.

use super::hpet::sent;
use crate::Bytes;
use crate::subject::{self, digest};
use arch::{Gpa, Nanos, Port, Vector};
use bus::{Pipe, PipeEnd, Platform, PowerRequest};
use devices::{DebugConsole, DebugExit, MemorySizes, Pc, PcConfig, PcState, Screen, TestDevices};

/// First ports, and how many from there on are worth a look.
const PORTS: [(u16, u16); 17] = [
    (0x20, 2),
    (0x40, 4),
    (0x60, 5),
    (0x70, 4),
    (0x80, 1),
    (0x92, 1),
    (0xa0, 2),
    (0xb2, 2),
    (0xe9, 16),
    (0x3f6, 12),
    (0x4d0, 2),
    (0x600, 16),
    (0xcf6, 12),
    (0xc000, 0x48),
    (0x510, 16),
    (0xfff8, 8),
    (0, 0xffff),
];

/// First addresses of device memory, and their lengths.
const MEMORY: [(u64, u16); 4] =
    [(0xfec0_0000, 0x50), (0xfed0_0000, 0x170), (0xfebf_fff0, 0x1020), (0xfed0_03f0, 0x20)];

/// The devices and the other end of the console.
#[derive(Debug)]
pub(super) struct Subject {
    pc: Pc,
    terminal: PipeEnd,
}

impl Subject {
    /// What the processors and the terminal see of the devices.
    fn outside(&mut self) -> u64 {
        // Nobody types in this guest's console: what a pipe holds is not part of the saved state.
        while self.terminal.receive().is_some() {}
        let power = match self.pc.take_power_request() {
            None => 0,
            Some(PowerRequest::Off) => 1,
            Some(PowerRequest::Reset) => 2,
            Some(PowerRequest::Exit { status }) => u64::from(status) << 8 | 3,
        };
        let attention = u64::from(self.pc.take_attention().bits());
        digest(&[power, attention, u64::from(self.pc.external_interrupt())])
    }
}

impl subject::Subject for Subject {
    type State = PcState;

    fn new() -> Self {
        let (terminal, console) = Pipe::ends();
        let pc = Pc::new(PcConfig {
            console,
            wall_clock_unix_s: 1_795_210_162,
            memory: MemorySizes { below_4g: 256 << 20, above_4g: 1 << 30 },
            test_devices: TestDevices::Present,
            screen: Screen::Absent,
            // What it copies to is not part of this state; it has a target of its own.
            fw_cfg: None,
            firmware: None,
            debug_exit: DebugExit::Present,
            debug_console: DebugConsole::OnConsole,
        });
        Self { pc, terminal }
    }

    fn act(&mut self, bytes: &mut Bytes<'_>, now: Nanos) -> u64 {
        let (mut read, mut message) = (0, None);
        match bytes.byte() % 16 {
            0..=2 => {
                let (port, width) = (port(bytes), bytes.port_width());
                read = u64::from(self.pc.port_read(port, width, now));
                assert_eq!(read & !width.mask(), 0);
            }
            3..=7 => self.pc.port_write(port(bytes), bytes.port_width(), bytes.dword(), now),
            8 => {
                let (gpa, width) = (address(bytes), bytes.memory_width());
                read = self.pc.mmio_read(gpa, width, now);
                assert_eq!(read & !width.mask(), 0);
            }
            9..=11 => self.pc.mmio_write(address(bytes), bytes.memory_width(), bytes.magnitude(), now),
            12 => self.pc.end_of_interrupt(Vector(bytes.byte()), now),
            13 => read = u64::from(self.pc.acknowledge_external_interrupt().0),
            14 => message = self.pc.take_message(),
            _ => match bytes.byte() % 8 {
                0 => self.pc.press_power_button(),
                1 => self.pc.raise_general_event(bytes.byte()),
                2 => self.pc.reset(now),
                3 => self.pc.console_input(now),
                _ => read = u64::from(self.pc.press_keys(&[bytes.byte(), bytes.byte()])),
            },
        }
        digest(&[read, sent(message), self.outside()])
    }

    fn advance(&mut self, now: Nanos) -> u64 {
        self.pc.advance(now);
        self.outside()
    }

    fn next_deadline(&self) -> Nanos {
        self.pc.next_deadline()
    }

    fn save(&self) -> PcState {
        self.pc.save()
    }

    fn restore(&mut self, state: &PcState) {
        self.pc.restore(state);
        let _restored = self.pc.take_attention();
    }
}

fn port(bytes: &mut Bytes<'_>) -> Port {
    let (first, count) = bytes.choose(&PORTS);
    Port(first.saturating_add(bytes.below(count)))
}

fn address(bytes: &mut Bytes<'_>) -> Gpa {
    let (first, length) = bytes.choose(&MEMORY);
    Gpa::new(first + u64::from(bytes.below(length)))
}
