//! What `stats` shows: exits by reason, times of vCPUs and cores, wake-up delays.

use crate::numbers::{average, fine_duration, grouped, nanos, share};
use crate::output::{Output, print};
use crate::table::{Align, Table};
use crate::times::{CoreShares, ExitStats, VcpuStats, VcpuTimes, VmStats, WakeDelays};
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

/// `stats NAME`.
pub(crate) fn of_vm(name: &str, stats: &VmStats, out: &mut dyn Output) {
    let numbered: Vec<(usize, &VcpuStats)> = stats.vcpus.iter().enumerate().collect();
    show(name, &numbered, out);
}

/// `stats NAME vcpu N`.
pub(crate) fn of_vcpu(name: &str, number: usize, stats: &VcpuStats, out: &mut dyn Output) {
    show(&format!("vCPU {number} of {name}"), &[(number, stats)], out);
}

fn show(whose: &str, vcpus: &[(usize, &VcpuStats)], out: &mut dyn Output) {
    let guest_ticks =
        vcpus.iter().filter_map(|(_, vcpu)| vcpu.guest_ticks).reduce(|sum, ticks| sum.saturating_add(ticks));
    exits(whose, &by_reason(vcpus), guest_ticks, out);
    if vcpus.is_empty() {
        return;
    }
    print(out, format_args!("\n"));
    times(vcpus, out);
    let mut delays = WakeDelays::default();
    vcpus.iter().for_each(|(_, vcpu)| delays.add(&vcpu.wake_delays));
    if delays.count() > 0 {
        print(out, format_args!("\n"));
        histogram(&delays, out);
    }
}

/// The sums over the vCPUs, the most frequent first. Reasons that never happened are left out.
fn by_reason(vcpus: &[(usize, &VcpuStats)]) -> Vec<ExitStats> {
    let mut sums: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for row in vcpus.iter().flat_map(|(_, vcpu)| &vcpu.rows).filter(|row| row.count > 0) {
        let (count, ticks) = sums.entry(&row.reason).or_default();
        *count = count.saturating_add(row.count);
        *ticks = ticks.saturating_add(row.ticks);
    }
    let row = |(reason, (count, ticks)): (&str, _)| ExitStats {
        reason: Cow::Owned(String::from(reason)),
        count,
        ticks,
    };
    let mut rows: Vec<ExitStats> = sums.into_iter().map(row).collect();
    rows.sort_by_key(|row| (Reverse(row.count), Reverse(row.ticks)));
    rows
}

fn exits(whose: &str, rows: &[ExitStats], guest_ticks: Option<u64>, out: &mut dyn Output) {
    if rows.is_empty() {
        print(out, format_args!("{whose} has had no exits since it was last started\n"));
        return;
    }
    let count = rows.iter().fold(0_u64, |sum, row| sum.saturating_add(row.count));
    let ticks = rows.iter().fold(0_u64, |sum, row| sum.saturating_add(row.ticks));
    let mut table = Table::new([
        ("REASON", Align::Left),
        ("COUNT", Align::Right),
        ("SHARE", Align::Right),
        ("INSTRUCTIONS", Align::Right),
        ("SHARE", Align::Right),
        ("AVERAGE", Align::Right),
    ]);
    for row in rows {
        table.row([
            row.reason.to_string(),
            grouped(row.count),
            share(row.count, count),
            grouped(row.ticks),
            share(row.ticks, ticks),
            average(row.ticks, row.count),
        ]);
    }
    table.row([
        String::from("total"),
        grouped(count),
        share(count, count),
        grouped(ticks),
        share(ticks, ticks),
        average(ticks, count),
    ]);
    table.print(out);
    if let Some(guest) = guest_ticks {
        let all = guest.saturating_add(ticks);
        print(
            out,
            format_args!("  in the guest {}; hypervisor's share {}\n", grouped(guest), share(ticks, all)),
        );
    }
    print(
        out,
        format_args!("  (ticks of the host's TSC: instructions in Bochs, reference cycles elsewhere)\n"),
    );
}

fn times(vcpus: &[(usize, &VcpuStats)], out: &mut dyn Output) {
    let mut table = Table::new([
        ("VCPU", Align::Left),
        ("RUN", Align::Right),
        ("STEAL", Align::Right),
        ("WAKE-UPS", Align::Right),
        ("WORST DELAY", Align::Right),
        ("EXITS", Align::Right),
        ("MIGRATIONS", Align::Right),
    ]);
    let mut row = |label: String, times: &VcpuTimes, wake_ups: u64, worst: Duration| {
        table.row([
            label,
            fine_duration(times.ran),
            fine_duration(times.waited),
            grouped(wake_ups),
            fine_duration(worst),
            grouped(times.exits),
            grouped(times.migrations),
        ]);
    };
    let (mut sum, mut wake_ups, mut worst) = (VcpuTimes::default(), 0_u64, Duration::ZERO);
    for (number, vcpu) in vcpus {
        let delays = &vcpu.wake_delays;
        row(number.to_string(), &vcpu.times, delays.count(), delays.worst);
        sum = sum.plus(vcpu.times);
        wake_ups = wake_ups.saturating_add(delays.count());
        worst = worst.max(delays.worst);
    }
    if vcpus.len() > 1 {
        row(String::from("total"), &sum, wake_ups, worst);
    }
    table.print(out);
}

/// The buckets from the first to the last that hold something.
fn histogram(delays: &WakeDelays, out: &mut dyn Output) {
    let mut table =
        Table::new([("WAKE-UP DELAY", Align::Right), ("COUNT", Align::Right), ("SHARE", Align::Right)]);
    let is_filled = |index: &usize| delays.buckets[*index].count > 0;
    let filled = || (0..delays.buckets.len()).filter(is_filled);
    let (Some(first), Some(last)) = (filled().min(), filled().max()) else { return };
    for bucket in &delays.buckets[first..=last] {
        let bound = match bucket.below_us {
            u64::MAX => String::from("more"),
            bound => format!("< {} us", grouped(bound)),
        };
        table.row([bound, grouped(bucket.count), share(bucket.count, delays.count())]);
    }
    table.print(out);
    print(out, format_args!("  the longest took {}\n", fine_duration(delays.worst)));
}

/// `stats host`, and a part of `host`.
pub(crate) fn of_cores(cores: &[CoreShares], out: &mut dyn Output) {
    let mut table = Table::new([
        ("CORE", Align::Right),
        ("GUEST", Align::Right),
        ("HYPERVISOR", Align::Right),
        ("IDLE", Align::Right),
        ("SWITCHES", Align::Right),
        ("AVERAGE", Align::Right),
        ("DECISIONS", Align::Right),
        ("AVERAGE", Align::Right),
        ("PULLS", Align::Right),
        ("IPIS", Align::Right),
    ]);
    for core in cores {
        let all = core.guest.saturating_add(core.hypervisor).saturating_add(core.idle);
        let part = |time| share(nanos(time), nanos(all));
        table.row([
            core.id.to_string(),
            part(core.guest),
            part(core.hypervisor),
            part(core.idle),
            grouped(core.switches),
            average(core.switch_ticks, core.switches),
            grouped(core.decisions),
            average(core.decision_ticks, core.decisions),
            grouped(core.pulls),
            grouped(core.kicks),
        ]);
    }
    table.print(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::times::DelayBucket;

    fn vcpu(exits: u64, delays: &[(u64, u64)]) -> VcpuStats {
        VcpuStats {
            times: VcpuTimes {
                ran: Duration::from_millis(12_345),
                waited: Duration::from_micros(15),
                migrations: 3,
                exits,
            },
            wake_delays: WakeDelays {
                buckets: delays.iter().map(|&(below_us, count)| DelayBucket { below_us, count }).collect(),
                worst: Duration::from_micros(77),
            },
            rows: vec![ExitStats { reason: "HLT".into(), count: exits, ticks: 10 * exits }],
            guest_ticks: None,
        }
    }

    fn text(write: impl Fn(&mut dyn Output)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("text").replace("\r\n", "\n")
    }

    #[test]
    fn vcpus_add_up_to_the_machine() {
        let stats = VmStats {
            vcpus: vec![
                vcpu(1, &[(1, 0), (2, 3), (4, 0), (8, 0), (16, 0), (32, 0), (64, 0)]),
                vcpu(2, &[(1, 0), (2, 0), (4, 0), (8, 1), (16, 0), (u64::MAX, 0)]),
            ],
        };
        let shown = text(|out| of_vm("smp", &stats, out));
        let expected = "\n\
            \x20 VCPU      RUN  STEAL  WAKE-UPS  WORST DELAY  EXITS  MIGRATIONS\n\
            \x20 0      12.3 s  15 us         3        77 us      1           3\n\
            \x20 1      12.3 s  15 us         1        77 us      2           3\n\
            \x20 total  24.6 s  30 us         4        77 us      3           6\n\
            \n\
            \x20 WAKE-UP DELAY  COUNT   SHARE\n\
            \x20        < 2 us      3  75.0 %\n\
            \x20        < 4 us      0   0.0 %\n\
            \x20        < 8 us      1  25.0 %\n\
            \x20 the longest took 77 us\n";
        assert!(shown.ends_with(expected), "{shown}");
        assert!(shown.lines().any(|row| row.split_whitespace().take(2).eq(["HLT", "3"])), "{shown}");
    }

    #[test]
    fn one_vcpu_stands_alone_and_needs_no_total() {
        let shown = text(|out| of_vcpu("smp", 1, &vcpu(0, &[(u64::MAX, 9)]), out));
        assert!(shown.starts_with("vCPU 1 of smp has had no exits since it was last started\n"), "{shown}");
        assert!(shown.lines().any(|row| row.split_whitespace().eq(["more", "9", "100.0", "%"])), "{shown}");
        assert!(!shown.contains("total"), "{shown}");
    }

    #[test]
    fn a_machine_that_never_ran_has_one_line() {
        let shown = text(|out| of_vm("new", &VmStats::default(), out));
        assert_eq!(shown, "new has had no exits since it was last started\n");
    }

    #[test]
    fn the_shares_of_a_core_add_up_to_all_of_its_time() {
        let core = CoreShares {
            id: 3,
            guest: Duration::from_secs(1),
            hypervisor: Duration::from_secs(2),
            idle: Duration::from_secs(5),
            switches: 1_234,
            pulls: 5,
            kicks: 6,
            switch_ticks: 493_600,
            decisions: 2_000,
            decision_ticks: 180_000,
        };
        let shown = text(|out| of_cores(&[core, CoreShares::default()], out));
        let rows: Vec<Vec<&str>> = shown.lines().map(|row| row.split_whitespace().collect()).collect();
        let cells = ["3", "12.5", "%", "25.0", "%", "62.5", "%", "1,234", "400", "2,000", "90", "5", "6"];
        assert_eq!(rows[1], cells);
        assert_eq!(rows[2], ["0", "-", "-", "-", "0", "-", "0", "-", "0", "0"]);
    }
}
