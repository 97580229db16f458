//! Debian's firmware for virtual machines, unmodified.

use anyhow::{Context, Result};

use crate::setup::debian;

/// SeaBIOS, a BIOS.
pub(super) fn seabios() -> Result<Vec<u8>> {
    file("seabios", "usr/share/seabios/bios-256k.bin")
}

/// The video BIOS that goes with the screen, also SeaBIOS's.
pub(super) fn video_bios() -> Result<Vec<u8>> {
    file("seabios", "usr/share/seabios/vgabios-stdvga.bin")
}

/// OVMF, a UEFI without system-management mode: its code.
pub(super) fn ovmf() -> Result<Vec<u8>> {
    file("ovmf", "usr/share/OVMF/OVMF_CODE_4M.fd")
}

/// What goes with it: an empty variable store.
pub(super) fn ovmf_variables() -> Result<Vec<u8>> {
    file("ovmf", "usr/share/OVMF/OVMF_VARS_4M.fd")
}

/// The file at `path` of package `name`.
fn file(name: &str, path: &str) -> Result<Vec<u8>> {
    let path = debian::unpacked(name)?.join(path);
    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}
