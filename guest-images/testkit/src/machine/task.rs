//! The task state that brings the CPU from another ring to a stack of ring 0, and its I/O permissions.
//!
//! Source: SDM Vol. 3A, "64-Bit TSS Format"; Vol. 1, "I/O Permission Bit Map".

use core::arch::asm;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

/// Selector of the task state.
const SELECTOR: u16 = 0x38;
/// Where the I/O permission map begins: right behind the fixed part.
const MAP_AT: u64 = 104;
/// Words in all: the fixed part, a map of 1024 ports, and the byte of ones behind it.
const WORDS: usize = 13 + 16 + 1;

#[repr(C, align(256))]
struct TaskState([AtomicU64; WORDS]);

#[repr(C, align(64))]
struct Stack([AtomicU64; 2048]);

static STATE: TaskState = TaskState([const { AtomicU64::new(u64::MAX) }; WORDS]);
static STACK: Stack = Stack([const { AtomicU64::new(0) }; 2048]);

unsafe extern "C" {
    /// The descriptor of the task state in the GDT: two words.
    static testkit_tss_descriptor: [AtomicU64; 2];
}

/// Ports that ring 3 may use, of the first 1024.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ports {
    /// None.
    Forbidden,
    /// This one alone.
    Only(u16),
}

/// Loads the task register of this CPU, no port permitted.
pub(crate) fn install() {
    const AVAILABLE_TASK: u64 = 0x89 << 40;
    let top = (&raw const STACK).addr() as u64 + size_of::<Stack>() as u64;
    let task = (&raw const STATE).addr() as u64;
    for word in &STATE.0[..13] {
        word.store(0, Relaxed);
    }
    // RSP0 is at byte 4, the map's offset at byte 102.
    STATE.0[0].store(top << 32, Relaxed);
    STATE.0[1].store(top >> 32, Relaxed);
    STATE.0[12].store(MAP_AT << 48, Relaxed);
    // SAFETY: the descriptor is in the GDT's data and only touched by who loads the task register.
    let descriptor = unsafe { &testkit_tss_descriptor };
    let limit = size_of_val(&STATE.0) as u64 - 1;
    let low = limit | (task & 0xff_ffff) << 16 | AVAILABLE_TASK | (task >> 24 & 0xff) << 56;
    descriptor[1].store(task >> 32, SeqCst);
    descriptor[0].store(low, SeqCst);
    // SAFETY: the descriptor is that of a task state that lives for ever.
    unsafe {
        asm!("ltr {0:x}", in(reg) SELECTOR, options(nostack));
    }
}

/// Says which ports ring 3 may use.
pub(crate) fn permit(ports: Ports) {
    for (index, word) in STATE.0[13..29].iter().enumerate() {
        let clear = match ports {
            Ports::Forbidden => 0,
            Ports::Only(port) if usize::from(port / 64) == index => 1 << (port % 64),
            Ports::Only(_) => 0,
        };
        word.store(!clear, SeqCst);
    }
}
