//! `fuzz`: searches targets for inputs that they do not survive. `cargo xtask fuzz` builds and runs it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use fuzz::{Campaign, Failure, Seen, Target, corpus, quiet_panics, run_one, shrink, targets};

/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(5);
/// An input that takes longer than this hangs.
const HANG: Duration = Duration::from_secs(20);

/// Plays inputs on targets for as long as told. An input that fails is made smaller and stored.
#[derive(Parser)]
#[command(name = "cargo xtask fuzz", bin_name = "cargo xtask fuzz")]
struct Arguments {
    /// What to fuzz; everything in turn if nothing is named.
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long, all targets together.
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u64,
    /// Where the search begins; the same seed searches the same way.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Plays this input on the target and shows what it does.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Lists the targets.
    #[arg(long)]
    list: bool,
    /// Where inputs that fail are stored.
    #[arg(long, default_value = "target/fuzz", value_name = "DIR")]
    failures: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        for target in targets::ALL {
            println!("{:14} {}", target.name, target.about);
        }
        return ExitCode::SUCCESS;
    }
    let mut chosen = Vec::new();
    for name in &arguments.targets {
        let Some(target) = targets::find(name) else {
            eprintln!("error: there is no target {name}; --list shows all");
            return ExitCode::FAILURE;
        };
        chosen.push(target);
    }
    if let Some(file) = &arguments.replay {
        return replay(&chosen, file);
    }
    if chosen.is_empty() {
        chosen.extend(targets::ALL);
    }
    let each = Duration::from_secs(arguments.seconds) / u32::try_from(chosen.len()).unwrap_or(1);
    let watch = Watch::start(arguments.failures.clone());
    let mut failed = false;
    for target in chosen {
        if let Some(failure) = search(target, arguments.seed, each, &watch) {
            report(target, failure, &arguments.failures);
            failed = true;
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Searches for `time`; the first failure, if there is one.
fn search(target: &'static Target, seed: u64, time: Duration, watch: &Watch) -> Option<Failure> {
    let mut campaign = Campaign::new(target, seed, corpus::kept(target.name));
    let start = Instant::now();
    let mut told = start;
    loop {
        let input = campaign.next_input();
        watch.begins(target, &input);
        let outcome = campaign.play(input);
        watch.ends();
        if let Err(failure) = outcome {
            return Some(failure);
        }
        let now = Instant::now();
        let is_over = now - start >= time;
        if is_over || now - told >= PROGRESS {
            told = now;
            let seconds = (now - start).as_secs_f64();
            println!(
                "fuzz: {}: {} inputs in {seconds:.0} s, {} kept, {} answers",
                target.name,
                campaign.runs(),
                campaign.kept(),
                campaign.answers()
            );
        }
        if is_over {
            return None;
        }
    }
}

fn report(target: &Target, failure: Failure, directory: &Path) {
    let small = shrink(target, failure);
    println!("fuzz: {}: FAILED: {}", target.name, small.message);
    tell_stored(target, &small.input, directory);
}

fn tell_stored(target: &Target, input: &[u8], directory: &Path) {
    match corpus::store(directory, target.name, input) {
        Ok(path) => println!(
            "fuzz: {}: the input is in {path}; replay it by: cargo xtask fuzz {} --replay {path}",
            target.name,
            target.name,
            path = path.display()
        ),
        Err(error) => println!("fuzz: {}: the input {input:02x?} could not be stored: {error}", target.name),
    }
}

fn replay(chosen: &[&'static Target], file: &Path) -> ExitCode {
    let [target] = chosen else {
        eprintln!("error: --replay wants one target");
        return ExitCode::FAILURE;
    };
    let input = match std::fs::read(file) {
        Ok(input) => input,
        Err(error) => {
            eprintln!("error: {}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    };
    quiet_panics();
    match run_one(target, &input, &mut Seen::default()) {
        Ok(()) => {
            println!("fuzz: {}: survives {} bytes", target.name, input.len());
            ExitCode::SUCCESS
        }
        Err(message) => {
            println!("fuzz: {}: FAILED: {message}", target.name);
            ExitCode::FAILURE
        }
    }
}

/// What is played now, and since when.
type Playing = Option<(&'static Target, Vec<u8>, Instant)>;

/// Ends the process when an input hangs, and stores it.
struct Watch(Arc<Mutex<Playing>>);

impl Watch {
    fn start(failures: PathBuf) -> Self {
        let playing: Arc<Mutex<Playing>> = Arc::default();
        let watched = Arc::clone(&playing);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let playing = watched.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((target, input, since)) = playing.as_ref()
                    && since.elapsed() > HANG
                {
                    println!("fuzz: {}: HANGS for {} s", target.name, HANG.as_secs());
                    tell_stored(target, input, &failures);
                    std::process::exit(1);
                }
            }
        });
        Self(playing)
    }

    fn begins(&self, target: &'static Target, input: &[u8]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((target, input.to_vec(), Instant::now()));
    }

    fn ends(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
