//! Bringing the cores up.

use super::alone::Core;
use super::post::Status;
use super::shared::{self, OPERATOR_CORE, Shared};
use hal::boot::Machine;
use hal::vmx::{VmxCpu, VmxError};
use sched::{CoreId, Params};

/// A core that has been started has this long, in microseconds, to say whether it can run guests.
const PATIENCE_US: u64 = 1_000_000;
/// A vCPU runs this long before others get their turn, in microseconds.
const SLICE_US: u64 = 5_000;

/// Starts all cores and returns this one. Those that do not start are in the log already.
///
/// # Errors
/// [`VmxError`] when this core cannot run guests. Others that cannot are reported and left out.
pub(crate) fn start_all(machine: &Machine) -> Result<Core, VmxError> {
    let cpu = VmxCpu::start()?;
    let cores = u32::try_from(machine.platform.cpus.len()).unwrap_or(u32::MAX).max(1);
    let params = Params { slice: hal::time::ticks(SLICE_US), ..Params::default() };
    let shared = shared::init(cores, params);
    let core = Core::new(cpu, OPERATOR_CORE, shared);
    let started = hal::smp::start_others(&machine.platform, enter);
    let deadline = hal::time::now() + hal::time::ticks(PATIENCE_US);
    for index in started.running {
        wait_for(shared, CoreId(index), deadline);
    }
    let up = shared.posts().filter(|(_, post)| post.status() == Status::Up).count();
    log::info!("cores: {up} of {cores} run guests");
    Ok(core)
}

fn wait_for(shared: &Shared, core: CoreId, deadline: arch::Tsc) {
    while shared.post(core).status() == Status::Absent {
        if hal::time::now() > deadline {
            log::error!("core {} has started but says nothing; it is left out", core.0);
            return;
        }
        hal::shootdown::serve();
        core::hint::spin_loop();
    }
}

/// Where each further core begins.
fn enter(index: u32) -> ! {
    let shared = shared::get().expect("the first core has set it up");
    let here = CoreId(index);
    match VmxCpu::start() {
        Ok(cpu) => {
            let core = Core::new(cpu, here, shared);
            crate::panic_test::run_if_asked_here();
            core.run()
        }
        Err(error) => {
            log::error!("core {index} cannot run guests and is left out: {error}");
            shared.post(here).leave_out();
            loop {
                hal::percpu::current().take_pending();
                hal::shootdown::serve();
                hal::idle_until(arch::Tsc::NEVER);
            }
        }
    }
}
