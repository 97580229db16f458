//! `disk-image KERNEL RAMDISK BIOS_IMAGE UEFI_IMAGE`: packs the kernel and the boot archive with the loader.
//!
//! Both images hold the same kernel and the same archive. They are written beside their final names and renamed,
//! so an interrupted run leaves no half-written image behind.

mod clusters;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bootloader::{BootConfig, DiskImageBuilder};
use bootloader_boot_config::LevelFilter;

/// The smallest screen the UEFI loader may choose, in pixels: 100 columns of the log font.
const MINIMUM_SCREEN: (u64, u64) = (800, 600);

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [kernel, ramdisk, bios, uefi] = arguments.as_slice() else {
        eprintln!("usage: disk-image KERNEL RAMDISK BIOS_IMAGE UEFI_IMAGE");
        return ExitCode::from(2);
    };
    match build(kernel, ramdisk, bios, uefi) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("disk-image: {message}");
            ExitCode::FAILURE
        }
    }
}

fn build(kernel: &Path, ramdisk: &Path, bios: &Path, uefi: &Path) -> Result<(), String> {
    for input in [kernel, ramdisk] {
        if !input.is_file() {
            return Err(format!("{} is not a file", input.display()));
        }
    }
    let mut config = BootConfig::default();
    config.frame_buffer.minimum_framebuffer_width = Some(MINIMUM_SCREEN.0);
    config.frame_buffer.minimum_framebuffer_height = Some(MINIMUM_SCREEN.1);
    // The serial line carries the guest's console: the loader speaks there only when something is wrong.
    config.log_level = LevelFilter::Warn;
    let mut builder = DiskImageBuilder::new(kernel.to_owned());
    builder.set_ramdisk(ramdisk.to_owned()).set_boot_config(&config);
    write(bios, |path| {
        builder.create_bios_image(path).map_err(|e| format!("{e:#}"))?;
        let image = std::fs::read(path).map_err(|e| e.to_string())?;
        std::fs::write(path, clusters::relayout(&image)?).map_err(|e| e.to_string())
    })?;
    write(uefi, |path| builder.create_uefi_image(path).map_err(|e| format!("{e:#}")))
}

fn write(target: &Path, create: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
    let mut name =
        target.file_name().ok_or_else(|| format!("{} names no file", target.display()))?.to_owned();
    name.push(".new");
    let partial = target.with_file_name(name);
    create(&partial).map_err(|e| format!("{}: {e}", target.display()))?;
    std::fs::rename(&partial, target).map_err(|e| format!("{}: {e}", target.display()))
}
