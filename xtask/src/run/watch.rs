//! Follows one guest to its end without hands: what it prints, and how it ended.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::console::Interrupted;
use crate::machine::Emulator;
use crate::progress;

/// Status for a guest that ended without a status of its own, and not by powering off.
const FAILED: u8 = 1;

/// What the serial line has shown of a guest.
#[derive(Debug, PartialEq, Eq)]
enum Seen<'a> {
    /// Its console has not been shown yet.
    Nothing,
    /// It has printed this, and goes on.
    Running(&'a [u8]),
    /// It printed this and ended, for this reason.
    Ended(&'a [u8], String),
}

/// Prints what `guest` prints until it ends, and returns its status.
pub(super) fn watch(
    machine: &Emulator,
    guest: &str,
    interrupted: &Interrupted,
    limit: Option<Duration>,
) -> Result<u8> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let mut line = Vec::new();
    let mut printed = 0;
    loop {
        let more = machine.serial.more(line.len(), Duration::from_millis(200));
        let is_off = more.is_none();
        line.extend(more.unwrap_or_default());
        let (output, ending) = match see(&line, guest) {
            Seen::Nothing => (None, None),
            Seen::Running(output) => (Some(output), None),
            Seen::Ended(output, why) => (Some(output), Some(why)),
        };
        if let Some(output) = output {
            let mut stdout = std::io::stdout().lock();
            let fresh = output.get(printed..).unwrap_or_default();
            stdout.write_all(fresh).and_then(|()| stdout.flush()).context("standard output")?;
            printed = output.len();
        }
        if let Some(why) = ending {
            progress::note(&why);
            return Ok(status_of(&why));
        }
        if let Some(reason) = refusal(&line, guest) {
            bail!("{reason}");
        }
        if is_off {
            bail!("the machine ended before the guest did:\n{}", super::tail(&line));
        }
        if interrupted.is_set() {
            bail!("interrupted");
        }
        if let Some(limit) = limit
            && deadline.is_some_and(|deadline| Instant::now() > deadline)
        {
            bail!("the time limit of {} s is over", limit.as_secs());
        }
    }
}

/// Finds the guest's own words in all that came over the `line`.
fn see<'a>(line: &'a [u8], guest: &str) -> Seen<'a> {
    let begin = format!("[craton: console of {guest};");
    // Before it says so, Craton ends the row and its colours.
    let ends = ["\r\n", "\r"].map(|row| format!("\x1b[0m{row}[craton: {guest} stopped: "));
    let Some(begin) = find(line, begin.as_bytes()) else { return Seen::Nothing };
    let Some(output) = find(&line[begin..], b"\n").map(|length| &line[begin + length + 1..]) else {
        return Seen::Nothing;
    };
    let stop = ends.iter().find_map(|end| Some((find(output, end.as_bytes())?, end.len())));
    let Some((stop, length)) = stop else {
        // What may be the beginning of the end is held back.
        let held =
            |end: &String| (1..end.len()).rev().find(|length| output.ends_with(&end.as_bytes()[..*length]));
        let held = ends.iter().filter_map(held).max();
        return Seen::Running(&output[..output.len() - held.unwrap_or(0)]);
    };
    let (output, why) = (&output[..stop], &output[stop + length..]);
    match why.iter().position(|byte| *byte == b'\n') {
        Some(length) => {
            let why = String::from_utf8_lossy(&why[..length]);
            let why = why.split("; 'vm start").next().unwrap_or_default();
            Seen::Ended(output, why.trim_end().trim_end_matches(']').to_owned())
        }
        None => Seen::Running(output),
    }
}

/// The status for an end that Craton tells as `why`, cut to the eight bits that a process has.
fn status_of(why: &str) -> u8 {
    match why.strip_prefix("the guest ended with status ").map(str::parse::<u32>) {
        Some(Ok(status)) => status.to_le_bytes()[0],
        Some(Err(_)) => FAILED,
        None if why == "the guest powered off" => 0,
        None => FAILED,
    }
}

/// Why the guest never starts, if the `line` shows that, in Craton's words.
fn refusal(line: &[u8], guest: &str) -> Option<String> {
    let text = String::from_utf8_lossy(line);
    // A line is judged when it is complete, so that all of it is shown.
    let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
    let before = complete.split("[craton: console of ").next().unwrap_or_default();
    let of_the_host = ["craton: cannot start: ", "craton: panic", "craton.toml:"];
    // The console is the guest's before its images are looked at.
    let of_the_guest = format!("ERROR vm \"{guest}\": ");
    let from = |text: &'_ str, sign: &str| {
        let line = &text[text.find(sign)?..];
        Some(line.lines().next().unwrap_or_default().trim_end().to_owned())
    };
    of_the_host.iter().find_map(|sign| from(before, sign)).or_else(|| {
        let told = from(complete, &of_the_guest)?;
        Some(told.trim_start_matches("ERROR ").to_owned())
    })
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|window| window == pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = "[    1.0] log\r\n[craton: console of guest; Ctrl-] goes to the monitor]\r\n";

    #[test]
    fn only_the_guests_words_are_seen_and_the_end_is_held_back_until_it_is_whole() {
        let see_text = |text: &str| match see(text.as_bytes(), "guest") {
            Seen::Nothing => None,
            Seen::Running(output) => Some((String::from_utf8_lossy(output).into_owned(), None)),
            Seen::Ended(output, why) => Some((String::from_utf8_lossy(output).into_owned(), Some(why))),
        };
        assert_eq!(see_text("[craton: console of guest; Ctrl"), None);
        assert_eq!(see_text(START), Some((String::new(), None)));
        assert_eq!(see_text(&format!("{START}hello\r\n\x1b[0m\r[cra")), Some(("hello\r\n".into(), None)));
        let ended =
            format!("{START}hello\x1b[0m\r\n[craton: guest stopped: triple fault; 'vm start guest' x]\r\n");
        assert_eq!(see_text(&ended), Some(("hello".into(), Some("triple fault".into()))));
        let ended =
            format!("{START}hello\r\n\x1b[0m\r[craton: guest stopped: the guest ended with status 33");
        assert_eq!(see_text(&ended), Some(("hello\r\n".into(), None)));
        let ended = format!("{ended}; 'vm start guest' starts it again]\r\n");
        let why = "the guest ended with status 33".to_owned();
        assert_eq!(see_text(&ended), Some(("hello\r\n".into(), Some(why))));
    }

    #[test]
    fn the_status_is_the_guests_or_says_whether_it_ended_well() {
        assert_eq!(status_of("the guest ended with status 33"), 33);
        assert_eq!(status_of("the guest ended with status 513"), 1);
        assert_eq!(status_of("the guest powered off"), 0);
        assert_eq!(status_of("vCPU 0: triple fault"), 1);
    }

    #[test]
    fn refusals_are_told_in_full() {
        let refused =
            format!("{START}\x1b[0m\r[  1] ERROR vm \"guest\": `k` is not a kernel: it is empty; x\r\n");
        let told = refusal(refused.as_bytes(), "guest").expect("refused");
        assert_eq!(told, "vm \"guest\": `k` is not a kernel: it is empty; x");
        assert_eq!(refusal(&refused.as_bytes()[..refused.len() - 2], "guest"), None);
        let mistake = "[  1] ERROR craton.toml:4: vm \"guest\": field `x`: no\r\n";
        assert_eq!(refusal(mistake.as_bytes(), "guest").expect("refused"), mistake[12..].trim_end());
        assert_eq!(refusal(format!("{START}craton: panic\r\n").as_bytes(), "guest"), None, "a guest's words");
    }
}
