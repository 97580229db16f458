//! What a path of page-table entries allows.
//!
//! SDM Vol. 3A, "Access Rights", "Protection Keys", "Page-Fault Error Code".

use super::entry::Entry;
use super::{Access, Mode, Paging, Privilege};
use arch::{Cr0Flags, Cr4Flags};

/// Error-code bit P: the page is present.
pub(super) const PRESENT: u32 = 1 << 0;
/// Error-code bit W/R.
pub(super) const WRITE: u32 = 1 << 1;
/// Error-code bit U/S.
pub(super) const USER: u32 = 1 << 2;
/// Error-code bit RSVD.
pub(super) const RESERVED: u32 = 1 << 3;
/// Error-code bit I/D.
pub(super) const FETCH: u32 = 1 << 4;
/// Error-code bit PK.
pub(super) const PROTECTION_KEY: u32 = 1 << 5;

/// The rights that all entries so far agree on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rights {
    /// The AND of the entries; of interest are R/W and U/S.
    granted: u64,
    /// The OR of the entries; of interest is XD.
    withheld: u64,
}

impl Rights {
    #[inline]
    pub(super) const fn full() -> Self {
        Self { granted: u64::MAX, withheld: 0 }
    }

    #[inline]
    pub(super) const fn add(&mut self, entry: Entry) {
        self.granted &= entry.0;
        self.withheld |= entry.0;
    }

    /// Whether every entry has its accessed flag.
    #[inline]
    pub(super) const fn all_accessed(self) -> bool {
        self.granted & Entry::ACCESSED != 0
    }

    #[inline]
    const fn user_page(self) -> bool {
        self.granted & Entry::USER != 0
    }

    #[inline]
    const fn writable(self) -> bool {
        self.granted & Entry::WRITABLE != 0
    }

    /// With EFER.NXE clear the bit is reserved and the walk has refused it; 32-bit entries have none.
    #[inline]
    const fn executable(self) -> bool {
        self.withheld & Entry::NO_EXECUTE == 0
    }

    /// Zero if the access is allowed, else the P and PK bits of the error code.
    #[inline]
    pub(super) fn denied(self, paging: &Paging, leaf: Entry, access: Access, privilege: Privilege) -> u32 {
        if self.user_page() {
            return self.denied_in_user_page(paging, leaf, access, privilege);
        }
        let allowed = match privilege {
            Privilege::User => false,
            Privilege::Supervisor | Privilege::Implicit => match access {
                Access::Read => true,
                Access::Write => self.writable() || !paging.cr0.contains(Cr0Flags::WRITE_PROTECT),
                Access::Execute => self.executable(),
            },
        };
        if allowed { 0 } else { PRESENT }
    }

    /// [`Self::denied`] where SMAP, SMEP and protection keys have a say.
    fn denied_in_user_page(self, paging: &Paging, leaf: Entry, access: Access, privilege: Privilege) -> u32 {
        let write_protect = paging.cr0.contains(Cr0Flags::WRITE_PROTECT);
        let smap = paging.cr4.contains(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION);
        let smep = paging.cr4.contains(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION);
        let data_open = match privilege {
            Privilege::User => true,
            Privilege::Supervisor => !smap || paging.alignment_check,
            Privilege::Implicit => !smap,
        };
        let allowed = match (access, privilege) {
            (Access::Read, Privilege::User | Privilege::Supervisor | Privilege::Implicit) => data_open,
            (Access::Write, Privilege::User) => self.writable(),
            (Access::Write, Privilege::Supervisor | Privilege::Implicit) => {
                data_open && (self.writable() || !write_protect)
            }
            (Access::Execute, Privilege::User) => self.executable(),
            (Access::Execute, Privilege::Supervisor | Privilege::Implicit) => self.executable() && !smep,
        };
        if key_denies(paging, leaf, access, privilege) {
            PRESENT | PROTECTION_KEY
        } else if allowed {
            0
        } else {
            PRESENT
        }
    }
}

/// Whether PKRU denies a data access to a user page.
fn key_denies(paging: &Paging, leaf: Entry, access: Access, privilege: Privilege) -> bool {
    let has_keys = match paging.mode {
        Mode::FourLevel | Mode::FiveLevel => paging.cr4.contains(Cr4Flags::PROTECTION_KEY_USER),
        Mode::Off | Mode::Legacy | Mode::Pae => false,
    };
    if !has_keys {
        return false;
    }
    let bits = paging.pkru >> (2 * leaf.protection_key());
    let (access_disabled, write_disabled) = (bits & 1 != 0, bits & 2 != 0);
    match access {
        Access::Read => access_disabled,
        Access::Write => {
            let obeyed = privilege == Privilege::User || paging.cr0.contains(Cr0Flags::WRITE_PROTECT);
            access_disabled || (write_disabled && obeyed)
        }
        Access::Execute => false,
    }
}
