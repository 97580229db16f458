//! Running one command in a guest: the file that tells `/init` what to run, and the marks it prints around the output.

use anyhow::{Context, Result};

use super::cpio::{Entry, Writer};
use crate::image::archive::{Archive, CONFIGURATION};

/// The file system with the command, in the boot archive.
const IMAGE: &str = "exec.cpio";

/// What `/init` prints around a command's output. Each run has a token of its own, so that no output of an innocent
/// command looks like a mark.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    token: String,
}

/// How far a command got, seen from the guest's console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The mark before the output has not come yet.
    NotStarted,
    /// The command is running and has printed this.
    Running(Vec<u8>),
    /// The command printed this and ended with this status.
    Ended(Vec<u8>, u8),
}

impl Marks {
    /// Marks for one run.
    pub(crate) fn new() -> Self {
        let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_nanos());
        let seed = format!("{now} {}", std::process::id());
        Marks { token: crate::hash::of_bytes(seed.as_bytes())[..16].to_owned() }
    }

    /// A further file system for the guest, to be put behind its own, that makes `/init` run `command`.
    pub(crate) fn file_system(&self, command: &str) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.add("exec", &Entry::Program(format!("{command}\n").as_bytes()));
        writer.add("exec.token", &Entry::File(format!("{}\n", self.token).as_bytes()));
        writer.finish()
    }

    /// Reads what the console has shown so far.
    pub(crate) fn parse(&self, console: &[u8]) -> Progress {
        let begin = format!("craton-exec-begin {}\n", self.token);
        let end = format!("craton-exec-end {} ", self.token);
        let Some(start) = find(console, begin.as_bytes()) else { return Progress::NotStarted };
        let rest = &console[start + begin.len()..];
        let Some(stop) = find(rest, end.as_bytes()) else {
            // The end mark may be half here: hold back what could be its beginning.
            return Progress::Running(rest[..rest.len() - held_back(rest, end.as_bytes())].to_vec());
        };
        let status = rest[stop + end.len()..].split(|byte| *byte == b'\n').next().unwrap_or_default();
        let is_complete = rest.len() > stop + end.len() + status.len();
        match std::str::from_utf8(status).ok().and_then(|text| text.trim().parse().ok()) {
            Some(status) if is_complete => Progress::Ended(rest[..stop].to_vec(), status),
            Some(_) | None => Progress::Running(rest[..stop].to_vec()),
        }
    }
}

/// Makes the guest on the console (or the first one) in `archive` run `command`, and returns its name. The other
/// guests stay as they are.
pub(crate) fn add(archive: &mut Archive, marks: &Marks, command: &str) -> Result<String> {
    let text = archive.get(CONFIGURATION).context("the archive has no configuration")?;
    let mut table: toml::Table = std::str::from_utf8(text)?.parse().context(CONFIGURATION)?;
    let guests =
        table.get_mut("vm").and_then(toml::Value::as_array_mut).context("no [[vm]] in the configuration")?;
    let chosen = guests.iter().position(is_on_console).unwrap_or(0);
    let guest =
        guests.get_mut(chosen).and_then(toml::Value::as_table_mut).context("no [[vm]] to run it in")?;
    let name = guest.get("name").and_then(toml::Value::as_str).unwrap_or("guest").to_owned();
    // One that has none is called after its kernel, which is nothing to look for.
    guest.insert("name".into(), name.as_str().into());
    let base =
        guest.get("initramfs").and_then(toml::Value::as_str).context("that [[vm]] has no initramfs")?;
    let mut file_system = archive.get(base).with_context(|| format!("no {base} in the archive"))?.to_vec();
    file_system.resize(file_system.len().next_multiple_of(4), 0);
    file_system.extend(marks.file_system(command));
    guest.insert("initramfs".into(), IMAGE.into());
    let text = table.to_string();
    archive.add(IMAGE, file_system);
    archive.add(CONFIGURATION, text.into_bytes());
    Ok(name)
}

fn is_on_console(guest: &toml::Value) -> bool {
    guest.get("console").and_then(toml::Value::as_bool) == Some(true)
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|window| window == pattern)
}

/// The length of the longest end of `text` that is a beginning of `pattern`.
fn held_back(text: &[u8], pattern: &[u8]) -> usize {
    (1..pattern.len()).rev().find(|length| text.ends_with(&pattern[..*length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_goes_to_the_guest_on_the_console_alone() {
        let mut archive = Archive::default();
        let text = "[[vm]]\nname='a'\ninitramfs='i'\n[[vm]]\nname='b'\ninitramfs='i'\nconsole=true\n";
        archive.add(CONFIGURATION, text.into());
        archive.add("i", vec![1, 2, 3]);
        assert_eq!(add(&mut archive, &Marks::new(), "uname -a").expect("added"), "b");
        let text = std::str::from_utf8(archive.get(CONFIGURATION).expect("there")).expect("text");
        let table: toml::Table = text.parse().expect("valid");
        assert_eq!(table["vm"][0]["initramfs"].as_str(), Some("i"));
        assert_eq!(table["vm"][1]["initramfs"].as_str(), Some(IMAGE));
        let file_system = archive.get(IMAGE).expect("there");
        assert_eq!(&file_system[..4], [1, 2, 3, 0]);
        assert!(find(file_system, b"uname -a\n").is_some());
    }

    #[test]
    fn output_between_the_marks_is_followed_to_the_status() {
        let marks = Marks { token: "t0".into() };
        let mut console = b"[ 0.1] noise\ncraton-exec-".to_vec();
        assert_eq!(marks.parse(&console), Progress::NotStarted);
        console.extend(b"begin t0\nhello\ncraton-exec-end");
        assert_eq!(marks.parse(&console), Progress::Running(b"hello\n".to_vec()));
        console.extend(b" t0 4");
        assert_eq!(marks.parse(&console), Progress::Running(b"hello\n".to_vec()));
        console.extend(b"2\nnoise");
        assert_eq!(marks.parse(&console), Progress::Ended(b"hello\n".to_vec(), 42));
    }

    #[test]
    fn marks_of_another_run_are_output() {
        let marks = Marks { token: "t0".into() };
        let console = b"craton-exec-begin t0\ncraton-exec-end t1 0\n";
        assert_eq!(marks.parse(console), Progress::Running(b"craton-exec-end t1 0\n".to_vec()));
    }
}
