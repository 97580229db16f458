//! The Bochs configuration, as text.
//!
//! Source: Bochs User Manual, "The configuration file bochsrc".

use std::fmt::Write as _;
use std::path::Path;

use super::{Processor, Size};
use crate::setup::bochs::{Bochs, Flavour};

/// Files and connections of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wiring<'a> {
    /// The disk image, which this run owns: Bochs locks and may write it.
    pub(crate) disk: &'a Path,
    /// Bochs' own messages.
    pub(crate) log: &'a Path,
    /// TCP port on this computer where the first serial line connects to.
    pub(crate) serial_port: u16,
    /// UEFI firmware to take instead of the BIOS: code and variables in one image.
    pub(crate) uefi: Option<&'a Path>,
}

/// The configuration file for a machine of `size` with `processor`.
pub(crate) fn configuration(bochs: &Bochs, size: Size, processor: Processor, wiring: Wiring<'_>) -> String {
    let mut text = String::new();
    let Size { cpus, memory_mib } = size;
    let model = model(processor);
    let display = match bochs.flavour {
        Flavour::Fast => "display_library: nogui\n",
        // 2.7 has no `nogui`, and its sound thread aborts where there is no sound card.
        Flavour::Packaged => {
            "display_library: rfb, options=\"timeout=0\"\n\
             sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy\n"
        }
    };
    text.push_str("config_interface: textconfig\n");
    text.push_str(display);
    // OVMF reads registers that this processor model has not, and takes what it gets.
    let bad_msrs = u8::from(wiring.uefi.is_some());
    let lines = [
        // Input of the serial line is taken as emulated time passes; `ips` only scales that time.
        format!(
            "cpu: model={model}, count={cpus}, ips=100000000, reset_on_triple_fault=0, ignore_bad_msrs={bad_msrs}"
        ),
        format!("memory: guest={memory_mib}, host={memory_mib}"),
        format!("romimage: file=\"{}\"", wiring.uefi.unwrap_or(&bochs.bios).display()),
        format!("vgaromimage: file=\"{}\"", bochs.vga_bios.display()),
        "vga: extension=vbe".into(),
        "pci: enabled=1, chipset=i440fx".into(),
        "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14".into(),
        format!("ata0-master: type=disk, path=\"{}\", mode=flat", wiring.disk.display()),
        "boot: disk".into(),
        "clock: sync=none, time0=utc".into(),
        // Bochs is the client: the listener is there first, so no port has to be guessed.
        format!("com1: enabled=1, mode=socket-client, dev=127.0.0.1:{}", wiring.serial_port),
        format!("log: \"{}\"", wiring.log.display()),
        "panic: action=fatal".into(),
        "error: action=report".into(),
        // Bochs says its speed once a second, from a signal handler. Were that logged, it would wait for ever for the line that
        // it interrupted.
        "info: action=ignore".into(),
        "debug: action=ignore".into(),
    ];
    for line in lines {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{line}");
    }
    text
}

/// Bochs' name of a processor, with what it is to lack. Newer models than the complete one report XSAVE sizes that Linux finds inconsistent.
fn model(processor: Processor) -> &'static str {
    match processor {
        Processor::Complete => "corei7_skylake_x",
        Processor::FirstGeneration => "core2_penryn_t9600",
        Processor::WithoutUnrestrictedGuest => "corei5_lynnfield_750",
        Processor::WithoutVirtualInterrupts => "corei7_ivy_bridge_3770k",
        Processor::WithoutPostedInterrupts => "corei7_haswell_4770",
        Processor::WithoutX2Apic => "corei7_skylake_x, exclude_features=\"x2apic\"",
    }
}

/// The command line behind the program's name.
pub(crate) fn arguments(bochs: &Bochs, configuration: &Path, debugger_script: &Path) -> Vec<String> {
    let mut arguments = vec!["-q".into(), "-f".into(), configuration.display().to_string()];
    match bochs.flavour {
        Flavour::Fast => {}
        // Its debugger waits at a prompt otherwise.
        Flavour::Packaged => arguments.extend(["-rc".into(), debugger_script.display().to_string()]),
    }
    arguments
}

/// What the packaged Bochs' debugger has to be told: continue.
pub(crate) const DEBUGGER_SCRIPT: &str = "c\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn bochs(flavour: Flavour) -> Bochs {
        Bochs { program: "/b/bochs".into(), flavour, bios: "/b/bios".into(), vga_bios: "/b/vga".into() }
    }

    const SIZE: Size = Size { cpus: 2, memory_mib: 768 };

    fn wiring() -> Wiring<'static> {
        Wiring {
            disk: Path::new("/r/disk.img"),
            log: Path::new("/r/bochs.log"),
            serial_port: 4321,
            uefi: None,
        }
    }

    #[test]
    fn size_and_wiring_reach_the_configuration() {
        let text = configuration(&bochs(Flavour::Fast), SIZE, Processor::Complete, wiring());
        for line in [
            "memory: guest=768, host=768",
            "com1: enabled=1, mode=socket-client, dev=127.0.0.1:4321",
            "ata0-master: type=disk, path=\"/r/disk.img\", mode=flat",
            "clock: sync=none, time0=utc",
            "display_library: nogui",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.contains("model=corei7_skylake_x, count=2, ips=100000000"));
        // Our build has no sound at all and refuses the line.
        assert!(!text.contains("sound:"));
    }

    #[test]
    fn uefi_takes_the_place_of_the_bios() {
        let wiring = Wiring { uefi: Some(Path::new("/f/OVMF.fd")), ..wiring() };
        let text = configuration(&bochs(Flavour::Fast), SIZE, Processor::Complete, wiring);
        assert!(text.contains("romimage: file=\"/f/OVMF.fd\"") && !text.contains("/b/bios"));
    }

    #[test]
    fn packaged_bochs_gets_its_own_display_sound_and_debugger_script() {
        let packaged = bochs(Flavour::Packaged);
        let text = configuration(&packaged, SIZE, Processor::Complete, wiring());
        assert!(text.contains("display_library: rfb") && text.contains("waveoutdrv=dummy"));
        let script = Path::new("/r/go");
        assert_eq!(arguments(&packaged, Path::new("/r/rc"), script), ["-q", "-f", "/r/rc", "-rc", "/r/go"]);
        assert_eq!(arguments(&bochs(Flavour::Fast), Path::new("/r/rc"), script), ["-q", "-f", "/r/rc"]);
    }
}
