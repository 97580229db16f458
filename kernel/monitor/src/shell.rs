//! The shell: runs command lines against [`Control`].

use crate::command::{COMMANDS, Command, DidYouMean, OneOf, VmVerb, help_for, parse};
use crate::control::{Control, VmState, VmSummary};
use crate::definition::SchedulingChange;
use crate::error::ControlError;
use crate::output::{Output, print};
use crate::picture::{Picture, base64_lines};
use crate::reports;
use crate::stats;
use crate::top::Top;
use crate::typing::{NotTyped, strokes};
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
    /// Call this one when it is due.
    Repeat(Top),
    /// Forget the console of this guest, which is no more.
    Forget(String),
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
        Command::VmCreate { name, from, overrides } => {
            let from = find(Some(from), control)?.name;
            control.create(name, &from, &overrides).map_err(|error| explain("create", name, &error))?;
            print(out, format_args!("{name} created like {from}; 'vm start {name}' starts it\n"));
        }
        Command::VmSet(name, change) => set(name, &change, control, out)?,
        Command::VmDestroy(name) => {
            let name = find(Some(name), control)?.name;
            control.destroy(&name).map_err(|error| explain("destroy", &name, &error))?;
            print(out, format_args!("{name} destroyed\n"));
            return Ok(Some(Request::Forget(name)));
        }
        Command::Stats(name, vcpu) => show_stats(name, vcpu, control, out)?,
        Command::Top(interval, count) => {
            return Ok(Some(Request::Repeat(Top::start(interval, count, control, out))));
        }
        Command::Exits(name, vcpu) => exits(name, vcpu, control, out)?,
        Command::Screen(name) => screen(name, control, out)?,
        Command::Screenshot(name) => screenshot(name, control, out)?,
        Command::Keys(name, text) => keys(name, text, control, out)?,
        Command::Host => reports::host(&control.host(), &control.snapshot().cores, out),
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
        VmVerb::Pause => {
            control.pause(&name).map_err(|error| explain("pause", &name, &error))?;
            print(out, format_args!("{name} paused; 'vm resume {name}' lets it go on\n"));
        }
        VmVerb::Resume => {
            control.resume(&name).map_err(|error| explain("resume", &name, &error))?;
            print(out, format_args!("{name} resumed\n"));
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

fn set(
    name: Option<&str>,
    change: &SchedulingChange,
    control: &mut dyn Control,
    out: &mut dyn Output,
) -> Result<(), String> {
    let name = find(name, control)?.name;
    control.set(&name, change).map_err(|error| explain("change", &name, &error))?;
    print(out, format_args!("{name} changed\n"));
    Ok(())
}

fn show_stats(
    name: Option<&str>,
    vcpu: Option<&str>,
    control: &dyn Control,
    out: &mut dyn Output,
) -> Result<(), String> {
    // A machine may be called "host"; `host` shows the host then.
    if name == Some("host") && !control.vms().iter().any(|vm| vm.name == "host") {
        stats::of_cores(&control.snapshot().cores, out);
        return Ok(());
    }
    let name = find(name, control)?.name;
    let failed = |error: &ControlError| explain("show the statistics of", &name, error);
    let stats = control.stats(&name).map_err(|error| failed(&error))?;
    let Some(word) = vcpu else {
        stats::of_vm(&name, &stats, out);
        return Ok(());
    };
    let number: usize = word.parse().map_err(|_| format!("'{word}' is no vCPU number"))?;
    let vcpus = u32::try_from(stats.vcpus.len()).unwrap_or(u32::MAX);
    let vcpu = stats.vcpus.get(number).ok_or_else(|| failed(&ControlError::NoSuchVcpu { vcpus }))?;
    stats::of_vcpu(&name, number, vcpu, out);
    Ok(())
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

/// The text of a screen, without the empty rows at its end.
fn screen(name: Option<&str>, control: &dyn Control, out: &mut dyn Output) -> Result<(), String> {
    let name = find(name, control)?.name;
    let rows = control.screen_text(&name).map_err(|error| explain("show the screen of", &name, &error))?;
    let shown = rows.iter().rposition(|row| !row.is_empty()).map_or(0, |last| last + 1);
    rows.iter().take(shown).for_each(|row| print(out, format_args!("{row}\n")));
    print(
        out,
        format_args!("[{name}: {} rows, {} of them empty at the end]\n", rows.len(), rows.len() - shown),
    );
    Ok(())
}

fn screenshot(name: Option<&str>, control: &dyn Control, out: &mut dyn Output) -> Result<(), String> {
    let name = find(name, control)?.name;
    let picture = control.screenshot(&name).map_err(|error| explain("show the screen of", &name, &error))?;
    let Picture { width, height, bytes } = picture;
    print(out, format_args!("[screenshot of {name}: {width} x {height}, {} bytes]\n", bytes.len()));
    for line in base64_lines(&bytes) {
        out.write_bytes(line.trim_ascii_end());
        print(out, format_args!("\n"));
    }
    print(out, format_args!("[end of screenshot]\n"));
    Ok(())
}

fn keys(name: &str, text: &str, control: &mut dyn Control, out: &mut dyn Output) -> Result<(), String> {
    let name = find(Some(name), control)?.name;
    let strokes = strokes(text).map_err(|error| match error {
        NotTyped::Character(character) => format!("the keyboard has no '{character}'"),
        NotTyped::Key(key) => format!("no key is called '{key}'; 'help keys' names some"),
    })?;
    control.type_keys(&name, &strokes).map_err(|error| explain("type at", &name, &error))?;
    print(out, format_args!("typing {} keys at {name}\n", strokes.len()));
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
    let reason = error.reason(name);
    format!("cannot {doing} {name}: {reason}")
}

/// "; cuts off a, b" when virtual machines run.
fn cut_off(control: &dyn Control) -> String {
    let vms = control.vms();
    let running: Vec<&str> = vms.iter().filter(|vm| is_on(vm.state)).map(|vm| vm.name.as_str()).collect();
    if running.is_empty() { String::new() } else { format!("; cuts off {}", OneOf(&running)) }
}

fn is_on(state: VmState) -> bool {
    match state {
        VmState::Running | VmState::Paused => true,
        VmState::Stopped | VmState::Crashed | VmState::Refused => false,
    }
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
mod tests;
