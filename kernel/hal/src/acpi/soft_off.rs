//! The sleep types of state S5, found without an interpreter.
//!
//! The object `\_S5` is a package of small integers in every known firmware, so its bytes can be read where its
//! name stands. ACPI specification, "ACPI Machine Language (AML) Specification".

const NAME: &[u8] = b"_S5_";
const NAME_OP: u8 = 0x08;
const ROOT_CHAR: u8 = b'\\';
const PACKAGE_OP: u8 = 0x12;
const ZERO_OP: u8 = 0x00;
const ONE_OP: u8 = 0x01;
const BYTE_PREFIX: u8 = 0x0a;

/// The sleep types for PM1a and PM1b, from the DSDT's bytes.
pub(super) fn sleep_types(dsdt: &[u8]) -> Option<(u8, u8)> {
    let mut positions = dsdt.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    positions.find_map(|(position, _)| {
        let named = matches!(dsdt.get(..position)?, [.., NAME_OP] | [.., NAME_OP, ROOT_CHAR]);
        if named { package(dsdt.get(position + NAME.len()..)?) } else { None }
    })
}

/// The first two elements of the package that `bytes` starts with.
fn package(bytes: &[u8]) -> Option<(u8, u8)> {
    let (&PACKAGE_OP, rest) = bytes.split_first()? else { return None };
    // The length's first byte says in its top two bits how many bytes follow.
    let (&lead, rest) = rest.split_first()?;
    let rest = rest.get(usize::from(lead >> 6)..)?;
    let (&elements, rest) = rest.split_first()?;
    let (first, rest) = integer(rest)?;
    let second = if elements > 1 { integer(rest)?.0 } else { 0 };
    // A sleep type has three bits.
    Some((first & 7, second & 7))
}

/// A small integer and what follows.
fn integer(bytes: &[u8]) -> Option<(u8, &[u8])> {
    match *bytes {
        [BYTE_PREFIX, value, ref rest @ ..] => Some((value, rest)),
        [value @ (ZERO_OP | ONE_OP), ref rest @ ..] => Some((value, rest)),
        _ => None,
    }
}
