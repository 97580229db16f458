//! The project's commands: `cargo xtask help`.

mod bench;
mod console;
mod doctor;
mod emulator_tests;
mod fuzz;
mod guests;
mod hash;
mod image;
mod lint;
mod machine;
mod paths;
mod process;
mod progress;
mod qemu;
mod run;
mod screenshot;
mod setup;
mod test;
mod usb;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, runs, tests and measures Craton. Everything that a command needs is set up by it, with progress lines.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(Box<run::Arguments>),
    Qemu(Box<qemu::Arguments>),
    Test(test::Arguments),
    Bench(bench::Arguments),
    Fuzz(fuzz::Arguments),
    Image(image::command::Arguments),
    Usb(usb::Arguments),
    Lint(lint::Arguments),
    Doctor(doctor::Arguments),
}

fn main() -> ExitCode {
    let result = match CommandLine::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Qemu(arguments) => qemu::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Image(arguments) => image::command::run(&arguments),
        Command::Usb(arguments) => usb::run(&arguments),
        Command::Lint(arguments) => lint::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::CommandLine;

    #[test]
    fn command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn documented_command_lines_are_accepted() {
        for line in [
            "run --machine bochs --cpus 2 --memory 512 --guests x.toml --exec ls --timeout 5",
            "run --guest spin-a --memory 512",
            "run --guest-kernel x.elf",
            "run --guest-kernel x.elf --boot multiboot --module env.txt=x --module y --append a --vcpus 4 --memory 64",
            "run --guest-kernel x.bin --boot flat --load-address 0x100000 --entry 0x100010 --timeout 5",
            "run --guest-kernel bzImage --boot linux32 --initrd i",
            "qemu",
            "qemu run --exec ls",
            "qemu --exec ls",
            "qemu test vm",
            "test --host",
            "test --emulator --machine kvm refusal",
            "image --guests dir",
            "bench --vs kvm --json x.json",
            "fuzz hpet pit --seconds 10 --seed 3",
            "fuzz hpet --replay x.input",
            "usb /dev/sdx --image craton.img --force",
            "lint",
            "doctor",
        ] {
            let words = ["cargo xtask"].into_iter().chain(line.split(' '));
            assert!(CommandLine::try_parse_from(words).is_ok(), "{line}");
        }
    }

    #[test]
    fn options_that_say_two_things_or_nothing_are_refused() {
        for line in [
            "run --guest-kernel x --guests y",
            "run --guest-kernel x --guest y",
            "run --guest-kernel x --exec ls",
            "run --module x",
            "run --vcpus 2",
            "run --guest-kernel x --boot uefi",
            "run --guest-kernel x --vcpus 65",
        ] {
            let words = ["cargo xtask"].into_iter().chain(line.split(' '));
            assert!(CommandLine::try_parse_from(words).is_err(), "{line}");
        }
    }
}
