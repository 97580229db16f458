//! The end: what is known is printed on the serial line and the screen, and the CPU halts.

use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use hal::interrupts::TrapFrame;
use hal::{backtrace, cpu, flight, image, interrupts, percpu};

use crate::log::print_emergency;

/// Recorded events that are shown.
const EVENTS_SHOWN: usize = 24;

static PANICKING: AtomicBool = AtomicBool::new(false);

macro_rules! say {
    ($($argument:tt)*) => { print_emergency(format_args!("{}\n", format_args!($($argument)*))) };
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    cpu::disable_interrupts();
    // Should two cores panic at once, the report of the first is the one that counts.
    hal::smp::stop_others();
    if PANICKING.swap(true, Ordering::Relaxed) {
        say!("craton: panic while panicking: {}", info.message());
        say!("craton: halted");
        cpu::halt_forever();
    }
    let stack = (cpu::stack_pointer(), cpu::frame_pointer());
    match info.location() {
        Some(place) => say!("\ncraton: panic at {place}: {}", info.message()),
        None => say!("\ncraton: panic: {}", info.message()),
    }
    if let Some(cpu) = percpu::try_current().filter(|cpu| cpu.index != 0) {
        say!("on core {}", cpu.index);
    }
    let (start, first) = match interrupts::last_fault() {
        Some(frame) => {
            print_frame(&frame);
            (frame.rbp, Some(frame.rip))
        }
        None => {
            say!("RSP {:#018x} RBP {:#018x}", stack.0, stack.1);
            (stack.1, None)
        }
    };
    say!("CR2 {:#018x} CR3 {:#018x}", cpu::cr2(), cpu::cr3());
    print_backtrace(first, start);
    print_events();
    say!("craton: halted");
    cpu::halt_forever()
}

fn print_frame(frame: &TrapFrame) {
    say!(
        "RIP {:#018x} RSP {:#018x} RFLAGS {:#x} CS {:#x} SS {:#x}",
        frame.rip,
        frame.rsp,
        frame.rflags,
        frame.cs,
        frame.ss
    );
    say!("RAX {:#018x} RBX {:#018x} RCX {:#018x} RDX {:#018x}", frame.rax, frame.rbx, frame.rcx, frame.rdx);
    say!("RSI {:#018x} RDI {:#018x} RBP {:#018x} R8  {:#018x}", frame.rsi, frame.rdi, frame.rbp, frame.r8);
    say!("R9  {:#018x} R10 {:#018x} R11 {:#018x} R12 {:#018x}", frame.r9, frame.r10, frame.r11, frame.r12);
    say!("R13 {:#018x} R14 {:#018x} R15 {:#018x}", frame.r13, frame.r14, frame.r15);
}

/// An address in the code, as `address function + offset`.
struct Place {
    address: u64,
    /// Where to look the function up: a return address may be past the end of its function.
    lookup: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.address)?;
        match image::symbol(self.lookup) {
            Some((name, offset)) => write!(
                f,
                " {:#} + {:#x}",
                rustc_demangle::demangle(name),
                offset + (self.address - self.lookup)
            ),
            None => write!(f, " ?"),
        }
    }
}

fn print_backtrace(first: Option<u64>, frame_pointer: u64) {
    say!("backtrace:");
    if let Some(address) = first {
        say!("  {}", Place { address, lookup: address });
    }
    let mut repeated = Repeated::default();
    for address in backtrace::return_addresses(frame_pointer) {
        if repeated.is_new(address) {
            say!("  {}", Place { address, lookup: address - 1 });
        }
    }
    repeated.is_new(0);
}

/// Folds equal neighbours, as a recursion makes them.
#[derive(Default)]
struct Repeated {
    last: u64,
    times: u32,
}

impl Repeated {
    /// Whether `address` differs from the one before; if so, says how often that one came again.
    fn is_new(&mut self, address: u64) -> bool {
        if address == self.last {
            self.times += 1;
            return false;
        }
        if self.times > 0 {
            say!("  ... and {} times more", self.times);
        }
        *self = Self { last: address, times: 0 };
        true
    }
}

fn print_events() {
    let count = flight::events().count();
    say!("last events of {count} recorded (TSC, what, two words):");
    for event in flight::events().skip(count.saturating_sub(EVENTS_SHOWN)) {
        say!("  {:>16} {:<12} {:#x} {:#x}", event.at.0, event.tag, event.a, event.b);
    }
}
