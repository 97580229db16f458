//! Content hashes, for checking downloads and for knowing when a built file is still current.

use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// SHA-256 of `bytes` in lower-case hexadecimal.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of the file at `path`.
pub(crate) fn of_file(path: &Path) -> Result<String> {
    Ok(of_bytes(&std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn hash_of_nothing_is_the_published_one() {
        assert_eq!(super::of_bytes(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
