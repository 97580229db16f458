//! Dropping what this CPU cached of guests' translations.
//!
//! SDM Vol. 3C, "Operations that Invalidate Cached Mappings".

use super::instructions::{self, InvvpidKind};
use spin::Once;
use vmx::Capabilities;

/// What the CPUs of this machine have, once the first has entered VMX root operation.
static KINDS: Once<Invalidations> = Once::new();

/// Which forms of INVVPID there are; INVEPT for all contexts there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Invalidations {
    one_vpid: bool,
    all_vpids: bool,
}

/// IA32_VMX_EPT_VPID_CAP. SDM Vol. 3D, "VPID and EPT Capabilities".
const INVEPT: u64 = 1 << 20;
const INVEPT_ALL: u64 = 1 << 26;
const INVVPID: u64 = 1 << 32;
const INVVPID_ONE: u64 = 1 << 41;
const INVVPID_ALL: u64 = 1 << 42;

impl Invalidations {
    /// What a processor with these capabilities has; `None` when it cannot drop all translations at once.
    pub(super) const fn of(capabilities: &Capabilities) -> Option<Self> {
        const ALL_CONTEXTS: u64 = INVEPT | INVEPT_ALL;
        const ONE_VPID: u64 = INVVPID | INVVPID_ONE;
        const ALL_VPIDS: u64 = INVVPID | INVVPID_ALL;
        let has = capabilities.ept_vpid;
        if has & ALL_CONTEXTS != ALL_CONTEXTS {
            return None;
        }
        Some(Self { one_vpid: has & ONE_VPID == ONE_VPID, all_vpids: has & ALL_VPIDS == ALL_VPIDS })
    }

    /// Remembers these for [`invalidations`].
    pub(super) fn keep(self) {
        KINDS.call_once(|| self);
    }

    /// Drops everything that was cached for any guest.
    ///
    /// # Safety
    /// In VMX root operation, on a CPU that has these.
    pub(crate) unsafe fn everything(self) {
        // SAFETY: the caller's promise.
        unsafe { instructions::invept_all() };
        if self.all_vpids {
            // SAFETY: as above.
            unsafe { instructions::invvpid(InvvpidKind::AllContexts, 0) };
        }
    }

    /// Drops everything that was cached under `vpid`.
    ///
    /// # Safety
    /// As for [`Self::everything`]; `vpid` is not 0.
    pub(super) unsafe fn vpid(self, vpid: u16) {
        match (self.one_vpid, self.all_vpids) {
            // SAFETY: the caller's promise.
            (true, _) => unsafe { instructions::invvpid(InvvpidKind::SingleContext, vpid) },
            // SAFETY: as above.
            (false, true) => unsafe { instructions::invvpid(InvvpidKind::AllContexts, 0) },
            // With EPT, all that is cached under an identifier is combined with some EPT.
            // SAFETY: as above.
            (false, false) => unsafe { instructions::invept_all() },
        }
    }
}

/// What CPUs in VMX root operation have; `None` while no CPU is.
pub(crate) fn invalidations() -> Option<Invalidations> {
    KINDS.get().copied()
}
