//! Files in the boot archive: a plain POSIX tar.
//!
//! POSIX.1-2017, "pax: ustar Interchange Format".

const BLOCK: usize = 512;

/// The contents of the regular file `name`. A leading `./` in the archive does not matter. `None` when it is not
/// there, or the archive ends before it does.
pub(crate) fn file<'a>(archive: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = archive;
    loop {
        let header = rest.get(..BLOCK)?;
        let entry = text(header.get(..100)?);
        if entry.is_empty() {
            return None;
        }
        let size = octal(header.get(124..136)?)?;
        let contents = rest.get(BLOCK..)?.get(..size)?;
        if entry.strip_prefix(b"./").unwrap_or(entry) == name.as_bytes() {
            return Some(contents);
        }
        rest = rest.get(BLOCK + size.checked_next_multiple_of(BLOCK)?..)?;
    }
}

/// A field up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// An octal number, padded with blanks or NULs.
fn octal(field: &[u8]) -> Option<usize> {
    let digits = text(field).trim_ascii();
    usize::from_str_radix(core::str::from_utf8(digits).ok()?, 8).ok()
}
