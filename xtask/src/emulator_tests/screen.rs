//! Guests with a screen: what is on it, as text and as a picture, and what is typed at them.

use anyhow::{Context, Result, ensure};

use super::Case;
use super::harness::{LONG, Lab, SHORT, archive};
use crate::image::archive::Archive;
use crate::machine::Serial;
use crate::screenshot::{Picture, enter_monitor};

pub(super) const CASES: &[Case] = &[
    Case { name: "screen::pictures_and_keys", run: pictures },
    Case { name: "screen::linux_console", run: linux },
    Case { name: "screen::seabios", run: seabios },
    Case { name: "screen::ovmf_is_typed_at", run: ovmf },
];

/// Ctrl-], which leaves the monitor, too.
const ESCAPE: &[u8] = &[0x1d];
const PROMPT: &str = "craton> ";

/// What the test program shows one after the other: its name, the key that it waits for, the size, the checksum of the
/// pixels. Each was looked at once.
const PICTURES: [(&str, &str, (usize, usize), &str); 4] = [
    ("text", "a", (720, 400), "9c4c03d7125be606"),
    ("planes", "b", (640, 480), "1e6a3df2117404aa"),
    ("bytes", "c", (320, 200), "5ef78c105df747dd"),
    ("framebuffer", "d", (800, 600), "30d06d703feb78f3"),
];

fn pictures(lab: &Lab) -> Result<()> {
    let configuration = "[[vm]]\nname = \"testkit\"\nmemory_mib = 16\nkernel = \"testkit\"\nboot = \"pvh\"\n\
                         cmdline = \"test=screen\"\nconsole = true\nscreen = \"vga\"\n";
    lab.boot("screen", &archive(configuration, &["testkit"])?, |machine| {
        let serial = &mut machine.serial;
        let mut wrong = Vec::new();
        for (name, key, size, checksum) in PICTURES {
            let begins = format!("testkit: screen: {name}");
            let (index, text) = serial.wait_for_any(&[&begins, "FAIL", "stopped: "], SHORT)?;
            ensure!(index == 0, "{name}: {text}{}", serial.wait_for("\n", SHORT)?);
            enter_monitor(serial)?;
            let picture = Picture::of(serial, "testkit")?;
            serial.wait_for(PROMPT, SHORT)?;
            if name == "text" {
                let shown = text_of(serial, "testkit")?;
                ensure!(shown.contains("\nHello from the test guest"), "the screen shows {shown}");
            }
            let kept = crate::paths::build()?.join(format!("screen-{name}.png"));
            if (picture.width, picture.height) != size || picture.checksum() != checksum {
                picture.write(&kept)?;
                let (width, height) = (picture.width, picture.height);
                wrong.push(format!("{name}: {width} x {height}, {}: {}", picture.checksum(), kept.display()));
            }
            serial.send(format!("keys testkit {key}\r").as_bytes())?;
            serial.wait_for("typing 1 keys", SHORT)?;
            serial.send(ESCAPE)?;
        }
        let (index, text) = serial.wait_for_any(&["testkit: screen: ok", "FAIL", "stopped: "], SHORT)?;
        ensure!(index == 0, "{text}{}", serial.wait_for("\n", SHORT)?);
        ensure!(wrong.is_empty(), "pictures are not as they were:\n{}", wrong.join("\n"));
        Ok(())
    })
}

/// What the monitor says is on the screen of `name`.
fn text_of(serial: &mut Serial, name: &str) -> Result<String> {
    let command = format!("screen {name}");
    serial.send(format!("{command}\r").as_bytes())?;
    serial.wait_for(&format!("{PROMPT}{command}"), SHORT)?;
    let text = serial.wait_for("empty at the end]", SHORT)?;
    serial.wait_for(PROMPT, SHORT)?;
    Ok(text.replace('\r', ""))
}

/// SeaBIOS starts the video BIOS, which sets a mode of its own, and writes there what it does.
fn seabios(lab: &Lab) -> Result<()> {
    let configuration = "[[vm]]\nname = \"bios\"\nmemory_mib = 32\nfirmware = \"seabios\"\ndebug_console = true\n\
                         console = true\nscreen = \"vga\"\n";
    let archive = archive(configuration, &["seabios", "vgabios-stdvga.bin"])?;
    lab.boot("screen-seabios", &archive, |machine| {
        let serial = &mut machine.serial;
        serial.wait_for("enter handle_18", LONG)?;
        enter_monitor(serial)?;
        let shown = text_of(serial, "bios")?;
        let picture = Picture::of(serial, "bios")?;
        picture.write(&crate::paths::build()?.join("screen-seabios.png"))?;
        ensure!(
            shown.contains("SeaBIOS (version") && shown.contains("No bootable device."),
            "the screen shows {shown}"
        );
        Ok(())
    })
}

/// OVMF draws its shell in a framebuffer, and takes what is typed at the keyboard. Its serial console shows the same.
fn ovmf(lab: &Lab) -> Result<()> {
    let configuration = "[[vm]]\nname = \"uefi\"\nmemory_mib = 128\nfirmware = \"ovmf\"\n\
                         firmware_vars = \"ovmf-vars\"\nconsole = true\nscreen = \"vga\"\n";
    let archive = archive(configuration, &["ovmf", "ovmf-vars", "vgabios-stdvga.bin"])?;
    lab.boot("screen-ovmf", &archive, |machine| {
        let serial = &mut machine.serial;
        serial.wait_for("Shell>", LONG)?;
        enter_monitor(serial)?;
        serial.send(b"keys uefi echo A-b_C<enter>\r")?;
        serial.wait_for("typing 11 keys at uefi", SHORT)?;
        serial.wait_for(PROMPT, SHORT)?;
        serial.send(ESCAPE)?;
        // What the command prints; what is typed is drawn character by character.
        serial.wait_for("A-b_C", SHORT)?;
        enter_monitor(serial)?;
        let picture = Picture::of(serial, "uefi")?;
        ensure!((picture.width, picture.height) == (1280, 800), "{} x {}", picture.width, picture.height);
        let lit = picture.pixels.iter().filter(|component| **component > 100).count();
        ensure!(lit > 3000, "{lit} components are lit");
        picture.write(&crate::paths::build()?.join("screen-ovmf.png"))
    })
}

/// Debian's kernel writes its log on the screen, and takes what is typed there.
fn linux(lab: &Lab) -> Result<()> {
    let configuration = "[[vm]]\nname = \"linux\"\nmemory_mib = 256\nkernel = \"vmlinuz\"\n\
                         initramfs = \"initramfs.cpio\"\ncmdline = \"console=tty0 console=ttyS0\"\n\
                         console = true\nscreen = \"vga\"\n";
    let archive: Archive = archive(configuration, &["vmlinuz", "initramfs.cpio"])?;
    lab.boot("screen-linux", &archive, |machine| {
        let serial = &mut machine.serial;
        serial.wait_for("Console: colour VGA+ 80x25", LONG).context("the kernel's console")?;
        serial.wait_for("craton-guest: init reached", LONG)?;
        enter_monitor(serial)?;
        let shown = text_of(serial, "linux")?;
        ensure!(shown.contains("Run /init as init process"), "the screen shows {shown}");
        let picture = Picture::of(serial, "linux")?;
        ensure!((picture.width, picture.height) == (720, 400), "{} x {}", picture.width, picture.height);
        let kept = crate::paths::build()?.join("screen-linux.png");
        picture.write(&kept)
    })
}
