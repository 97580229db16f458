//! The guests that come with the checkout: Debian's kernel, a busybox file system, and what a configuration names.

pub(crate) mod cpio;
pub(crate) mod exec;
mod firmware;
mod initramfs;
mod linux;
pub(crate) mod named;
mod packaged;
pub(crate) mod single;

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::image::archive::{Archive, CONFIGURATION};
use crate::image::kernel;
use crate::paths;

/// Packs the boot archive for `source`: a directory as it is, or a configuration with the images it names.
/// Without `source`, the checkout's own configuration.
pub(crate) fn pack(source: Option<&Path>) -> Result<Archive> {
    match source {
        None => from_configuration(&paths::root().join("guest-images").join(CONFIGURATION)),
        Some(path) if path.is_dir() => Archive::from_directory(path),
        Some(path) => from_configuration(path),
    }
}

/// Packs `configuration` with the files it names: beside it if they are there, otherwise ours of that name.
pub(crate) fn from_configuration(configuration: &Path) -> Result<Archive> {
    let text = std::fs::read_to_string(configuration)
        .with_context(|| format!("cannot read {}", configuration.display()))?;
    archive_of(&text, configuration)
}

/// Packs the configuration `text`, which is that of the file `configuration` or a part of it, with the files it names.
fn archive_of(text: &str, configuration: &Path) -> Result<Archive> {
    let directory = configuration.parent().context("the configuration has no directory")?;
    let mut archive = Archive::default();
    for name in image_names(text).with_context(|| format!("{}", configuration.display()))? {
        let beside = directory.join(&name);
        let content = if beside.is_file() {
            std::fs::read(&beside).with_context(|| format!("cannot read {}", beside.display()))?
        } else {
            ours(&name).with_context(|| format!("{} names \"{name}\"", configuration.display()))?
        };
        archive.add(&name, content);
    }
    archive.add(CONFIGURATION, text.into());
    Ok(archive)
}

/// The BIOS of a screen, which firmware starts; it is named nowhere.
const VIDEO_BIOS: &str = "vgabios-stdvga.bin";

/// The content of one of the images that we know how to make.
pub(crate) fn ours(name: &str) -> Result<Vec<u8>> {
    match name {
        "vmlinuz" => linux::compressed(),
        "vmlinux" => linux::uncompressed(),
        "initramfs.cpio" => initramfs::build(),
        "seabios" => firmware::seabios(),
        VIDEO_BIOS => firmware::video_bios(),
        "ovmf" => firmware::ovmf(),
        "ovmf-vars" => firmware::ovmf_variables(),
        "gnumach" => packaged::GNU_MACH.content(),
        "xen" => packaged::XEN.content(),
        "testkit" => {
            let program = kernel::build_package("testkit")?;
            Ok(std::fs::read(program)?)
        }
        other => bail!(
            "there is no file {other} beside the configuration, and it is none of ours \
             (vmlinuz, vmlinux, initramfs.cpio, gnumach, xen, seabios, ovmf, ovmf-vars, testkit)"
        ),
    }
}

/// Names of the image files in a configuration, each once.
fn image_names(text: &str) -> Result<Vec<String>> {
    let table: toml::Table = text.parse()?;
    let mut names = Vec::new();
    for vm in table.get("vm").and_then(toml::Value::as_array).into_iter().flatten() {
        let files = ["kernel", "initramfs", "firmware", "firmware_vars"]
            .into_iter()
            .filter_map(|key| vm.get(key)?.as_str());
        let modules = vm.get("modules").and_then(toml::Value::as_array).into_iter().flatten();
        let module = vm.get("module").into_iter();
        // A module's file is the first word.
        let modules = module.chain(modules).filter_map(|module| module.as_str()?.split_whitespace().next());
        for name in files.chain(modules) {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
    }
    let has = |key: &str, vm: &toml::Value| {
        vm.get(key).and_then(toml::Value::as_str).is_some_and(|it| it != "none")
    };
    let mut vms = table.get("vm").and_then(toml::Value::as_array).into_iter().flatten();
    if vms.any(|vm| has("firmware", vm) && has("screen", vm)) {
        names.push(VIDEO_BIOS.to_owned());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::{VIDEO_BIOS, image_names};

    #[test]
    fn every_image_is_named_once() {
        let text =
            "[[vm]]\nname='a'\nkernel='vmlinuz'\ninitramfs='i'\n[[vm]]\nkernel='vmlinux'\ninitramfs='i'\n";
        assert_eq!(image_names(text).expect("valid"), ["vmlinuz", "i", "vmlinux"]);
        let firmware = "[[vm]]\nfirmware='seabios'\nscreen='vga'\n[[vm]]\nkernel='k'\nscreen='vga'\n";
        assert_eq!(image_names(firmware).expect("valid"), ["seabios", "k", VIDEO_BIOS]);
    }

    #[test]
    fn modules_are_images_by_their_first_word() {
        let text = "[[vm]]\nkernel='k'\nmodules=['a x', 'b']\n[[vm]]\nkernel='k'\nmodule='c y'\n";
        assert_eq!(image_names(text).expect("valid"), ["k", "a", "b", "c"]);
    }

    #[test]
    fn configuration_of_the_checkout_names_images_of_ours() {
        let path = crate::paths::root().join("guest-images/craton.toml");
        let text = std::fs::read_to_string(path).expect("there is one");
        assert_eq!(image_names(&text).expect("valid"), ["vmlinuz", "initramfs.cpio"]);
    }
}
