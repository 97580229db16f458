//! Panics on demand, so that a test sees the panic path: the boot archive's file `panic-test` says how.

use crate::boot_archive::Files;
use core::sync::atomic::{AtomicBool, Ordering};

const FILE: &str = "panic-test";
/// How long another core waits with its panic, in microseconds: guests run on the first by then.
const DELAY_US: u64 = 300_000;

/// Whether another core than the first is to panic.
static ON_ANOTHER_CORE: AtomicBool = AtomicBool::new(false);

/// Does what the file `panic-test` of the boot archive asks for: `panic` or `stack-overflow`; `other-core` is for
/// [`run_if_asked_here`].
pub(crate) fn run_if_asked(archive: &'static [u8]) {
    let Some(file) = Files::read(archive).get(FILE) else { return };
    match file.trim_ascii() {
        b"stack-overflow" => {
            let depth = overflow(1);
            ::log::info!("the stack held {depth} frames");
        }
        b"other-core" => ON_ANOTHER_CORE.store(true, Ordering::Relaxed),
        _ => panic!("the boot archive asks for a panic"),
    }
}

/// Panics on this core, which is not the first and is up, if that is asked for.
pub(crate) fn run_if_asked_here() {
    if !ON_ANOTHER_CORE.load(Ordering::Relaxed) {
        return;
    }
    let end = hal::time::now() + hal::time::ticks(DELAY_US);
    while hal::time::now() < end {
        hal::shootdown::serve();
        core::hint::spin_loop();
    }
    panic!("the boot archive asks for a panic on another core");
}

/// Recurses until the stack is full. The buffer makes each frame large, and its use keeps the call from being a loop.
fn overflow(depth: u64) -> u64 {
    let buffer = core::hint::black_box([depth; 64]);
    let below = if core::hint::black_box(depth) == u64::MAX { 0 } else { overflow(depth + 1) };
    below + buffer[0]
}
