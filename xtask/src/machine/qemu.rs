//! The QEMU command line.

use std::path::{Path, PathBuf};

use super::{Firmware, Size};

/// Files and connections of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wiring<'a> {
    /// The disk image, which this run owns.
    pub(crate) disk: &'a Path,
    /// TCP port on this computer where the first serial line connects to.
    pub(crate) serial_port: u16,
    /// TCP port on this computer where the control connection goes to.
    pub(crate) control_port: u16,
    /// UEFI firmware: its code, shared, and its variables, which this run owns.
    pub(crate) ovmf: Option<(&'a Path, &'a Path)>,
}

/// What executes the instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accelerator {
    /// The host's processor, with its VT-x passed on.
    Kvm,
    /// QEMU's translator, which has no VT-x.
    Tcg,
}

/// Debian's UEFI firmware, if it is installed.
pub(crate) fn ovmf_code() -> Option<PathBuf> {
    let path = PathBuf::from("/usr/share/OVMF/OVMF_CODE_4M.fd");
    path.is_file().then_some(path)
}

/// The firmware with its variables in one image, as Bochs takes it.
pub(crate) fn ovmf_combined() -> PathBuf {
    PathBuf::from("/usr/share/ovmf/OVMF.fd")
}

/// The firmware's variables as delivered.
pub(crate) fn ovmf_variables() -> PathBuf {
    PathBuf::from("/usr/share/OVMF/OVMF_VARS_4M.fd")
}

/// The command line behind the program's name.
///
/// The BIOS loader hangs on a machine without VGA, hence `-vga std` though no window is opened.
pub(crate) fn arguments(
    accelerator: Accelerator,
    firmware: Firmware,
    size: Size,
    wiring: Wiring<'_>,
) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut add = |arguments: &[&str]| all.extend(arguments.iter().map(|&argument| argument.to_owned()));
    match accelerator {
        Accelerator::Kvm => add(&["-machine", "q35", "-enable-kvm", "-cpu", "host"]),
        Accelerator::Tcg => add(&["-machine", "q35", "-accel", "tcg", "-cpu", "max"]),
    }
    add(&["-smp", &size.cpus.to_string(), "-m", &size.memory_mib.to_string()]);
    add(&["-nodefaults", "-no-user-config", "-display", "none", "-vga", "std"]);
    if let (Firmware::Uefi, Some((code, variables))) = (firmware, wiring.ovmf) {
        add(&["-drive", &format!("if=pflash,format=raw,readonly=on,file={}", option_value(code))]);
        add(&["-drive", &format!("if=pflash,format=raw,file={}", option_value(variables))]);
    }
    add(&["-drive", &format!("format=raw,file={}", option_value(wiring.disk))]);
    add(&["-chardev", &format!("socket,id=com1,host=127.0.0.1,port={}", wiring.serial_port)]);
    add(&["-serial", "chardev:com1"]);
    // Only the connection that QEMU opens to us: nobody else can give it commands.
    add(&["-chardev", &format!("socket,id=control,host=127.0.0.1,port={}", wiring.control_port)]);
    add(&["-mon", "chardev=control,mode=control"]);
    add(&["-monitor", "none"]);
    all
}

/// QEMU separates options with commas; a comma in a value is doubled.
fn option_value(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { cpus: 4, memory_mib: 2048 };

    fn wiring(ovmf: Option<(&'static Path, &'static Path)>) -> Wiring<'static> {
        Wiring { disk: Path::new("/r/a,b.img"), serial_port: 99, control_port: 98, ovmf }
    }

    fn has(arguments: &[String], pair: [&str; 2]) -> bool {
        arguments.windows(2).any(|window| window == pair)
    }

    #[test]
    fn kvm_passes_the_hosts_processor_on() {
        let arguments = arguments(Accelerator::Kvm, Firmware::Bios, SIZE, wiring(None));
        assert!(has(&arguments, ["-enable-kvm", "-cpu"]) && has(&arguments, ["-cpu", "host"]));
        assert!(has(&arguments, ["-smp", "4"]) && has(&arguments, ["-m", "2048"]));
        assert!(has(&arguments, ["-vga", "std"]) && has(&arguments, ["-display", "none"]));
        assert!(has(&arguments, ["-drive", "format=raw,file=/r/a,,b.img"]));
        assert!(has(&arguments, ["-serial", "chardev:com1"]));
        assert!(has(&arguments, ["-chardev", "socket,id=com1,host=127.0.0.1,port=99"]));
        assert!(has(&arguments, ["-chardev", "socket,id=control,host=127.0.0.1,port=98"]));
        assert!(has(&arguments, ["-mon", "chardev=control,mode=control"]));
    }

    #[test]
    fn uefi_brings_its_firmware_before_the_disk() {
        let ovmf = Some((Path::new("/o/code"), Path::new("/r/vars")));
        let arguments = arguments(Accelerator::Tcg, Firmware::Uefi, SIZE, wiring(ovmf));
        let drives: Vec<&String> = arguments.iter().filter(|a| a.contains("file=")).collect();
        assert!(drives[0].contains("readonly=on,file=/o/code") && drives[1].contains("file=/r/vars"));
        assert!(drives[2].contains("format=raw,file=/r/"));
        assert!(!arguments.iter().any(|a| a == "-enable-kvm"));
    }
}
