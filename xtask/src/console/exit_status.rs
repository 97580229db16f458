//! The status with which a guest ended its machine, as Craton tells it on the console.

/// What Craton says of such an end, up to the number.
const SIGN: &[u8] = b" stopped: the guest ended with status ";
/// The most that is kept of a line.
const LONGEST_LINE: usize = 512;

/// Looks for the status in text that comes in pieces.
#[derive(Default)]
pub(crate) struct ExitStatus {
    /// The beginning of the line that is not complete yet.
    line: Vec<u8>,
}

impl ExitStatus {
    /// Looks at the next piece. Returns the status once the line that tells it is complete, cut to the eight bits that
    /// a process has.
    pub(crate) fn find(&mut self, bytes: &[u8]) -> Option<u8> {
        for &byte in bytes {
            if byte == b'\n' {
                let status = status_of(&self.line);
                self.line.clear();
                if status.is_some() {
                    return status;
                }
            } else if self.line.len() < LONGEST_LINE {
                self.line.push(byte);
            }
        }
        None
    }
}

fn status_of(line: &[u8]) -> Option<u8> {
    let start = line.windows(b"[craton: ".len()).position(|window| window == b"[craton: ")?;
    let line = &line[start..];
    let place = line.windows(SIGN.len()).position(|window| window == SIGN)? + SIGN.len();
    let digits: String =
        line[place..].iter().map(|byte| char::from(*byte)).take_while(char::is_ascii_digit).collect();
    digits.parse().ok().map(|status: u32| status.to_le_bytes()[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_found_in_pieces_and_only_once_the_line_is_complete() {
        let mut exit = ExitStatus::default();
        assert_eq!(exit.find(b"hello\r\n[craton: test stopped: the guest en"), None);
        assert_eq!(exit.find(b"ded with status 3"), None);
        assert_eq!(exit.find(b"3; 'vm start test' starts it again]\r\n"), Some(33));
    }

    #[test]
    fn other_endings_and_other_text_have_none() {
        let mut exit = ExitStatus::default();
        assert_eq!(exit.find(b"[craton: test stopped: the guest powered off]\n"), None);
        assert_eq!(exit.find(b"x stopped: the guest ended with status 3\n"), None);
        assert_eq!(exit.find(&[b'x'; 10_000]), None);
        assert_eq!(exit.find(b"\n[craton: a stopped: the guest ended with status 257]\n"), Some(1));
    }
}
