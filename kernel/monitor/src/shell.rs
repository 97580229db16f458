//! The shell: runs command lines against [`Control`].

use crate::command::{COMMANDS, Command, DidYouMean, OneOf, VmVerb, help_for, parse};
use crate::control::{Control, ControlError, VmState, VmSummary};
use crate::numbers::bytes;
use crate::output::{Output, print};
use crate::reports;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What a command asks of the terminal, which the shell does not own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Request {
    /// Show this guest's console.
    Attach(String),
    /// Show the console that was shown last; the text says what to do if there was none.
    ReturnToConsole,
    /// Clear the screen.
    ClearScreen,
}

/// Runs one line. What goes wrong is said on `out`.
pub(crate) fn run(line: &str, control: &mut dyn Control, out: &mut dyn Output) -> Option<Request> {
    match try_run(line, control, out) {
        Ok(request) => request,
        Err(message) => {
            print(out, format_args!("error: {message}\n"));
            None
        }
    }
}

fn try_run(line: &str, control: &mut dyn Control, out: &mut dyn Output) -> Result<Option<Request>, String> {
    match parse(line).map_err(|error| format!("{error}"))? {
        Command::Nothing => {}
        Command::Help(topic) => help(topic, out)?,
        Command::VmList => reports::vm_list(&control.vms(), out),
        Command::Vm(verb, name) => {
            let vm = find(name, control)?;
            return run_on_vm(verb, vm, control, out);
        }
        Command::Console(None) => return Ok(Some(Request::ReturnToConsole)),
        Command::Console(name) => return Ok(Some(Request::Attach(find(name, control)?.name))),
        Command::Stats(name) => {
            let vm = find(name, control)?;
            let stats =
                control.stats(&vm.name).map_err(|error| explain("show the exits of", &vm.name, &error))?;
            reports::stats(&vm.name, &stats, out);
        }
        Command::Exits(name, vcpu) => exits(name, vcpu, control, out)?,
        Command::Host => reports::host(&control.host(), out),
        Command::ShowLog => print(out, format_args!("log level is {}\n", level_name(control))),
        Command::SetLog(level) => {
            control.set_log_level(level);
            print(out, format_args!("log level is now {}\n", level_name(control)));
        }
        Command::Version => print(out, format_args!("{}\n", control.version())),
        Command::Reboot => {
            print(out, format_args!("rebooting{}\n", cut_off(control)));
            control.reboot();
        }
        Command::PowerOff => {
            print(out, format_args!("powering off{}\n", cut_off(control)));
            control.power_off().map_err(|error| explain("power off", "the host", &error))?;
        }
        Command::Clear => return Ok(Some(Request::ClearScreen)),
    }
    Ok(None)
}

fn run_on_vm(
    verb: VmVerb,
    vm: VmSummary,
    control: &mut dyn Control,
    out: &mut dyn Output,
) -> Result<Option<Request>, String> {
    let name = vm.name;
    match verb {
        VmVerb::Start => {
            control.start(&name).map_err(|error| explain("start", &name, &error))?;
            print(out, format_args!("{name} started; 'vm console {name}' shows its console\n"));
        }
        VmVerb::Stop => {
            control.stop(&name).map_err(|error| explain("stop", &name, &error))?;
            print(out, format_args!("{name} stopped\n"));
        }
        VmVerb::Reset => {
            control.reset(&name).map_err(|error| explain("reset", &name, &error))?;
            print(out, format_args!("{name} reset\n"));
        }
        VmVerb::Console => return Ok(Some(Request::Attach(name))),
        VmVerb::Info => {
            let info = control.vm_info(&name).map_err(|error| explain("inspect", &name, &error))?;
            reports::vm_info(&info, out);
        }
    }
    Ok(None)
}

fn exits(
    name: Option<&str>,
    vcpu: Option<&str>,
    control: &dyn Control,
    out: &mut dyn Output,
) -> Result<(), String> {
    // `exits 1` on a host with one virtual machine means its vCPU 1, unless a machine is named "1".
    let (name, vcpu) = match (name, vcpu) {
        (Some(word), None)
            if word.parse::<u32>().is_ok() && !control.vms().iter().any(|vm| vm.name == word) =>
        {
            (None, Some(word))
        }
        other => other,
    };
    let vm = find(name, control)?;
    let vcpu = match vcpu {
        None => 0,
        Some(word) => {
            word.parse().map_err(|_| format!("'{word}' is no vCPU number; usage: exits [NAME] [VCPU]"))?
        }
    };
    let records = control
        .recent_exits(&vm.name, vcpu)
        .map_err(|error| explain("show the exits of", &vm.name, &error))?;
    reports::exits(&vm.name, vcpu, &records, out);
    Ok(())
}

/// The virtual machine called `name`, or the only one there is.
fn find(name: Option<&str>, control: &dyn Control) -> Result<VmSummary, String> {
    let mut vms = control.vms();
    let Some(name) = name else {
        if vms.len() == 1
            && let Some(vm) = vms.pop()
        {
            return Ok(vm);
        }
        return Err(match vms.len() {
            0 => String::from("there are no virtual machines: craton.toml in the boot archive names none"),
            _ => format!("which virtual machine? There are {}", OneOf(&vm_names(&vms))),
        });
    };
    match vms.iter().position(|vm| vm.name == name) {
        Some(index) => Ok(vms.swap_remove(index)),
        None => Err(unknown_vm(name, &vms)),
    }
}

fn unknown_vm(name: &str, vms: &[VmSummary]) -> String {
    let names = vm_names(vms);
    if names.is_empty() {
        return format!("there is no virtual machine '{name}': craton.toml in the boot archive names none");
    }
    let hint = DidYouMean(name, &names);
    format!("there is no virtual machine '{name}'; there are {}{hint}", OneOf(&names))
}

fn vm_names(vms: &[VmSummary]) -> Vec<&str> {
    vms.iter().map(|vm| vm.name.as_str()).collect()
}

/// What went wrong, and what to do about it.
fn explain(doing: &str, name: &str, error: &ControlError) -> String {
    let reason = match error {
        ControlError::NoSuchVm => String::from("it is gone; 'vm list' shows what there is"),
        ControlError::AlreadyRunning => format!("it runs already; 'vm reset {name}' starts it again"),
        ControlError::NotRunning => format!("it does not run; 'vm start {name}' starts it"),
        ControlError::NoSuchVcpu { vcpus } => match vcpus.checked_sub(1) {
            None => String::from("it has no vCPUs yet; start it first"),
            Some(0) => String::from("it has vCPU 0 only"),
            Some(last) => format!("it has vCPUs 0 to {last}"),
        },
        ControlError::OutOfMemory { needed, free } => format!(
            "it needs {} of memory and {} are free; stop another one or lower 'memory' in craton.toml",
            bytes(*needed),
            bytes(*free)
        ),
        ControlError::Refused(reason) | ControlError::Failed(reason) => reason.clone(),
    };
    format!("cannot {doing} {name}: {reason}")
}

/// "; cuts off a, b" when virtual machines run.
fn cut_off(control: &dyn Control) -> String {
    let vms = control.vms();
    let running: Vec<&str> =
        vms.iter().filter(|vm| vm.state == VmState::Running).map(|vm| vm.name.as_str()).collect();
    if running.is_empty() { String::new() } else { format!("; cuts off {}", OneOf(&running)) }
}

fn level_name(control: &dyn Control) -> String {
    format!("{}", control.log_level()).to_ascii_lowercase()
}

fn help(topic: Option<&str>, out: &mut dyn Output) -> Result<(), String> {
    if let Some(topic) = topic {
        let command = help_for(topic).map_err(|error| format!("{error}"))?;
        print(out, format_args!("usage: {}\n{}\n", command.usage, command.summary));
        if !command.details.is_empty() {
            print(out, format_args!("{}\n", command.details));
        }
        return Ok(());
    }
    let width = COMMANDS.iter().map(|command| command.name.len()).max().unwrap_or(0);
    for command in COMMANDS {
        print(out, format_args!("  {:width$}  {}\n", command.name, command.summary));
    }
    print(out, format_args!("'help COMMAND' explains one; Tab completes; 'console' switches to the guest\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeControl;
    use log::LevelFilter;

    fn shown(line: &str, control: &mut FakeControl) -> (String, Option<Request>) {
        let mut out = Vec::new();
        let request = run(line, control, &mut out);
        (String::from_utf8(out).expect("text"), request)
    }

    fn text(line: &str) -> String {
        shown(line, &mut FakeControl::two_vms()).0
    }

    #[test]
    fn vm_list_is_an_aligned_table() {
        let expected = "  NAME    STATE    VCPUS   MEMORY   EXITS      UPTIME\r\n\
                        \x20 debian  running      2  512 MiB  12,345  3 min 07 s\r\n\
                        \x20 probe   stopped      1   16 MiB       0           -\r\n";
        assert_eq!(text("vm list"), expected);
    }

    #[test]
    fn stats_are_sorted_by_count_with_shares_totals_and_averages() {
        let shown = text("stats debian");
        let rows: Vec<&str> = shown.lines().map(str::trim).collect();
        assert!(rows[1].starts_with("HLT"), "{shown}");
        assert!(rows[2].starts_with("CPUID"), "{shown}");
        let words: Vec<&str> = rows[1].split_whitespace().collect();
        assert_eq!(words, ["HLT", "3,000", "75.0", "%", "600,000", "85.7", "%", "200"]);
        let words: Vec<&str> = rows[3].split_whitespace().collect();
        assert_eq!(words, ["total", "4,000", "100.0", "%", "700,000", "100.0", "%", "175"]);
        assert!(shown.contains("hypervisor's share 0.7 %"), "{shown}");
        assert!(!shown.contains("VMCALL"), "a reason that never happened takes no row: {shown}");
    }

    #[test]
    fn exits_show_records_oldest_first_with_distances() {
        let shown = text("exits debian 1");
        let words: Vec<Vec<&str>> = shown.lines().map(|row| row.split_whitespace().collect()).collect();
        assert_eq!(words[1], ["1,000", "+0", "CPUID", "0x0", "0xffffffff81000000"]);
        assert_eq!(words[2], ["1,250", "+250", "I/O", "instruction", "0x3f80003", "0x1000"]);
    }

    #[test]
    fn info_tells_why_a_machine_is_stopped() {
        assert!(text("vm info probe").contains("state         stopped (powered off by the guest)"));
    }

    #[test]
    fn host_shows_cpus_memory_features_and_mitigations() {
        let shown = text("host");
        for part in [
            "2095.078 MHz",
            "2 GiB total, 528 MiB in guests, 16 MiB for the hypervisor",
            "EPT",
            "absent",
            "L1TF",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }

    #[test]
    fn starting_and_stopping_go_through_and_say_so() {
        let mut control = FakeControl::two_vms();
        assert!(shown("vm start probe", &mut control).0.contains("probe started"));
        assert!(shown("vm stop debian", &mut control).0.contains("debian stopped"));
        assert_eq!(control.calls, ["start probe", "stop debian"]);
    }

    #[test]
    fn errors_name_the_machine_the_reason_and_the_way_out() {
        assert_eq!(
            text("vm start debian"),
            "error: cannot start debian: it runs already; 'vm reset debian' starts it again\r\n"
        );
        assert_eq!(
            text("vm stop probe"),
            "error: cannot stop probe: it does not run; 'vm start probe' starts it\r\n"
        );
        assert_eq!(
            text("vm info debain"),
            "error: there is no virtual machine 'debain'; there are debian, probe; did you mean 'debian'?\r\n"
        );
        assert_eq!(text("exits probe 7"), "error: cannot show the exits of probe: it has vCPU 0 only\r\n");
        assert!(text("exits probe x").contains("'x' is no vCPU number"));
        assert!(text("stats").contains("which virtual machine? There are debian, probe"));
    }

    #[test]
    fn the_only_machine_need_not_be_named() {
        let mut control = FakeControl::two_vms();
        control.vms.remove(0);
        assert!(shown("vm info", &mut control).0.contains("name          probe"));
        assert!(shown("exits 0", &mut control).0.contains("no exits"));
        control.vms.clear();
        assert!(shown("vm info", &mut control).0.contains("there are no virtual machines"));
        assert!(shown("vm list", &mut control).0.contains("no virtual machines"));
    }

    #[test]
    fn consoles_are_asked_of_the_terminal() {
        let mut control = FakeControl::two_vms();
        assert_eq!(shown("vm console probe", &mut control).1, Some(Request::Attach("probe".into())));
        assert_eq!(shown("console debian", &mut control).1, Some(Request::Attach("debian".into())));
        assert_eq!(shown("console", &mut control).1, Some(Request::ReturnToConsole));
        assert_eq!(shown("console nowhere", &mut control).1, None);
    }

    #[test]
    fn power_commands_say_who_is_cut_off() {
        let mut control = FakeControl::two_vms();
        assert_eq!(shown("reboot", &mut control).0, "rebooting; cuts off debian\r\n");
        control.power_off_fails = true;
        let (text, _) = shown("poweroff", &mut control);
        assert!(text.contains("error: cannot power off the host: no ACPI"), "{text}");
        assert_eq!(control.calls, ["reboot", "power off"]);
    }

    #[test]
    fn the_log_level_is_shown_and_set() {
        let mut control = FakeControl::two_vms();
        assert_eq!(shown("log", &mut control).0, "log level is info\r\n");
        assert_eq!(shown("log TRACE", &mut control).0, "log level is now trace\r\n");
        assert_eq!(control.level, LevelFilter::Trace);
    }

    #[test]
    fn help_lists_every_command_and_explains_each() {
        let all = text("help");
        for command in COMMANDS {
            assert!(all.contains(&format!("  {}", command.name)), "{}", command.name);
            assert!(text(&format!("help {}", command.name)).contains(command.usage), "{}", command.name);
        }
        assert!(text("help frob").starts_with("error: 'frob' is no command"));
    }
}
