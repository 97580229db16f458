//! Tests that boot the image in an emulator and look at what it prints.

mod bad_input;
mod boots;
mod firmware;
mod harness;
mod hostile;
mod isolation;
mod kernel;
mod lifecycle;
mod linux;
mod monitor;
mod refusal;
mod screen;
mod screen_text;
mod smp;
mod suite;
mod testkit;
mod variants;

use std::time::Instant;

use anyhow::Result;

use crate::machine::Kind;
use crate::progress;
use crate::test::Total;
use harness::Lab;

/// One test.
struct Case {
    /// Its name, `area::behaviour`.
    name: &'static str,
    /// Runs it; an error is a failure and says why.
    run: fn(&Lab) -> Result<()>,
}

/// All tests, in the order they run.
fn all() -> Vec<Case> {
    let areas = [
        refusal::CASES,
        kernel::CASES,
        linux::CASES,
        boots::CASES,
        smp::CASES,
        variants::CASES,
        monitor::CASES,
        screen::CASES,
        lifecycle::CASES,
        firmware::CASES,
        testkit::CASES,
        bad_input::CASES,
        hostile::CASES,
        isolation::CASES,
        suite::CASES,
    ];
    areas.into_iter().flatten().map(|case| Case { ..*case }).collect()
}

/// Runs the tests whose names contain `filter` on `kind`, one after the other.
pub(crate) fn run(kind: Kind, filter: &str) -> Result<Total> {
    let mut total = Total::default();
    let selected: Vec<Case> = all().into_iter().filter(|case| case.name.contains(filter)).collect();
    if selected.is_empty() {
        return Ok(total);
    }
    crate::machine::emulator::prepare(kind)?;
    // Without a kernel no test says anything.
    crate::image::kernel::build()?;
    let lab = Lab::new(kind);
    progress::note(format_args!("{} tests", selected.len()));
    for case in &selected {
        let start = Instant::now();
        let result = (case.run)(&lab);
        let seconds = start.elapsed().as_secs_f32();
        match result {
            Ok(()) => {
                total.passed += 1;
                println!("test {} ... ok ({seconds:.1} s)", case.name);
            }
            Err(error) => {
                total.failed += 1;
                println!("test {} ... FAILED ({seconds:.1} s)\n{error:#}", case.name);
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_name_is_unique_and_has_an_area() {
        let mut names: Vec<&str> = super::all().iter().map(|case| case.name).collect();
        assert!(names.iter().all(|name| name.contains("::")));
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
