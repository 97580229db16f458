//! The devices of which reads and writes are measured and that KVM leaves to user space: the ACPI timer, the HPET's main
//! counter, the configuration space of a PCI host bridge by ports and by memory, and device memory that remembers. Each is
//! as little as answers the measuring guest truly, at the addresses that Craton's PC has.
//!
//! Sources: ACPI Specification, "Power Management Timer"; Intel "IA-PC HPET (High Precision Event Timers) Specification";
//! PCI Local Bus Specification, "Configuration Mechanism #1".

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

const PM_TIMER: u16 = 0x608;
const PM_TIMER_HZ: u128 = 3_579_545;
const PCI_ADDRESS: u16 = 0xcf8;
const PCI_DATA: u16 = 0xcfc;
const HPET: u64 = 0xfed0_0000;
const HPET_COUNTER: u64 = HPET + 0xf0;
const HPET_ID: u32 = 0x8086_a201;
const HPET_NANOS_A_TICK: u128 = 10;
const ECAM: u64 = 0xb000_0000;
const MEMORY: u64 = 0xfef0_0000;
const MEMORY_END: u64 = MEMORY + MEMORY_BYTES as u64;
const MEMORY_BYTES: usize = 0x4000;
/// Vendor and device of a host bridge: all that its configuration space holds.
const HOST_BRIDGE: u32 = 0x29c0_8086;
/// The configuration address of its first register.
const HOST_BRIDGE_ADDRESS: u32 = 1 << 31;

/// All of them.
pub(crate) struct Devices {
    start: Instant,
    pci_address: AtomicU32,
    memory: Mutex<Box<[u8]>>,
}

impl Devices {
    /// As after power-on.
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            pci_address: AtomicU32::new(0),
            memory: Mutex::new(vec![0; MEMORY_BYTES].into()),
        }
    }

    /// IN: all ones where there is nothing.
    pub(crate) fn read_port(&self, port: u16, data: &mut [u8]) {
        match port {
            PM_TIMER => fill(data, low(self.start.elapsed().as_nanos() * PM_TIMER_HZ / 1_000_000_000)),
            PCI_DATA if self.pci_address.load(Relaxed) == HOST_BRIDGE_ADDRESS => fill(data, HOST_BRIDGE),
            _ => data.fill(0xff),
        }
    }

    /// OUT.
    pub(crate) fn write_port(&self, port: u16, data: &[u8]) {
        if let (PCI_ADDRESS, Ok(address)) = (port, data.try_into()) {
            self.pci_address.store(u32::from_le_bytes(address), Relaxed);
        }
    }

    /// A load from device memory: all ones where there is nothing.
    pub(crate) fn read_memory(&self, address: u64, data: &mut [u8]) {
        match address {
            HPET_COUNTER => fill(data, low(self.start.elapsed().as_nanos() / HPET_NANOS_A_TICK)),
            HPET => fill(data, HPET_ID),
            ECAM => fill(data, HOST_BRIDGE),
            MEMORY..MEMORY_END => {
                let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
                match memory.get(place(address)..place(address) + data.len()) {
                    Some(bytes) => data.copy_from_slice(bytes),
                    None => data.fill(0xff),
                }
            }
            _ => data.fill(0xff),
        }
    }

    /// A store to device memory.
    pub(crate) fn write_memory(&self, address: u64, data: &[u8]) {
        if let MEMORY..MEMORY_END = address {
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(bytes) = memory.get_mut(place(address)..place(address) + data.len()) {
                bytes.copy_from_slice(data);
            }
        }
    }
}

/// Where in the memory `address` is.
fn place(address: u64) -> usize {
    (address - MEMORY) as usize
}

fn low(value: u128) -> u32 {
    (value & u128::from(u32::MAX)) as u32
}

/// A register of 32 bits; wider reads find zeros behind it.
fn fill(data: &mut [u8], register: u32) {
    let bytes = u64::from(register).to_le_bytes();
    let length = data.len().min(bytes.len());
    data[..length].copy_from_slice(&bytes[..length]);
}
