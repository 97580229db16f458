//! What the vCPUs of one virtual machine share: memory, devices, time.

use crate::Clock;

/// The part of a virtual machine around its processors.
#[derive(Debug)]
pub struct Vm<M, P> {
    /// Guest-physical memory.
    pub memory: M,
    /// Devices.
    pub platform: P,
    /// Time since creation.
    pub clock: Clock,
}
