//! How the vCPUs of a machine share the cores: from the configuration and the operator to the scheduler.

use crate::cores::{Shared, Status};
use alloc::string::String;
use alloc::vec::Vec;
use config::{Class, Restart, VmConfig};
use monitor::{Cap, ControlError, Cores, Overrides, Scheduling, SchedulingChange};
use sched::{CoreId, CoreMask, EntityId, SetError, Spec, Weight};

/// What the scheduler is told of each vCPU of `config`.
pub(super) fn spec(config: &VmConfig) -> Spec {
    let cores = match &config.cores {
        None => CoreMask::ALL,
        Some(numbers) => numbers.iter().map(|number| CoreId((*number).into())).collect(),
    };
    Spec {
        weight: Weight::new(config.weight).unwrap_or(Weight::DEFAULT),
        cap: config.cap.and_then(|percent| sched::Cap::new(percent.into())),
        cores,
        class: match config.class {
            Class::Normal => sched::Class::Normal,
            Class::Latency => sched::Class::Latency,
            Class::Exclusive => sched::Class::Exclusive,
        },
    }
}

/// The same for the operator's eyes.
pub(crate) fn shown(config: &VmConfig) -> Scheduling {
    Scheduling {
        weight: config.weight,
        cap: config.cap.map_or(Cap::Unlimited, Cap::Percent),
        cores: match &config.cores {
            None => Cores::All,
            Some(numbers) => Cores::These(numbers.clone()),
        },
        class: match config.class {
            Class::Normal => monitor::Class::Normal,
            Class::Latency => monitor::Class::Latency,
            Class::Exclusive => monitor::Class::Exclusive,
        },
    }
}

/// The restart policy for the operator's eyes.
pub(crate) const fn shown_restart(config: &VmConfig) -> monitor::Restart {
    match config.restart {
        Restart::Never => monitor::Restart::Never,
        Restart::OnFailure => monitor::Restart::OnFailure,
        Restart::Always => monitor::Restart::Always,
    }
}

/// `config` with `change` made.
///
/// # Errors
/// [`ControlError::NoSuchCore`].
pub(super) fn changed(
    config: &VmConfig,
    change: &SchedulingChange,
    shared: &Shared,
) -> Result<VmConfig, ControlError> {
    let mut config = config.clone();
    if let Some(weight) = change.weight {
        config.weight = weight;
    }
    match change.cap {
        None => {}
        Some(Cap::Unlimited) => config.cap = None,
        Some(Cap::Percent(percent)) => config.cap = Some(percent),
    }
    match &change.cores {
        None => {}
        Some(Cores::All) => config.cores = None,
        Some(Cores::These(numbers)) => config.cores = Some(checked(numbers, shared)?),
    }
    match change.class {
        None => {}
        Some(monitor::Class::Normal) => config.class = Class::Normal,
        Some(monitor::Class::Latency) => config.class = Class::Latency,
        Some(monitor::Class::Exclusive) => config.class = Class::Exclusive,
    }
    Ok(config)
}

/// `numbers`, if all are cores that run guests.
fn checked(numbers: &[u8], shared: &Shared) -> Result<Vec<u8>, ControlError> {
    let is_up = |core: u32| core < shared.cores() && shared.post(CoreId(core)).status() == Status::Up;
    match numbers.iter().copied().map(u32::from).find(|core| !is_up(*core)) {
        Some(core) => Err(ControlError::NoSuchCore { core, cores: shared.cores() }),
        None => Ok(numbers.into()),
    }
}

/// The definition `name`, like `from` but for `overrides`.
///
/// # Errors
/// [`ControlError::NoSuchCore`]; [`ControlError::Refused`] for more nodes than processors or memory allow.
pub(super) fn derive(
    from: &VmConfig,
    name: &str,
    overrides: &Overrides,
    shared: &Shared,
) -> Result<VmConfig, ControlError> {
    let mut config = changed(from, &overrides.scheduling, shared)?;
    config.name = String::from(name);
    // It starts when it is told to.
    config.autostart = false;
    config.console = false;
    if let Some(mib) = overrides.memory_mib {
        config.memory_mib = mib;
    }
    if let Some(vcpus) = overrides.vcpus {
        config.vcpus = vcpus;
    }
    match overrides.nodes {
        None => {}
        Some(monitor::Nodes::Untold) => config.numa_nodes = None,
        Some(monitor::Nodes::Count(count)) => config.numa_nodes = Some(count),
    }
    match overrides.restart {
        None => {}
        Some(monitor::Restart::Never) => config.restart = Restart::Never,
        Some(monitor::Restart::OnFailure) => config.restart = Restart::OnFailure,
        Some(monitor::Restart::Always) => config.restart = Restart::Always,
    }
    if let Some(command_line) = &overrides.command_line {
        config.cmdline.clone_from(command_line);
    }
    match config.node_mistake() {
        None => Ok(config),
        Some(problem) => Err(ControlError::Refused(alloc::format!("field `numa_nodes`: {problem}"))),
    }
}

/// Changes the vCPUs `ids` from `old` to `new` while they run; all or none.
///
/// # Errors
/// [`ControlError::Refused`] when the scheduler cannot do it.
pub(super) fn apply(
    shared: &Shared,
    ids: &[EntityId],
    old: &VmConfig,
    new: &VmConfig,
) -> Result<(), ControlError> {
    let set = |id: EntityId, config: &VmConfig| {
        let kick = shared.scheduler.set(id, spec(config), hal::time::now())?;
        kick.into_iter().for_each(|core| shared.interrupt(core));
        shared.tell_cores();
        Ok::<(), SetError>(())
    };
    for (done, id) in ids.iter().enumerate() {
        if let Err(error) = set(*id, new) {
            for id in ids.iter().take(done) {
                set(*id, old).expect("what was in force before is possible");
            }
            return Err(ControlError::Refused(alloc::format!("{error}")));
        }
    }
    Ok(())
}
