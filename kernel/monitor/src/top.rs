//! `top`: what each vCPU and each core did between two moments, again and again.
//!
//! Nothing waits here: the terminal calls [`Top::tick`] when it has the time, and [`Top::due`] says when there is
//! something to do.

use crate::control::{Control, VmState};
use crate::numbers::{average, duration, grouped, milliseconds, nanos, share};
use crate::output::{Output, print};
use crate::table::{Align, Table};
use crate::times::{CoreShares, Snapshot, VcpuTimes, VmTimes};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

/// Rows shown of virtual machines and vCPUs, and of cores: what is beyond is counted.
const MOST_ROWS: usize = 48;

/// How a repeated `top` makes room for the next table.
const TO_FIRST_ROW: &[u8] = b"\x1b[H\x1b[J";

/// Whether there is more to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    GoesOn,
    Done,
}

/// A `top` that is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Top {
    interval: Duration,
    /// Tables still to show; for ever without a number.
    remaining: Option<u32>,
    /// Where the interval under way began.
    from: Snapshot,
}

impl Top {
    /// Begins the first interval.
    pub(crate) fn start(
        interval: Duration,
        count: Option<u32>,
        control: &dyn Control,
        out: &mut dyn Output,
    ) -> Self {
        print(out, format_args!("top: first figures in {}; any key stops\n", duration(interval)));
        Self { interval, remaining: count, from: control.snapshot() }
    }

    /// When the interval under way ends, on the clock of [`Control::uptime`].
    pub(crate) fn due(&self) -> Duration {
        self.from.at.saturating_add(self.interval)
    }

    /// Shows what there is to show by now.
    pub(crate) fn tick(&mut self, control: &dyn Control, out: &mut dyn Output) -> Progress {
        if control.uptime() < self.due() {
            return Progress::GoesOn;
        }
        let to = control.snapshot();
        if self.remaining.is_none() {
            out.write_bytes(TO_FIRST_ROW);
        }
        show(&self.from, &to, out);
        self.from = to;
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.saturating_sub(1);
        }
        if self.remaining == Some(0) { Progress::Done } else { Progress::GoesOn }
    }
}

/// What a counter grew by. One that went back began anew in between.
fn grown<T: PartialOrd + core::ops::Sub<Output = T>>(from: T, to: T) -> T {
    if to < from { to } else { to - from }
}

fn vcpu_between(from: VcpuTimes, to: VcpuTimes) -> VcpuTimes {
    VcpuTimes {
        ran: grown(from.ran, to.ran),
        waited: grown(from.waited, to.waited),
        migrations: grown(from.migrations, to.migrations),
        exits: grown(from.exits, to.exits),
    }
}

/// One virtual machine's figures of the interval.
struct Row<'a> {
    vm: &'a VmTimes,
    sum: VcpuTimes,
    /// With their numbers, who ran longest first.
    vcpus: Vec<(usize, VcpuTimes)>,
}

impl<'a> Row<'a> {
    fn between(from: Option<&VmTimes>, to: &'a VmTimes) -> Self {
        let before = |index: usize| from.and_then(|from| from.vcpus.get(index)).copied().unwrap_or_default();
        let grown = |(index, &times)| (index, vcpu_between(before(index), times));
        let mut vcpus: Vec<_> = to.vcpus.iter().enumerate().map(grown).collect();
        let sum = vcpus.iter().fold(VcpuTimes::default(), |sum, (_, times)| sum.plus(*times));
        vcpus.sort_by_key(|(_, times)| Reverse(times.ran));
        Self { vm: to, sum, vcpus }
    }
}

fn show(from: &Snapshot, to: &Snapshot, out: &mut dyn Output) {
    let elapsed = nanos(to.at.saturating_sub(from.at));
    let active = |vm: &&VmTimes| match vm.state {
        VmState::Running | VmState::Paused => true,
        VmState::Stopped | VmState::Crashed | VmState::Refused => false,
    };
    let before: BTreeMap<&str, &VmTimes> = from.vms.iter().map(|vm| (vm.name.as_str(), vm)).collect();
    let mut rows: Vec<Row<'_>> = to
        .vms
        .iter()
        .filter(active)
        .map(|vm| Row::between(before.get(vm.name.as_str()).copied(), vm))
        .collect();
    rows.sort_by(|a, b| b.sum.ran.cmp(&a.sum.ran).then_with(|| a.vm.name.cmp(&b.vm.name)));
    let vcpus = rows.iter().map(|row| row.vcpus.len()).sum::<usize>();
    print(
        out,
        format_args!(
            "top: {}; virtual machines at work: {}, with vCPUs: {vcpus}\n",
            duration(Duration::from_nanos(elapsed)),
            rows.len()
        ),
    );
    show_cores(from, to, elapsed, out);
    print(out, format_args!("\n"));
    show_vms(&rows, elapsed, out);
}

fn show_cores(from: &Snapshot, to: &Snapshot, elapsed: u64, out: &mut dyn Output) {
    let mut table = Table::new([
        ("CORE", Align::Right),
        ("GUEST", Align::Right),
        ("HYPERVISOR", Align::Right),
        ("IDLE", Align::Right),
        ("SWITCHES", Align::Right),
        ("PULLS", Align::Right),
        ("IPIS", Align::Right),
    ]);
    for core in to.cores.iter().take(MOST_ROWS) {
        let before = from.cores.iter().find(|before| before.id == core.id).copied().unwrap_or_default();
        let part =
            |time: fn(&CoreShares) -> Duration| share(nanos(grown(time(&before), time(core))), elapsed);
        table.row([
            core.id.to_string(),
            part(|core| core.guest),
            part(|core| core.hypervisor),
            part(|core| core.idle),
            grouped(grown(before.switches, core.switches)),
            grouped(grown(before.pulls, core.pulls)),
            grouped(grown(before.kicks, core.kicks)),
        ]);
    }
    table.print(out);
    more("cores", to.cores.len(), MOST_ROWS, out);
}

fn show_vms(rows: &[Row<'_>], elapsed: u64, out: &mut dyn Output) {
    let mut table = Table::new([
        ("NAME", Align::Left),
        ("STATE", Align::Left),
        ("WEIGHT", Align::Right),
        ("SHARE", Align::Right),
        ("RUN MS", Align::Right),
        ("STEAL MS", Align::Right),
        ("EXITS/S", Align::Right),
        ("MIGRATIONS", Align::Right),
    ]);
    let (mut shown, mut all) = (0, 0);
    let mut row = |name: String, state: String, weight: String, times: &VcpuTimes| {
        all += 1;
        if shown == MOST_ROWS {
            return;
        }
        shown += 1;
        table.row([
            name,
            state,
            weight,
            share(nanos(times.ran), elapsed),
            milliseconds(times.ran),
            milliseconds(times.waited),
            a_second(times.exits, elapsed),
            grouped(times.migrations),
        ]);
    };
    for Row { vm, sum, vcpus } in rows {
        row(vm.name.clone(), vm.state.to_string(), vm.weight.to_string(), sum);
        // The only vCPU has the same figures.
        if vcpus.len() > 1 {
            for (index, times) in vcpus {
                row(format!("{}/{index}", vm.name), String::new(), String::new(), times);
            }
        }
    }
    table.print(out);
    more("rows", all, shown, out);
}

fn more(what: &str, all: usize, shown: usize, out: &mut dyn Output) {
    if all > shown {
        print(out, format_args!("  and {} more {what}\n", all - shown));
    }
}

fn a_second(count: u64, elapsed_ns: u64) -> String {
    let scaled = u128::from(count) * 1_000_000_000 / u128::from(elapsed_ns.max(1));
    if elapsed_ns == 0 { average(0, 0) } else { grouped(u64::try_from(scaled).unwrap_or(u64::MAX)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeControl;

    fn text(out: &[u8]) -> String {
        String::from_utf8(out.to_vec()).expect("text")
    }

    fn times(ran_ms: u64, waited_ms: u64, migrations: u64, exits: u64) -> VcpuTimes {
        VcpuTimes {
            ran: Duration::from_millis(ran_ms),
            waited: Duration::from_millis(waited_ms),
            migrations,
            exits,
        }
    }

    fn vm(name: &str, state: VmState, vcpus: &[VcpuTimes]) -> VmTimes {
        VmTimes { name: name.into(), state, weight: 100, vcpus: vcpus.to_vec() }
    }

    fn core(id: u32, guest_ms: u64, hypervisor_ms: u64, idle_ms: u64, count: u64) -> CoreShares {
        CoreShares {
            id,
            guest: Duration::from_millis(guest_ms),
            hypervisor: Duration::from_millis(hypervisor_ms),
            idle: Duration::from_millis(idle_ms),
            switches: count,
            pulls: count / 2,
            kicks: count * 2,
            ..CoreShares::default()
        }
    }

    fn shown(from: &Snapshot, to: &Snapshot) -> Vec<String> {
        let mut out = Vec::new();
        show(from, to, &mut out);
        text(&out).lines().map(String::from).collect()
    }

    #[test]
    fn rows_show_the_interval_alone_sorted_by_share() {
        let from = Snapshot {
            at: Duration::from_secs(10),
            vms: vec![
                vm("small", VmState::Running, &[times(5_000, 100, 1, 10)]),
                vm("smp", VmState::Running, &[times(100, 0, 0, 0), times(200, 0, 0, 0)]),
            ],
            cores: vec![core(0, 1_000, 100, 8_900, 10), core(1, 0, 0, 10_000, 0)],
        };
        let to = Snapshot {
            at: Duration::from_secs(12),
            vms: vec![
                vm("small", VmState::Running, &[times(5_500, 1_600, 4, 2_010)]),
                vm("smp", VmState::Running, &[times(600, 10, 2, 500), times(2_190, 1, 0, 1_000)]),
                vm("held", VmState::Paused, &[times(0, 0, 0, 0)]),
                vm("off", VmState::Stopped, &[]),
            ],
            cores: vec![core(0, 2_500, 600, 8_900, 30), core(1, 1_996, 2, 10_002, 4)],
        };
        let expected = "\
top: 2.0 s; virtual machines at work: 3, with vCPUs: 4
  CORE   GUEST  HYPERVISOR   IDLE  SWITCHES  PULLS  IPIS
     0  75.0 %      25.0 %  0.0 %        20     10    40
     1  99.8 %       0.1 %  0.1 %         4      2     8

  NAME   STATE    WEIGHT    SHARE   RUN MS  STEAL MS  EXITS/S  MIGRATIONS
  smp    running     100  124.5 %  2,490.0      11.0      750           2
  smp/1                    99.5 %  1,990.0       1.0      500           0
  smp/0                    25.0 %    500.0      10.0      250           2
  small  running     100   25.0 %    500.0   1,500.0    1,000           3
  held   paused      100    0.0 %      0.0       0.0        0           0";
        assert_eq!(shown(&from, &to).join("\n"), expected);
    }

    #[test]
    fn a_machine_that_started_in_between_counts_from_its_start() {
        let at = |seconds, vms| Snapshot { at: Duration::from_secs(seconds), vms, cores: Vec::new() };
        let from = at(1, vec![vm("again", VmState::Running, &[times(900, 0, 7, 9)])]);
        let to = at(
            2,
            vec![
                vm("again", VmState::Running, &[times(300, 0, 0, 5)]),
                vm("new", VmState::Running, &[times(400, 0, 0, 5)]),
            ],
        );
        let rows = shown(&from, &to);
        assert!(rows.iter().any(|row| row.contains("again") && row.contains("30.0 %")), "{rows:?}");
        assert!(rows.iter().any(|row| row.contains("new") && row.contains("40.0 %")), "{rows:?}");
    }

    #[test]
    fn no_time_and_extreme_counters_do_no_harm() {
        let most =
            VcpuTimes { ran: Duration::MAX, waited: Duration::MAX, migrations: u64::MAX, exits: u64::MAX };
        let now = Snapshot {
            at: Duration::MAX,
            vms: vec![vm("most", VmState::Running, &[most, most])],
            cores: Vec::new(),
        };
        assert!(shown(&now, &now).iter().any(|row| row.contains("most") && row.contains('-')));
        let rows = shown(&Snapshot::default(), &now);
        assert!(rows.iter().any(|row| row.contains("most/1")), "{rows:?}");
    }

    #[test]
    fn long_tables_are_cut_and_say_so() {
        let many = Snapshot {
            at: Duration::from_secs(1),
            vms: (0..1000).map(|n| vm(&format!("vm{n}"), VmState::Running, &[times(n, 0, 0, 0)])).collect(),
            cores: (0..200).map(|id| core(id, 0, 0, 0, 0)).collect(),
        };
        let rows = shown(&Snapshot::default(), &many);
        assert!(rows.len() < 2 * MOST_ROWS + 10, "{}", rows.len());
        assert!(
            rows.contains(&"  and 152 more cores".into()) && rows.contains(&"  and 952 more rows".into())
        );
        assert!(rows.iter().any(|row| row.contains("vm999")), "the busiest are shown");
    }

    #[test]
    fn tables_come_when_the_interval_is_over_and_as_often_as_asked() {
        let mut control = FakeControl::two_vms();
        let mut out = Vec::new();
        let mut top = Top::start(Duration::from_secs(2), Some(2), &control, &mut out);
        assert_eq!(top.due(), control.uptime + Duration::from_secs(2));
        out.clear();
        control.pass(Duration::from_millis(1_999));
        assert_eq!((top.tick(&control, &mut out), out.len()), (Progress::GoesOn, 0));
        control.pass(Duration::from_millis(1));
        assert_eq!(top.tick(&control, &mut out), Progress::GoesOn);
        assert!(text(&out).starts_with("top: 2.0 s;"), "{}", text(&out));
        assert_eq!(top.due(), control.uptime + Duration::from_secs(2));
        out.clear();
        assert_eq!((top.tick(&control, &mut out), out.len()), (Progress::GoesOn, 0));
        control.pass(Duration::from_secs(30));
        assert_eq!(top.tick(&control, &mut out), Progress::Done);
        assert!(text(&out).starts_with("top: 30.0 s;"), "{}", text(&out));
    }

    #[test]
    fn an_endless_top_draws_over_itself() {
        let mut control = FakeControl::two_vms();
        let mut out = Vec::new();
        let mut top = Top::start(Duration::from_secs(1), None, &control, &mut out);
        for _ in 0..3 {
            out.clear();
            control.pass(Duration::from_secs(1));
            assert_eq!(top.tick(&control, &mut out), Progress::GoesOn);
            assert!(out.starts_with(TO_FIRST_ROW));
        }
    }
}
