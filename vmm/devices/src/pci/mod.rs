//! PCI: bus 0, with its host bridge, the bridge to the legacy devices, and the functions that a machine has beside.
//! PCI Local Bus Specification 3.0; PCI Express Base Specification 3.1, "PCI Express Enhanced Configuration Access
//! Mechanism (ECAM)".
//!
//! Configuration space is reached through ports 0xCF8 and 0xCFC and through memory. The address register takes
//! 4-byte accesses only; others go on to whatever else is at the port (0xCF9 is the reset control register). The data
//! port takes any access within its four bytes; the platform splits those that cross its end. The memory takes
//! accesses of any size, which go to the registers that they touch. Functions that are not there read all ones and
//! ignore writes.
//!
//! A guest puts the functions' base addresses where it likes. They are looked up in [`windows`], behind everything
//! whose place is fixed: what a guest puts on RAM, on an interrupt controller or on a legacy port cannot be reached.
//!
//! There is one bus, without bridges to others and without hot-plug.

mod bar;
mod config_space;
mod function;
mod host_bridge;
mod isa_bridge;
mod msi;
mod msix;
mod spec;
mod test_function;
#[cfg(test)]
mod tests;
mod windows;

pub use bar::{Bar, BarKind};
pub use config_space::{ConfigSpace, ConfigSpaceState};
pub use function::{Delivery, Function, FunctionLayout, FunctionState, InterruptPin, PciDevice, Signals};
pub use msi::MsiState;
pub use msix::{MsixLayout, MsixState};
pub use spec::{FunctionAddress, Identity};
pub use test_function::{TestFunction, TestFunctionState};

use alloc::boxed::Box;
use alloc::vec::Vec;
use arch::platform_layout::{PCI_WINDOW, PCI_WINDOW_END, PIRQS, pirq_of};
use arch::{Gpa, Nanos, Width};
use bar::Space;
use bus::{InterruptMessage, IrqLine};
use function::Moved;
pub(crate) use function::PciFunction;
use host_bridge::{Ecam, HostBridge};
pub use host_bridge::{PAM_SEGMENTS, PamSegment, StartedBy};
use isa_bridge::IsaBridge;
use memory::VideoWindow;
use spec::{ADDRESS_MASK, CONFIG_BYTES, ENABLE};
use windows::{Target, Windows};

use crate::lanes::{extract, low_half, low_word, port_mask, read_words, write_words};
use crate::vga::{self, Vga, VgaState};

/// The most functions beside the bridges.
const MOST_FUNCTIONS: usize = 30;

/// A function beside the bridges. Each kind of device is a variant: which there are is known when the hypervisor is
/// built, and which a machine has when the machine is.
#[derive(Debug)]
pub enum Endpoint {
    /// The function for test programs.
    Test(Box<Function<TestFunction>>),
    /// The video adapter.
    Vga(Box<Function<Vga>>),
}

/// What a snapshot needs of an [`Endpoint`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EndpointState {
    /// The function for test programs.
    Test(Box<FunctionState<TestFunctionState>>),
    /// The video adapter.
    Vga(Box<FunctionState<VgaState>>),
}

impl Endpoint {
    fn function(&self) -> &dyn PciFunction {
        match self {
            Self::Test(function) => &**function,
            Self::Vga(function) => &**function,
        }
    }

    fn function_mut(&mut self) -> &mut dyn PciFunction {
        match self {
            Self::Test(function) => &mut **function,
            Self::Vga(function) => &mut **function,
        }
    }

    fn save(&self) -> EndpointState {
        match self {
            Self::Test(function) => EndpointState::Test(Box::new(function.save())),
            Self::Vga(function) => EndpointState::Vga(Box::new(function.save())),
        }
    }

    fn restore(&mut self, state: &EndpointState) {
        match (self, state) {
            (Self::Test(function), EndpointState::Test(state)) => function.restore(state),
            (Self::Vga(function), EndpointState::Vga(state)) => function.restore(state),
            // The state is another bus's.
            (Self::Test(_), EndpointState::Vga(_)) | (Self::Vga(_), EndpointState::Test(_)) => {}
        }
    }
}

/// An endpoint in its place.
#[derive(Debug)]
struct Slot {
    device: u8,
    endpoint: Endpoint,
    /// The interrupt line that it drives now.
    pirq: Option<u8>,
}

/// Everything about the bus that a snapshot needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PciHostState {
    address: u32,
    bridge: ConfigSpaceState,
    isa: ConfigSpaceState,
    endpoints: Vec<EndpointState>,
}

/// The bus, and the ways to it.
#[derive(Debug)]
pub struct PciHost {
    pirqs: [IrqLine; PIRQS as usize],

    address: u32,
    bridge: HostBridge,
    isa: IsaBridge,
    slots: Vec<Slot>,

    /// Where memory-mapped configuration space is now.
    ecam: Ecam,
    windows: Windows,
    /// A bit for each slot that has an interrupt message to send.
    ready: u32,
    /// Interrupt lines may be routed elsewhere than when somebody last asked.
    routes_changed: bool,
    /// The host bridge was written since somebody last asked.
    bridge_changed: bool,
    deadline: Nanos,
}

impl PciHost {
    /// The bus after RST#, with `endpoints` as devices 1 and up, of which there are at most 30. `pirqs` are the PCI
    /// interrupt lines, A to H.
    pub fn new(pirqs: [IrqLine; PIRQS as usize], endpoints: Vec<Endpoint>, started_by: StartedBy) -> Self {
        let slots: Vec<Slot> = (1..)
            .zip(endpoints)
            .take(MOST_FUNCTIONS)
            .map(|(device, endpoint)| Slot { device, endpoint, pirq: None })
            .collect();
        let bridge = HostBridge::new(started_by);
        Self {
            pirqs,
            address: 0,
            ecam: bridge.ecam(),
            bridge,
            isa: IsaBridge::new(),
            windows: Windows::with_room_for(usize::from(bar::ROM + 1) * slots.len()),
            slots,
            ready: 0,
            routes_changed: false,
            bridge_changed: false,
            deadline: Nanos::NEVER,
        }
    }

    /// Reads the address register.
    pub fn read_address(&self) -> u32 {
        self.address
    }

    /// Writes the address register.
    pub fn write_address(&mut self, value: u32) {
        self.address = value & ADDRESS_MASK;
    }

    /// Reads `width` from byte `lane` of the data port on.
    pub fn read_data(&self, lane: u16, width: Width) -> u32 {
        if self.address & ENABLE == 0 {
            return port_mask(width);
        }
        let register = self.read_config(FunctionAddress::from_address(self.address), self.selected());
        extract(register, lane & 3, width)
    }

    /// Writes `width` from byte `lane` of the data port on.
    pub fn write_data(&mut self, lane: u16, width: Width, value: u32) {
        if self.address & ENABLE != 0 {
            let shift = 8 * u32::from(lane & 3);
            let enables = port_mask(width) << shift;
            let function = FunctionAddress::from_address(self.address);
            self.write_config(function, self.selected(), (value << shift) & enables, enables);
        }
    }

    /// Reads `width` at `gpa`, if that is anything of the bus: memory-mapped configuration space, or in the range of a
    /// base address.
    pub fn read_memory(&mut self, gpa: Gpa, width: Width, now: Nanos) -> u64 {
        let offset = gpa.get().wrapping_sub(self.ecam.base);
        if offset < self.ecam.bytes {
            // Past the end there is nothing, whatever is behind it.
            let inside = |offset| offset < self.ecam.bytes;
            return read_words(
                offset,
                width,
                |offset| {
                    if inside(offset) { self.read_ecam(offset) } else { u32::MAX }
                },
            );
        }
        self.read_window(Space::Memory, gpa.get(), width, now).unwrap_or_else(|| {
            // Across the end of a range: byte by byte. What is not the bus's reads ones.
            let mut bytes = [0xff; 8];
            for (byte, at) in bytes.iter_mut().zip(bytes_from(gpa.get(), width)) {
                let value = self.read_window(Space::Memory, at, Width::One, now);
                *byte = crate::lanes::low_byte(low_word(value.unwrap_or(0xff)));
            }
            u64::from_le_bytes(bytes) & width.mask()
        })
    }

    /// Writes `width` at `gpa`, if that is anything of the bus.
    pub fn write_memory(&mut self, gpa: Gpa, width: Width, value: u64, now: Nanos) {
        let offset = gpa.get().wrapping_sub(self.ecam.base);
        if offset < self.ecam.bytes {
            // The very write may move the base: where the access lies is decided by where it was.
            let bytes = self.ecam.bytes;
            write_words(offset, width, value, |offset, value, enables| {
                if offset < bytes {
                    self.write_ecam(offset, value, enables);
                }
            });
            return;
        }
        if !self.write_window(Space::Memory, gpa.get(), width, value, now) {
            for (byte, at) in value.to_le_bytes().into_iter().zip(bytes_from(gpa.get(), width)) {
                self.write_window(Space::Memory, at, Width::One, u64::from(byte), now);
            }
        }
    }

    /// Reads `width` at `port`, if a function decodes all of it.
    pub fn read_port(&mut self, port: u16, width: Width, now: Nanos) -> Option<u32> {
        self.read_window(Space::Io, u64::from(port), width, now).map(low_word)
    }

    /// Writes `width` at `port`, and returns whether a function decodes all of it.
    pub fn write_port(&mut self, port: u16, width: Width, value: u32, now: Nanos) -> bool {
        self.write_window(Space::Io, u64::from(port), width, u64::from(value), now)
    }

    /// The ISA interrupts that the PCI interrupt lines in `pirqs` (a bit each, PIRQA lowest) are routed to.
    #[inline]
    pub fn isa_interrupts(&self, pirqs: u8) -> u16 {
        if pirqs == 0 { 0 } else { self.isa.isa_interrupts(pirqs) }
    }

    /// Where the whole framebuffer is, with nothing else there: in the window for functions, and not below
    /// memory-mapped configuration space.
    pub(crate) fn framebuffer(&self) -> Option<VideoWindow> {
        let is_vga = |slot: &Slot| matches!(slot.endpoint, Endpoint::Vga(_));
        let index = self.slots.iter().position(is_vga)?;
        let first = self.windows.whole(index, vga::FRAMEBUFFER, vga::VIDEO_MEMORY_BYTES)?;
        let last = first + (vga::VIDEO_MEMORY_BYTES - 1);
        let hidden = first < self.ecam.base.saturating_add(self.ecam.bytes) && last >= self.ecam.base;
        let inside = first >= PCI_WINDOW.get() && last < PCI_WINDOW_END.get();
        // Memory that is smaller than its register repeats, which a single mapping cannot.
        let full = self.vga().is_some_and(|vga| vga.memory_bytes() == vga::VIDEO_MEMORY_BYTES);
        (inside && full && !hidden).then(|| VideoWindow {
            base: Gpa::new(first),
            bytes: vga::VIDEO_MEMORY_BYTES,
            offset: 0,
        })
    }

    /// The video adapter, if there is one.
    pub fn vga(&self) -> Option<&Vga> {
        self.slots.iter().find_map(|slot| match &slot.endpoint {
            Endpoint::Vga(function) => Some(function.inner()),
            Endpoint::Test(_) => None,
        })
    }

    /// The video adapter, if there is one, to access it at its legacy addresses.
    pub(crate) fn vga_mut(&mut self) -> Option<&mut Vga> {
        self.slots.iter_mut().find_map(|slot| match &mut slot.endpoint {
            Endpoint::Vga(function) => Some(function.inner_mut()),
            Endpoint::Test(_) => None,
        })
    }

    /// Takes the news that the lines may be routed elsewhere than when this was last called.
    #[inline]
    pub fn take_route_change(&mut self) -> bool {
        core::mem::take(&mut self.routes_changed)
    }

    /// Takes the news that the host bridge was written since this was last called.
    #[inline]
    pub fn take_bridge_change(&mut self) -> bool {
        core::mem::take(&mut self.bridge_changed)
    }

    /// Runs every timer of a function that is due at `now`.
    pub fn advance(&mut self, now: Nanos) {
        for index in 0..self.slots.len() {
            let function = self.slots[index].endpoint.function_mut();
            if function.next_deadline() <= now {
                function.advance(now);
                self.touched(index);
            }
        }
    }

    /// When [`Self::advance`] must be called next.
    #[inline]
    pub fn next_deadline(&self) -> Nanos {
        self.deadline
    }

    /// Whether an interrupt message waits.
    #[inline]
    pub fn has_message(&self) -> bool {
        self.ready != 0
    }

    /// Takes an interrupt message.
    pub fn take_message(&mut self) -> Option<InterruptMessage> {
        while self.ready != 0 {
            let index = self.ready.trailing_zeros() as usize;
            let message =
                self.slots.get_mut(index).and_then(|slot| slot.endpoint.function_mut().take_message());
            self.look_for_messages(index);
            if message.is_some() {
                return message;
            }
        }
        None
    }

    /// As after RST#.
    pub fn reset(&mut self) {
        self.address = 0;
        self.bridge.reset();
        self.isa.reset();
        for slot in &mut self.slots {
            slot.endpoint.function_mut().reset();
        }
        self.everything_changed();
    }

    /// What of the memory from 0xC0000 to 1 MiB is RAM, in order of address.
    pub fn pam(&self) -> impl Iterator<Item = PamSegment> {
        self.bridge.pam()
    }

    /// The state, to be restored later.
    pub fn save(&self) -> PciHostState {
        PciHostState {
            address: self.address,
            bridge: self.bridge.save(),
            isa: self.isa.save(),
            endpoints: self.slots.iter().map(|slot| slot.endpoint.save()).collect(),
        }
    }

    /// Becomes what [`Self::save`] saw of a bus with the same functions.
    pub fn restore(&mut self, state: &PciHostState) {
        self.address = state.address;
        self.bridge.restore(&state.bridge);
        self.isa.restore(&state.isa);
        for (slot, state) in self.slots.iter_mut().zip(&state.endpoints) {
            slot.endpoint.restore(state);
        }
        self.everything_changed();
    }

    /// The offset that the address register selects.
    fn selected(&self) -> u16 {
        low_half(self.address) & 0xfc
    }

    fn read_ecam(&self, offset: u64) -> u32 {
        self.read_config(FunctionAddress::from_ecam(offset), low_half(low_word(offset)) & 0xffc)
    }

    fn write_ecam(&mut self, offset: u64, value: u32, enables: u32) {
        let register = low_half(low_word(offset)) & 0xffc;
        self.write_config(FunctionAddress::from_ecam(offset), register, value, enables);
    }

    fn read_config(&self, address: FunctionAddress, offset: u16) -> u32 {
        // The bridges are conventional functions: beyond the first 256 bytes they have nothing at all.
        match address {
            FunctionAddress::HOST_BRIDGE if offset < CONFIG_BYTES => self.bridge.read_config(offset),
            FunctionAddress::ISA_BRIDGE if offset < CONFIG_BYTES => self.isa.read_config(offset),
            _ => match self.slot_at(address) {
                Some(index) => self.slots[index].endpoint.function().read_config(offset),
                None => u32::MAX,
            },
        }
    }

    fn write_config(&mut self, address: FunctionAddress, offset: u16, value: u32, enables: u32) {
        match address {
            FunctionAddress::HOST_BRIDGE => {
                self.bridge.write_config(offset, value, enables);
                self.ecam = self.bridge.ecam();
                self.bridge_changed = true;
            }
            FunctionAddress::ISA_BRIDGE => {
                self.isa.write_config(offset, value, enables);
                self.routes_changed = true;
            }
            _ => {
                let Some(index) = self.slot_at(address) else { return };
                let function = self.slots[index].endpoint.function_mut();
                match function.write_config(offset, value, enables) {
                    Moved::Nothing => {}
                    Moved::Windows => self.place_windows(),
                }
                self.touched(index);
            }
        }
    }

    /// The endpoint at `address`.
    fn slot_at(&self, address: FunctionAddress) -> Option<usize> {
        if address.bus != 0 || address.function != 0 {
            return None;
        }
        let index = usize::from(address.device.checked_sub(1)?);
        (index < self.slots.len()).then_some(index)
    }

    fn read_window(&mut self, space: Space, address: u64, width: Width, now: Nanos) -> Option<u64> {
        let Target { function, bar, offset } = self.windows.find(space, address, width.bytes())?;
        let value = self.slots[function].endpoint.function_mut().read(bar, offset, width, now);
        self.touched(function);
        Some(value)
    }

    fn write_window(&mut self, space: Space, address: u64, width: Width, value: u64, now: Nanos) -> bool {
        let Some(Target { function, bar, offset }) = self.windows.find(space, address, width.bytes()) else {
            return false;
        };
        self.slots[function].endpoint.function_mut().write(bar, offset, width, value, now);
        self.touched(function);
        true
    }

    /// Looks at what a function that was accessed wants now.
    fn touched(&mut self, index: usize) {
        self.look_for_messages(index);
        let slot = &mut self.slots[index];
        let function = slot.endpoint.function();
        let deadline = function.next_deadline();
        let pirq = function.driven_pin().map(|pin| pirq_of(slot.device, pin.index()));
        if pirq != slot.pirq {
            slot.pirq = pirq;
            self.drive_lines();
        }
        // Looking at all of them again is needed only when the earliest may have moved back.
        self.deadline = if deadline <= self.deadline { deadline } else { self.earliest() };
    }

    fn look_for_messages(&mut self, index: usize) {
        let has = self.slots.get(index).is_some_and(|slot| slot.endpoint.function().has_message());
        let bit = 1 << index;
        self.ready = if has { self.ready | bit } else { self.ready & !bit };
    }

    /// Each line is up while any function drives it.
    fn drive_lines(&self) {
        for (pirq, line) in (0..).zip(&self.pirqs) {
            line.set(self.slots.iter().any(|slot| slot.pirq == Some(pirq)));
        }
    }

    fn earliest(&self) -> Nanos {
        let deadlines = self.slots.iter().map(|slot| slot.endpoint.function().next_deadline());
        deadlines.min().unwrap_or(Nanos::NEVER)
    }

    fn place_windows(&mut self) {
        self.windows.clear();
        for (index, slot) in self.slots.iter().enumerate() {
            slot.endpoint.function().add_windows(index, &mut self.windows);
        }
    }

    fn everything_changed(&mut self) {
        self.ecam = self.bridge.ecam();
        self.place_windows();
        for index in 0..self.slots.len() {
            self.touched(index);
        }
        self.deadline = self.earliest();
        self.drive_lines();
    }
}

/// The addresses of the bytes of an access at `address`, as far as there are any.
fn bytes_from(address: u64, width: Width) -> impl Iterator<Item = u64> {
    (0..width.bytes()).filter_map(move |byte| address.checked_add(byte))
}
