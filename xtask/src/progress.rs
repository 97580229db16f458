//! Progress lines. They go to standard error, so that standard output carries only what the user asked for.

use std::time::Instant;

/// Announces a step that takes noticeable time.
pub(crate) fn step(what: impl std::fmt::Display) {
    eprintln!("==> {what}");
}

/// Adds a detail under the last step.
pub(crate) fn note(what: impl std::fmt::Display) {
    eprintln!("    {what}");
}

/// Announces a step, runs it, and says how long it took when that was more than two seconds.
pub(crate) fn timed<T>(
    what: impl std::fmt::Display,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    step(what);
    let start = Instant::now();
    let result = work();
    let elapsed = start.elapsed();
    if result.is_ok() && elapsed.as_secs() >= 2 {
        note(format_args!("done in {} s", elapsed.as_secs()));
    }
    result
}
