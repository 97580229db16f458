//! Writing to files, and to a loop device where this computer lets us have one.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// A directory that is removed again.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("craton-usb-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Scratch(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).expect("a temporary file");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// More than one chunk, and no multiple of one.
fn image() -> Vec<u8> {
    (0..CHUNK + 12_345).map(|at| u8::try_from(at % 251).expect("small")).collect()
}

fn write(image: &Path, device: &Path, force: bool) -> Result<()> {
    let target = Target::inspect(device)?;
    target.judge(force)?;
    write_and_verify(image, &target, force)
}

#[test]
fn file_holds_exactly_the_image_afterwards() {
    let scratch = Scratch::new("file");
    let source = scratch.file("image", &image());
    let target = scratch.file("target", &vec![0xee; 3 * CHUNK]);
    write(&source, &target, false).expect("written");
    assert!(std::fs::read(&target).expect("readable") == image());
}

#[test]
fn empty_missing_and_own_image_are_refused() {
    let scratch = Scratch::new("bad");
    let target = scratch.file("target", b"precious");
    let empty = scratch.file("empty", b"");
    let error = |image: &Path| write(image, &target, false).expect_err("refused").to_string();
    assert!(error(&empty).contains("is empty"));
    assert!(error(&scratch.0.join("none")).contains("cannot read"));
    assert!(error(&scratch.0).contains("not an image file"));
    assert!(error(&target).contains("to itself"));
    assert_eq!(std::fs::read(&target).expect("readable"), b"precious");
}

#[test]
fn image_that_ends_early_is_an_error() {
    let error = copy(&mut &[1u8; 10][..], &mut Vec::new(), 20).expect_err("too short");
    assert!(error.to_string().contains("reading failed"));
}

#[test]
fn same_bytes_give_the_same_digest_in_both_directions() {
    let mut device = Vec::new();
    let bytes = image();
    let length = u64::try_from(bytes.len()).expect("fits");
    let written = copy(&mut bytes.as_slice(), &mut device, length).expect("copied");
    assert_eq!(digest("t", &mut device.as_slice(), length).expect("read"), written);
    device[CHUNK] ^= 1;
    assert_ne!(digest("t", &mut device.as_slice(), length).expect("read"), written);
}

/// A loop device on a file. Ends with the device detached.
struct Loop(String);

impl Loop {
    /// `None` where loop devices need rights that we do not have.
    fn attach(file: &Path) -> Option<Self> {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(file).output().ok()?;
        let name = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && Path::new(&name).exists()).then_some(Loop(name))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        drop(Command::new("losetup").args(["--detach", &self.0]).status());
    }
}

#[test]
fn loop_device_is_refused_as_not_removable_and_written_when_forced() {
    let scratch = Scratch::new("loop");
    let backing = scratch.file("backing", &vec![0xee; 2 * CHUNK]);
    let Some(device) = Loop::attach(&backing) else {
        eprintln!("no loop device to be had; not tested");
        return;
    };
    let source = scratch.file("image", &image()[..CHUNK]);
    let error = write(&source, Path::new(&device.0), false).expect_err("refused").to_string();
    assert!(error.contains("not a removable disk"), "{error}");
    write(&source, Path::new(&device.0), true).expect("forced");
    let written = std::fs::read(&device.0).expect("readable");
    assert!(written[..CHUNK] == image()[..CHUNK]);
    assert!(written[CHUNK..].iter().all(|byte| *byte == 0xee), "more than the image was written");
    let large = scratch.file("large", &vec![1; 3 * CHUNK]);
    let error = write(&large, Path::new(&device.0), true).expect_err("too large").to_string();
    assert!(error.contains("too small"), "{error}");
}
