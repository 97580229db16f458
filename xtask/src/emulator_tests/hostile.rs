//! Our bare-metal guests beside one another: every program that ends by itself in one boot, the same programs without a
//! hypervisor, and guests that misbehave while others go on.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::Case;
use super::harness::{Lab, SHORT, archive};
use super::testkit::{ROUNDS as SLEEP_ROUNDS, SEVERAL};
use crate::bench::emulation::{Apic, Emulation, Processors, UnknownMsrs, Unmodelled};
use crate::bench::grub_disk::{self, Recipe};
use crate::machine::Serial;
use crate::{guests, paths};

pub(super) const CASES: &[Case] = &[
    Case { name: "hostile::programs_side_by_side", run: side_by_side },
    Case { name: "hostile::neighbours_undisturbed", run: neighbours },
    Case { name: "hostile::chatter_leaves_the_line_to_others", run: chatter },
    Case { name: "hostile::failing_guest_starts_later_each_time", run: restarts },
    Case { name: "hostile::resetting_guest_starts_later_each_time", run: resets },
    Case { name: "native::verdicts_agree", run: native },
];

/// Programs that end by themselves. Each must pass on Craton ([`side_by_side`]) and without it ([`native`]): so the
/// verdicts agree.
const PROGRAMS: [&str; 16] = [
    "exceptions",
    "exceptions-under-timer",
    "fault-details",
    "xsetbv",
    "control-registers",
    "cpuid",
    "timer",
    "pit",
    "nmi-self",
    "self-ipi",
    "task-priority",
    "sti-blocking",
    "unknown-msr",
    "unknown-port",
    "unknown-mmio",
    "vmx-instructions",
];
/// Programs that Craton must end, and what it says of them.
const CRASHES: [(&str, &str); 3] = [
    ("triple-fault", "triple fault"),
    ("unmapped-jump", "where there is no RAM"),
    ("hlt-if0", "HLT with interrupts off"),
];
/// Programs that never give the processor back.
const GREEDY: [&str; 4] = ["spin", "port-flood", "mmio-flood", "ipi-storm"];
/// A well-behaved one that needs the processor on time.
const NEIGHBOUR: &str = "timer";
/// Starts and stops of each machine before memory is compared: two lost pages each would show.
const ROUNDS: usize = 3;

/// Ctrl-].
pub(super) const ESCAPE: &[u8] = &[0x1d];
pub(super) const PROMPT: &str = "craton> ";
pub(super) const ORDERLY: &str = "the guest powered off";
/// Processors of the machine on which the programs run without a hypervisor.
const NATIVE_PROCESSORS: Processors = Processors { count: 4, apic: Apic::Virtualized };
/// The longest that the programs may take without a hypervisor.
const NATIVE_PATIENCE: Duration = Duration::from_secs(120);

/// When a configured machine starts.
#[derive(Clone, Copy)]
enum Start {
    WithTheHost,
    ByHand,
}

/// What a program says of what it checked.
enum Verdict {
    Ok,
    Failed(String),
}

/// A configuration with a machine for each of `programs`, named like it. The serial line begins with the console of
/// one that never starts: nothing that they print is shown before it is asked for.
fn machines<'a>(programs: impl IntoIterator<Item = &'a str>, start: Start) -> String {
    let autostart = matches!(start, Start::WithTheHost);
    let mut text = String::from(
        "[[vm]]\nname = \"silent\"\nmemory_mib = 16\nkernel = \"testkit\"\nautostart = false\nconsole = true\n\n",
    );
    for program in programs {
        // Writing to a string cannot fail.
        let _infallible = writeln!(
            text,
            "[[vm]]\nname = \"{program}\"\nmemory_mib = 16\nkernel = \"testkit\"\nboot = \"pvh\"\n\
             cmdline = \"test={program}\"\nautostart = {autostart}\nrestart = \"never\"\n"
        );
    }
    text
}

/// Leaves the silent console that the serial line begins with.
pub(super) fn enter_monitor(serial: &mut Serial) -> Result<()> {
    serial.wait_for("console of silent", SHORT)?;
    serial.send(ESCAPE)?;
    serial.wait_for(PROMPT, SHORT)?;
    Ok(())
}

/// Types `command` into the monitor. Its echo is not waited for: the log may write into it.
pub(super) fn order(serial: &mut Serial, command: &str) -> Result<()> {
    serial.send(command.as_bytes())?;
    serial.send(b"\r")
}

/// Waits for the log's line on the end of machine `name`.
pub(super) fn end_of(serial: &mut Serial, name: &str) -> Result<String> {
    serial.wait_for(&format!("vm {name}: stopped: "), SHORT)?;
    serial.wait_for("\n", SHORT)
}

/// What the host says of its free memory.
fn free_memory(serial: &mut Serial) -> Result<String> {
    order(serial, "host")?;
    serial.wait_for("for the hypervisor, ", SHORT)?;
    let free = serial.wait_for(" free", SHORT)?;
    // The tables behind it come before the prompt.
    serial.wait_for("SPECULATION ISSUE", SHORT)?;
    serial.wait_for(PROMPT, SHORT)?;
    Ok(free)
}

/// What the program `name` said last, shown on its console.
fn verdict(serial: &mut Serial, name: &str) -> Result<Verdict> {
    order(serial, &format!("vm console {name}"))?;
    // Some say more than that.
    let start = format!("testkit: {name}: ");
    let (ok, failed) = (format!("{start}ok"), format!("{start}FAIL"));
    let (index, _) = serial.wait_for_any(&[&ok, &failed], SHORT)?;
    let reason = serial.wait_for("\n", SHORT)?;
    serial.send(ESCAPE)?;
    serial.wait_for(PROMPT, SHORT)?;
    Ok(if index == 0 { Verdict::Ok } else { Verdict::Failed(reason.trim().to_owned()) })
}

/// All programs at once share the processor; each ends in order and passes.
fn side_by_side(lab: &Lab) -> Result<()> {
    let configuration = machines(PROGRAMS, Start::WithTheHost);
    lab.boot("side-by-side", &archive(&configuration, &["testkit"])?, |machine| {
        let ends: Vec<String> =
            PROGRAMS.iter().map(|program| format!("vm {program}: stopped: {ORDERLY}")).collect();
        let ends: Vec<&str> = ends.iter().map(String::as_str).collect();
        machine.serial.wait_for_all(&ends, SHORT)?;
        enter_monitor(&mut machine.serial)?;
        let mut failures = Vec::new();
        for program in PROGRAMS {
            if let Verdict::Failed(reason) = verdict(&mut machine.serial, program)? {
                failures.push(format!("{program}: {reason}"));
            }
        }
        ensure!(failures.is_empty(), "{}", failures.join("\n"));
        Ok(())
    })
}

/// Crashing and greedy guests come and go beside a well-behaved one; what they held comes back.
fn neighbours(lab: &Lab) -> Result<()> {
    let programs = CRASHES.iter().map(|(name, _)| *name).chain(GREEDY).chain([NEIGHBOUR]);
    let configuration = machines(programs, Start::ByHand);
    lab.boot("neighbours", &archive(&configuration, &["testkit"])?, |machine| {
        let serial = &mut machine.serial;
        enter_monitor(serial)?;
        // What the host allocates once is allocated in a first round.
        round(serial)?;
        let before = free_memory(serial)?;
        for _ in 0..ROUNDS {
            round(serial)?;
        }
        let after = free_memory(serial)?;
        ensure!(before == after, "memory was{before} and is{after} after every machine stopped");
        let text = serial.text();
        ensure!(!text.contains("panic"), "the hypervisor panicked:\n{text}");
        Ok(())
    })
}

/// Everybody misbehaves once beside the neighbour, which passes nevertheless.
fn round(serial: &mut Serial) -> Result<()> {
    for name in GREEDY {
        order(serial, &format!("vm start {name}"))?;
        serial.wait_for(&format!("vm {name}: starts"), SHORT)?;
    }
    for (name, reason) in CRASHES {
        order(serial, &format!("vm start {name}"))?;
        let said = end_of(serial, name)?;
        ensure!(said.contains(reason), "{name} stopped: {said}");
        // The dump names the machine in each line.
        serial.wait_for(&format!("vm {name}: rip="), SHORT)?;
        serial.wait_for(&format!("vm {name}: stats: "), SHORT)?;
        serial.wait_for(PROMPT, SHORT)?;
    }
    order(serial, &format!("vm start {NEIGHBOUR}"))?;
    let said = end_of(serial, NEIGHBOUR)?;
    ensure!(said.contains(ORDERLY), "{NEIGHBOUR} stopped: {said}");
    serial.wait_for(PROMPT, SHORT)?;
    if let Verdict::Failed(reason) = verdict(serial, NEIGHBOUR)? {
        bail!("{NEIGHBOUR} beside greedy guests: {reason}");
    }
    for name in GREEDY {
        order(serial, &format!("vm stop {name}"))?;
        let said = end_of(serial, name)?;
        ensure!(said.contains("stopped by the operator"), "{name} stopped: {said}");
        serial.wait_for(PROMPT, SHORT)?;
    }
    Ok(())
}

/// A guest that fills the serial line neither stops another one's output nor keeps the operator out.
fn chatter(lab: &Lab) -> Result<()> {
    let name = "chatter";
    // The first machine is served first, and is the one that is shown.
    let configuration = machines([name, NEIGHBOUR], Start::WithTheHost);
    let (_, configuration) = configuration.split_once("\n\n").context("two machines")?;
    lab.boot(name, &archive(configuration, &["testkit"])?, |machine| {
        let serial = &mut machine.serial;
        let said = end_of(serial, NEIGHBOUR)?;
        ensure!(said.contains(ORDERLY), "{NEIGHBOUR} stopped: {said}");
        serial.send(ESCAPE)?;
        serial.wait_for(PROMPT, SHORT)?;
        if let Verdict::Failed(reason) = verdict(serial, NEIGHBOUR)? {
            bail!("{NEIGHBOUR} beside {name}: {reason}");
        }
        order(serial, &format!("vm stop {name}"))?;
        let said = end_of(serial, name)?;
        ensure!(said.contains("stopped by the operator"), "{name} stopped: {said}");
        Ok(())
    })
}

/// A guest that fails at once is started again, each time after twice the wait, until the operator stops it.
fn restarts(lab: &Lab) -> Result<()> {
    let (name, _) = CRASHES[0];
    let configuration = machines([name], Start::WithTheHost).replace("never", "on-failure");
    restart_waits(lab, "restarts", name, &configuration)
}

/// A guest that resets itself at once has to wait in the same way, whatever its policy.
fn resets(lab: &Lab) -> Result<()> {
    let name = "reset-loop";
    restart_waits(lab, name, name, &machines([name], Start::WithTheHost))
}

/// Machine `name` starts again and again until the operator calls that off.
fn restart_waits(lab: &Lab, run: &str, name: &str, configuration: &str) -> Result<()> {
    lab.boot(run, &archive(configuration, &["testkit"])?, |machine| {
        let serial = &mut machine.serial;
        enter_monitor(serial)?;
        let mut waits = Vec::new();
        for _ in 0..4 {
            serial.wait_for(&format!("vm {name}: starts again in "), SHORT)?;
            let wait = serial.wait_for(" ms", SHORT)?;
            waits.push(wait.trim_end_matches(" ms").parse::<u32>().with_context(|| wait.clone())?);
        }
        ensure!(waits.windows(2).all(|pair| pair[1] == 2 * pair[0]), "waits in ms: {waits:?}");
        order(serial, &format!("vm stop {name}"))?;
        serial.wait_for(&format!("{name} stopped"), SHORT)?;
        serial.wait_for(PROMPT, SHORT)?;
        order(serial, "vm list")?;
        serial.wait_for(name, SHORT)?;
        let row = serial.wait_for("MiB", SHORT)?;
        // Which of the two depends on whether it waited or was just being started.
        let rests = row.contains("crashed") || row.contains("stopped");
        ensure!(rests && !row.contains("running"), "after the stop: {name}{row}");
        Ok(())
    })
}

/// The programs pass without a hypervisor, started by GRUB in the same emulator.
fn native(_: &Lab) -> Result<()> {
    let directory = paths::created(paths::build()?.join("tests").join("native"))?;
    let testkit = guests::ours("testkit")?;
    let recipe = Recipe {
        files: &[("testkit", &testkit)],
        commands: &format!("multiboot2 /testkit test=all {SLEEP_ROUNDS}"),
        loader: "multiboot2",
    };
    let disk = directory.join("testkit.img");
    paths::write_whole(&disk, &grub_disk::build(&recipe, &directory)?)?;
    let text = Emulation {
        name: "native",
        disk: &disk,
        memory_mib: 256,
        unknown_msrs: UnknownMsrs::Fault,
        unmodelled: Unmodelled::End,
        patience: NATIVE_PATIENCE,
    }
    .run_on(NATIVE_PROCESSORS, |text| text.contains("testkit: all: done"))?;
    drop(std::fs::remove_dir_all(&directory));
    let failures: Vec<&str> = text.lines().filter(|line| line.contains("FAIL")).collect();
    if !failures.is_empty() {
        bail!("without a hypervisor:\n{}", failures.join("\n"));
    }
    for program in PROGRAMS.iter().chain(&SEVERAL) {
        ensure!(text.contains(&format!("testkit: {program}: ok")), "{program} said nothing:\n{text}");
    }
    ensure!(!text.contains("one CPU, nothing to check"), "several processors were not found:\n{text}");
    Ok(())
}
