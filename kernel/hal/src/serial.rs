//! The first serial line, COM1: the log, the monitor and the guests' consoles share it.
//!
//! Received bytes go through a ring that the interrupt handler fills.

use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use arch::{Port, Vector};
use spin::Mutex;
use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::{FifoTriggerLevel, IER};
use uart_16550::{BaudRate, Config, Uart16550};

use crate::acpi::{IsaLine, Platform};
use crate::{interrupts, ioapic, percpu, port};

const BASE: u16 = 0x3f8;
const LINE_STATUS: Port = Port(BASE + 5);
const THR_EMPTY: u8 = 1 << 5;
/// COM1's line on the 8259s.
const ISA_IRQ: u8 = 4;
/// How often a byte is tried before the line is given up, on the panic path.
const EMERGENCY_TRIES: u32 = 1_000_000;

static UART: Mutex<Option<Uart16550<PioBackend>>> = Mutex::new(None);

/// Bytes received and not yet taken. One producer, the interrupt handler, and one consumer.
struct Ring {
    bytes: [AtomicU8; Self::CAPACITY],
    /// Bytes ever taken.
    taken: AtomicUsize,
    /// Bytes ever put.
    put: AtomicUsize,
    /// Bytes that found the ring full.
    lost: AtomicU64,
}

impl Ring {
    const CAPACITY: usize = 4096;

    const fn new() -> Self {
        Self {
            bytes: [const { AtomicU8::new(0) }; Self::CAPACITY],
            taken: AtomicUsize::new(0),
            put: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
        }
    }

    fn put(&self, byte: u8) {
        let put = self.put.load(Ordering::Relaxed);
        if put.wrapping_sub(self.taken.load(Ordering::Acquire)) == Self::CAPACITY {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.bytes[put % Self::CAPACITY].store(byte, Ordering::Relaxed);
        self.put.store(put.wrapping_add(1), Ordering::Release);
    }

    fn take(&self) -> Option<u8> {
        let taken = self.taken.load(Ordering::Relaxed);
        if taken == self.put.load(Ordering::Acquire) {
            return None;
        }
        let byte = self.bytes[taken % Self::CAPACITY].load(Ordering::Relaxed);
        self.taken.store(taken.wrapping_add(1), Ordering::Release);
        Some(byte)
    }
}

static RECEIVED: Ring = Ring::new();

/// Sets the line up: 115200 bit/s, 8 data bits, no parity. Without effect when there is no UART.
pub fn init() {
    let config = Config {
        baud_rate: BaudRate::Baud115200,
        // The lowest level: a byte is seen at once.
        fifo_trigger_level: Some(FifoTriggerLevel::One),
        ..Config::DEFAULT
    };
    // SAFETY: COM1's ports, used by nobody else.
    let Ok(mut uart) = (unsafe { Uart16550::new_port(BASE) }) else { return };
    if uart.init(config).is_ok() {
        *UART.lock() = Some(uart);
    }
}

/// Writes all of `bytes`, waiting for the line as long as it takes. A newline becomes a carriage return and newline.
pub fn write_log(bytes: &[u8]) {
    let mut uart = UART.lock();
    let Some(uart) = uart.as_mut() else { return };
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(text) => {
                uart.send_bytes_exact(text);
                uart.send_bytes_exact(b"\r\n");
            }
            None => uart.send_bytes_exact(line),
        }
    }
}

/// Writes for the panic path: without the lock, and giving up when the line does not take bytes.
pub fn write_emergency(bytes: &[u8]) {
    for &byte in bytes {
        if byte == b'\n' {
            send_emergency(b'\r');
        }
        send_emergency(byte);
    }
}

fn send_emergency(byte: u8) {
    for _ in 0..EMERGENCY_TRIES {
        // SAFETY: reading the line status clears error flags, which nobody looks at.
        if unsafe { port::read_u8(LINE_STATUS) } & THR_EMPTY != 0 {
            break;
        }
    }
    // SAFETY: sends a byte. The owner of the lock, if any, does not run on: this is the end.
    unsafe { port::write_u8(Port(BASE), byte) };
}

/// The line as a console: nothing here waits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Console;

impl Console {
    /// The next received byte.
    pub fn try_receive(self) -> Option<u8> {
        // Also what the interrupt did not bring: the interrupt is a wake-up, not the only way.
        if let Some(byte) = RECEIVED.take() {
            return Some(byte);
        }
        drain();
        RECEIVED.take()
    }

    /// Sends `byte` if the line takes it now. `false`: try again later.
    pub fn try_send(self, byte: u8) -> bool {
        self.try_send_all(&[byte]) == 1
    }

    /// Sends as much of the start of `bytes` as the line takes now, at most one FIFO; returns how many bytes that
    /// were. Without a UART all bytes are gone.
    pub fn try_send_all(self, bytes: &[u8]) -> usize {
        UART.lock().as_mut().map_or(bytes.len(), |uart| uart.send_bytes(bytes))
    }

    /// Bytes that were received and lost because nobody took them in time.
    pub fn lost(self) -> u64 {
        RECEIVED.lost.load(Ordering::Relaxed)
    }

    /// Whether there is a UART.
    pub fn is_present(self) -> bool {
        UART.lock().is_some()
    }
}

/// Moves what the UART holds into the ring.
fn drain() {
    let mut uart = UART.lock();
    let Some(uart) = uart.as_mut() else { return };
    while let Ok(byte) = uart.try_receive_byte() {
        RECEIVED.put(byte);
    }
}

/// Lets received bytes interrupt this CPU.
pub(crate) fn enable_interrupt(platform: &Platform) {
    interrupts::register(Vector(interrupts::SERIAL), drain);
    let IsaLine { gsi, polarity, trigger } = platform.isa_line(ISA_IRQ);
    let target = percpu::current().apic_id;
    if let Err(error) = ioapic::route(ioapic::Gsi(gsi), target, Vector(interrupts::SERIAL), polarity, trigger)
    {
        log::warn!("the serial line has no interrupt ({error:?}): it is polled");
        return;
    }
    let mut uart = UART.lock();
    if let Some(uart) = uart.as_mut() {
        uart.enable_interrupts(IER::DATA_READY);
    }
}
