//! The local APIC, by its page, its MSRs, messages and time.

use crate::Bytes;
use crate::subject::{self, digest};
use arch::{Msr, Nanos, Tsc, Vector};
use bus::{DeliveryMode, Destination, InterruptMessage, TriggerMode};
use core::num::NonZeroU64;
use vmm::lapic::{Config, Features, Level, LocalApic, Pin, Role, State, TimerRate};

/// A processor's APIC; nanoseconds are its TSC.
#[derive(Debug)]
pub(super) struct Subject {
    device: LocalApic,
    last: Nanos,
}

fn config() -> Config {
    let hz = |hz| NonZeroU64::new(hz).unwrap_or(NonZeroU64::MIN);
    Config {
        id: 3,
        role: Role::Bootstrap,
        features: Features::X2APIC | Features::TSC_DEADLINE,
        timer_rate: TimerRate::new(hz(25_000_000), hz(1_000_000_000)),
        shortest_period: Tsc(1000),
        physical_address_bits: 39,
    }
}

impl subject::Subject for Subject {
    type State = (State, Nanos);

    fn new() -> Self {
        Self { device: LocalApic::new(config()), last: Nanos(0) }
    }

    fn act(&mut self, bytes: &mut Bytes<'_>, now: Nanos) -> u64 {
        let time = Tsc(now.0);
        self.last = now;
        let mut read = 0;
        match bytes.byte() % 16 {
            0..=1 => {
                let width = bytes.memory_width();
                read = self.device.read_mmio(bytes.word(), width, time);
                assert_eq!(read & !width.mask(), 0);
            }
            2..=4 => {
                let _effect =
                    self.device.write_mmio(bytes.below(0x410), bytes.memory_width(), bytes.magnitude(), time);
            }
            5..=6 => {
                let msr = Msr(0x800 + u32::from(bytes.below(0x100)));
                let before = self.device.clone();
                if self.device.write_msr(msr, bytes.magnitude(), time).is_err() {
                    assert_eq!(self.device, before, "a write that faults changes nothing");
                    read = 1;
                }
            }
            7 => {
                read = self
                    .device
                    .read_msr(Msr(0x800 + u32::from(bytes.below(0x100))), time)
                    .unwrap_or(u64::MAX);
            }
            8 => self.device.set_tsc_deadline(Tsc(now.0.saturating_add(bytes.magnitude())), time),
            9 => {
                let base = 0xfee0_0000 | u64::from(bytes.choose(&[0_u16, 0x400, 0x800, 0xc00, 0x900, 0xd00]));
                read = u64::from(self.device.set_base(base).is_ok());
            }
            10..=11 => {
                let mode = [DeliveryMode::Fixed, DeliveryMode::LowestPriority, DeliveryMode::Nmi];
                let trigger = [TriggerMode::Edge, TriggerMode::Level];
                let _delivery = self.device.accept(InterruptMessage {
                    destination: Destination::Physical(3),
                    mode: bytes.choose(&mode),
                    trigger: bytes.choose(&trigger),
                    vector: Vector(bytes.byte()),
                });
            }
            12 => {
                let pin = bytes.choose(&[Pin::Lint0, Pin::Lint1]);
                let _delivery = self.device.set_pin(pin, bytes.choose(&[Level::Low, Level::High]));
            }
            13 => self.device.set_cr8(bytes.byte() & 15),
            14 => {
                if let Some(vector) = self.device.pending_vector() {
                    self.device.acknowledge(vector);
                    assert!(
                        self.device.pending_vector() < Some(vector),
                        "a handler is not interrupted by its own class"
                    );
                }
            }
            _ => {
                let _effect = self.device.end_of_interrupt();
            }
        }
        let pending = self.device.pending_vector().map_or(0x100, |vector| u64::from(vector.0));
        digest(&[read, pending, u64::from(self.device.cr8())])
    }

    fn advance(&mut self, now: Nanos) -> u64 {
        self.last = now;
        self.device.advance(Tsc(now.0));
        self.device.pending_vector().map_or(0x100, |vector| u64::from(vector.0))
    }

    fn next_deadline(&self) -> Nanos {
        match self.device.timer_deadline() {
            Some(Tsc(time)) if time != u64::MAX => Nanos(time),
            Some(_) | None => Nanos::NEVER,
        }
    }

    fn save(&self) -> (State, Nanos) {
        (self.device.save(), self.last)
    }

    fn restore(&mut self, (state, last): &(State, Nanos)) {
        self.device = LocalApic::restore(config(), state).expect("a state that was");
        self.last = *last;
    }
}
