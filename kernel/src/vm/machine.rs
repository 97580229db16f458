//! A running virtual machine as the operator holds it; its vCPUs are in their slots.

use super::slot::{Body, Outside, VmKey};
use crate::cores::{Core, Shared};
use alloc::boxed::Box;
use alloc::sync::Arc;
use arch::Tsc;
use core::sync::atomic::Ordering;
use devices::{Pc, Stroke, View};
use hal::vmx::{GuestSpace, Vmcs};
use memory::{GuestMemory, HasRom};
use monitor::ControlError;
use sched::{EntityId, Spec};
use vmm::{Host, Stats, Vcpu, Vm};
use vmx::VmxBackend;

/// The processor of a virtual machine.
pub(crate) type HostVcpu = Vcpu<VmxBackend<Vmcs>>;
/// Everything around it.
pub(crate) type HostVm = Vm<Arc<GuestSpace>, Pc>;

/// The way to the vCPUs of a virtual machine.
#[derive(Debug)]
pub(super) struct Bell {
    pub(super) shared: &'static Shared,
    /// By vCPU number.
    pub(super) ids: Box<[EntityId]>,
}

impl Host for Bell {
    #[inline]
    fn wake(&self, vcpu: usize) {
        if let Some(id) = self.ids.get(vcpu) {
            self.shared.wake(*id);
        }
    }

    #[inline]
    fn notify(&self, vcpu: usize) {
        if let Some(id) = self.ids.get(vcpu) {
            self.shared.notify(*id);
        }
    }
}

/// A virtual machine whose vCPUs are in slots.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) key: VmKey,
    pub(crate) vm: Arc<HostVm>,
    pub(crate) outside: Arc<Outside>,
    /// The numbers of its vCPUs.
    pub(crate) ids: Box<[EntityId]>,
    shared: &'static Shared,
}

impl Machine {
    /// Puts `bodies` into the slots `ids` and under the scheduler by `spec`. Nothing runs before [`Self::let_go`].
    ///
    /// # Errors
    /// What the scheduler says against it; nothing is left then.
    pub(super) fn install(
        shared: &'static Shared,
        ids: Box<[EntityId]>,
        bodies: alloc::vec::Vec<Box<Body>>,
        spec: &Spec,
    ) -> Result<Self, ControlError> {
        let first = bodies.first().expect("a virtual machine has a vCPU");
        let (key, vm, outside) = (first.key, Arc::clone(&first.vm), Arc::clone(&first.outside));
        for (added, id) in ids.iter().enumerate() {
            if let Err(error) = shared.scheduler.add(*id, *spec) {
                for id in ids.iter().take(added) {
                    shared.scheduler.remove(*id).expect("it was just added");
                }
                return Err(ControlError::Refused(alloc::format!("{error}")));
            }
        }
        for (id, body) in ids.iter().zip(bodies) {
            let before = shared.slot(*id).exchange(Some(body));
            assert!(before.is_none(), "a free number has an empty slot");
        }
        Ok(Self { key, vm, outside, ids, shared })
    }

    /// Has no vCPU run until [`Self::let_go`].
    pub(super) fn park(&self, core: &mut Core) {
        // All first, so that none is waited for twice by those that wait for one another.
        for id in &self.ids {
            self.shared.slot(*id).gate.hold();
        }
        for id in &self.ids {
            core.park(*id);
        }
    }

    /// Lets the vCPUs run.
    pub(super) fn let_go(&self, core: &Core) {
        for id in &self.ids {
            core.let_go(*id);
        }
    }

    /// Takes the vCPUs, which are parked, off the scheduler and out of their slots, and gives all that the machine had
    /// back to the host. Returns the counters of the vCPUs.
    pub(super) fn take_apart(self, core: &mut Core) -> alloc::vec::Vec<Stats> {
        let bodies: alloc::vec::Vec<Box<Body>> =
            self.ids.iter().filter_map(|id| core.take_out(*id)).collect();
        for id in &self.ids {
            self.shared.scheduler.remove(*id).expect("a machine that runs is scheduled");
        }
        // The last to go is the guest's memory, behind a flush on all cores, which also frees the identifiers.
        bodies.iter().map(|body| body.vcpu.stats().clone()).collect()
    }

    /// Calls `look` with each vCPU while it is out of its guest, in order.
    pub(crate) fn each<R>(&self, mut look: impl FnMut(EntityId, &mut Body) -> R) -> alloc::vec::Vec<R> {
        let look = |id: &EntityId| {
            let slot = self.shared.slot(*id);
            slot.look(self.shared, |body| {
                if let Some(core) = slot.ran_on() {
                    self.shared.post(core).charge_exits(body);
                }
                look(*id, body)
            })
        };
        self.ids.iter().filter_map(look).collect()
    }

    /// Calls `look` with vCPU number `vcpu` while it is out of its guest.
    pub(crate) fn one<R>(&self, vcpu: usize, look: impl FnOnce(&mut Body) -> R) -> Option<R> {
        self.shared.slot(*self.ids.get(vcpu)?).look(self.shared, look)
    }

    /// The variable store of its firmware, if the guest has changed it. The vCPUs are parked.
    pub(super) fn changed_variables(&self) -> Option<alloc::vec::Vec<u8>> {
        let (base, bytes) = self.vm.platform().changed_variables()?;
        let mut variables = alloc::vec![0; usize::try_from(bytes).ok()?];
        self.vm.memory.rom().read(base, &mut variables).ok()?;
        Some(variables)
    }

    /// Guest memory in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.vm.memory.size()
    }

    /// Tables of the second level.
    pub(super) fn table_pages(&self) -> u64 {
        let statistics = self.vm.memory.statistics();
        statistics.tables + statistics.retired_tables
    }

    /// Hands bytes from the operator to the guest's serial port; returns how many it took.
    pub(crate) fn type_in(&self, bytes: &[u8], now: Tsc) -> usize {
        let taken = bytes.iter().take_while(|byte| self.outside.console.send(**byte)).count();
        self.touch_console(now);
        taken
    }

    /// Has the serial port look at its pipe: there is input, or room.
    pub(crate) fn touch_console(&self, now: Tsc) {
        self.vm.platform().console_input(self.vm.clock.nanos(now));
        self.vm.serve_platform();
    }

    /// What its screen shows now, if it has one.
    pub(crate) fn screen(&self) -> Option<View> {
        let now = self.vm.clock.nanos(hal::time::now());
        self.vm.platform().screen(now)
    }

    /// Types at its keyboard. Returns whether all of `strokes` were taken; none are otherwise.
    pub(crate) fn type_keys(&self, strokes: &[Stroke]) -> bool {
        let now = self.vm.clock.nanos(hal::time::now());
        let taken = self.vm.platform().type_keys(strokes, now);
        self.vm.serve_platform();
        taken
    }

    /// Whether its vCPUs have cores of their own.
    pub(super) fn set_exclusive(&self, exclusive: bool) {
        self.outside.exclusive.store(exclusive, Ordering::Relaxed);
    }
}
