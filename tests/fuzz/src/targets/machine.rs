//! A whole virtual machine on a scripted processor: what `vm_sim` does with bytes.

use crate::{Bytes, Seen};

/// Plays the input as guest, operator and host.
pub(super) fn run(bytes: Bytes<'_>, seen: &mut Seen) {
    let played = vm_sim::run_bytes(bytes.into_rest());
    seen.note(0, played.exits);
    if let Some(reason) = played.stopped {
        let name = format!("{reason:?}");
        seen.note(1, name.bytes().take_while(u8::is_ascii_alphabetic).map(u64::from).sum());
    }
}
