//! The status with which a guest ended its machine, as Craton tells it on the console.

/// What Craton says of such an end, up to the number.
const SIGN: &[u8] = b" stopped: the guest ended with status ";
/// The most that is kept of a line.
const LONGEST_LINE: usize = 512;

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With this status, cut to the eight bits that a process has.
    Status(u8),
    /// It powered off.
    Off,
    /// In another way.
    Other,
}

/// Looks for the end in text that comes in pieces.
#[derive(Default)]
pub(crate) struct ExitStatus {
    /// The beginning of the line that is not complete yet.
    line: Vec<u8>,
    /// What Craton says of any end of the guest whose end counts in any case.
    any_end: Option<String>,
}

impl ExitStatus {
    /// Of all guests that end with a status, and of the guest `only` however it ends.
    pub(super) fn of(only: Option<&str>) -> Self {
        Self { line: Vec::new(), any_end: only.map(|name| format!("[craton: {name} stopped: ")) }
    }

    /// Looks at the next piece. Returns the status once the line that tells it is complete.
    pub(crate) fn find(&mut self, bytes: &[u8]) -> Option<u8> {
        match self.end(bytes)? {
            End::Status(status) => Some(status),
            End::Off | End::Other => None,
        }
    }

    /// Looks at the next piece. Returns the end once the line that tells it is complete.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Option<End> {
        for &byte in bytes {
            if byte == b'\n' {
                let end = self.end_in_line();
                self.line.clear();
                if end.is_some() {
                    return end;
                }
            } else if self.line.len() < LONGEST_LINE {
                self.line.push(byte);
            }
        }
        None
    }

    fn end_in_line(&self) -> Option<End> {
        if let Some(status) = status_of(&self.line) {
            return Some(End::Status(status));
        }
        let line = String::from_utf8_lossy(&self.line);
        let (_, why) = line.split_once(self.any_end.as_deref()?)?;
        Some(if why.starts_with("the guest powered off") { End::Off } else { End::Other })
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
    fn any_end_of_the_guest_that_is_waited_for_counts() {
        let end = |line: &[u8]| ExitStatus::of(Some("a")).end(line);
        assert_eq!(end(b"[craton: a stopped: the guest powered off; 'vm start a' ...]\r\n"), Some(End::Off));
        assert_eq!(end(b"[craton: a stopped: triple fault; 'vm start a' ...]\r\n"), Some(End::Other));
        assert_eq!(end(b"[craton: a stopped: the guest ended with status 3; x]\r\n"), Some(End::Status(3)));
        assert_eq!(end(b"[craton: b stopped: the guest powered off]\r\n"), None);
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
