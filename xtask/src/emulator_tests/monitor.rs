//! The monitor on the serial line, beside a guest of ours that never ends.

use anyhow::{Context, Result};

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
            ("exits busy", "io-out"),
            ("host", "EPT"),
            ("log debug", "debug"),
            ("nonsense", "error"),
            ("vm stop busy", "stopped"),
            ("vm start busy", "busy"),
        ] {
            serial.send(command.as_bytes())?;
            serial.send(b"\r")?;
            // Every key draws the line again; the answer is below it.
            serial.wait_for(&format!("{PROMPT}{command}"), SHORT)?;
            serial.wait_for("\n", SHORT)?;
            serial.wait_for(answer, SHORT).with_context(|| format!("the answer to `{command}`"))?;
            serial.wait_for(PROMPT, SHORT)?;
        }
        Ok(())
    })
}
