//! Our end of a machine's serial line: everything received is kept, and input is sent at a pace the line can take.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::keys::keys;

/// Pause after each key of input. An emulated UART drops what comes faster than it is read.
const PACE: Duration = Duration::from_millis(8);
/// How much of the received text an error shows, in bytes.
const SHOWN_BYTES: usize = 2000;

#[derive(Default)]
struct Received {
    bytes: Vec<u8>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    received: Mutex<Received>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Received> {
        // The data stays consistent whatever a panicking holder did: bytes are only ever appended.
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connected serial line.
pub(crate) struct Serial {
    shared: Arc<Shared>,
    stream: TcpStream,
    /// Where the next wait begins to look.
    cursor: usize,
}

/// What Craton says last, after a refusal or a panic: nothing comes behind it.
const HALTED: &[u8] = b"craton: halted";

impl Serial {
    /// Takes over `stream`; everything received is also written to `log`.
    pub(crate) fn new(stream: TcpStream, mut log: std::fs::File) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut input = stream.try_clone().context("serial line")?;
        stream.set_nodelay(true).context("serial line")?;
        let sink = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = input.read(&mut buffer) {
                // The log is an aid; without it the run goes on.
                drop(log.write_all(&buffer[..length]));
                sink.lock().bytes.extend_from_slice(&buffer[..length]);
                sink.changed.notify_all();
            }
            sink.lock().closed = true;
            sink.changed.notify_all();
        });
        Ok(Serial { shared, stream, cursor: 0 })
    }

    /// Everything received from offset `from`, once there is more than that, or nothing after `patience`.
    /// `None`: the line is closed and all was seen.
    pub(crate) fn more(&self, from: usize, patience: Duration) -> Option<Vec<u8>> {
        let guard = self.shared.lock();
        let (guard, _) = self
            .shared
            .changed
            .wait_timeout_while(guard, patience, |received| received.bytes.len() <= from && !received.closed)
            .unwrap_or_else(PoisonError::into_inner);
        if guard.bytes.len() <= from && guard.closed {
            return None;
        }
        Some(guard.bytes.get(from..).unwrap_or_default().to_vec())
    }

    /// Everything received so far, as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.shared.lock().bytes).into_owned()
    }

    /// Waits until `pattern` arrives behind what earlier waits found, and returns the text up to its end.
    ///
    /// # Errors
    /// After `patience`, or when the line closes first; the message shows the end of what was received.
    pub(crate) fn wait_for(&mut self, pattern: &str, patience: Duration) -> Result<String> {
        self.wait_for_any(&[pattern], patience).map(|(_, text)| text)
    }

    /// Like [`Serial::wait_for`] with several patterns; also returns the index of the one that came first.
    pub(crate) fn wait_for_any(&mut self, patterns: &[&str], patience: Duration) -> Result<(usize, String)> {
        let deadline = Instant::now() + patience;
        let mut guard = self.shared.lock();
        loop {
            let fresh = &guard.bytes[self.cursor..];
            let found = patterns
                .iter()
                .enumerate()
                .filter_map(|(index, pattern)| Some((find(fresh, pattern.as_bytes())?, index, pattern.len())))
                .min();
            if let Some((start, index, length)) = found {
                let text = String::from_utf8_lossy(&fresh[..start + length]).into_owned();
                self.cursor += start + length;
                return Ok((index, text));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let halted = find(fresh, HALTED).is_some();
            if guard.closed || halted || left.is_zero() {
                let why = match (guard.closed, halted) {
                    (true, _) => "the machine ended",
                    (false, true) => "Craton halted",
                    (false, false) => "nothing more came in time",
                };
                bail!(
                    "waited for {patterns:?}: {why} ({} s). {}",
                    patience.as_secs(),
                    last_words(&guard.bytes)
                );
            }
            guard = self.shared.changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until each of `patterns` was received, in whatever order, now or before.
    pub(crate) fn wait_for_all(&self, patterns: &[&str], patience: Duration) -> Result<String> {
        let deadline = Instant::now() + patience;
        let mut seen = 0;
        loop {
            let text = self.text();
            let missing: Vec<&&str> = patterns.iter().filter(|pattern| !text.contains(**pattern)).collect();
            if missing.is_empty() {
                return Ok(text);
            }
            let is_over = find(text.as_bytes(), HALTED).is_some()
                || self.more(seen, Duration::from_millis(100)).is_none();
            if is_over || Instant::now() > deadline {
                let why = if is_over { "the machine ended" } else { "time is up" };
                bail!(
                    "waited for {missing:?}: {why} ({} s). {}",
                    patience.as_secs(),
                    last_words(text.as_bytes())
                );
            }
            seen = self.length();
        }
    }

    fn length(&self) -> usize {
        self.shared.lock().bytes.len()
    }

    /// Types `bytes`, one key at a time.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.typist()?.send(bytes)
    }

    /// The input side alone, for another thread.
    pub(crate) fn typist(&self) -> Result<Typist> {
        Ok(Typist { stream: self.stream.try_clone().context("serial line")? })
    }
}

/// The input side of a serial line.
pub(crate) struct Typist {
    stream: TcpStream,
}

impl Typist {
    /// Types `bytes`, one key at a time.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        for key in keys(bytes) {
            self.stream.write_all(key).context("the machine's serial line is closed")?;
            std::thread::sleep(PACE);
        }
        Ok(())
    }
}

/// The end of what was received, for an error.
fn last_words(bytes: &[u8]) -> String {
    let tail = &bytes[bytes.len().saturating_sub(SHOWN_BYTES)..];
    format!("The serial line's last words:\n{}", String::from_utf8_lossy(tail))
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|window| window == pattern)
}
