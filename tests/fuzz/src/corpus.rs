//! Inputs that are kept in the repository, and inputs that failed.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// The inputs that are kept for the target `name`, in the order of their file names.
pub fn kept(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().filter_map(|path| fs::read(path).ok()).collect()
}

/// Stores an input that failed in `directory`, under a name that its bytes choose.
///
/// # Errors
/// What the file system says.
pub fn store(directory: &Path, name: &str, input: &[u8]) -> io::Result<PathBuf> {
    // FNV-1a.
    let hash = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    fs::create_dir_all(directory)?;
    let path = directory.join(format!("{name}-{hash:016x}.input"));
    fs::write(&path, input)?;
    Ok(path)
}
