//! The commands: their table, and the parser from a line to one of them.

use crate::suggest::closest;
use core::fmt;
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
pub(crate) const COMMANDS: [CommandHelp; 11] = [
    CommandHelp {
        name: "help",
        usage: "help [COMMAND]",
        summary: "list the commands, or explain one",
        details: "Tab completes commands and names, Up and Down walk through earlier lines.",
    },
    CommandHelp {
        name: "vm",
        usage: "vm list | vm start|stop|reset|console|info [NAME]",
        summary: "list, start, stop, reset, inspect virtual machines",
        details: "  vm list          all virtual machines of craton.toml, with state, exits and uptime\n\
                  \x20 vm start NAME    start from the kernel image\n\
                  \x20 vm stop NAME     cut the power; 'poweroff' inside the guest is the gentle way\n\
                  \x20 vm reset NAME    press the reset button\n\
                  \x20 vm console NAME  go to its console; the escape key comes back\n\
                  \x20 vm info NAME     configuration, vCPUs, and why it is in its state\n\
                  NAME may be left out when there is one virtual machine.",
    },
    CommandHelp {
        name: "console",
        usage: "console [NAME]",
        summary: "return to the guest console, as the escape key does",
        details: "Without NAME: the console that was shown last. The escape key, Ctrl-] unless `craton.toml` says otherwise, switches back and forth.",
    },
    CommandHelp {
        name: "stats",
        usage: "stats [NAME]",
        summary: "exits by reason: count, share, instructions",
        details: "Ticks are counted from each exit to the next entry, on the host's TSC: instructions in the Bochs\n\
                  emulator, reference cycles on other machines.",
    },
    CommandHelp {
        name: "exits",
        usage: "exits [NAME] [VCPU]",
        summary: "the last exits of a vCPU",
        details: "VCPU is a number from 0, 0 if left out. The newest exit is the last row.",
    },
    CommandHelp {
        name: "host",
        usage: "host",
        summary: "CPUs, features in use, memory, mitigations",
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
pub(crate) const VM_VERBS: [&str; 6] = ["list", "start", "stop", "reset", "console", "info"];

/// The log levels, as `log` takes them.
pub(crate) const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What to do with one virtual machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum VmVerb {
    Start,
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
    Console(Option<&'a str>),
    Stats(Option<&'a str>),
    Exits(Option<&'a str>, Option<&'a str>),
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
    Extra { word: &'a str, usage: &'static str },
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
    let mut words = line.split_ascii_whitespace();
    let Some(name) = words.next() else { return Ok(Command::Nothing) };
    let command = match name {
        "help" | "?" => Command::Help(words.next()),
        "vm" => vm(words.next(), &mut words)?,
        "console" => Command::Console(words.next()),
        "stats" => Command::Stats(words.next()),
        "exits" => Command::Exits(words.next(), words.next()),
        "host" => Command::Host,
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

fn vm<'a>(
    verb: Option<&'a str>,
    words: &mut impl Iterator<Item = &'a str>,
) -> Result<Command<'a>, ParseError<'a>> {
    let verb = match verb {
        None => return Err(ParseError::MissingVmVerb),
        Some("list") => return Ok(Command::VmList),
        Some("start") => VmVerb::Start,
        Some("stop") => VmVerb::Stop,
        Some("reset") => VmVerb::Reset,
        Some("console") => VmVerb::Console,
        Some("info") => VmVerb::Info,
        Some(word) => return Err(ParseError::UnknownVmVerb(word)),
    };
    Ok(Command::Vm(verb, words.next()))
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

/// Shows "a, b, c".
pub(crate) struct OneOf<'a>(pub(crate) &'a [&'a str]);

impl fmt::Display for OneOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.0.iter().enumerate() {
            write!(f, "{}{word}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_in_the_table_is_understood() {
        for command in COMMANDS {
            let line = if command.name == "vm" { "vm list" } else { command.name };
            assert!(parse(line).is_ok(), "{line}");
        }
        for verb in VM_VERBS {
            assert!(parse(&format!("vm {verb}")).is_ok(), "vm {verb}");
        }
        for level in LEVELS {
            assert!(matches!(parse(&format!("log {level}")), Ok(Command::SetLog(_))), "log {level}");
        }
    }

    #[test]
    fn blanks_around_words_do_not_matter() {
        assert_eq!(parse("   "), Ok(Command::Nothing));
        assert_eq!(parse("  vm   stop  linux "), Ok(Command::Vm(VmVerb::Stop, Some("linux"))));
        assert_eq!(parse("exits linux 1"), Ok(Command::Exits(Some("linux"), Some("1"))));
    }

    #[test]
    fn mistakes_name_the_word_and_the_way_out() {
        let message = |line| parse(line).expect_err("a mistake").to_string();
        assert_eq!(message("hots"), "'hots' is no command; 'help' lists them; did you mean 'host'?");
        assert_eq!(message("xyzzy"), "'xyzzy' is no command; 'help' lists them");
        assert_eq!(message("vm"), "'vm' needs a second word: list, start, stop, reset, console, info");
        assert!(message("vm strat linux").contains("did you mean 'start'?"));
        assert!(message("log loud").contains("there are off, error, warn, info, debug, trace"));
        assert_eq!(message("host now"), "'now' is one word too many; usage: host");
        assert!(message("vm stop a b").starts_with("'b' is one word too many; usage: vm list"));
    }
}
