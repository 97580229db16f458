//! Every command and every refusal, with a scripted hypervisor.

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
    for part in
        ["2095.078 MHz", "2 GiB total, 528 MiB in guests, 16 MiB for the hypervisor", "EPT", "absent", "L1TF"]
    {
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

#[test]
fn pausing_resuming_and_the_rest_go_through_and_say_so() {
    let mut control = FakeControl::two_vms();
    assert_eq!(
        shown("vm pause debian", &mut control).0,
        "debian paused; 'vm resume debian' lets it go on\r\n"
    );
    assert!(shown("vm list", &mut control).0.contains("debian  paused"));
    assert_eq!(shown("vm resume debian", &mut control).0, "debian resumed\r\n");
    assert_eq!(shown("vm reset debian", &mut control).0, "debian reset\r\n");
    assert_eq!(control.calls, ["pause debian", "resume debian", "reset debian"]);
}

#[test]
fn create_hands_the_overrides_over() {
    let mut control = FakeControl::two_vms();
    assert_eq!(
        shown("vm create web debian memory=1G vcpus=4 weight=50 cmdline=a b", &mut control).0,
        "web created like debian; 'vm start web' starts it\r\n"
    );
    let call = &control.calls[0];
    for part in ["memory_mib: Some(1024)", "vcpus: Some(4)", "weight: Some(50)", "\"a b\"", "cap: None"] {
        assert!(call.contains(part), "{part} in {call}");
    }
    assert!(shown("vm list", &mut control).0.contains("web     stopped      4    1 GiB"));
    assert_eq!(
        shown("vm create web probe", &mut control).0,
        "error: cannot create web: there is a 'web' already; choose another name, or 'vm destroy web' first\r\n"
    );
    assert!(shown("vm create db pobe", &mut control).0.contains("did you mean 'probe'?"));
    assert_eq!(control.calls.len(), 1, "mistakes reach nobody");
}

#[test]
fn set_hands_the_change_over() {
    let mut control = FakeControl::two_vms();
    assert_eq!(shown("vm set debian weight=300 cap=none cores=0-1", &mut control).0, "debian changed\r\n");
    assert_eq!(
        control.calls,
        ["set SchedulingChange { weight: Some(300), cap: Some(Unlimited), \
          cores: Some(These([0, 1])), class: None } debian"]
    );
    assert!(shown("vm set weight=1", &mut control).0.contains("which virtual machine?"));
    assert!(shown("vm set debian weight=0", &mut control).0.starts_with("error: weight=0: use a number"));
    control.vms.remove(1);
    assert_eq!(shown("vm set cap=7", &mut control).0, "debian changed\r\n");
}

#[test]
fn destroy_forgets_the_console_too() {
    let mut control = FakeControl::two_vms();
    let (text, request) = shown("vm destroy debian", &mut control);
    assert_eq!((text.as_str(), request), ("debian destroyed\r\n", Some(Request::Forget("debian".into()))));
    let (text, request) = shown("vm destroy debian", &mut control);
    assert!(text.contains("there is no virtual machine 'debian'"), "{text}");
    assert_eq!(request, None);
    assert!(shown("vm destroy", &mut control).0.contains("is missing"), "even when there is one only");
}

#[test]
fn every_refusal_is_one_clear_sentence() {
    let cases = [
        ("vm pause probe", None, "cannot pause probe: it does not run; 'vm start probe' starts it"),
        ("vm resume debian", None, "cannot resume debian: it is not paused; 'vm pause debian' holds it"),
        ("vm resume probe", None, "cannot resume probe: it does not run; 'vm start probe' starts it"),
        (
            "vm start probe",
            Some(ControlError::OutOfMemory { needed: 512 << 20, free: (100 << 20) + 512 }),
            "cannot start probe: it needs 512 MiB of memory and 100 MiB are free; \
             stop another one or give it less",
        ),
        (
            "vm start probe",
            Some(ControlError::Paused),
            "cannot start probe: it is paused; 'vm resume probe' lets it go on",
        ),
        (
            "vm set debian cores=0,9",
            Some(ControlError::NoSuchCore { core: 9, cores: 2 }),
            "cannot change debian: there is no core 9; the host has cores 0 to 1",
        ),
        (
            "vm set debian cores=1",
            Some(ControlError::NoSuchCore { core: 1, cores: 1 }),
            "cannot change debian: there is no core 1; the host has core 0 only",
        ),
        (
            "vm set debian class=exclusive",
            Some(ControlError::Refused("no core is left for it alone".into())),
            "cannot change debian: no core is left for it alone",
        ),
        (
            "vm create a debian",
            Some(ControlError::Refused("field `vcpus`: too many".into())),
            "cannot create a: field `vcpus`: too many",
        ),
        (
            "vm destroy debian",
            Some(ControlError::NoSuchVm),
            "cannot destroy debian: it is gone; 'vm list' shows what there is",
        ),
        (
            "vm reset debian",
            Some(ControlError::Failed("the core is stuck".into())),
            "cannot reset debian: the core is stuck",
        ),
        ("stats probe vcpu 1", None, "cannot show the statistics of probe: it has vCPU 0 only"),
        ("stats probe vcpu x", None, "'x' is no vCPU number"),
        ("stats probe vcpu -1", None, "'-1' is no vCPU number"),
    ];
    for (line, refusal, message) in cases {
        let mut control = FakeControl::two_vms();
        control.refuse = refusal;
        assert_eq!(shown(line, &mut control).0, format!("error: {message}\r\n"), "{line}");
        assert!(control.calls.is_empty(), "{line}");
    }
    let mut control = FakeControl::two_vms();
    shown("vm pause debian", &mut control);
    let message = "error: cannot pause debian: it is paused; 'vm resume debian' lets it go on\r\n";
    assert_eq!(shown("vm pause debian", &mut control).0, message);
}

#[test]
fn info_shows_scheduling_and_the_times_of_each_vcpu() {
    let shown = text("vm info debian");
    assert!(shown.contains("weight 200, cap 50 % of a core, cores 0,1, class normal"), "{shown}");
    assert!(shown.contains("restart       on-failure"), "{shown}");
    assert!(shown.contains("nodes         2"), "{shown}");
    let rows: Vec<Vec<&str>> = shown.lines().map(|row| row.split_whitespace().collect()).collect();
    let last = rows.last().expect("rows");
    assert_eq!(*last, ["1", "halted", "-", "50.0", "s", "20.0", "s", "2", "2,000", "0x1000"]);
}

#[test]
fn stats_show_times_and_delays_of_the_machine_or_of_one_vcpu() {
    let shown = text("stats debian");
    for part in ["VCPU", "total", "WAKE-UP DELAY", "< 8 us     70  70.0 %", "the longest took 12 us"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let shown = text("stats debian vcpu 1");
    assert!(shown.contains("HLT") && !shown.contains("CPUID") && !shown.contains("WAKE-UP DELAY"), "{shown}");
}

#[test]
fn stats_host_shows_the_cores_unless_a_machine_is_called_so() {
    let shown_first = text("stats host");
    assert!(shown_first.contains("HYPERVISOR"), "{shown_first}");
    assert!(text("host").contains(&shown_first), "'host' shows them too");
    let mut control = FakeControl::two_vms();
    control.vms[1].name = "host".into();
    assert!(shown("stats host", &mut control).0.contains("REASON"));
}

#[test]
fn top_is_handed_to_the_terminal() {
    let (text, request) = shown("top 2 3", &mut FakeControl::two_vms());
    assert_eq!(text, "top: first figures in 2.0 s; any key stops\r\n");
    assert!(matches!(request, Some(Request::Repeat(_))));
    assert_eq!(shown("top 0", &mut FakeControl::two_vms()).1, None);
}

#[test]
fn many_machines_do_not_flood_the_line() {
    let mut control = FakeControl::two_vms();
    let one = control.vms[0].clone();
    control.vms = (0..5000).map(|n| VmSummary { name: format!("vm{n}"), ..one.clone() }).collect();
    let list = shown("vm list", &mut control).0;
    assert!(list.lines().count() < 300 && list.ends_with("  and 4744 more\r\n"));
    assert!(shown("vm start x", &mut control).0.len() < 300);
    assert!(shown("reboot", &mut control).0.len() < 300);
    assert!(shown("stats", &mut control).0.ends_with(" and 4984 more\r\n"));
}

#[test]
fn a_screen_is_shown_as_text_or_encoded() {
    assert_eq!(text("screen debian"), "GRUB loading.\r\n[debian: 3 rows, 2 of them empty at the end]\r\n");
    assert!(text("screen probe").starts_with("error: cannot show the screen of probe: it does not run"));
    let shown = text("screenshot debian");
    assert_eq!(shown, "[screenshot of debian: 2 x 1, 5 bytes]\r\nAQIDBIE=\r\n[end of screenshot]\r\n");
}

#[test]
fn keys_are_typed_or_refused_by_name() {
    let mut control = FakeControl::two_vms();
    assert_eq!(shown("keys debian A<enter>", &mut control).0, "typing 2 keys at debian\r\n");
    assert_eq!(control.calls, ["type debian [[12, 1c, f0, 1c, f0, 12], [5a, f0, 5a]]"]);
    assert_eq!(text("keys debian <f99>"), "error: no key is called 'f99'; 'help keys' names some\r\n");
    assert!(text("keys debian \u{e9}").starts_with("error: the keyboard has no"));
}
