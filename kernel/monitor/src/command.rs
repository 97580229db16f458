//! The commands: their table, and the parser from a line to one of them.

use crate::definition::{Overrides, SchedulingChange};
use crate::settings::{self, BadValue};
use crate::suggest::closest;
use core::fmt;
use core::time::Duration;
use log::LevelFilter;

/// What `help` knows about a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommandHelp {
    pub(crate) name: &'static str,
    pub(crate) usage: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) details: &'static str,
}

/// All commands, as `help` lists them.
pub(crate) const COMMANDS: [CommandHelp; 15] = [
    CommandHelp {
        name: "help",
        usage: "help [COMMAND]",
        summary: "list the commands, or explain one",
        details: "Tab completes commands and names, Up and Down walk through earlier lines.",
    },
    CommandHelp {
        name: "vm",
        usage: "vm list | vm VERB [NAME] [KEY=VALUE ...]",
        summary: "list, start, stop, create, pause, change virtual machines",
        details: "  vm list              all virtual machines, with state, exits and uptime\n\
                  \x20 vm info NAME         configuration, vCPUs, and why it is in its state\n\
                  \x20 vm console NAME      go to its console; the escape key comes back\n\
                  \x20 vm create NAME FROM  a new one like FROM, with settings of its own: memory=512M vcpus=2\n\
                  \x20                      numa_nodes=2|none restart=never|on-failure|always, those of 'vm set', and cmdline=,\n\
                  \x20                      which takes the rest of the line\n\
                  \x20 vm start NAME        start from the kernel image\n\
                  \x20 vm pause NAME        hold it where it is\n\
                  \x20 vm resume NAME       let it go on\n\
                  \x20 vm stop NAME         cut the power; 'poweroff' inside the guest is the gentle way\n\
                  \x20 vm reset NAME        press the reset button\n\
                  \x20 vm set NAME ...      change how each of its vCPUs shares the cores, at once:\n\
                  \x20                      weight=1..10000 cap=PERCENT|none cores=0,2|0-3|all\n\
                  \x20                      class=normal|latency|exclusive\n\
                  \x20 vm destroy NAME      stop it if it runs, and forget it\n\
                  NAME may be left out when there is one virtual machine, except for create and destroy.",
    },
    CommandHelp {
        name: "console",
        usage: "console [NAME]",
        summary: "return to the guest console, as the escape key does",
        details: "Without NAME: the console that was shown last. The escape key, Ctrl-] unless `craton.toml` says otherwise, switches back and forth.",
    },
    CommandHelp {
        name: "stats",
        usage: "stats [NAME] [vcpu N] | stats host",
        summary: "exits by reason, run time, steal, wake-up delays",
        details: "All counters are since the last start; those of 'stats host' since the cores started.\n\
                  Steal is time in which a vCPU could have run and had no core. A wake-up delay is from the event\n\
                  that wakes a halted vCPU to its running.\n\
                  Averages of exits, of switches between vCPUs and of the scheduler's decisions are ticks of the host's\n\
                  TSC: instructions in the Bochs emulator, reference cycles on other machines.",
    },
    CommandHelp {
        name: "top",
        usage: "top [SECONDS] [COUNT]",
        summary: "who uses the cores, again and again",
        details: "Shows every SECONDS, 1 if left out, what happened in them, COUNT times or until a key is pressed.\n\
                  SHARE is of one core; a virtual machine's is the sum of its vCPUs'. RUN and STEAL are\n\
                  milliseconds on a core, and waiting for one.",
    },
    CommandHelp {
        name: "exits",
        usage: "exits [NAME] [VCPU]",
        summary: "the last exits of a vCPU",
        details: "VCPU is a number from 0, 0 if left out. The newest exit is the last row.",
    },
    CommandHelp {
        name: "screen",
        usage: "screen [NAME]",
        summary: "the text on a virtual machine's screen",
        details: "For machines with screen = \"vga\" in `craton.toml`.",
    },
    CommandHelp {
        name: "screenshot",
        usage: "screenshot [NAME]",
        summary: "the picture on a virtual machine's screen, for a program",
        details: "Prints it encoded, in lines of base64; 'cargo xtask run --screenshot FILE' makes a PNG file of it.",
    },
    CommandHelp {
        name: "keys",
        usage: "keys NAME TEXT",
        summary: "type at a virtual machine's keyboard",
        details: "TEXT is typed as it is, to the end of the line, on a keyboard with United States layout. Keys by name\n\
                  are in angle brackets: <enter> <esc> <f12> <up> <ctrl-c> <ctrl-alt-del>; <lt> is the bracket itself.",
    },
    CommandHelp {
        name: "host",
        usage: "host",
        summary: "CPUs and their load, features in use, memory, mitigations",
        details: "Features are those the hypervisor asks the processor for, by their names in its manual.",
    },
    CommandHelp {
        name: "log",
        usage: "log [LEVEL]",
        summary: "show or set the log level",
        details: "LEVEL is off, error, warn, info, debug or trace.",
    },
    CommandHelp { name: "version", usage: "version", summary: "what this is", details: "" },
    CommandHelp {
        name: "reboot",
        usage: "reboot",
        summary: "reset the host",
        details: "Virtual machines that run are cut off.",
    },
    CommandHelp {
        name: "poweroff",
        usage: "poweroff",
        summary: "power the host off",
        details: "Virtual machines that run are cut off.",
    },
    CommandHelp { name: "clear", usage: "clear", summary: "clear the screen (Ctrl-L)", details: "" },
];

/// The second words of `vm`.
pub(crate) const VM_VERBS: [&str; 11] =
    ["list", "info", "console", "create", "start", "pause", "resume", "stop", "reset", "set", "destroy"];

/// The log levels, as `log` takes them.
pub(crate) const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

const CREATE_USAGE: &str = "vm create NAME FROM [KEY=VALUE ...]";
const SET_USAGE: &str = "vm set [NAME] KEY=VALUE ...";
const KEYS_USAGE: &str = "keys NAME TEXT";
const DESTROY_USAGE: &str = "vm destroy NAME";
const STATS_USAGE: &str = "stats [NAME] [vcpu N] | stats host";

/// The longest name of a virtual machine, in bytes.
const MOST_NAME: usize = 32;
/// What `top` takes for SECONDS when it is left out.
const TOP_INTERVAL: Duration = Duration::from_secs(1);

/// What to do with one virtual machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum VmVerb {
    Start,
    Pause,
    Resume,
    Stop,
    Reset,
    Console,
    Info,
}

/// A parsed line. Names are as typed: whether they exist is for the shell to see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Command<'a> {
    Nothing,
    Help(Option<&'a str>),
    VmList,
    Vm(VmVerb, Option<&'a str>),
    VmCreate {
        name: &'a str,
        from: &'a str,
        overrides: Overrides,
    },
    VmSet(Option<&'a str>, SchedulingChange),
    VmDestroy(&'a str),
    Console(Option<&'a str>),
    /// Of a machine, or the host if none is called "host"; of one vCPU if there is a second.
    Stats(Option<&'a str>, Option<&'a str>),
    /// Every so often, so many times; for ever without a number.
    Top(Duration, Option<u32>),
    Exits(Option<&'a str>, Option<&'a str>),
    Screen(Option<&'a str>),
    Screenshot(Option<&'a str>),
    /// What to type, and at whose keyboard.
    Keys(&'a str, &'a str),
    Host,
    ShowLog,
    SetLog(LevelFilter),
    Version,
    Reboot,
    PowerOff,
    Clear,
}

/// Why a line is no command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ParseError<'a> {
    UnknownCommand(&'a str),
    UnknownVmVerb(&'a str),
    MissingVmVerb,
    UnknownLevel(&'a str),
    UnknownKey {
        word: &'a str,
        keys: &'static [&'static str],
    },
    BadValue(BadValue<'a>),
    /// The key, with its equals sign.
    GivenTwice(&'static str),
    BadName(&'a str),
    BadInterval(&'a str),
    BadCount(&'a str),
    Missing {
        what: &'static str,
        usage: &'static str,
    },
    Extra {
        word: &'a str,
        usage: &'static str,
    },
}

impl fmt::Display for ParseError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCommand(word) => {
                write!(f, "'{word}' is no command; 'help' lists them{}", DidYouMean(word, &names()))
            }
            Self::UnknownVmVerb(word) => {
                let hint = DidYouMean(word, &VM_VERBS);
                write!(f, "'vm {word}' is no command; there are vm {}{hint}", OneOf(&VM_VERBS))
            }
            Self::MissingVmVerb => write!(f, "'vm' needs a second word: {}", OneOf(&VM_VERBS)),
            Self::UnknownLevel(word) => {
                write!(
                    f,
                    "'{word}' is no log level{}; there are {}",
                    DidYouMean(word, &LEVELS),
                    OneOf(&LEVELS)
                )
            }
            Self::UnknownKey { word, keys } => {
                let name = word.split_once('=').map_or(*word, |(name, _)| name);
                write!(f, "'{word}' is no setting; there are {}{}", OneOf(keys), DidYouMean(name, keys))
            }
            Self::BadValue(BadValue { key, value, wanted }) => write!(f, "{key}{value}: use {wanted}"),
            Self::GivenTwice(key) => write!(f, "{key} is given twice"),
            Self::BadName(word) => write!(
                f,
                "'{word}' is not a name; use 1 to {MOST_NAME} letters, digits, dots, underscores and hyphens"
            ),
            Self::BadInterval(word) => write!(f, "'{word}' is no time; use seconds from 0.1 to 3600"),
            Self::BadCount(word) => write!(f, "'{word}' is no number of times; use 1 or more"),
            Self::Missing { what, usage } => write!(f, "{what} is missing; usage: {usage}"),
            Self::Extra { word, usage } => write!(f, "'{word}' is one word too many; usage: {usage}"),
        }
    }
}

/// The names of all commands.
pub(crate) fn names() -> [&'static str; COMMANDS.len()] {
    COMMANDS.map(|command| command.name)
}

/// What `help` knows about `name`.
///
/// # Errors
/// When there is no such command.
pub(crate) fn help_for(name: &str) -> Result<&'static CommandHelp, ParseError<'_>> {
    COMMANDS.iter().find(|command| command.name == name).ok_or(ParseError::UnknownCommand(name))
}

/// Parses a line.
///
/// # Errors
/// When the first words are no command, or when words are left over.
pub(crate) fn parse(line: &str) -> Result<Command<'_>, ParseError<'_>> {
    if let Some(("keys", rest)) = line.trim_ascii().split_once(' ') {
        return keys(rest.trim_ascii_start());
    }
    let mut words = words(line);
    let Some(name) = words.next() else { return Ok(Command::Nothing) };
    let command = match name {
        "help" | "?" => Command::Help(words.next()),
        "vm" => vm(&mut words)?,
        "console" => Command::Console(words.next()),
        "stats" => stats(&mut words)?,
        "top" => top(words.next(), words.next())?,
        "exits" => Command::Exits(words.next(), words.next()),
        "screen" => Command::Screen(words.next()),
        "screenshot" => Command::Screenshot(words.next()),
        "host" => Command::Host,
        "keys" => return keys(""),
        "log" => match words.next() {
            None => Command::ShowLog,
            Some(level) => Command::SetLog(level.parse().map_err(|_| ParseError::UnknownLevel(level))?),
        },
        "version" => Command::Version,
        "reboot" => Command::Reboot,
        "poweroff" => Command::PowerOff,
        "clear" => Command::Clear,
        _ => return Err(ParseError::UnknownCommand(name)),
    };
    match words.next() {
        None => Ok(command),
        Some(word) => {
            let usage = help_for(name).map_or(COMMANDS[0].usage, |command| command.usage);
            Err(ParseError::Extra { word, usage })
        }
    }
}

/// The words of a line. A kernel command line has blanks in it, so `cmdline=` takes the rest.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line.trim_ascii();
    core::iter::from_fn(move || {
        let end = match rest.find(|c: char| c.is_ascii_whitespace()) {
            Some(blank) if !rest.starts_with("cmdline=") => blank,
            Some(_) | None => rest.len(),
        };
        let (word, others) = rest.split_at_checked(end)?;
        rest = others.trim_ascii_start();
        (!word.is_empty()).then_some(word)
    })
}

/// What is typed is the rest of the line, blanks and all.
fn keys(rest: &str) -> Result<Command<'_>, ParseError<'_>> {
    let missing = |what| ParseError::Missing { what, usage: KEYS_USAGE };
    let (name, text) = match rest.split_once(' ') {
        Some((name, text)) if !text.is_empty() => (name, text),
        Some(_) | None if rest.is_empty() => return Err(missing("the name of the virtual machine")),
        Some(_) | None => return Err(missing("what to type")),
    };
    Ok(Command::Keys(name, text))
}

fn vm<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<Command<'a>, ParseError<'a>> {
    let verb = match words.next() {
        None => return Err(ParseError::MissingVmVerb),
        Some("list") => return Ok(Command::VmList),
        Some("create") => return create(words),
        Some("set") => return set(words),
        Some("destroy") => {
            let name = words
                .next()
                .ok_or(ParseError::Missing { what: "the name of what to destroy", usage: DESTROY_USAGE })?;
            return Ok(Command::VmDestroy(name));
        }
        Some("start") => VmVerb::Start,
        Some("pause") => VmVerb::Pause,
        Some("resume") => VmVerb::Resume,
        Some("stop") => VmVerb::Stop,
        Some("reset") => VmVerb::Reset,
        Some("console") => VmVerb::Console,
        Some("info") => VmVerb::Info,
        Some(word) => return Err(ParseError::UnknownVmVerb(word)),
    };
    Ok(Command::Vm(verb, words.next()))
}

fn create<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<Command<'a>, ParseError<'a>> {
    let missing = |what| ParseError::Missing { what, usage: CREATE_USAGE };
    let is_name = |word: &&str| !word.contains('=');
    let name = words.next().filter(is_name).ok_or(missing("the new name"))?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.len() > MOST_NAME || !name.bytes().all(allowed) {
        return Err(ParseError::BadName(name));
    }
    let from = words.next().filter(is_name).ok_or(missing("the virtual machine to be like"))?;
    Ok(Command::VmCreate { name, from, overrides: settings::overrides(words)? })
}

fn set<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<Command<'a>, ParseError<'a>> {
    let missing = ParseError::Missing { what: "what to set", usage: SET_USAGE };
    let first = words.next().ok_or(missing.clone())?;
    let (name, first) =
        if first.contains('=') { (None, first) } else { (Some(first), words.next().ok_or(missing)?) };
    Ok(Command::VmSet(name, settings::change(core::iter::once(first).chain(words))?))
}

fn stats<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<Command<'a>, ParseError<'a>> {
    let number = |word: Option<&'a str>| {
        word.ok_or(ParseError::Missing { what: "the number of the vCPU", usage: STATS_USAGE })
    };
    Ok(match (words.next(), words.next()) {
        (Some("vcpu"), Some(vcpu)) if vcpu != "vcpu" => Command::Stats(None, Some(vcpu)),
        (name, None) => Command::Stats(name, None),
        (name, Some("vcpu")) => Command::Stats(name, Some(number(words.next())?)),
        (_, Some(word)) => return Err(ParseError::Extra { word, usage: STATS_USAGE }),
    })
}

fn top<'a>(interval: Option<&'a str>, count: Option<&'a str>) -> Result<Command<'a>, ParseError<'a>> {
    let interval = match interval {
        None => TOP_INTERVAL,
        Some(word) => seconds(word).ok_or(ParseError::BadInterval(word))?,
    };
    let times =
        |word: &'a str| word.parse().ok().filter(|&count: &u32| count > 0).ok_or(ParseError::BadCount(word));
    Ok(Command::Top(interval, count.map(times).transpose()?))
}

/// Seconds with at most one decimal, 0.1 to 3600.
fn seconds(word: &str) -> Option<Duration> {
    let (whole, tenths) = word.split_once('.').unwrap_or((word, "0"));
    if tenths.len() != 1 {
        return None;
    }
    let tenths = whole.parse::<u64>().ok()?.checked_mul(10)?.checked_add(tenths.parse().ok()?)?;
    (1..=36_000).contains(&tenths).then(|| Duration::from_millis(tenths * 100))
}

/// Shows "; did you mean 'x'?" if a word comes close, else nothing.
pub(crate) struct DidYouMean<'a>(pub(crate) &'a str, pub(crate) &'a [&'a str]);

impl fmt::Display for DidYouMean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match closest(self.0, self.1.iter().copied()) {
            Some(known) => write!(f, "; did you mean '{known}'?"),
            None => Ok(()),
        }
    }
}

/// Words that are listed before "and N more".
const MOST_LISTED: usize = 16;

/// Shows "a, b, c", or the first of them and how many more there are.
pub(crate) struct OneOf<'a>(pub(crate) &'a [&'a str]);

impl fmt::Display for OneOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.0.iter().take(MOST_LISTED).enumerate() {
            write!(f, "{}{word}", if index == 0 { "" } else { ", " })?;
        }
        match self.0.len().checked_sub(MOST_LISTED) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests;
