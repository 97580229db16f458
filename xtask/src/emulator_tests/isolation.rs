//! Hostile guests, one after the other beside a well-behaved one that measures its own lateness and progress.
//!
//! Nothing panics, the neighbour gets its share and its timers within the bound, and the operator can stop whoever it is.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use super::Case;
use super::harness::{Lab, SHORT, Setup, archive, boot};
use super::hostile::{ESCAPE, ORDERLY, PROMPT, end_of, enter_monitor, order};
use crate::machine::{Complaints, Serial, Size};

pub(super) const CASES: &[Case] = &[
    Case { name: "isolation::enemies_on_one_core", run: |lab| enemies(lab, 1) },
    Case { name: "isolation::enemies_on_two_cores", run: |lab| enemies(lab, 2) },
];

/// A guest that the neighbour is measured beside.
struct Enemy {
    /// Name of its machine.
    name: &'static str,
    /// What it runs, and more words for its command line.
    program: &'static str,
    vcpus: u32,
    life: Life,
}

/// How it comes to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    /// By the operator alone.
    Endless,
    /// By its own doing, over and over, or by the operator.
    Restarting,
}

impl Enemy {
    const fn new(name: &'static str) -> Self {
        Self { name, program: name, vcpus: 1, life: Life::Endless }
    }

    const fn several(self, vcpus: u32) -> Self {
        Self { vcpus, ..self }
    }

    const fn running(self, program: &'static str) -> Self {
        Self { program, ..self }
    }
}

const ENEMIES: [Enemy; 25] = [
    Enemy::new("ac-loop"),
    Enemy::new("db-loop"),
    Enemy::new("ipi-storm"),
    Enemy::new("ipi-storm-xapic").running("ipi-storm apic=xapic"),
    Enemy::new("ipi-flood").several(2),
    Enemy::new("ipi-flood-xapic").running("ipi-flood apic=xapic").several(2),
    Enemy::new("init-storm").several(2),
    Enemy::new("timer-storm"),
    Enemy::new("wbinvd-loop"),
    Enemy::new("pause-loop"),
    Enemy::new("hlt-wake-race").several(2),
    Enemy::new("cr-flood"),
    Enemy::new("msr-flood"),
    Enemy::new("cpuid-flood"),
    Enemy::new("port-flood"),
    Enemy::new("mmio-flood"),
    Enemy::new("ept-storm"),
    Enemy::new("nmi-games"),
    Enemy::new("bad-xsetbv"),
    Enemy::new("lapic-odd-sizes"),
    Enemy { name: "lapic-vectors", program: "lapic-vectors", vcpus: 1, life: Life::Restarting },
    Enemy::new("chatter"),
    Enemy::new("spin"),
    Enemy { name: "triple-fault", program: "triple-fault", vcpus: 1, life: Life::Restarting },
    Enemy { name: "reset-loop", program: "reset-loop", vcpus: 1, life: Life::Restarting },
];

/// Part of what it should have that a neighbour must have, in percent: the rest is the way in and out of guests.
const LEAST_PART: u64 = 90;
/// The same with several processors: the pace of the emulator's clock depends on whether the others sleep, by a fifth and
/// more, so progress says less there; lateness is the sharp measure.
const LEAST_PART_OF_SEVERAL: u64 = 70;
/// How long the neighbour measures, in milliseconds of the machine's time.
const RUN_MS: u32 = 200;
/// How late a timer may come where up to eight want one core, in microseconds: `sched::Params::delay_bound`, six rounds
/// of 5 ms.
const SHARED_CORE_US: u32 = 30_000;
/// The same where everybody has a core: the way of an interrupt, and what the operator's core does between turns.
const OWN_CORE_US: u32 = 1_000;

/// The machine of the neighbour of `enemy`; each runs once, so that its console says one thing.
fn beside(enemy: &str) -> String {
    format!("beside-{enemy}")
}

fn configuration(cpus: u32) -> String {
    let mut text = String::from(
        "[[vm]]\nname = \"silent\"\nmemory_mib = 16\nkernel = \"testkit\"\nautostart = false\nconsole = true\n\n",
    );
    let mut machine = |name: &str, program: &str, vcpus: u32, restart: &str| {
        // Writing to a string cannot fail.
        let _infallible = writeln!(
            text,
            "[[vm]]\nname = \"{name}\"\nmemory_mib = 16\nvcpus = {vcpus}\nkernel = \"testkit\"\nboot = \"pvh\"\n\
             cmdline = \"test={program}\"\nautostart = false\nrestart = \"{restart}\"\n"
        );
    };
    let neighbour = |processors: u32| {
        let bound = if processors <= cpus { OWN_CORE_US } else { SHARED_CORE_US };
        format!("neighbour ms={RUN_MS} bound_us={bound} asleep_us={bound}")
    };
    machine(ALONE, &neighbour(1), 1, "never");
    for enemy in &ENEMIES {
        let restart = match enemy.life {
            Life::Endless => "never",
            Life::Restarting => "always",
        };
        machine(enemy.name, enemy.program, enemy.vcpus, restart);
        machine(&beside(enemy.name), &neighbour(enemy.vcpus + 1), 1, "never");
    }
    text
}

/// The neighbour that has the machine for itself.
const ALONE: &str = "alone";

fn enemies(lab: &Lab, cpus: u32) -> Result<()> {
    let usual = lab.usual();
    let setup = Setup { size: Size { cpus, ..usual.size }, complaints: Complaints::Dropped, ..usual };
    let tar = archive(&configuration(cpus), &["testkit"])?.to_tar()?;
    boot(&format!("isolation-{cpus}"), setup, &tar, |machine| {
        let serial = &mut machine.serial;
        enter_monitor(serial)?;
        let alone = measure(serial, ALONE)?;
        let mut failures = Vec::new();
        for enemy in &ENEMIES {
            if let Err(error) = meet(serial, enemy, cpus, alone) {
                failures.push(format!("{}: {error:#}", enemy.name));
            }
        }
        let text = serial.text();
        ensure!(!text.contains("panic"), "the hypervisor panicked:\n{text}");
        ensure!(failures.is_empty(), "alone {alone} rounds a second\n{}", failures.join("\n"));
        Ok(())
    })
}

/// Starts the enemy, lets its neighbour measure, and stops the enemy.
fn meet(serial: &mut Serial, enemy: &Enemy, cpus: u32, alone: u64) -> Result<()> {
    let name = enemy.name;
    order(serial, &format!("vm start {name}"))?;
    serial.wait_for(&format!("vm {name}: starts"), SHORT)?;
    serial.wait_for(PROMPT, SHORT)?;
    let before = serial.text().len();
    let progress = measure(serial, &beside(name));
    let text = serial.text();
    let ended = text[before..].contains(&format!("vm {name}: stopped"));
    order(serial, &format!("vm stop {name}"))?;
    match enemy.life {
        Life::Endless if ended => {}
        Life::Endless => {
            let said = end_of(serial, name)?;
            ensure!(said.contains("stopped by the operator"), "it stopped: {said}");
        }
        // It may be at rest just then.
        Life::Restarting => {
            serial.wait_for(&format!("{name} stopped"), SHORT)?;
        }
    }
    serial.wait_for(PROMPT, SHORT)?;
    let progress = progress?;
    ensure!(enemy.life == Life::Restarting || !ended, "it stopped by itself");
    // All have the same weight, and nobody gets more than a core.
    let least = if cpus == 1 { LEAST_PART } else { LEAST_PART_OF_SEVERAL };
    let part = (100 * u64::from(cpus) / u64::from(enemy.vcpus + 1)).min(100) * least / 100;
    ensure!(
        progress * 100 >= alone * part,
        "the neighbour made {progress} rounds a second, less than {part} % of {alone}"
    );
    Ok(())
}

/// Runs the neighbour `name` to its end and returns its progress, in rounds a second.
fn measure(serial: &mut Serial, name: &str) -> Result<u64> {
    order(serial, &format!("vm start {name}"))?;
    let said = end_of(serial, name)?;
    serial.wait_for(PROMPT, SHORT)?;
    order(serial, &format!("vm console {name}"))?;
    let report = serial.wait_for("testkit: neighbour: ", SHORT)?;
    let verdict = serial.wait_for("\n", SHORT)?;
    serial.send(ESCAPE)?;
    serial.wait_for(PROMPT, SHORT)?;
    ensure!(said.contains(ORDERLY), "{name} stopped: {said}");
    let measured = report.rsplit_once("neighbour: worst ").map_or(report.as_str(), |(_, measured)| measured);
    ensure!(verdict.trim() == "ok", "{}: {measured}", verdict.trim());
    progress(&report).with_context(|| format!("no progress in {report}"))
}

/// The number behind `progress` in what a neighbour printed.
fn progress(report: &str) -> Option<u64> {
    let (_, number) = report.rsplit_once(" progress ")?;
    number.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{ENEMIES, configuration, progress};

    #[test]
    fn progress_is_read_from_the_report() {
        let report =
            "x\r\nneighbour: worst 5 mean 3 progress 1234\r\nneighbour: asleep worst 1 mean 1\r\ntestkit: ";
        assert_eq!(progress(report), Some(1234));
        assert_eq!(progress("testkit: neighbour: FAIL"), None);
    }

    #[test]
    fn every_enemy_has_a_machine_and_a_neighbour() {
        let text = configuration(2);
        for enemy in &ENEMIES {
            assert!(text.contains(&format!("\"{}\"", enemy.name)));
            assert!(text.contains(&format!("\"beside-{}\"", enemy.name)));
        }
    }
}
