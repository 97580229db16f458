//! A function for test programs: it has a base address register of each kind, and every way to interrupt, and lets a
//! guest set each of them off. A guest gets it only if its definition says `test_devices = true`.

mod spec;

use super::function::{Delivery, FunctionLayout, PciDevice, Signals};
use crate::lanes::{low_half, read_words, write_words};
use arch::{Nanos, Width};
use spec::{LAYOUT, MAGIC, MEMORY, MEMORY_BYTES, Register};

/// Everything about the device that a snapshot needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TestFunctionState {
    scratch: u32,
    pin: bool,
    /// Messages sent, ever.
    sent: u32,
    /// What the timer was set to, in nanoseconds, 0 when it does not run.
    timer_ns: u32,
    due: Nanos,
    timer_message: u32,
    last_access: u32,
    memory: [u32; MEMORY_WORDS],
}

const MEMORY_WORDS: usize = 64;
const _: () = assert!(MEMORY_WORDS as u64 * 4 == MEMORY_BYTES);

/// The device.
#[derive(Debug)]
pub struct TestFunction {
    state: TestFunctionState,
}

impl Default for TestFunction {
    fn default() -> Self {
        Self::new()
    }
}

impl TestFunction {
    /// The device after reset.
    pub fn new() -> Self {
        Self {
            state: TestFunctionState {
                scratch: 0,
                pin: false,
                sent: 0,
                timer_ns: 0,
                due: Nanos::NEVER,
                timer_message: 0,
                last_access: 0,
                memory: [0; MEMORY_WORDS],
            },
        }
    }

    fn register(&self, register: Register, delivery: Delivery) -> u32 {
        match register {
            Register::Magic => MAGIC,
            Register::Scratch => self.state.scratch,
            Register::Pin => u32::from(self.state.pin),
            Register::Send => self.state.sent,
            Register::Delivery => match delivery {
                Delivery::Pin => 0,
                Delivery::Msi => 1,
                Delivery::MsiX => 2,
            },
            Register::Timer => self.state.timer_ns,
            Register::TimerMessage => self.state.timer_message,
            Register::LastAccess => self.state.last_access,
            Register::Reserved => 0,
        }
    }

    fn set_register(
        &mut self,
        register: Register,
        value: u32,
        mask: u32,
        now: Nanos,
        signals: &mut Signals<'_>,
    ) {
        let merge = |old: u32| (old & !mask) | value;
        match register {
            Register::Scratch => self.state.scratch = merge(self.state.scratch),
            Register::Pin => {
                self.state.pin = merge(u32::from(self.state.pin)) & 1 != 0;
                signals.set_pin(self.state.pin);
            }
            Register::Send => self.send(value, signals),
            Register::Timer => {
                self.state.timer_ns = merge(self.state.timer_ns);
                self.state.due = match self.state.timer_ns {
                    0 => Nanos::NEVER,
                    ns => Nanos(now.0.saturating_add(u64::from(ns))),
                };
            }
            Register::TimerMessage => self.state.timer_message = merge(self.state.timer_message),
            Register::Magic | Register::Delivery | Register::LastAccess | Register::Reserved => {}
        }
    }

    fn send(&mut self, message: u32, signals: &mut Signals<'_>) {
        signals.send(low_half(message));
        self.state.sent = self.state.sent.wrapping_add(1);
    }

    fn note(&mut self, bar: u8, offset: u64, width: Width, direction: Direction) {
        let offset = u32::from(low_half(crate::lanes::low_word(offset)));
        let write = match direction {
            Direction::Read => 0,
            Direction::Write => 1 << 23,
        };
        self.state.last_access = (width as u32) << 28 | u32::from(bar) << 24 | write | offset;
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Read,
    Write,
}

impl PciDevice for TestFunction {
    type State = TestFunctionState;

    fn layout(&self) -> FunctionLayout {
        LAYOUT
    }

    fn read(&mut self, bar: u8, offset: u64, width: Width, _now: Nanos, signals: &mut Signals<'_>) -> u64 {
        let delivery = signals.delivery();
        let value = if bar == MEMORY {
            read_words(offset, width, |offset| self.state.memory[memory_index(offset)])
        } else {
            read_words(offset, width, |offset| self.register(Register::at(offset), delivery))
        };
        if bar == MEMORY || Register::at(offset & !3) != Register::LastAccess {
            self.note(bar, offset, width, Direction::Read);
        }
        value
    }

    fn write(
        &mut self,
        bar: u8,
        offset: u64,
        width: Width,
        value: u64,
        now: Nanos,
        signals: &mut Signals<'_>,
    ) {
        self.note(bar, offset, width, Direction::Write);
        if bar == MEMORY {
            write_words(offset, width, value, |offset, value, mask| {
                let word = &mut self.state.memory[memory_index(offset)];
                *word = (*word & !mask) | value;
            });
        } else {
            write_words(offset, width, value, |offset, value, mask| {
                self.set_register(Register::at(offset), value, mask, now, signals);
            });
        }
    }

    fn advance(&mut self, now: Nanos, signals: &mut Signals<'_>) {
        if now >= self.state.due {
            self.state.due = Nanos::NEVER;
            self.state.timer_ns = 0;
            self.state.pin = true;
            signals.set_pin(true);
            self.send(self.state.timer_message, signals);
        }
    }

    fn next_deadline(&self) -> Nanos {
        self.state.due
    }

    fn reset(&mut self) {
        *self = Self::new();
    }

    fn save(&self) -> TestFunctionState {
        self.state.clone()
    }

    fn restore(&mut self, state: &TestFunctionState) {
        self.state = state.clone();
    }
}

/// The word of memory at `offset`, through which it repeats.
fn memory_index(offset: u64) -> usize {
    usize::try_from(offset / 4).unwrap_or(0) % MEMORY_WORDS
}
