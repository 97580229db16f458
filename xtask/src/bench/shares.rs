//! What guests that want everything get, against what their weights ask for; and what the scheduler's decisions cost.
//!
//! Guests that spin run for some emulated seconds. The monitor is asked what each of them has had meanwhile (`top`), and
//! what the core has spent on switches and decisions (`stats host`). Somebody types here, at no certain moment: two runs
//! are not the same to the instruction.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::figures::Figures;
use crate::image::archive::Archive;
use crate::machine::{Emulator, Firmware, Kind, Machine, Processor, Serial, Size};
use crate::{guests, image, paths, progress};

const MEMORY_MIB: u32 = 1024;
const PATIENCE: Duration = Duration::from_secs(600);
/// How long `top` looks, in emulated seconds.
const WINDOW: u32 = 5;
const PROMPT: &str = "craton> ";
/// Ctrl-].
const ESCAPE: &[u8] = &[0x1d];
/// The error to reach now and in the end, in thousandths of a percent.
const NOW: u64 = 1_000;
const GOAL: u64 = 100;

/// Guests of one virtual processor each, by weight, on some cores.
#[derive(Clone, Copy, Debug)]
struct Load {
    cores: u32,
    weights: &'static [u64],
}

/// One core; two with a load that fits them without moving anybody, and one that does not.
const LOADS: [Load; 3] = [
    Load { cores: 1, weights: &[100, 200, 300] },
    Load { cores: 2, weights: &[100, 200, 200, 300] },
    Load { cores: 2, weights: &[100, 100, 100] },
];

/// What came out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shares {
    /// The loads, with the worst error of a guest's share in thousandths of a percent.
    errors: Vec<(Load, u64)>,
    /// Instructions per decision of the scheduler, on one core.
    decision: Option<u64>,
    /// Of a switch's instructions those that exchange the vCPUs, on one core: the VMCS and what is not in it.
    exchange: Option<u64>,
}

/// Measures.
pub(crate) fn measure() -> Result<Shares> {
    let mut shares = Shares::default();
    for load in LOADS {
        let answers = run(load)?;
        let ran = times(&answers.top, load.weights.len())
            .with_context(|| format!("cannot read this `top`:\n{}", answers.top))?;
        shares.errors.push((load, worst_error(load, &ran)));
        // With several, a tick is no instruction.
        if load.cores == 1 {
            (shares.exchange, shares.decision) = costs(&answers.host);
        }
    }
    Ok(shares)
}

/// What the monitor said.
struct Answers {
    top: String,
    host: String,
}

fn run(load: Load) -> Result<Answers> {
    let name = "bench-shares";
    let mut archive = Archive::with_configuration(&configuration(load));
    archive.add("testkit", guests::ours("testkit")?);
    let directory = paths::created(paths::build()?.join("bench").join(name))?;
    let images = image::build_unannounced(&archive.to_tar()?, &directory)?;
    let machine = Machine {
        kind: Kind::Bochs,
        firmware: Firmware::Bios,
        processor: Processor::Complete,
        size: Size { cpus: load.cores, memory_mib: MEMORY_MIB },
        images,
        name: name.to_owned(),
    };
    let Load { cores, weights } = load;
    let what = format!("Craton: weights {weights:?} on {cores} of the emulator's processors");
    progress::timed(&what, || {
        let mut emulator = machine.start()?;
        let answers = ask(&mut emulator, weights.len());
        emulator.discard();
        answers
    })
}

fn ask(emulator: &mut Emulator, guests: usize) -> Result<Answers> {
    let serial = &mut emulator.serial;
    serial.wait_for(&format!("vm {}: starts", name(guests.saturating_sub(1))), PATIENCE)?;
    // The first guest has the console.
    serial.send(ESCAPE)?;
    serial.wait_for(PROMPT, PATIENCE)?;
    // What comes up in the beginning is not the rule: everybody has been on a core by then.
    command(serial, "top 1 1")?;
    Ok(Answers { top: command(serial, &format!("top {WINDOW} 1"))?, host: command(serial, "stats host")? })
}

/// Types a command and returns its answer, up to the next prompt.
fn command(serial: &mut Serial, line: &str) -> Result<String> {
    serial.send(line.as_bytes())?;
    serial.send(b"\r")?;
    serial.wait_for(&format!("{PROMPT}{line}"), PATIENCE)?;
    serial.wait_for("\n", PATIENCE)?;
    serial.wait_for(PROMPT, PATIENCE)
}

fn configuration(load: Load) -> String {
    let mut text = String::new();
    for (number, weight) in load.weights.iter().enumerate() {
        // Writing to a string cannot fail.
        let _infallible = writeln!(
            text,
            "[[vm]]\nname = \"{}\"\nmemory_mib = 16\nkernel = \"testkit\"\nboot = \"pvh\"\ncmdline = \"test=spin\"\n\
             weight = {weight}\n",
            name(number)
        );
    }
    text
}

fn name(number: usize) -> String {
    format!("spin-{number}")
}

/// Time of each guest on a core, in tenths of milliseconds, from `top`'s table: `NAME STATE WEIGHT SHARE % RUN STEAL
/// EXITS MIGRATIONS`.
fn times(top: &str, guests: usize) -> Result<Vec<u64>> {
    let time = |number| {
        let name = name(number);
        let row = top
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|row| row.first() == Some(&name.as_str()))
            .with_context(|| format!("no row of {name}"))?;
        let run = row.len().checked_sub(4).and_then(|index| row.get(index)).context("the row is short")?;
        run.replace([',', '.'], "").parse().with_context(|| format!("`{run}` is no time"))
    };
    (0..guests).map(time).collect()
}

/// Average instructions per switch and per decision, from `stats host` with one core: the row ends with `SWITCHES
/// AVERAGE DECISIONS AVERAGE PULLS IPIS`.
fn costs(host: &str) -> (Option<u64>, Option<u64>) {
    let row = host
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|row| row.first() == Some(&"0") && row.contains(&"%"))
        .unwrap_or_default();
    let from_the_end = |places: usize| row.get(row.len().checked_sub(places)?)?.replace(',', "").parse().ok();
    (from_the_end(5), from_the_end(3))
}

/// What each guest should have of `total`: by weight, but no more than one core.
fn fair(load: Load, total: u64) -> Vec<u64> {
    let core = total / u64::from(load.cores);
    let mut is_full = vec![false; load.weights.len()];
    loop {
        let full: u64 = is_full.iter().map(|is_full| u64::from(*is_full)).sum();
        let rest = total - (full * core).min(total);
        let weights: u64 = load
            .weights
            .iter()
            .zip(&is_full)
            .filter(|(_, is_full)| !**is_full)
            .map(|(weight, _)| weight)
            .sum();
        let share = |(weight, is_full): (&u64, &bool)| {
            if *is_full { core } else { rest * weight / weights.max(1) }
        };
        let shares: Vec<u64> = load.weights.iter().zip(&is_full).map(share).collect();
        let before = is_full.clone();
        for (is_full, share) in is_full.iter_mut().zip(&shares) {
            *is_full |= *share > core;
        }
        if is_full == before {
            return shares;
        }
    }
}

/// The worst relative error of a guest's share, in thousandths of a percent.
fn worst_error(load: Load, ran: &[u64]) -> u64 {
    let shares = fair(load, ran.iter().sum());
    let error = |(ran, fair): (&u64, &u64)| ran.abs_diff(*fair) * 100_000 / (*fair).max(1);
    ran.iter().zip(&shares).map(error).max().unwrap_or(0)
}

impl Shares {
    /// The instructions.
    pub(crate) fn costs(&self) -> Figures {
        let mut figures = Figures::default();
        for (operation, cost) in [("switch-exchange", self.exchange), ("decision", self.decision)] {
            if let Some(cost) = cost {
                figures.push(operation, cost);
            }
        }
        figures
    }

    /// As a table.
    pub(crate) fn table(&self) -> String {
        let mut text = String::from("worst error of a share in %    (to reach now 1.0, goal 0.1)\n");
        for (Load { cores, weights }, error) in &self.errors {
            let weights = weights.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
            // Writing to a string cannot fail.
            let _infallible = writeln!(text, "{:<30}{:>9}", format!("{weights} on {cores}"), percent(*error));
        }
        text
    }

    /// Errors above what should be reached now, one line each.
    pub(crate) fn missed(&self) -> Vec<String> {
        let line = |(Load { cores, weights }, error): &(Load, u64)| {
            format!(
                "share error of weights {weights:?} on {cores}: {} %, to reach now: {} %",
                percent(*error),
                percent(NOW)
            )
        };
        self.errors.iter().filter(|(_, error)| *error > NOW).map(line).collect()
    }

    /// As a JSON object.
    pub(crate) fn to_json(&self) -> Value {
        let errors: Vec<Value> = self
            .errors
            .iter()
            .map(|(load, error)| {
                json!({ "cores": load.cores, "weights": load.weights, "error_in_thousandths_of_a_percent": error })
            })
            .collect();
        json!({ "errors": errors, "now": NOW, "goal": GOAL })
    }
}

/// Thousandths of a percent.
fn percent(error: u64) -> String {
    format!("{}.{:03}", error / 1000, error % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOP: &str = "top: 5.0 s; virtual machines at work: 3, with vCPUs: 3\r\n\
        \x20 CORE   GUEST  HYPERVISOR   IDLE  SWITCHES  PULLS  IPIS\r\n\
        \x20    0  99.5 %       0.5 %  0.0 %     1,234      0     0\r\n\
        \r\n\
        \x20 NAME    STATE    WEIGHT   SHARE   RUN MS  STEAL MS  EXITS/S  MIGRATIONS\r\n\
        \x20 spin-2  running     300  49.9 %  2,500.0   2,500.0      250           0\r\n\
        \x20 spin-1  running     200  33.2 %  1,650.0   3,400.0      250           0\r\n\
        \x20 spin-0  running     100  16.6 %    850.0   4,200.0      250           0\r\n";

    #[test]
    fn shares_are_compared_with_the_weights() {
        let ran = times(TOP, 3).expect("complete");
        assert_eq!(ran, [8_500, 16_500, 25_000]);
        // A sixth of 50,000 is 8,333: 2 % less than the first guest had.
        assert_eq!(worst_error(LOADS[0], &ran), 2_004);
        assert!(times(TOP, 4).is_err());
    }

    #[test]
    fn nobody_can_have_more_than_a_core() {
        let load = Load { cores: 2, weights: &[100, 100, 600] };
        assert_eq!(fair(load, 2_000), [500, 500, 1_000]);
        assert_eq!(fair(LOADS[1], 8_000), [1_000, 2_000, 2_000, 3_000]);
        let alone = Load { cores: 2, weights: &[7] };
        assert_eq!(fair(alone, 1_000), [500]);
    }

    #[test]
    fn costs_are_the_averages_of_the_cores_row() {
        let host = "  CORE   GUEST  HYPERVISOR    IDLE  SWITCHES  AVERAGE  DECISIONS  AVERAGE  PULLS  IPIS\r\n\
            \x20    0  99.0 %       1.0 %   0.0 %     1,234      412     20,000       97      0     5\r\ncraton> ";
        assert_eq!(costs(host), (Some(412), Some(97)));
        assert_eq!(costs("  0  -  -  -  0  -  0  -  0  0\r\n"), (None, None));
    }

    #[test]
    fn errors_above_one_percent_are_missed() {
        let shares = Shares { errors: vec![(LOADS[0], 1_000), (LOADS[2], 1_001)], ..Shares::default() };
        assert_eq!(
            shares.missed(),
            ["share error of weights [100, 100, 100] on 2: 1.001 %, to reach now: 1.000 %"]
        );
        assert!(shares.table().contains("100 200 300 on 1"));
        assert_eq!(shares.to_json()["errors"][1]["cores"], 2);
    }
}
