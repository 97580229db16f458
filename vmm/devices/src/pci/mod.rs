//! PCI configuration space through ports 0xCF8 and 0xCFC (mechanism #1), with a host bridge at 00:00.0 and nothing
//! else yet. PCI Local Bus Specification 3.0, "Configuration Space".
//!
//! The address register is reached by 4-byte accesses only; others go on to whatever else is at the port (0xCF9 is
//! the reset control register). The data port takes any access within its four bytes; the platform splits those
//! that cross its end. Functions that are not there read all ones and ignore writes.

mod spec;
#[cfg(test)]
mod tests;

use arch::Width;
use spec::{
    ADDRESS_MASK, COMMAND_MASK, ENABLE, FunctionAddress, HOST_BRIDGE_CLASS, HOST_BRIDGE_ID, OFFSET_CLASS,
    OFFSET_COMMAND, OFFSET_ID,
};

use crate::lanes::{extract, insert, low_byte, port_mask};

/// Which bytes of configuration space an access touches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConfigAccess {
    /// Offset of the 4-byte register.
    pub register: u8,
    /// First byte in it.
    pub lane: u16,
    /// Bytes touched, which do not reach past the register.
    pub width: Width,
}

/// The configuration space of one function.
pub trait PciFunction {
    /// A read. Registers that are not there read zero.
    fn read_config(&mut self, access: ConfigAccess) -> u32;

    /// A write. Registers that are not there ignore it.
    fn write_config(&mut self, access: ConfigAccess, value: u32);

    /// As after RST#.
    fn reset(&mut self);
}

/// Everything about the host bridge that a snapshot needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostBridgeState {
    command: u32,
}

/// A host bridge: identification and a command register.
#[derive(Debug)]
pub struct HostBridge {
    state: HostBridgeState,
}

impl HostBridge {
    fn new() -> Self {
        Self { state: HostBridgeState { command: 0 } }
    }
}

impl PciFunction for HostBridge {
    fn read_config(&mut self, access: ConfigAccess) -> u32 {
        let register = match access.register {
            OFFSET_ID => HOST_BRIDGE_ID,
            OFFSET_COMMAND => self.state.command,
            OFFSET_CLASS => HOST_BRIDGE_CLASS,
            _ => 0,
        };
        extract(register, access.lane, access.width)
    }

    fn write_config(&mut self, access: ConfigAccess, value: u32) {
        if access.register == OFFSET_COMMAND {
            self.state.command = insert(self.state.command, access.lane, access.width, value) & COMMAND_MASK;
        }
    }

    fn reset(&mut self) {
        *self = Self::new();
    }
}

/// Everything about configuration access and the functions that a snapshot needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PciHostState {
    address: u32,
    bridge: HostBridgeState,
}

/// The two configuration ports and the functions behind them.
#[derive(Debug)]
pub struct PciHost {
    address: u32,
    bridge: HostBridge,
}

impl Default for PciHost {
    fn default() -> Self {
        Self::new()
    }
}

impl PciHost {
    /// After RST#.
    pub fn new() -> Self {
        Self { address: 0, bridge: HostBridge::new() }
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
    pub fn read_data(&mut self, lane: u16, width: Width) -> u32 {
        let access = self.access(lane, width);
        match self.function() {
            Some(function) => function.read_config(access),
            None => port_mask(width),
        }
    }

    /// Writes `width` from byte `lane` of the data port on.
    pub fn write_data(&mut self, lane: u16, width: Width, value: u32) {
        let access = self.access(lane, width);
        if let Some(function) = self.function() {
            function.write_config(access, value);
        }
    }

    /// As after RST#.
    pub fn reset(&mut self) {
        self.address = 0;
        self.bridge.reset();
    }

    /// The state, to be restored later.
    pub fn save(&self) -> PciHostState {
        PciHostState { address: self.address, bridge: self.bridge.state.clone() }
    }

    /// Becomes what [`Self::save`] saw.
    pub fn restore(&mut self, state: &PciHostState) {
        self.address = state.address;
        self.bridge.state = state.bridge.clone();
    }

    fn access(&self, lane: u16, width: Width) -> ConfigAccess {
        ConfigAccess { register: low_byte(self.address), lane: lane & 3, width }
    }

    /// The function that the address register selects.
    fn function(&mut self) -> Option<&mut dyn PciFunction> {
        if self.address & ENABLE == 0 {
            return None;
        }
        match FunctionAddress::decode(self.address) {
            FunctionAddress::HOST_BRIDGE => Some(&mut self.bridge),
            _ => None,
        }
    }
}
