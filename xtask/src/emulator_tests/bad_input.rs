//! Mistakes in the archive and guests that misbehave: one clear error each, and the other machine runs undisturbed.

use anyhow::{Result, ensure};

use super::Case;
use super::harness::{self, Lab, SHORT, archive};
use crate::guests;
use crate::image::archive::Archive;

/// The machine that must run whatever the other one does.
const GOOD: &str = "[[vm]]\nname = \"good\"\nmemory_mib = 16\nkernel = \"testkit\"\nboot = \"pvh\"\n\
                    cmdline = \"test=unknown-port\"\nconsole = true\n";
/// What it prints.
const GOOD_SIGN: &str = "testkit: unknown-port: ok";
/// Where an ELF file names its machine.
const ELF_MACHINE: usize = 18;
/// ELF's number for 64-bit Arm.
const ARM64: u8 = 183;

macro_rules! cases {
    ($($name:ident: $run:expr;)*) => {
        &[$(Case { name: concat!("bad_input::", stringify!($name)), run: $run },)*]
    };
}

pub(super) const CASES: &[Case] = cases! {
    truncated_kernel: |lab| {
        let mut kernel = guests::ours("vmlinuz")?;
        kernel.truncate(100_000);
        image(lab, "truncated-kernel", kernel, "cut short")
    };
    text_as_kernel: |lab| image(lab, "text-kernel", b"This is no kernel.\n".repeat(100), "neither a bzImage");
    wrong_architecture: |lab| {
        let mut kernel = guests::ours("testkit")?;
        kernel[ELF_MACHINE] = ARM64;
        image(lab, "wrong-architecture", kernel, "is a kernel for")
    };
    missing_initramfs: |lab| {
        field(lab, "missing-initramfs", "initramfs = \"absent.cpio\"", "`absent.cpio` is not in the boot archive")
    };
    oversized_initramfs: |lab| {
        let mut archive = two("memory_mib = 72\nkernel = \"vmlinuz\"\ninitramfs = \"large\"", &["vmlinuz"])?;
        archive.add("large", vec![0; 16 << 20]);
        complains(lab, "oversized-initramfs", &archive, &["initramfs `large`"])
    };
    memory_too_small: |lab| {
        let archive = two("memory_mib = 1\nkernel = \"vmlinuz\"", &["vmlinuz"])?;
        complains(lab, "small-memory", &archive, &["bad"])
    };
    memory_zero: |lab| {
        let archive = two("memory_mib = 0\nkernel = \"testkit\"", &[])?;
        complains(lab, "zero-memory", &archive, &["field `memory_mib`: 0 is out of range"])
    };
    memory_larger_than_host: |lab| {
        let archive = two("memory_mib = 65536\nkernel = \"testkit\"", &[])?;
        complains(lab, "large-memory", &archive, &["65536 MiB is more than the host's"])
    };
    unknown_key: |lab| field(lab, "unknown-key", "colour = \"red\"", "field `colour`: there is no such field");
    two_of_one_name: |lab| {
        let text = format!("{GOOD}\n{}", GOOD.replace("console = true\n", ""));
        complains(lab, "one-name", &archive(&text, &["testkit"])?, &["has this name; choose another"])
    };
    truncated_firmware: |lab| {
        let mut image = guests::ours("ovmf")?;
        image.truncate(2 << 20);
        firmware(lab, "truncated-firmware", image, "is cut short: it has 2097152 bytes")
    };
    oversized_firmware: |lab| {
        firmware(lab, "oversized-firmware", vec![0x90; 20 << 20], "there is room for 16777216 below 4 GiB")
    };
    empty_firmware: |lab| firmware(lab, "empty-firmware", Vec::new(), "is empty");
    odd_variables: |lab| {
        let fields = "memory_mib = 16\nfirmware = \"seabios\"\nfirmware_vars = \"wrong\"";
        let mut archive = two(fields, &["seabios"])?;
        archive.add("wrong", vec![0xff; 5000]);
        complains(lab, "odd-variables", &archive, &["`wrong`", "no multiple of 4 KiB"])
    };
    file_cut_short_on_disk: cut_short;
    triple_fault: |lab| misbehaves(lab, "triple-fault", &["bad stopped: "]);
    unmapped_jump: |lab| misbehaves(lab, "unmapped-jump", &[]);
    hlt_with_interrupts_off: |lab| misbehaves(lab, "hlt-if0", &[]);
    unknown_msr: |lab| misbehaves(lab, "unknown-msr", &[]);
    vmx_instructions: |lab| misbehaves(lab, "vmx-instructions", &[]);
    endless_loop: |lab| misbehaves(lab, "spin", &[]);
    port_flood: |lab| misbehaves(lab, "port-flood", &[]);
};

/// The machine with a mistake in `fields`, and after it the good one.
fn two(fields: &str, images: &[&str]) -> Result<Archive> {
    let mut names = vec!["testkit"];
    names.extend(images);
    archive(&format!("[[vm]]\nname = \"bad\"\n{fields}\n\n{GOOD}"), &names)
}

fn image(lab: &Lab, name: &str, kernel: Vec<u8>, error: &str) -> Result<()> {
    let mut archive = two("memory_mib = 64\nkernel = \"wrong\"", &[])?;
    archive.add("wrong", kernel);
    complains(lab, name, &archive, &["`wrong`", error])
}

fn firmware(lab: &Lab, name: &str, content: Vec<u8>, error: &str) -> Result<()> {
    let mut archive = two("memory_mib = 16\nfirmware = \"wrong\"", &[])?;
    archive.add("wrong", content);
    complains(lab, name, &archive, &["`wrong`", error])
}

fn field(lab: &Lab, name: &str, line: &str, error: &str) -> Result<()> {
    complains(lab, name, &two(&format!("memory_mib = 16\nkernel = \"testkit\"\n{line}"), &[])?, &[error])
}

fn complains(lab: &Lab, name: &str, archive: &Archive, signs: &[&str]) -> Result<()> {
    boots_beside(lab, name, &archive.to_tar()?, signs)
}

fn boots_beside(lab: &Lab, name: &str, archive: &[u8], signs: &[&str]) -> Result<()> {
    let expected: Vec<&str> = signs.iter().copied().chain([GOOD_SIGN]).collect();
    harness::boot(&format!("bad-{name}"), lab.usual(), archive, |machine| {
        let text = machine.serial.wait_for_all(&expected, SHORT)?;
        ensure!(!text.contains("panic"), "the hypervisor panicked:\n{text}");
        Ok(())
    })
}

/// The archive ends within its last file.
fn cut_short(lab: &Lab) -> Result<()> {
    let mut archive = two("memory_mib = 16\nkernel = \"the-last\"", &[])?;
    // Files are packed by name: this one comes behind the good one's.
    archive.add("the-last", vec![0x55; 300_000]);
    let mut tar = archive.to_tar()?;
    tar.truncate(tar.len() - 200_000);
    boots_beside(lab, "cut-short", &tar, &["`the-last` is cut short in the boot archive"])
}

/// A guest of ours runs `program` beside the good one. Its console is not shown: what the host says of it is.
fn misbehaves(lab: &Lab, program: &str, signs: &[&str]) -> Result<()> {
    let fields =
        format!("memory_mib = 16\nkernel = \"testkit\"\nboot = \"pvh\"\ncmdline = \"test={program}\"");
    let archive = two(&fields, &[])?;
    complains(lab, program, &archive, signs)
}
