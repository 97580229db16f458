//! What the vCPUs of one virtual machine share: memory, devices, time, and the way to each other.
//!
//! The devices are behind a lock of this machine alone, taken for one access. Locks are taken in this order: a vCPU's
//! body (the host's), the devices, the host's scheduler.

use crate::inbox::Tell;
use crate::paravirt::TscAgreement;
use crate::{Clock, Inbox};
use alloc::boxed::Box;
use alloc::sync::Arc;
use arch::{Nanos, Tsc, Vector};
use bus::{Attention, DeliveryMode, InterruptMessage, Platform, PowerRequest, TriggerMode};
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use memory::{GuestMemory, NotArranged};
use spin::{Mutex, MutexGuard};

/// What a virtual machine asks of whoever schedules its vCPUs.
pub trait Host {
    /// The inbox of the machine's vCPU number `vcpu` holds something: have it looked at soon. One that runs leaves its
    /// guest, one that sleeps is woken. Called with the machine's devices locked.
    fn wake(&self, vcpu: usize);

    /// Interrupts were posted for the machine's vCPU number `vcpu`, which takes them without leaving its guest when it is
    /// notified (SDM Vol. 3C, "Posted-Interrupt Processing"): one that runs is sent the notification, one that sleeps is
    /// woken, one that is neither finds them when it next runs.
    fn notify(&self, vcpu: usize) {
        self.wake(vcpu);
    }
}

/// The part of a virtual machine around its processors.
pub struct Vm<M, P> {
    /// Guest-physical memory.
    pub memory: M,
    /// Time since creation.
    pub clock: Clock,
    platform: Mutex<P>,
    inboxes: Box<[Arc<Inbox>]>,
    host: Box<dyn Host + Send + Sync>,
    /// Whether the 8259 pair drives INTR.
    external_interrupt: AtomicBool,
    /// When the devices want time next, in nanoseconds of the machine.
    device_deadline: AtomicU64,
    /// Whether all vCPUs read one TSC.
    tsc: TscAgreement,
    /// The wall clock's time at time zero, in nanoseconds since 1970.
    unix_at_zero: Nanos,
    /// vCPUs that nothing from outside can wake: they halt with interrupts off, or wait for a start-up IPI.
    asleep: AtomicU32,
}

impl<M: fmt::Debug, P: fmt::Debug> fmt::Debug for Vm<M, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vm")
            .field("memory", &self.memory)
            .field("clock", &self.clock)
            .field("platform", &self.platform)
            .field("inboxes", &self.inboxes)
            .finish_non_exhaustive()
    }
}

/// The vCPU that serves the devices: their timers, and INTR of the 8259 pair.
pub(crate) const DEVICE_VCPU: usize = 0;

impl<M, P: Platform> Vm<M, P> {
    /// A machine with a vCPU for each of `inboxes`. All but the first wait for a start-up IPI.
    pub fn new(
        memory: M,
        platform: P,
        clock: Clock,
        inboxes: Box<[Arc<Inbox>]>,
        host: Box<dyn Host + Send + Sync>,
    ) -> Self {
        let waiting = u32::try_from(inboxes.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let tsc = TscAgreement::new(inboxes.len(), clock.origin().0.wrapping_neg());
        let vm = Self {
            memory,
            clock,
            tsc,
            unix_at_zero: Nanos(0),
            external_interrupt: AtomicBool::new(platform.external_interrupt()),
            device_deadline: AtomicU64::new(platform.next_deadline().0),
            platform: Mutex::new(platform),
            inboxes,
            host,
            asleep: AtomicU32::new(waiting),
        };
        vm.serve_platform();
        vm
    }

    /// The machine with `unix` as the wall clock's time at its time zero, in nanoseconds since 1970.
    #[must_use]
    pub fn with_wall_clock(mut self, unix: Nanos) -> Self {
        self.unix_at_zero = unix;
        self
    }

    /// The wall clock's time at time zero, in nanoseconds since 1970.
    pub(crate) const fn unix_at_zero(&self) -> Nanos {
        self.unix_at_zero
    }

    /// Whether all vCPUs read one TSC.
    pub(crate) const fn tsc_agreement(&self) -> &TscAgreement {
        &self.tsc
    }

    /// Has every vCPU but `own` looked at.
    pub(crate) fn tell_others(&self, own: usize) {
        for index in (0..self.inboxes.len()).filter(|index| *index != own) {
            if self.inboxes[index].devices() {
                self.host.wake(index);
            }
        }
    }

    /// The devices. After an access from outside the guest, [`Self::serve_platform`] must follow.
    #[inline]
    pub fn platform(&self) -> MutexGuard<'_, P> {
        self.platform.lock()
    }

    /// The devices of a machine that is not shared yet, or no longer.
    pub(crate) fn platform_mut(&mut self) -> &mut P {
        self.platform.get_mut()
    }

    /// How many vCPUs there are.
    pub const fn vcpus(&self) -> usize {
        self.inboxes.len()
    }

    /// Whether the machine has no other vCPU than the one that asks.
    #[inline]
    pub(crate) const fn is_alone(&self) -> bool {
        self.inboxes.len() == 1
    }

    /// The inboxes of all vCPUs.
    pub fn inboxes(&self) -> &[Arc<Inbox>] {
        &self.inboxes
    }

    /// Hands on what the devices did when they were accessed from outside the guest.
    pub fn serve_platform(&self) {
        let mut platform = self.platform.lock();
        let attention = platform.take_attention();
        if !attention.is_empty() {
            self.serve(&mut platform, attention, None);
        }
    }

    /// Has the windows of guest memory show what the devices want there. Called with no lock held: other processors are
    /// waited for.
    ///
    /// # Errors
    /// [`NotArranged`]: the machine cannot go on.
    pub fn arrange_memory(&self) -> Result<(), NotArranged>
    where
        M: GuestMemory,
    {
        let arrangement = self.platform().arrangement();
        self.memory.arrange(&arrangement)
    }

    /// Delivers an NMI from outside the guest to the vCPU number `vcpu`.
    pub fn send_nmi(&self, vcpu: usize) {
        if self.inboxes.get(vcpu).is_some_and(|inbox| inbox.nmi()) {
            self.host.wake(vcpu);
        }
    }

    /// The machine's NMI line is pulsed: it is wired to LINT1 of every processor, and what becomes of it is for each local
    /// APIC's vector table to say.
    pub fn pulse_nmi_line(&self) {
        for (index, inbox) in self.inboxes.iter().enumerate() {
            if inbox.lint1() {
                self.host.wake(index);
            }
        }
    }

    /// Hands on what the devices did, as `attention` says: messages for other vCPUs, news for the one that serves the
    /// devices. Messages for vCPU `own`, the one that runs here, go to `own`'s receiver.
    pub(crate) fn serve(
        &self,
        platform: &mut P,
        attention: Attention,
        mut own: Option<(usize, &mut dyn FnMut(InterruptMessage))>,
    ) {
        // First: who is woken by a message to have the 8259 pair acknowledged looks whether it asks for that.
        let device_vcpu_must_look = self.refresh(platform);
        if attention.contains(Attention::INTERRUPT) {
            while let Some(message) = platform.take_message() {
                match &mut own {
                    Some((index, receive)) => {
                        if self.route(message, Some(*index)) {
                            receive(message);
                        }
                    }
                    None => {
                        self.route(message, None);
                    }
                }
            }
        }
        let device_vcpu_asks = own.is_some_and(|(index, _)| index == DEVICE_VCPU);
        if device_vcpu_must_look && !device_vcpu_asks {
            self.tell_device_vcpu();
        }
    }

    /// Takes over INTR and the next deadline from the devices. Returns whether the vCPU that serves them must look.
    pub(crate) fn refresh(&self, platform: &P) -> bool {
        let requested = platform.external_interrupt();
        let raised = requested && !self.external_interrupt.load(Ordering::Relaxed);
        self.external_interrupt.store(requested, Ordering::Release);
        let deadline = platform.next_deadline().0;
        let before = self.device_deadline.swap(deadline, Ordering::AcqRel);
        raised || deadline < before
    }

    /// Has the vCPU that serves the devices look at them.
    pub(crate) fn tell_device_vcpu(&self) {
        if self.inboxes[DEVICE_VCPU].devices() {
            self.host.wake(DEVICE_VCPU);
        }
    }

    /// Whether the 8259 pair drives INTR.
    #[inline]
    pub(crate) fn external_interrupt(&self) -> bool {
        self.external_interrupt.load(Ordering::Acquire)
    }

    /// When the devices want time next.
    #[inline]
    pub(crate) fn device_deadline(&self) -> Nanos {
        Nanos(self.device_deadline.load(Ordering::Acquire))
    }

    /// The host's TSC at which the devices want time next.
    #[inline]
    pub(crate) fn device_deadline_tsc(&self) -> Tsc {
        self.clock.tsc(self.device_deadline())
    }

    /// Hands a message of a device or an IPI with a destination to every vCPU that it is for. Returns whether vCPU
    /// `own` is one of them, for which nothing is left in its inbox.
    pub(crate) fn route(&self, message: InterruptMessage, own: Option<usize>) -> bool {
        if message.mode == DeliveryMode::LowestPriority {
            return self.route_to_one(message, own);
        }
        let mut is_own = false;
        for (index, inbox) in self.inboxes.iter().enumerate() {
            if !inbox.addressing().matches(message.destination) {
                continue;
            }
            if own == Some(index) {
                is_own = true;
            } else {
                self.leave(index, message);
            }
        }
        is_own
    }

    /// Lowest-priority delivery: priorities are not compared, the vector chooses among the processors, which spreads
    /// vectors as evenly (SDM Vol. 3A, "Lowest Priority Delivery Mode", leaves the choice to the chipset's).
    fn route_to_one(&self, message: InterruptMessage, own: Option<usize>) -> bool {
        let matches = |inbox: &Arc<Inbox>| inbox.addressing().matches(message.destination);
        let count = self.inboxes.iter().filter(|inbox| matches(inbox)).count();
        let Some(chosen) = usize::from(message.vector.0).checked_rem(count) else { return false };
        let mut candidates = self.inboxes.iter().enumerate().filter(|(_, inbox)| matches(inbox));
        let Some((index, _)) = candidates.nth(chosen) else { return false };
        if own == Some(index) {
            return true;
        }
        self.leave(index, message);
        false
    }

    /// Hands an IPI without regard to addresses to every vCPU but `own`.
    pub(crate) fn broadcast(&self, message: InterruptMessage, own: usize) {
        for index in (0..self.inboxes.len()).filter(|index| *index != own) {
            self.leave(index, message);
        }
    }

    /// Leaves the edge-triggered interrupt `vector` for vCPU `index`, which is not the one that runs here, and has it looked
    /// at. One whose local APIC is disabled gets none.
    #[inline]
    pub(crate) fn leave_interrupt(&self, index: usize, vector: Vector) {
        let inbox = &self.inboxes[index];
        if !inbox.is_addressable() {
            return;
        }
        match inbox.post(vector, TriggerMode::Edge) {
            Tell::Nobody => {}
            Tell::Wake => self.host.wake(index),
            Tell::Notify => self.host.notify(index),
        }
    }

    /// Leaves `message` for vCPU `index` and has it looked at.
    fn leave(&self, index: usize, message: InterruptMessage) {
        let inbox = &self.inboxes[index];
        let news = match message.mode {
            DeliveryMode::Fixed | DeliveryMode::LowestPriority => {
                match inbox.post(message.vector, message.trigger) {
                    Tell::Nobody => false,
                    Tell::Wake => true,
                    Tell::Notify => {
                        self.host.notify(index);
                        false
                    }
                }
            }
            DeliveryMode::Nmi => inbox.nmi(),
            DeliveryMode::Init => inbox.init(),
            DeliveryMode::StartUp => inbox.start_up(message.vector),
            // SMI has no handler to go to.
            DeliveryMode::Smi => false,
            DeliveryMode::ExtInt => inbox.external_interrupt(),
        };
        if news {
            self.host.wake(index);
        }
    }

    /// Leaves `message` for the vCPU with APIC ID `id`. Returns whether there is one.
    pub(crate) fn leave_for(&self, id: u32, message: InterruptMessage) -> bool {
        // IDs are the vCPUs' numbers.
        let index = usize::try_from(id).unwrap_or(usize::MAX);
        let exists = index < self.inboxes.len();
        if exists {
            self.leave(index, message);
        }
        exists
    }

    /// Takes a vCPU out of the count of those that nothing wakes.
    pub(crate) fn awake(&self) {
        self.asleep.fetch_sub(1, Ordering::SeqCst);
    }

    /// Counts a vCPU as one that nothing but another vCPU wakes. Returns whether nobody is left to do so.
    pub(crate) fn falls_asleep(&self) -> bool {
        let asleep = self.asleep.fetch_add(1, Ordering::SeqCst) + 1;
        usize::try_from(asleep).is_ok_and(|asleep| asleep >= self.inboxes.len())
            && !self.inboxes.iter().any(|inbox| inbox.has_signals())
    }

    /// A pending request for power off or reset.
    pub(crate) fn power_request(platform: &mut P, attention: Attention) -> Option<PowerRequest> {
        if attention.contains(Attention::POWER) { platform.take_power_request() } else { None }
    }
}
