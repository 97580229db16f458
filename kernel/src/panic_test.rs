//! Panics on demand, so that a test sees the panic path: the boot archive's file `panic-test` says how.

use crate::boot_archive::Files;

const FILE: &str = "panic-test";

/// Does what the file `panic-test` of the boot archive asks for: `panic` or `stack-overflow`.
pub(crate) fn run_if_asked(archive: &'static [u8]) {
    let Some(file) = Files::read(archive).get(FILE) else { return };
    match file.trim_ascii() {
        b"stack-overflow" => {
            let depth = overflow(1);
            ::log::info!("the stack held {depth} frames");
        }
        _ => panic!("the boot archive asks for a panic"),
    }
}

/// Recurses until the stack is full. The buffer makes each frame large, and its use keeps the call from being a loop.
fn overflow(depth: u64) -> u64 {
    let buffer = core::hint::black_box([depth; 64]);
    let below = if core::hint::black_box(depth) == u64::MAX { 0 } else { overflow(depth + 1) };
    below + buffer[0]
}
