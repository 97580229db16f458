//! The virtual machine: processors, exits and what comes of them. Safe, without a clock or hardware of its own,
//! and generic over the backend that runs the processor, so that whole machines run in host tests.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

extern crate alloc;

mod backend;
mod clock;
mod cpu_state;
mod cpuid;
mod exit;
mod exits;
mod inbox;
pub mod lapic;
mod lent_apic;
mod memory_type;
mod msr;
pub mod paravirt;
mod snapshot;
mod stats;
mod vcpu;
mod vector_places;
mod vm;

pub use backend::{ApicRegisters, InterruptSupport, Interruptibility, Lending, VcpuBackend};
pub use clock::{BadClock, Clock, ClockState};
pub use cpu_state::{BadExtendedState, CpuState, EventKind, ExtendedLayout, ExtendedState, PendingEvent};
pub use cpuid::{CpuModel, CpuModelMissing, CpuidConfig, CpuidContext, CpuidPolicy, Leaf};
pub use exit::{
    CrAccess, Direction, EntryFailure, EptFault, Event, ExitReason, IoExit, MemoryAccess, Outcome, RawExit,
    StopReason, VmExit, Yield,
};
pub use inbox::{Inbox, PostedDescriptor, Tell};
pub use memory_type::{EptType, MemoryType, PatRule, PatType, guest_view};
pub use msr::mtrr::Mtrrs;
pub use msr::{MsrConfig, MsrState};
pub use snapshot::{RestoreError, VcpuSnapshot, VmSnapshot};
pub use stats::{ExitRecord, RECORDED_EXITS, ReasonStats, Stats};
pub use vcpu::{Leave, RunState, Vcpu, VcpuConfig};
pub use vector_places::{VectorPart, VectorPlaces};
pub use vm::{Host, Vm};
