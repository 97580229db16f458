//! Where things are: the checkout, its `build/` directory, and the user's cache shared by all checkouts.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The checkout's root.
pub(crate) fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// `path` for a message: relative to the checkout where it is in it.
pub(crate) fn shown(path: &Path) -> std::path::Display<'_> {
    path.strip_prefix(root()).unwrap_or(path).display()
}

/// What this checkout builds for the user: images, guests, logs. Created when missing.
pub(crate) fn build() -> Result<PathBuf> {
    created(root().join("build"))
}

/// What is downloaded or built once per user: emulator, loader, distribution packages. Created when missing.
pub(crate) fn cache() -> Result<PathBuf> {
    created(cache_location()?)
}

/// The cache directory's place, whether it exists or not.
pub(crate) fn cache_location() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from) {
        Some(path) if path.is_absolute() => path,
        // The specification says that a relative path is to be ignored.
        Some(_) | None => {
            let home = std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?;
            PathBuf::from(home).join(".cache")
        }
    };
    Ok(base.join("craton"))
}

/// Creates directory `path` with its parents, and returns it.
pub(crate) fn created(path: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(path)
}

/// Writes `content` to `path` so that the file is either old or complete.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let mut name = path.file_name().context("no file name")?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let partial = path.with_file_name(name);
    std::fs::write(&partial, content).with_context(|| format!("cannot write {}", partial.display()))?;
    std::fs::rename(&partial, path).with_context(|| format!("cannot write {}", path.display()))
}
