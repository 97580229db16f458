//! Headers of tar entries.

use super::BLOCK;
use alloc::string::String;

/// What an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A file.
    File,
    /// Another name of an earlier file.
    HardLink,
    /// A symbolic link.
    SymbolicLink,
    /// The next entry's name, by GNU tar.
    LongName,
    /// The next entry's attributes, by pax.
    Extended,
    /// Something else, without data.
    Other,
    /// Something else, with data.
    OtherWithData,
}

impl Kind {
    fn new(flag: u8) -> Self {
        match flag {
            0 | b'0' | b'7' => Self::File,
            b'1' => Self::HardLink,
            b'2' => Self::SymbolicLink,
            b'L' => Self::LongName,
            b'x' => Self::Extended,
            b'3'..=b'6' => Self::Other,
            // GNU's long link names, pax's global attributes, and vendors' kinds, of which the data is passed over.
            _ => Self::OtherWithData,
        }
    }

    /// Whether the size in the header is that of data which follows it.
    pub(super) fn has_data(self) -> bool {
        match self {
            Self::File | Self::LongName | Self::Extended | Self::OtherWithData => true,
            Self::HardLink | Self::SymbolicLink | Self::Other => false,
        }
    }
}

/// What is used of a header.
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) link_target: String,
}

/// A block that may be a header.
pub(super) struct Block<'a>(pub(super) &'a [u8; BLOCK]);

/// The fields of a header: offset and length.
const NAME: (usize, usize) = (0, 100);
const SIZE: (usize, usize) = (124, 12);
const CHECKSUM: (usize, usize) = (148, 8);
const TYPE_FLAG: usize = 156;
const LINK_NAME: (usize, usize) = (157, 100);
const MAGIC: (usize, usize) = (257, 6);
const PREFIX: (usize, usize) = (345, 155);

impl Block<'_> {
    /// Whether it marks the archive's end.
    pub(super) fn is_end(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// The header, if it is one.
    pub(super) fn header(&self) -> Option<Header> {
        if number(self.field(CHECKSUM))? != self.sum() {
            return None;
        }
        let mut name = text(self.field(NAME));
        // GNU tar's own format has another magic and no prefix.
        if self.field(MAGIC) == b"ustar\0" {
            let prefix = text(self.field(PREFIX));
            if !prefix.is_empty() {
                name = alloc::format!("{prefix}/{name}");
            }
        }
        Some(Header {
            kind: Kind::new(self.0[TYPE_FLAG]),
            name,
            size: number(self.field(SIZE))?,
            link_target: text(self.field(LINK_NAME)),
        })
    }

    fn field(&self, (offset, length): (usize, usize)) -> &[u8] {
        self.0.get(offset..offset + length).unwrap_or_default()
    }

    /// The sum of all bytes, those of the checksum taken as spaces.
    fn sum(&self) -> u64 {
        let (start, length) = CHECKSUM;
        let byte = |(index, byte): (usize, &u8)| {
            if (start..start + length).contains(&index) { u64::from(b' ') } else { u64::from(*byte) }
        };
        self.0.iter().enumerate().map(byte).sum()
    }
}

/// Text up to the first zero byte. What is not UTF-8 in it is replaced: it is for messages and comparison only.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// An octal number between spaces and zero bytes, or a base-256 one with its first bit set.
fn number(field: &[u8]) -> Option<u64> {
    if let [first, rest @ ..] = field
        && first & 0x80 != 0
    {
        return rest.iter().try_fold(u64::from(first & 0x7f), |value, byte| {
            value.checked_mul(256).map(|value| value | u64::from(*byte))
        });
    }
    let field = field.trim_ascii_start();
    let end = field.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(field.len());
    let (digits, padding) = field.split_at_checked(end)?;
    if padding.iter().any(|byte| !matches!(byte, 0 | b' ')) {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8).map(|value| value | u64::from(digit - b'0')),
        _ => None,
    })
}

/// The records of a pax header: keys and values, as far as they are well formed.
pub(super) fn pax_records(data: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = data;
    core::iter::from_fn(move || {
        let digits = rest.iter().position(|byte| *byte == b' ')?;
        let length: usize = core::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()?;
        let record = core::str::from_utf8(rest.get(digits + 1..length)?).ok()?;
        rest = rest.get(length..)?;
        record.strip_suffix('\n')?.split_once('=')
    })
}
