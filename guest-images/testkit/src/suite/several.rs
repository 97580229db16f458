//! Several processors: how they start and stop, and what reaches which of them.
//!
//! Source: SDM Vol. 3A, "Multiple-Processor (MP) Initialization", "Determining IPI Destination".

use super::{Check, Checked, Group, Phase, Stop, check};
use crate::machine::percpu::PerCpu;
use crate::programs::{Verdict, ipi_modes, smp_start, smp_tsc, topology};
use crate::smp;

pub(super) const GROUP_XAPIC: Group = Group::new(XAPIC).needing(several);
pub(super) const GROUP_X2APIC: Group = Group::new(X2APIC).needing(several).in_phase(Phase::X2Apic);

macro_rules! in_both_modes {
    ($($name:literal = $body:expr;)+) => {
        const XAPIC: &[Check] = &[
            $(check(concat!("xapic-smp.", $name), $body),)+
            check("xapic-smp.logical-flat", || started(ipi_modes::logical_flat)),
            check("xapic-smp.logical-cluster", || started(ipi_modes::logical_cluster)),
            check("xapic-smp.cluster-of-all-and-illegal-vectors", || started(ipi_modes::details)),
        ];
        const X2APIC: &[Check] = &[
            $(check(concat!("x2apic-smp.", $name), $body),)+
            check("x2apic-smp.logical-cluster", || started(ipi_modes::logical_x2apic)),
            check("x2apic-smp.topology", || started(topology::topology)),
            check("x2apic-smp.tsc-goes-together", || started(smp_tsc::smp_tsc)),
        ];
    };
}

in_both_modes! {
    "start" = || Ok(smp::start_others()?);
    "identifiers-are-unique" = || Ok(smp_start::unique_identifiers()?);
    "identity" = || started(|| smp::each_in_turn(smp_start::identity));
    "startup-of-a-running-one-does-nothing" = || each(smp_start::startup_while_running);
    "init-stops-a-running-one" = || each(smp_start::reset_while_running);
    "init-stops-a-halted-one" = || each(smp_start::reset_while_halted);
    "start-by-shorthand" = || started(smp_start::all_together);
    "first-startup-counts" = || started(smp_start::first_startup_counts);
    "physical-destinations" = || started(ipi_modes::physical);
    "shorthands" = || started(ipi_modes::shorthands);
    "from-one-to-the-next" = || started(ipi_modes::ring);
    "held-back-by-flag-and-priority" = || started(ipi_modes::held_back);
}

fn several() -> Checked {
    if smp::count() > 1 { Ok(()) } else { Err(Stop::Skipped("one CPU")) }
}

/// With every other processor started.
fn started(body: fn() -> Verdict) -> Checked {
    smp::start_others()?;
    Ok(body()?)
}

fn each(body: fn(&'static PerCpu) -> Verdict) -> Checked {
    smp::start_others()?;
    Ok(smp::others().try_for_each(body)?)
}
