//! Splits what is typed into keys: a cursor key is a sequence of bytes that must arrive together.
//!
//! A shell waits 50 ms for the rest of a sequence, of its own time. On Bochs that passes in a moment of ours while the
//! guest is idle, so a sequence that is sent byte by byte ends up as text at the prompt.
//!
//! Source: Standard ECMA-48, "Control sequences".

const ESCAPE: u8 = 0x1b;
/// The longest sequence that is kept together: what an UART's FIFO holds.
const LONGEST: usize = 16;

/// The keys in `bytes`, in order; together they are all of it.
pub(super) fn keys(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (key, behind) = rest.split_at_checked(length_of_first(rest))?;
        rest = behind;
        (!key.is_empty()).then_some(key)
    })
}

/// The length of the first key, in bytes; 0 when there is none.
fn length_of_first(bytes: &[u8]) -> usize {
    let sequence = match bytes {
        [] => return 0,
        // A control sequence goes to its final byte.
        [ESCAPE, b'[', parameters @ ..] => {
            parameters.iter().position(|byte| (0x40..=0x7e).contains(byte)).map(|last| last + 3)
        }
        // Cursor and function keys of some terminals.
        [ESCAPE, b'O', _, ..] => Some(3),
        // A key with Alt.
        [ESCAPE, _, ..] => Some(2),
        [_, ..] => Some(1),
    };
    sequence.filter(|length| *length <= LONGEST).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::keys;

    fn split(bytes: &[u8]) -> Vec<&[u8]> {
        keys(bytes).collect()
    }

    #[test]
    fn sequences_stay_together_and_text_is_single_bytes() {
        let expected: [&[u8]; 6] = [b"a", b"\x1b[A", b"\x1b[1;5C", b"\x1bOP", b"\x1bb", b"\r"];
        assert_eq!(split(&expected.concat()), expected);
    }

    #[test]
    fn what_is_no_whole_sequence_is_single_bytes() {
        assert_eq!(split(b"\x1b"), [b"\x1b"]);
        assert_eq!(split(b"\x1b[1"), [b"\x1b", b"[", b"1"]);
        let endless = [&b"\x1b["[..], &[b'1'; 40], b"m"].concat();
        assert!(split(&endless).iter().all(|key| key.len() == 1));
        assert_eq!(split(&endless).concat(), endless);
        assert!(split(b"").is_empty());
    }
}
