//! The user's terminal, connected to a machine's serial line.

mod cursor_query;
mod escape;
mod exit_status;
mod terminal;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::machine::{Emulator, Kind};
use cursor_query::CursorQuery;
use escape::{Action, Escape};
use exit_status::End;
pub(crate) use exit_status::ExitStatus;

/// How often the loop looks at signals and at the emulator, in the worst case.
const TICK: Duration = Duration::from_millis(50);

/// Set once the user or the system wants us to end.
#[derive(Clone)]
pub(crate) struct Interrupted(Arc<AtomicBool>);

impl Interrupted {
    /// From now on SIGINT, SIGTERM and SIGHUP end the run in order instead of at once.
    pub(crate) fn watch() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP]
        {
            // A second signal ends the process at once, should the orderly way hang.
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))?;
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Interrupted(flag))
    }

    /// Whether a signal came.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a console session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The user left with the escape key, or by a signal.
    Left,
    /// The machine went off.
    MachineOff,
    /// A guest ended its machine with this status.
    GuestExit(u8),
    /// The time limit is over.
    TimeIsUp,
    /// The guest that is waited for powered off.
    GuestOff,
    /// The guest that is waited for ended in another way.
    GuestStopped,
}

/// Connects standard input and output to the machine until the user leaves, the machine ends, a guest that has the
/// debug exit device uses it, or the guest `only`, if there is one, ends. It also ends after `limit`, if there is one.
pub(crate) fn connect(
    machine: &mut Emulator,
    only: Option<&str>,
    interrupted: &Interrupted,
    limit: Option<Duration>,
) -> Result<Ending> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let terminal = terminal::RawTerminal::enter()?;
    let leave = Arc::new(AtomicBool::new(false));
    let mut typist = machine.serial.typist()?;
    let left = Arc::clone(&leave);
    // The thread may stay blocked in its read; it ends with the process.
    std::thread::spawn(move || {
        let mut escape = Escape::default();
        let mut buffer = [0; 256];
        while let Ok(length @ 1..) = std::io::stdin().read(&mut buffer) {
            let typed = &buffer[..length];
            let leaving = typed.iter().position(|byte| escape.next(*byte) == Action::Leave);
            // Sent as they were read: the bytes of one key come together.
            if typist.send(&typed[..leaving.unwrap_or(length)]).is_err() {
                return;
            }
            if leaving.is_some() {
                return left.store(true, Ordering::Relaxed);
            }
        }
    });

    let mut received = 0;
    let mut output = std::io::stdout().lock();
    let mut queries = match machine.kind() {
        Kind::Bochs => Some(CursorQuery::default()),
        Kind::Kvm | Kind::Tcg => None,
    };
    let mut exit = ExitStatus::of(only);
    let ending = loop {
        let Some(mut bytes) = machine.serial.more(received, TICK) else { break Ending::MachineOff };
        received += bytes.len();
        if let Some(queries) = &mut queries {
            bytes = queries.remove(&bytes);
        }
        output.write_all(&bytes).and_then(|()| output.flush()).context("standard output")?;
        match exit.end(&bytes) {
            Some(End::Status(status)) => break Ending::GuestExit(status),
            Some(End::Off) => break Ending::GuestOff,
            Some(End::Other) => break Ending::GuestStopped,
            None => {}
        }
        if leave.load(Ordering::Relaxed) || interrupted.is_set() {
            break Ending::Left;
        }
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            break Ending::TimeIsUp;
        }
    };
    if let Some(queries) = queries {
        output.write_all(queries.finish()).and_then(|()| output.flush()).context("standard output")?;
    }
    drop(terminal);
    Ok(ending)
}
