//! The monitor on the serial line, beside a guest of ours that never ends.

use anyhow::{Result, ensure};

use super::Case;
use super::harness::{Lab, SHORT, archive};

pub(super) const CASES: &[Case] = &[Case { name: "monitor::commands", run: commands }];

/// Ctrl-].
const ESCAPE: &[u8] = &[0x1d];
const PROMPT: &str = "craton> ";

fn commands(lab: &Lab) -> Result<()> {
    let configuration = "[[vm]]\nname = \"busy\"\nmemory_mib = 16\nkernel = \"testkit\"\nboot = \"pvh\"\n\
                         cmdline = \"test=port-flood\"\nconsole = true\n";
    lab.boot("monitor", &archive(configuration, &["testkit"])?, |machine| {
        let serial = &mut machine.serial;
        serial.wait_for("testkit: port-flood: go", SHORT)?;
        serial.send(ESCAPE)?;
        serial.wait_for(PROMPT, SHORT)?;
        for (command, answer) in [
            ("help", "list, start, stop"),
            ("vm list", "busy"),
            ("vm info busy", "16"),
            ("stats busy", "%"),
            ("exits busy", "rip"),
            ("host", "EPT"),
            ("log debug", "debug"),
            ("nonsense", "error"),
            ("vm stop busy", "stopped"),
            ("vm start busy", PROMPT),
        ] {
            serial.send(command.as_bytes())?;
            serial.send(b"\r")?;
            // The prompt is drawn again with every key; the answer ends with one on a new line.
            let text = serial.wait_for_any(&[&format!("\n{PROMPT}"), &format!("\r{PROMPT}")], SHORT)?.1;
            let more = if text.contains(answer) { text } else { text + &serial.wait_for(PROMPT, SHORT)? };
            ensure!(more.to_lowercase().contains(&answer.to_lowercase()), "`{command}` answers: {more}");
        }
        Ok(())
    })
}
