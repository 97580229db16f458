//! VT-x: the instructions, the entry and exit stubs, VMCS regions, and the guest state that no VMCS switches.
//!
//! SDM Vol. 3C, "Introduction to Virtual Machine Extensions" and what follows it.

mod bitmaps;
mod entry;
mod guest_space;
mod instructions;
mod invalidation;
mod operation;
mod switched_state;
mod virtual_apic;
mod vmcs;
mod vpid;

pub use guest_space::{AddRamError, ApicPage, GuestSpace};
pub use operation::{VmxCpu, VmxError, handle_machine_check, handle_nmi};
pub use virtual_apic::notify;
pub use vmcs::Vmcs;
pub use vpid::vpids_in_use;

pub(crate) use invalidation::{Invalidations, invalidations};
pub(crate) use vpid::RetiredVpids;
