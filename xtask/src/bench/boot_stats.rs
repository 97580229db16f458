//! What the hypervisor says about a virtual machine that stopped: exits by reason, and whose instructions were executed.
//!
//! The kernel logs `vm NAME: stats: total_exits=N host_instr=N guest_instr=N`, then `vm NAME: exit REASON COUNT INSTR` for
//! each reason.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// The account of one virtual machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BootStats {
    /// VM exits.
    pub(crate) exits: u64,
    /// Instructions executed by the hypervisor on its behalf.
    pub(crate) host_instructions: u64,
    /// Instructions executed by the guest itself.
    pub(crate) guest_instructions: u64,
    /// Exits and the hypervisor's instructions by reason, the most frequent first.
    pub(crate) reasons: Vec<(String, u64, u64)>,
}

impl BootStats {
    /// Finds the account of virtual machine `name` in the hypervisor's log.
    pub(crate) fn parse(log: &str, name: &str) -> Result<Self> {
        let mark = format!("vm {name}: ");
        let mut stats: Option<Self> = None;
        for line in log.lines() {
            let Some((_, said)) = line.split_once(&mark) else { continue };
            if let Some(values) = said.strip_prefix("stats: ") {
                let value = |key: &str| {
                    values
                        .split_whitespace()
                        .find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
                        .with_context(|| format!("no {key} in `{line}`"))
                };
                stats = Some(Self {
                    exits: value("total_exits")?,
                    host_instructions: value("host_instr")?,
                    guest_instructions: value("guest_instr")?,
                    reasons: Vec::new(),
                });
            } else if let (Some(words), Some(stats)) = (said.strip_prefix("exit "), stats.as_mut()) {
                stats.reasons.extend(reason(words));
            }
        }
        let mut stats = stats.with_context(|| format!("the hypervisor's log has no `vm {name}: stats:`"))?;
        stats.reasons.sort_by(|one, two| two.1.cmp(&one.1).then_with(|| one.0.cmp(&two.0)));
        Ok(stats)
    }

    /// The hypervisor's share of all instructions, in thousandths of a percent.
    fn share(&self) -> u64 {
        let all = self.host_instructions.saturating_add(self.guest_instructions);
        self.host_instructions.saturating_mul(100_000).checked_div(all).unwrap_or(0)
    }

    /// As a table.
    pub(crate) fn table(&self) -> String {
        let share = self.share();
        let mut text = format!(
            "{} exits (goal 2000), the hypervisor's share of instructions is {}.{:03} % (goal 0.5 %): {} of {}\n",
            self.exits,
            share / 1000,
            share % 1000,
            self.host_instructions,
            self.host_instructions.saturating_add(self.guest_instructions),
        );
        for (reason, count, instructions) in &self.reasons {
            let each = instructions.checked_div(*count).unwrap_or(0);
            // Writing to a string cannot fail.
            let _infallible =
                writeln!(text, "  {reason:<28}{count:>9}{instructions:>13} instructions, {each} each");
        }
        text
    }

    /// As a JSON object.
    pub(crate) fn to_json(&self) -> Value {
        let reasons: Value = self
            .reasons
            .iter()
            .map(|(reason, count, instructions)| {
                (reason.clone(), json!({ "count": count, "instructions": instructions }))
            })
            .collect();
        json!({
            "exits": self.exits,
            "host_instructions": self.host_instructions,
            "guest_instructions": self.guest_instructions,
            "reasons": reasons,
        })
    }
}

/// `REASON COUNT INSTRUCTIONS`; the reason may consist of several words.
fn reason(words: &str) -> Option<(String, u64, u64)> {
    let mut from_the_end = words.trim().rsplitn(3, ' ');
    let instructions = from_the_end.next()?.parse().ok()?;
    let count = from_the_end.next()?.parse().ok()?;
    Some((from_the_end.next()?.trim().to_owned(), count, instructions))
}

#[cfg(test)]
mod tests {
    use super::BootStats;

    const LOG: &str = "[ 12.3] INFO vm linux: stopped: powered off\r\n\
                       [ 12.3] INFO vm linux: stats: total_exits=30 host_instr=5000 guest_instr=995000\r\n\
                       [ 12.3] INFO vm linux: exit CPUID 10 1000\r\n\
                       [ 12.3] INFO vm linux: exit I/O instruction 20 4000\r\n\
                       [ 12.3] INFO vm other: exit HLT 99 1\r\n";

    #[test]
    fn reasons_are_ordered_by_count_and_other_machines_left_out() {
        let stats = BootStats::parse(LOG, "linux").expect("complete");
        assert_eq!((stats.exits, stats.host_instructions, stats.guest_instructions), (30, 5000, 995_000));
        assert_eq!(stats.reasons, [("I/O instruction".into(), 20, 4000), ("CPUID".into(), 10, 1000)]);
        assert!(stats.table().contains("0.500 %"));
        assert!(stats.table().contains("200 each"));
    }

    #[test]
    fn missing_account_is_an_error_that_names_the_machine() {
        let error = BootStats::parse(LOG, "none").expect_err("not there");
        assert!(error.to_string().contains("vm none"));
    }
}
