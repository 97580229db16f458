//! The life of machines at run time: at the operator's word, by restart policy, and a thousand times over, while others
//! go on.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use super::Case;
use super::harness::{LONG, Lab, SHORT, Setup, archive, boot};
use super::hostile::{ESCAPE, ORDERLY, PROMPT, enter_monitor, order};
use crate::image::archive::Archive;
use crate::machine::{Serial, Size};

pub(super) const CASES: &[Case] = &[
    Case { name: "lifecycle::one_machine_while_others_run", run: one_machine },
    Case { name: "lifecycle::pauses_lose_no_wake_up", run: pauses },
    Case { name: "lifecycle::shares_follow_what_is_set", run: shares },
    Case { name: "lifecycle::too_much_memory_is_refused_with_the_figures", run: refused_memory },
    Case { name: "lifecycle::restart_policies", run: policies },
    Case { name: "lifecycle::a_thousand_cycles_leave_nothing", run: thousand_cycles },
];

/// How late a timer may come beside others on the same core, in microseconds: `sched::Params::delay_bound`, six rounds
/// of 5 ms.
const BOUND_US: u64 = 30_000;
/// Lines of a heartbeat in which a machine shows that it goes on.
const SOME: usize = 4;

/// As many lines of a long heartbeat are kept of a machine that is not shown: 8 KiB of them.
const KEPT: usize = 8192 / 42;

/// A host with two processors.
fn two_cores(lab: &Lab) -> Setup {
    let usual = lab.usual();
    Setup { size: Size { cpus: 2, ..usual.size }, ..usual }
}

/// A configuration with a machine that never starts and has the serial line, and others: name, program, further lines.
fn machines(others: &[(&str, &str, &str)]) -> Result<Archive> {
    let mut text = String::from(
        "[[vm]]\nname = \"silent\"\nmemory_mib = 16\nkernel = \"testkit\"\nautostart = false\nconsole = true\n\n",
    );
    for (name, program, more) in others {
        writeln!(
            text,
            "[[vm]]\nname = \"{name}\"\nmemory_mib = 16\nkernel = \"testkit\"\nboot = \"pvh\"\n\
             cmdline = \"test={program}\"\n{more}\n"
        )?;
    }
    archive(&text, &["testkit"])
}

/// Types `command` and waits for `answer`, then for the prompt; returns what came in between.
fn ask(serial: &mut Serial, command: &str, answer: &str) -> Result<String> {
    order(serial, command)?;
    serial.wait_for(answer, SHORT).with_context(|| format!("the answer to `{command}`"))?;
    serial.wait_for(PROMPT, SHORT)
}

/// A line of the program `heartbeat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Beat {
    beats: u64,
    late_us: u64,
    ever_us: u64,
}

impl Beat {
    /// Reads what follows `heartbeat: beats `.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let beats = words.next()?.parse().ok()?;
        let mut number = |label| (words.next()? == label).then(|| words.next()?.parse().ok())?;
        Some(Self { beats, late_us: number("late")?, ever_us: number("ever")? })
    }
}

/// Looks at the console of `name` until it has shown `count` lines more than it had printed before.
fn watch(serial: &mut Serial, name: &str, count: usize) -> Result<Vec<Beat>> {
    order(serial, &format!("vm console {name}"))?;
    serial.wait_for(&format!("console of {name}"), SHORT)?;
    let mut beats = Vec::new();
    for _ in 0..count {
        serial.wait_for("heartbeat: beats ", SHORT).with_context(|| format!("{name} does not go on"))?;
        let line = serial.wait_for("\n", SHORT)?;
        beats.push(Beat::parse(&line).with_context(|| format!("no heartbeat: {line}"))?);
    }
    serial.send(ESCAPE)?;
    serial.wait_for(PROMPT, SHORT)?;
    Ok(beats)
}

/// How many exits `name` has had and where it is, as `vm info` shows it: the row of its only vCPU.
fn vcpu_row(serial: &mut Serial, name: &str) -> Result<String> {
    order(serial, &format!("vm info {name}"))?;
    serial.wait_for("MIGRATIONS", SHORT)?;
    serial.wait_for("RIP", SHORT)?;
    serial.wait_for("\n", SHORT)?;
    let row = serial.wait_for("\n", SHORT)?;
    serial.wait_for(PROMPT, SHORT)?;
    Ok(row.trim().to_owned())
}

/// One machine through all of its life, beside one that must not notice.
fn one_machine(lab: &Lab) -> Result<()> {
    let archive = machines(&[
        ("steady", "heartbeat", ""),
        ("busy", "spin", ""),
        ("pattern", "heartbeat", "autostart = false"),
    ])?;
    boot("lifecycle", two_cores(lab), &archive.to_tar()?, |machine| {
        let serial = &mut machine.serial;
        enter_monitor(serial)?;
        ask(serial, "vm create fresh pattern weight=50", "fresh created like pattern")?;
        ask(serial, "vm create fresh pattern", "error: cannot create fresh")?;
        ask(serial, "vm start fresh", "fresh started")?;
        let first = watch(serial, "fresh", SOME)?;

        ask(serial, "vm pause fresh", "fresh paused")?;
        let held = vcpu_row(serial, "fresh")?;
        ensure!(held.contains("paused"), "a paused machine's vCPU: {held}");
        // The others go on meanwhile.
        watch(serial, "steady", 2 * SOME)?;
        let still = vcpu_row(serial, "fresh")?;
        ensure!(held == still, "a paused machine went on:\n{held}\n{still}");
        ask(serial, "vm pause fresh", "error: cannot pause fresh")?;

        ask(serial, "vm resume fresh", "fresh resumed")?;
        let resumed = watch(serial, "fresh", 3 * SOME)?;
        for (command, columns) in [
            ("stats fresh", ["hlt", "WORST DELAY", "WAKE-UP DELAY"]),
            ("stats host", ["GUEST", "IDLE", "SWITCHES"]),
        ] {
            order(serial, command)?;
            for column in columns {
                serial.wait_for(column, SHORT).with_context(|| format!("`{command}`"))?;
            }
            serial.wait_for(PROMPT, SHORT)?;
        }
        check_resumed(&first, &resumed)?;

        ask(serial, "vm reset fresh", "fresh reset")?;
        // What it had printed before is shown first.
        let mut last = watch(serial, "fresh", SOME)?;
        for _ in 0..=KEPT / SOME {
            if began_anew(&last) {
                break;
            }
            last = watch(serial, "fresh", SOME)?;
        }
        ensure!(began_anew(&last), "a reset machine begins anew: {last:?}");

        ask(serial, "vm stop fresh", "fresh stopped")?;
        ask(serial, "vm info fresh", "state         stopped (stopped by the operator)")?;
        ask(serial, "vm start fresh", "fresh started")?;
        watch(serial, "fresh", SOME)?;
        // Destroyed while it runs.
        ask(serial, "vm destroy fresh", "fresh destroyed")?;
        ask(serial, "vm info fresh", "error: there is no virtual machine 'fresh'")?;

        let last = *watch(serial, "steady", KEPT)?.last().context("no heartbeat")?;
        ensure!(last.ever_us <= BOUND_US, "the neighbour's timer came late: {last:?}");
        let text = serial.text();
        ensure!(!text.contains("panic"), "the hypervisor panicked:\n{text}");
        Ok(())
    })
}

/// Whether these are beats of a machine that knows nothing of the pause before its reset.
fn began_anew(beats: &[Beat]) -> bool {
    beats.last().is_some_and(|beat| beat.ever_us <= BOUND_US)
}

/// No beat was lost, one timer was late by the pause, and the others are on time again.
fn check_resumed(before: &[Beat], after: &[Beat]) -> Result<()> {
    let known = before.iter().chain(after).map(|beat| beat.beats).collect::<Vec<_>>();
    ensure!(known.is_sorted(), "beats: {known:?}");
    let late = after.iter().filter(|beat| beat.late_us > BOUND_US).count();
    ensure!(late <= 1, "timers stay late after a pause: {after:?}");
    let last = after.last().context("no heartbeat")?;
    ensure!(last.late_us <= BOUND_US && last.ever_us > BOUND_US, "a pause of a while and its end: {after:?}");
    Ok(())
}

/// How often a machine is paused in the midst of its work, if it is not done before.
const MOST_PAUSES: usize = 12;
const LEAST_PAUSES: usize = 4;

/// Two processors that wake each other from HLT are held again and again, wherever they are, and come to a good end.
fn pauses(lab: &Lab) -> Result<()> {
    // While nobody works, the emulator's time runs ahead, and a pause would seem long to the pair.
    let archive = machines(&[
        ("pair", "smp-hlt rounds=10000", "vcpus = 2"),
        ("busy", "spin", "cores = [0]"),
        ("busier", "spin", "cores = [1]"),
    ])?;
    boot("pauses", two_cores(lab), &archive.to_tar()?, |machine| {
        let serial = &mut machine.serial;
        enter_monitor(serial)?;
        let mut paused = 0;
        while paused < MOST_PAUSES {
            order(serial, "vm pause pair")?;
            let (answer, _) = serial.wait_for_any(&["pair paused", "it does not run"], SHORT)?;
            serial.wait_for(PROMPT, SHORT)?;
            if answer == 1 {
                break;
            }
            paused += 1;
            ask(serial, "vm resume pair", "pair resumed")?;
        }
        serial.wait_for_all(&[&format!("vm pair: stopped: {ORDERLY}")], SHORT)?;
        order(serial, "vm console pair")?;
        let (index, text) = serial.wait_for_any(&["testkit: smp-hlt: ok", "FAIL"], SHORT)?;
        ensure!(index == 0, "{text}{}", serial.wait_for("\n", SHORT)?);
        ensure!(paused >= LEAST_PAUSES, "it was over after {paused} pauses");
        Ok(())
    })
}

/// Two machines on one core: what they get follows each change.
fn shares(lab: &Lab) -> Result<()> {
    let archive = machines(&[("a", "spin", "cores = [1]"), ("b", "spin", "cores = [1]")])?;
    boot("shares", two_cores(lab), &archive.to_tar()?, |machine| {
        let serial = &mut machine.serial;
        enter_monitor(serial)?;
        let table = shares_are(serial, 50.0, 50.0)?;
        // The other core halts, but for the monitor.
        let idle = idleness(&table, 0)?;
        ensure!(idle > 90.0, "core 0 has nothing to do and idles {idle} %:\n{table}");
        ask(serial, "vm set a weight=300", "a changed")?;
        shares_are(serial, 75.0, 25.0)?;
        ask(serial, "vm set a cap=20", "a changed")?;
        shares_are(serial, 20.0, 80.0)?;
        ask(serial, "vm set a cap=none", "a changed")?;
        shares_are(serial, 75.0, 25.0)?;
        ask(serial, "vm set b cores=0", "b changed")?;
        shares_are(serial, 100.0, 100.0)?;
        ask(serial, "vm set a cap=30 cores=0", "a changed")?;
        shares_are(serial, 30.0, 70.0)?;
        ask(serial, "vm set a weight=0", "error: ")?;
        ask(serial, "vm set a cores=7", "error: ")?;
        shares_are(serial, 30.0, 70.0)?;
        ask(serial, "vm set b cores=1 class=exclusive", "b changed")?;
        let table = shares_are(serial, 30.0, 100.0)?;
        let exits = exits_a_second(&table, "b")?;
        ensure!(exits < 10, "a core of its own has no ticks, but b has {exits} exits a second:\n{table}");
        Ok(())
    })
}

/// How far a share may be from what it should be, in percent of a core: the monitor works on core 0.
const TOLERANCE: f64 = 2.0;

/// Expects these shares of `a` and `b` over a second, and returns what `top` shows.
fn shares_are(serial: &mut Serial, a: f64, b: f64) -> Result<String> {
    order(serial, "top 1 1")?;
    serial.wait_for("top: first figures in", SHORT)?;
    serial.wait_for("IPIS", SHORT)?;
    let table = serial.wait_for(PROMPT, SHORT)?;
    for (name, wanted) in [("a", a), ("b", b)] {
        let share = super::smp::share_of(&table, name)?;
        ensure!((share - wanted).abs() < TOLERANCE, "{name} has {share} %, not {wanted} %:\n{table}");
    }
    Ok(table)
}

/// The exits in the row of `name`: two columns behind its share, after run time and steal.
fn exits_a_second(table: &str, name: &str) -> Result<u64> {
    let row = table.lines().find(|line| line.split_whitespace().next() == Some(name));
    let exits =
        row.and_then(|row| row.rsplit('%').next()?.split_whitespace().nth(2)?.replace(',', "").parse().ok());
    exits.with_context(|| format!("no exits of {name}:\n{table}"))
}

/// How much `core` idled, in percent: the third percentage of its row.
fn idleness(table: &str, core: u32) -> Result<f64> {
    let number = core.to_string();
    let row = table.lines().find(|line| line.split_whitespace().next() == Some(&number));
    let idle = row.and_then(|row| row.split('%').nth(2)?.trim().parse().ok());
    idle.with_context(|| format!("no row of core {core}:\n{table}"))
}

/// A machine that asks for more than there is: the answer has the figures, and nobody else notices.
fn refused_memory(lab: &Lab) -> Result<()> {
    let archive = machines(&[
        ("steady", "heartbeat", ""),
        ("large", "spin", "autostart = false"),
        ("larger", "spin", "autostart = false"),
    ])?;
    boot("refused-memory", two_cores(lab), &archive.to_tar()?, |machine| {
        let serial = &mut machine.serial;
        enter_monitor(serial)?;
        ask(serial, "vm create half large memory=600", "half created")?;
        ask(serial, "vm create other larger memory=600", "other created")?;
        ask(serial, "vm create giant large memory=8G", "error: cannot create giant: ")?;
        order(serial, "vm start half")?;
        serial.wait_for("half started", SHORT)?;
        // While the first is being built, its memory is promised to it already.
        let refused = ask(serial, "vm start other", "error: cannot start other: ")?;
        ensure!(refused.contains("600") && refused.contains("free"), "no figures: {refused}");
        ask(serial, "vm info other", "state         stopped")?;
        // In the largest blocks that there are.
        let largest = "vm half: starts with 600 MiB, 1 vCPU; EPT: Statistics { leaves_4k: 0, leaves_2m: 300,";
        serial.wait_for_all(&[largest], SHORT)?;
        let beats = watch(serial, "steady", 2 * SOME)?;
        ensure!(beats.iter().all(|beat| beat.ever_us <= BOUND_US), "the neighbour: {beats:?}");
        // There is room as soon as the first is gone.
        ask(serial, "vm stop half", "half stopped")?;
        ask(serial, "vm start other", "other started")?;
        serial.wait_for_all(&["vm other: starts with 600 MiB"], SHORT)?;
        Ok(())
    })
}

/// What follows the end of a machine, by its policy.
fn policies(lab: &Lab) -> Result<()> {
    let archive = machines(&[
        ("crash-never", "triple-fault", "restart = \"never\""),
        ("crash-on-failure", "triple-fault", "restart = \"on-failure\""),
        ("crash-always", "triple-fault", "restart = \"always\""),
        ("end-on-failure", "xsetbv", "restart = \"on-failure\""),
        ("end-always", "xsetbv", "restart = \"always\""),
    ])?;
    boot("policies", two_cores(lab), &archive.to_tar()?, |machine| {
        let serial = &mut machine.serial;
        let restarting = ["crash-on-failure", "crash-always", "end-always"];
        let waits: Vec<String> = restarting
            .iter()
            .flat_map(|name| [500, 1000, 2000].map(|wait| format!("vm {name}: starts again in {wait} ms")))
            .collect();
        let text = serial.wait_for_all(&waits.iter().map(String::as_str).collect::<Vec<_>>(), SHORT)?;
        let ends = |name: &str, why: &str| text.matches(&format!("vm {name}: stopped: {why}")).count();
        ensure!(ends("crash-never", "") == 1, "a machine that is never to start again");
        ensure!(
            ends("end-on-failure", ORDERLY) == 1,
            "a machine that ended in order and may restart on failure"
        );
        ensure!(ends("end-always", ORDERLY) >= 3, "a machine that is always to start again");
        for name in ["crash-never", "end-on-failure"] {
            ensure!(!text.contains(&format!("vm {name}: starts again")), "{name} starts again");
        }
        enter_monitor(serial)?;
        ask(serial, "vm info crash-never", "state         crashed")?;
        ask(serial, "vm info end-on-failure", "state         stopped")?;
        // The operator's word ends every policy.
        for name in restarting {
            ask(serial, &format!("vm stop {name}"), &format!("{name} stopped"))?;
        }
        Ok(())
    })
}

/// How often machines come and go.
const CYCLES: usize = 1000;

/// Machines of all kinds come and go; every frame, heap byte, VPID and EPT page is back afterwards.
fn thousand_cycles(lab: &Lab) -> Result<()> {
    let machine = |name: &str, program: &str, more: &str| {
        format!(
            "[[vm]]\nname = \"{name}\"\nmemory_mib = 8\nkernel = \"testkit\"\nboot = \"pvh\"\n\
             cmdline = \"test={program}\"\nautostart = false\n{more}\n"
        )
    };
    let configuration = [
        String::from("[host]\nlog_level = \"warn\"\n"),
        machine("one", "spin", "console = true"),
        machine("several", "ipi-flood", "vcpus = 4"),
        machine("crash", "triple-fault", ""),
        machine("own-cores", "spin", "class = \"exclusive\""),
        machine("sleepers", "hlt-wake-race", "vcpus = 2\nclass = \"latency\""),
    ]
    .concat();
    let mut archive = archive(&configuration, &["testkit"])?;
    archive.add("cycle-test", CYCLES.to_string().into_bytes());
    boot("cycles", two_cores(lab), &archive.to_tar()?, |machine| {
        machine.serial.wait_for("cycle test: ", LONG)?;
        let report = machine.serial.wait_for("\n", SHORT)?;
        ensure!(report.contains("; all came back"), "cycle test: {report}");
        for (what, least) in [
            ("called off ", CYCLES / 6),
            ("ended by themselves ", CYCLES / 10),
            ("stopped while held ", CYCLES / 10),
            ("stopped while running ", CYCLES / 10),
            // No memory may be used again before; the emulator, which flushes at each entry, would not mind.
            ("flushes of all cores ", CYCLES),
        ] {
            let count = report.split_once(what).and_then(|(_, rest)| {
                rest.split(|character: char| !character.is_ascii_digit()).next()?.parse::<usize>().ok()
            });
            ensure!(count.is_some_and(|count| count >= least), "too few: {what}: {report}");
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::Beat;

    #[test]
    fn a_heartbeat_is_read_and_nothing_else() {
        let beat = Beat { beats: 20, late_us: 3, ever_us: 4 };
        assert_eq!(Beat::parse("20 late 3 ever 4\r\n"), Some(beat));
        assert_eq!(Beat::parse("20 late 3"), None);
        assert_eq!(Beat::parse("late 20 ever 4"), None);
    }
}
