//! One PCI function: configuration space, base addresses and interrupts, around a device that has only its own
//! registers to see to.
//!
//! What a device has is said once, in its [`FunctionLayout`]. Accesses that lie in a base address register's range
//! reach the device with an offset; those to the MSI-X table do not reach it at all. The device asks for interrupts
//! through [`Signals`], however software has set them up.

use super::bar::{self, BARS, Bar, Space};
use super::config_space::{ConfigSpace, ConfigSpaceState};
use super::msi::{Msi, MsiState};
use super::msix::{Msix, MsixLayout, MsixState};
use super::spec::{
    BAR0, CAPABILITY_EXPRESS, COMMAND, EXPRESS_DEVICE_CAPABILITIES, EXPRESS_DEVICE_CONTROL_KEPT,
    EXPRESS_VERSION_AND_TYPE, EXPRESS_WORDS, INTERRUPT_STATUS, INTX_DISABLE, Identity, ROM_ADDRESS,
};
use super::windows::Windows;
use arch::{Nanos, Width};
use bus::InterruptMessage;

/// The pins that a function can interrupt by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum InterruptPin {
    /// INTA#.
    A = 1,
    /// INTB#.
    B = 2,
    /// INTC#.
    C = 3,
    /// INTD#.
    D = 4,
}

impl InterruptPin {
    /// 0 for INTA#.
    pub(crate) const fn index(self) -> u8 {
        self as u8 - 1
    }
}

/// What a function has.
#[derive(Clone, Debug)]
pub struct FunctionLayout {
    /// What it is.
    pub identity: Identity,
    /// Its base address registers.
    pub bars: &'static [Bar],
    /// Its interrupt pin.
    pub pin: Option<InterruptPin>,
    /// Log2 of its MSI messages, at most 5.
    pub msi_order: Option<u32>,
    /// Its MSI-X table.
    pub msix: Option<MsixLayout>,
}

/// How a function's interrupts are delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// By its pin.
    Pin,
    /// By MSI.
    Msi,
    /// By MSI-X.
    MsiX,
}

/// A device behind a function. Its registers are reached by base address register and offset; all accesses lie inside.
pub trait PciDevice {
    /// Everything about the device that a snapshot needs.
    type State: Clone + PartialEq + Eq + core::fmt::Debug;

    /// What it has. Always the same.
    fn layout(&self) -> FunctionLayout;

    /// Its expansion ROM. Always the same.
    fn rom(&self) -> Option<&[u8]> {
        None
    }

    /// A read of `width` at `offset` in the range of base address register `bar`.
    fn read(&mut self, bar: u8, offset: u64, width: Width, now: Nanos, signals: &mut Signals<'_>) -> u64;

    /// A write of `width` at `offset` in the range of base address register `bar`.
    fn write(
        &mut self,
        bar: u8,
        offset: u64,
        width: Width,
        value: u64,
        now: Nanos,
        signals: &mut Signals<'_>,
    );

    /// Does what is due at `now`.
    fn advance(&mut self, now: Nanos, signals: &mut Signals<'_>);

    /// When [`Self::advance`] must be called next, [`Nanos::NEVER`] if no timer runs.
    fn next_deadline(&self) -> Nanos;

    /// As after RST#.
    fn reset(&mut self);

    /// The state, to be restored later.
    fn save(&self) -> Self::State;

    /// Becomes what [`Self::save`] saw.
    fn restore(&mut self, state: &Self::State);
}

/// How a device asks for interrupts.
#[derive(Debug)]
pub struct Signals<'a> {
    space: &'a ConfigSpace,
    interrupts: &'a mut Interrupts,
}

impl Signals<'_> {
    /// How software has set up the function's interrupts.
    pub fn delivery(&self) -> Delivery {
        self.interrupts.delivery(self.space)
    }

    /// Asks for an interrupt by the pin, as long as `level` is true. It is not driven while messages are enabled.
    pub fn set_pin(&mut self, level: bool) {
        self.interrupts.pin = level;
    }

    /// Sends message `index`, if messages are enabled.
    pub fn send(&mut self, index: u16) {
        if let Some(msix) = &mut self.interrupts.msix {
            msix.send(self.space, index);
        }
        // The two are not enabled together by software that keeps to the rules; of one that does not, MSI-X counts.
        if self.delivery() == Delivery::Msi
            && let Some(msi) = &mut self.interrupts.msi
        {
            msi.send(self.space, index);
        }
    }
}

/// What a function has of ways to interrupt.
#[derive(Debug)]
struct Interrupts {
    /// The device asks for an interrupt by its pin.
    pin: bool,
    msi: Option<Msi>,
    msix: Option<Msix>,
}

impl Interrupts {
    fn delivery(&self, space: &ConfigSpace) -> Delivery {
        if self.msix.as_ref().is_some_and(|msix| msix.is_enabled(space)) {
            Delivery::MsiX
        } else if self.msi.as_ref().is_some_and(|msi| msi.is_enabled(space)) {
            Delivery::Msi
        } else {
            Delivery::Pin
        }
    }
}

/// Everything about a function that a snapshot needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FunctionState<S> {
    space: ConfigSpaceState,
    pin: bool,
    msi: Option<MsiState>,
    msix: Option<MsixState>,
    device: S,
}

/// What a write to configuration space did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moved {
    Nothing,
    /// The function may decode other addresses now.
    Windows,
}

/// What the bus sees of a function, whatever device it has.
pub(crate) trait PciFunction {
    /// The register at `offset` in configuration space.
    fn read_config(&self, offset: u16) -> u32;
    /// Writes the bits in `enables` of the register at `offset`.
    fn write_config(&mut self, offset: u16, value: u32, enables: u32) -> Moved;
    fn read(&mut self, bar: u8, offset: u64, width: Width, now: Nanos) -> u64;
    fn write(&mut self, bar: u8, offset: u64, width: Width, value: u64, now: Nanos);
    fn advance(&mut self, now: Nanos);
    fn next_deadline(&self) -> Nanos;
    /// The interrupt pin, if it is driven now.
    fn driven_pin(&self) -> Option<InterruptPin>;
    /// Whether an interrupt message can go.
    fn has_message(&self) -> bool;
    fn take_message(&mut self) -> Option<InterruptMessage>;
    /// Adds what the function decodes; it is number `index`.
    fn add_windows(&self, index: usize, windows: &mut Windows);
    fn reset(&mut self);
}

/// A function around a device.
#[derive(Debug)]
pub struct Function<D> {
    layout: FunctionLayout,
    space: ConfigSpace,
    interrupts: Interrupts,
    device: D,
}

impl<D: PciDevice> Function<D> {
    /// `device` behind a function as its layout says, after reset.
    pub fn new(device: D) -> Self {
        let layout = device.layout();
        let mut space = ConfigSpace::new(layout.identity);
        for bar in layout.bars {
            bar.define(&mut space);
        }
        if let Some(rom) = device.rom() {
            bar::define_rom(&mut space, rom.len() as u64);
        }
        if let Some(pin) = layout.pin {
            space.define_interrupt_pin(pin as u8);
        }
        add_express_capability(&mut space);
        let msi = layout.msi_order.map(|order| Msi::define(&mut space, order));
        let msix = layout.msix.map(|layout| Msix::define(&mut space, layout));
        debug_assert!(
            msix.as_ref().is_none_or(|msix| layout.bars.iter().any(|bar| msix.fits(*bar))),
            "{layout:?}"
        );
        Self { layout, space, interrupts: Interrupts { pin: false, msi, msix }, device }
    }

    /// The state, to be restored later.
    pub fn save(&self) -> FunctionState<D::State> {
        FunctionState {
            space: self.space.save(),
            pin: self.interrupts.pin,
            msi: self.interrupts.msi.as_ref().map(Msi::save),
            msix: self.interrupts.msix.as_ref().map(Msix::save),
            device: self.device.save(),
        }
    }

    /// Becomes what [`Self::save`] saw of a function with the same device.
    pub fn restore(&mut self, state: &FunctionState<D::State>) {
        self.space.restore(&state.space);
        self.interrupts.pin = state.pin;
        if let (Some(msi), Some(state)) = (&mut self.interrupts.msi, &state.msi) {
            msi.restore(state);
        }
        if let (Some(msix), Some(state)) = (&mut self.interrupts.msix, &state.msix) {
            msix.restore(state);
        }
        self.device.restore(&state.device);
    }

    /// The device.
    pub(crate) const fn inner(&self) -> &D {
        &self.device
    }

    /// The device, to change.
    pub(crate) const fn inner_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// The device, and its way to interrupt.
    fn device(&mut self) -> (&mut D, Signals<'_>) {
        (&mut self.device, Signals { space: &self.space, interrupts: &mut self.interrupts })
    }
}

impl<D: PciDevice> PciFunction for Function<D> {
    fn read_config(&self, offset: u16) -> u32 {
        let pending = self.interrupts.msi.as_ref().and_then(|msi| msi.read(offset));
        let value = pending.unwrap_or_else(|| self.space.get(offset));
        if offset == COMMAND && self.interrupts.pin { value | INTERRUPT_STATUS } else { value }
    }

    fn write_config(&mut self, offset: u16, value: u32, enables: u32) -> Moved {
        self.space.write(offset, value, enables);
        if let Some(msi) = &mut self.interrupts.msi {
            msi.written(&self.space);
        }
        if let Some(msix) = &mut self.interrupts.msix {
            msix.written(&self.space);
        }
        const BARS_END: u16 = BAR0 + 4 * BARS as u16;
        match offset {
            COMMAND | BAR0..BARS_END | ROM_ADDRESS => Moved::Windows,
            _ => Moved::Nothing,
        }
    }

    fn read(&mut self, bar: u8, offset: u64, width: Width, now: Nanos) -> u64 {
        if bar == bar::ROM {
            return rom_bytes(self.device.rom().unwrap_or_default(), offset) & width.mask();
        }
        let table = self.interrupts.msix.as_ref().and_then(|msix| msix.read(bar, offset, width));
        let value = table.unwrap_or_else(|| {
            let (device, mut signals) = self.device();
            device.read(bar, offset, width, now, &mut signals)
        });
        value & width.mask()
    }

    fn write(&mut self, bar: u8, offset: u64, width: Width, value: u64, now: Nanos) {
        if bar == bar::ROM {
            return;
        }
        let value = value & width.mask();
        let is_table =
            self.interrupts.msix.as_mut().is_some_and(|msix| msix.write(bar, offset, width, value));
        if !is_table {
            let (device, mut signals) = self.device();
            device.write(bar, offset, width, value, now, &mut signals);
        }
    }

    fn advance(&mut self, now: Nanos) {
        let (device, mut signals) = self.device();
        device.advance(now, &mut signals);
    }

    fn next_deadline(&self) -> Nanos {
        self.device.next_deadline()
    }

    fn driven_pin(&self) -> Option<InterruptPin> {
        let driven = self.interrupts.pin
            && self.space.get(COMMAND) & INTX_DISABLE == 0
            && self.interrupts.delivery(&self.space) == Delivery::Pin;
        self.layout.pin.filter(|_| driven)
    }

    fn has_message(&self) -> bool {
        self.interrupts.msi.as_ref().is_some_and(|msi| msi.ready(&self.space) != 0)
            || self.interrupts.msix.as_ref().is_some_and(|msix| msix.is_ready(&self.space))
    }

    fn take_message(&mut self) -> Option<InterruptMessage> {
        let Interrupts { msi, msix, .. } = &mut self.interrupts;
        msi.as_mut()
            .and_then(|msi| msi.take(&self.space))
            .or_else(|| msix.as_mut().and_then(|msix| msix.take(&self.space)))
    }

    fn add_windows(&self, index: usize, windows: &mut Windows) {
        for bar in self.layout.bars {
            if let Some(range) = bar.range(&self.space) {
                windows.add(bar.space(), range, index, bar.index);
            }
        }
        if let Some(range) = self.device.rom().and_then(|rom| bar::rom_range(&self.space, rom.len() as u64)) {
            windows.add(Space::Memory, range, index, bar::ROM);
        }
    }

    fn reset(&mut self) {
        self.space.reset();
        self.interrupts.pin = false;
        if let Some(msi) = &mut self.interrupts.msi {
            msi.reset();
        }
        if let Some(msix) = &mut self.interrupts.msix {
            msix.reset();
        }
        self.device.reset();
    }
}

/// Eight bytes of `rom` from `offset` on; there are ones behind its end.
fn rom_bytes(rom: &[u8], offset: u64) -> u64 {
    let mut bytes = [0xff; 8];
    let rest = usize::try_from(offset).ok().and_then(|offset| rom.get(offset..)).unwrap_or_default();
    bytes.iter_mut().zip(rest).for_each(|(byte, stored)| *byte = *stored);
    u64::from_le_bytes(bytes)
}

/// Adds what tells software that the function is one of PCI Express, with an extended configuration space.
fn add_express_capability(space: &mut ConfigSpace) {
    let mut words = [(0, 0); EXPRESS_WORDS];
    words[0].0 = u32::from(EXPRESS_VERSION_AND_TYPE) << 16;
    words[1].0 = EXPRESS_DEVICE_CAPABILITIES;
    words[2].1 = EXPRESS_DEVICE_CONTROL_KEPT;
    space.add_capability(CAPABILITY_EXPRESS, &words);
}
