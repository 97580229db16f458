//! QEMU's control connection, for the one thing that is asked of it: a picture of the screen.
//!
//! Source: QEMU documentation, "QEMU Machine Protocol Specification" and "QEMU QMP Reference Manual" (`screendump`).

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How long QEMU may take to answer. On a busy machine its main loop waits for a processor.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that takes commands.
pub(super) struct Control {
    stream: BufReader<TcpStream>,
}

impl Control {
    /// Takes over `stream`, on which QEMU has not been answered yet.
    pub(super) fn new(stream: TcpStream) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE)).context("QEMU's control connection")?;
        let mut control = Control { stream: BufReader::new(stream) };
        // QEMU takes no other command before this one.
        control.execute(&json!({ "execute": "qmp_capabilities" }))?;
        Ok(control)
    }

    /// Writes what the screen shows to `file`, as a portable pixmap.
    pub(super) fn screendump(&mut self, file: &Path) -> Result<()> {
        self.execute(&json!({ "execute": "screendump", "arguments": { "filename": file } }))
    }

    fn execute(&mut self, command: &Value) -> Result<()> {
        let mut line = command.to_string();
        line.push('\n');
        self.stream.get_mut().write_all(line.as_bytes()).context("QEMU's control connection is closed")?;
        loop {
            let mut answer = String::new();
            if self.stream.read_line(&mut answer).context("QEMU does not answer")? == 0 {
                bail!("QEMU ended");
            }
            if let Some(result) = outcome(&answer)? {
                return result.with_context(|| format!("QEMU refuses {command}"));
            }
        }
    }
}

/// What a line from QEMU says about the command: done, refused, or nothing, as the greeting and events do.
fn outcome(line: &str) -> Result<Option<Result<()>>> {
    let message: Value = serde_json::from_str(line).with_context(|| format!("QEMU answers {line}"))?;
    if message.get("return").is_some() {
        return Ok(Some(Ok(())));
    }
    Ok(message.get("error").map(|error| {
        let text = error.get("desc").and_then(Value::as_str).unwrap_or("without a reason");
        Err(anyhow::anyhow!("{text}"))
    }))
}

#[cfg(test)]
mod tests {
    use super::outcome;

    #[test]
    fn greeting_and_events_are_no_answers() {
        assert!(outcome(r#"{"QMP": {"version": {}, "capabilities": []}}"#).expect("read").is_none());
        assert!(outcome(r#"{"event": "RESUME", "timestamp": {}}"#).expect("read").is_none());
        assert!(outcome(r#"{"return": {}}"#).expect("read").expect("an answer").is_ok());
    }

    #[test]
    fn refusal_carries_qemus_reason() {
        let line = r#"{"error": {"class": "GenericError", "desc": "no console"}}"#;
        let error = outcome(line).expect("read").expect("an answer").expect_err("refused");
        assert_eq!(error.to_string(), "no console");
        assert!(outcome("half a li").is_err());
    }
}
