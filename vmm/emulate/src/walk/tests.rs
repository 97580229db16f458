//! Walks in every paging mode, their rights, and the flags that they set.

use super::*;
use crate::fixture::Rig;
use core::cell::Cell;
use memory::{MemoryMap, OutsideRam, VecBlock};

const P: u64 = 1;
const W: u64 = 2;
const U: u64 = 4;
const A: u64 = 0x20;
const D: u64 = 0x40;
const LARGE: u64 = 0x80;
const NX: u64 = 1 << 63;

fn fault(error_code: u32, address: u64) -> Result<Gpa, Exception> {
    Err(Exception::PageFault { error_code, address })
}

/// A machine in which only the tables that a test writes exist.
fn machine(cr0: Cr0Flags, cr4: Cr4Flags, efer: EferFlags) -> Rig {
    let mut rig = Rig::protected();
    rig.cpu.cr0 = cr0 | Cr0Flags::PROTECTED_MODE_ENABLE | Cr0Flags::PAGING;
    rig.cpu.cr4 = cr4;
    rig.cpu.efer = efer;
    rig.cpu.cr3 = 0x1000;
    rig
}

fn legacy() -> Rig {
    machine(Cr0Flags::empty(), Cr4Flags::empty(), EferFlags::empty())
}

fn pae() -> Rig {
    machine(Cr0Flags::empty(), Cr4Flags::PHYSICAL_ADDRESS_EXTENSION, EferFlags::NO_EXECUTE_ENABLE)
}

/// 4-level paging with 0x5000 mapped to 0x9000, all rights granted at every level.
fn long() -> Rig {
    let rig = machine(
        Cr0Flags::WRITE_PROTECT,
        Cr4Flags::PHYSICAL_ADDRESS_EXTENSION,
        EferFlags::LONG_MODE_ACTIVE | EferFlags::NO_EXECUTE_ENABLE,
    );
    rig.poke(0x1000, 0x2000 | P | W | U);
    rig.poke(0x2000, 0x3000 | P | W | U);
    rig.poke(0x3000, 0x4000 | P | W | U);
    rig.poke(LEAF, 0x9000 | P | W | U);
    rig
}

/// The leaf entry of [`long`].
const LEAF: u64 = 0x4000 + 5 * 8;

fn walk(rig: &Rig, gva: u64, access: Access, privilege: Privilege) -> Result<Gpa, Exception> {
    Paging::of(&rig.cpu).walk(&rig.memory, Gva::new(gva), access, privilege)
}

fn read(rig: &Rig, gva: u64) -> Result<Gpa, Exception> {
    walk(rig, gva, Access::Read, Privilege::Supervisor)
}

/// Writes a 32-bit entry.
fn poke_narrow(rig: &Rig, at: u64, entry: u64) {
    let [a, b, c, d, ..] = entry.to_le_bytes();
    rig.memory.write(Gpa::new(at), &[a, b, c, d]).expect("RAM");
}

#[test]
fn without_paging_an_address_is_itself() {
    let rig = Rig::protected();
    assert_eq!(read(&rig, 0xfee0_0123), Ok(Gpa::new(0xfee0_0123)));
}

#[test]
fn legacy_paging_walks_two_levels() {
    let rig = legacy();
    poke_narrow(&rig, 0x1000 + 4, 0x2000 | P | W);
    poke_narrow(&rig, 0x2000 + 8, 0x5000 | P | W);
    assert_eq!(read(&rig, 0x0040_2abc), Ok(Gpa::new(0x5abc)));
    assert_eq!(read(&rig, 0x0040_3000), fault(0, 0x0040_3000));
    assert_eq!(read(&rig, 0x0080_0000), fault(0, 0x0080_0000));
}

#[test]
fn legacy_large_pages_need_pse_and_reach_40_bits() {
    let mut rig = legacy();
    poke_narrow(&rig, 0x1000 + 4, 0x0080_0000 | (0x12 << 13) | P | LARGE);
    rig.cpu.cr4 = Cr4Flags::PAGE_SIZE_EXTENSION;
    assert_eq!(read(&rig, 0x0041_2345), Ok(Gpa::new(0x12_0081_2345)));
    poke_narrow(&rig, 0x1000 + 4, (1 << 21) | P | LARGE);
    assert_eq!(read(&rig, 0x0040_0000), fault(9, 0x0040_0000));
    rig.cpu.features.physical_address_bits = 36;
    poke_narrow(&rig, 0x1000 + 4, (1 << 17) | P | LARGE);
    assert_eq!(read(&rig, 0x0040_0000), fault(9, 0x0040_0000));
    // Without PSE the entry is an ordinary one, to a table in RAM at 0.
    rig.cpu.cr4 = Cr4Flags::empty();
    poke_narrow(&rig, 0x1000 + 4, 0x2000 | P | LARGE);
    poke_narrow(&rig, 0x2000, 0x7000 | P);
    assert_eq!(read(&rig, 0x0040_0000), Ok(Gpa::new(0x7000)));
}

#[test]
fn pae_walks_three_levels_from_memory_or_registers() {
    let mut rig = pae();
    rig.cpu.cr3 = 0x1020;
    rig.poke(0x1020 + 8, 0x2000 | P);
    rig.poke(0x2000, 0x3000 | P | W);
    rig.poke(0x3000 + 8, 0x1_2345_6000 | P | W);
    rig.poke(0x2000 + 8, 0x1_0020_0000 | P | W | LARGE);
    assert_eq!(read(&rig, 0x4000_1fff), Ok(Gpa::new(0x1_2345_6fff)));
    assert_eq!(read(&rig, 0x4030_0001), Ok(Gpa::new(0x1_0030_0001)));
    assert_eq!(read(&rig, 0x1000), fault(0, 0x1000));
    rig.cpu.pdptes = Some([0x2000 | P, 0, 0, 0]);
    assert_eq!(read(&rig, 0x1fff), Ok(Gpa::new(0x1_2345_6fff)));
    assert_eq!(read(&rig, 0x4000_1fff), fault(0, 0x4000_1fff));
}

#[test]
fn pae_reserves_bits_above_the_physical_address() {
    let rig = pae();
    rig.poke(0x1000, 0x2000 | P);
    rig.poke(0x2000, 0x3000 | P);
    for bit in [40, 52, 62] {
        rig.poke(0x3000, (1 << bit) | P);
        assert_eq!(read(&rig, 0), fault(9, 0), "bit {bit}");
    }
    rig.poke(0x1000, 0x2000 | P | W);
    assert_eq!(read(&rig, 0), fault(9, 0), "bit 1 of a PDPTE");
}

#[test]
fn four_level_paging_maps_pages_of_three_sizes() {
    let rig = long();
    assert_eq!(read(&rig, 0x5123), Ok(Gpa::new(0x9123)));
    rig.poke(0x3000 + 8, 0x60_0000 | P | LARGE);
    assert_eq!(read(&rig, 0x23_4567), Ok(Gpa::new(0x63_4567)));
    rig.poke(0x2000 + 8, 0x8000_0000 | P | LARGE);
    assert_eq!(read(&rig, 0x7fff_ffff), Ok(Gpa::new(0xbfff_ffff)));
}

#[test]
fn five_level_paging_has_one_more() {
    let mut rig = long();
    rig.cpu.cr4 |= Cr4Flags::L5_PAGING;
    rig.cpu.cr3 = 0xa000;
    rig.poke(0xa000 + 8, 0x1000 | P | W | U);
    assert_eq!(read(&rig, (1 << 48) | 0x5123), Ok(Gpa::new(0x9123)));
    assert_eq!(read(&rig, 0x5123), fault(0, 0x5123));
}

/// 5-level paging: [`long`]'s tables below the second entry of a table at A000H.
fn five_level() -> Rig {
    let mut rig = long();
    rig.cpu.cr4 |= Cr4Flags::L5_PAGING;
    rig.cpu.cr3 = 0xa000;
    rig.poke(FIFTH, 0x1000 | P | W | U);
    rig
}

/// The top entry of [`five_level`], and the address that it and [`LEAF`] translate.
const FIFTH: u64 = 0xa000 + 8;
const FAR: u64 = (1 << 48) | 0x5000;

#[test]
fn five_level_paging_has_rights_at_the_fifth_level_too() {
    let user = |rig: &Rig, access| walk(rig, FAR, access, Privilege::User);
    let rig = five_level();
    assert_eq!(user(&rig, Access::Write), Ok(Gpa::new(0x9000)));
    rig.poke(FIFTH, 0x1000 | P | U);
    assert_eq!(user(&rig, Access::Read), Ok(Gpa::new(0x9000)));
    assert_eq!(user(&rig, Access::Write), fault(7, FAR));
    rig.poke(FIFTH, 0x1000 | P | W);
    assert_eq!(user(&rig, Access::Read), fault(5, FAR));
    rig.poke(FIFTH, 0x1000 | P | W | U | NX);
    assert_eq!(user(&rig, Access::Write), Ok(Gpa::new(0x9000)));
    assert_eq!(user(&rig, Access::Execute), fault(0x15, FAR));
    rig.poke(FIFTH, 0x1000 | P | W | U | LARGE);
    assert_eq!(user(&rig, Access::Read), fault(0xd, FAR), "PS in a PML5E");
    rig.poke(FIFTH, 0x1000 | P | W | U | (1 << 40));
    assert_eq!(user(&rig, Access::Read), fault(0xd, FAR), "an address beyond the processor's");
    rig.poke(FIFTH, 0);
    assert_eq!(user(&rig, Access::Write), fault(6, FAR));
}

#[test]
fn five_level_paging_marks_all_five_levels() {
    let rig = five_level();
    assert_eq!(read(&rig, FAR), Ok(Gpa::new(0x9000)));
    let entries = [FIFTH, 0x1000, 0x2000, 0x3000, LEAF];
    assert_eq!(entries.map(|at| rig.peek(at) & (A | D)), [A; 5]);
    assert_eq!(walk(&rig, FAR, Access::Write, Privilege::Supervisor), Ok(Gpa::new(0x9000)));
    assert_eq!(entries.map(|at| rig.peek(at) & (A | D)), [A, A, A, A, A | D]);
}

#[test]
fn five_level_paging_has_large_pages_and_keys() {
    let mut rig = five_level();
    rig.poke(0x3000 + 8, 0x60_0000 | P | W | U | LARGE);
    rig.poke(0x2000 + 8, 0x8000_0000 | P | W | U | LARGE | (3 << 59));
    assert_eq!(read(&rig, (1 << 48) | 0x23_4567), Ok(Gpa::new(0x63_4567)));
    let huge = (1 << 48) | 0x7fff_ffff;
    assert_eq!(read(&rig, huge), Ok(Gpa::new(0xbfff_ffff)));
    rig.cpu.cr4 |= Cr4Flags::PROTECTION_KEY_USER;
    rig.cpu.pkru = 1 << 6;
    assert_eq!(read(&rig, huge), fault(0x21, huge));
}

#[test]
fn five_level_paging_makes_57_bits_of_an_address_count() {
    use crate::Emulated;
    use crate::fixture::DATA;
    use arch::Gpr;
    let mut rig = Rig::long();
    let root = rig.cpu.cr3;
    rig.cpu.cr4 |= Cr4Flags::L5_PAGING;
    rig.cpu.cr3 = 0xa000;
    // The same below the lowest, the second and the last stretch of 256 TiB.
    for index in [0, 1, 511] {
        rig.poke(0xa000 + 8 * index, root | P | W | U);
    }
    rig.poke(DATA, 0x77);
    for rbx in [DATA, (1 << 48) | DATA, (0x1ff << 48) | 0xfe00_0000_0000_0000 | DATA] {
        rig.set(Gpr::Rbx, rbx).set(Gpr::Rax, 0);
        rig.done(&[0x48, 0x8b, 0x03]); // mov rax, [rbx]
        assert_eq!(rig.get(Gpr::Rax), 0x77, "{rbx:#x}");
    }
    rig.set(Gpr::Rbx, (1 << 56) | DATA);
    assert_eq!(rig.run(&[0x48, 0x8b, 0x03]), Emulated::Fault(Exception::GeneralProtection(0)));
}

#[test]
fn long_mode_reserved_bits_fault_and_ignored_ones_do_not() {
    let mut rig = long();
    rig.poke(LEAF, 0x9000 | P | (0x7ff << 52));
    assert_eq!(read(&rig, 0x5000), Ok(Gpa::new(0x9000)));
    rig.poke(LEAF, 0x9000 | P | (1 << 40));
    assert_eq!(read(&rig, 0x5000), fault(9, 0x5000));
    rig.poke(0x3000 + 8, 0x60_2000 | P | LARGE);
    assert_eq!(read(&rig, 0x20_0000), fault(9, 0x20_0000), "offset bits of a 2-MiB page");
    rig.cpu.features.gib_pages = false;
    rig.poke(0x2000 + 8, 0x8000_0000 | P | LARGE);
    assert_eq!(read(&rig, 0x4000_0000), fault(9, 0x4000_0000), "1-GiB page without the feature");
    rig.poke(0x1000 + 8, 0x2000 | P | LARGE);
    assert_eq!(read(&rig, 1 << 39), fault(9, 1 << 39), "PS in a PML4E");
}

#[test]
fn execute_disable_is_a_right_with_nxe_and_reserved_without() {
    let mut rig = long();
    rig.poke(0x2000, 0x3000 | P | W | U | NX);
    assert_eq!(read(&rig, 0x5000), Ok(Gpa::new(0x9000)));
    let fetch = |rig: &Rig| walk(rig, 0x5000, Access::Execute, Privilege::User);
    assert_eq!(fetch(&rig), fault(0x15, 0x5000));
    rig.cpu.efer = EferFlags::LONG_MODE_ACTIVE;
    assert_eq!(fetch(&rig), fault(0xd, 0x5000), "and the I/D bit is not reported");
    assert_eq!(read(&rig, 0x5000), fault(9, 0x5000));
}

#[test]
fn rights_are_those_of_every_level() {
    for (at, entry) in [(0x1000, 0x2000), (0x2000, 0x3000), (0x3000, 0x4000), (LEAF, 0x9000)] {
        let rig = long();
        rig.poke(at, entry | P | W);
        assert_eq!(walk(&rig, 0x5000, Access::Read, Privilege::User), fault(5, 0x5000));
        rig.poke(at, entry | P | U);
        assert_eq!(walk(&rig, 0x5000, Access::Write, Privilege::User), fault(7, 0x5000));
        assert_eq!(walk(&rig, 0x5000, Access::Write, Privilege::Supervisor), fault(3, 0x5000));
        assert_eq!(walk(&rig, 0x5000, Access::Read, Privilege::User), Ok(Gpa::new(0x9000)));
    }
}

#[test]
fn supervisor_writes_ignore_read_only_pages_without_write_protect() {
    let mut rig = long();
    rig.poke(LEAF, 0x9000 | P | U);
    rig.cpu.cr0 -= Cr0Flags::WRITE_PROTECT;
    assert_eq!(walk(&rig, 0x5000, Access::Write, Privilege::Supervisor), Ok(Gpa::new(0x9000)));
    assert_eq!(walk(&rig, 0x5000, Access::Write, Privilege::User), fault(7, 0x5000));
}

#[test]
fn smap_keeps_the_supervisor_out_of_user_pages_unless_ac_is_set() {
    let mut rig = long();
    rig.cpu.cr4 |= Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION;
    assert_eq!(read(&rig, 0x5000), fault(1, 0x5000));
    assert_eq!(walk(&rig, 0x5000, Access::Write, Privilege::Supervisor), fault(3, 0x5000));
    assert!(walk(&rig, 0x5000, Access::Execute, Privilege::Supervisor).is_ok());
    rig.cpu.rflags |= RFlags::ALIGNMENT_CHECK;
    assert!(read(&rig, 0x5000).is_ok());
    assert_eq!(walk(&rig, 0x5000, Access::Read, Privilege::Implicit), fault(1, 0x5000));
}

#[test]
fn smep_keeps_the_supervisor_from_executing_user_pages() {
    let mut rig = long();
    rig.cpu.cr4 |= Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION;
    assert_eq!(walk(&rig, 0x5000, Access::Execute, Privilege::Supervisor), fault(0x11, 0x5000));
    assert!(walk(&rig, 0x5000, Access::Execute, Privilege::User).is_ok());
    assert!(read(&rig, 0x5000).is_ok());
}

#[test]
fn protection_keys_guard_user_pages() {
    let mut rig = long();
    rig.poke(LEAF, 0x9000 | P | W | U | (3 << 59));
    rig.cpu.cr4 |= Cr4Flags::PROTECTION_KEY_USER;
    rig.cpu.pkru = 1 << 6;
    assert_eq!(walk(&rig, 0x5000, Access::Read, Privilege::User), fault(0x25, 0x5000));
    assert_eq!(read(&rig, 0x5000), fault(0x21, 0x5000));
    assert!(walk(&rig, 0x5000, Access::Execute, Privilege::User).is_ok());
    rig.cpu.pkru = 1 << 7;
    assert!(read(&rig, 0x5000).is_ok());
    assert_eq!(walk(&rig, 0x5000, Access::Write, Privilege::Supervisor), fault(0x23, 0x5000));
    rig.cpu.cr0 -= Cr0Flags::WRITE_PROTECT;
    assert!(walk(&rig, 0x5000, Access::Write, Privilege::Supervisor).is_ok());
    rig.poke(LEAF, 0x9000 | P | W | (3 << 59));
    rig.cpu.pkru = u32::MAX;
    assert!(read(&rig, 0x5000).is_ok(), "supervisor pages have no key");
}

#[test]
fn accessed_and_dirty_are_set_on_success_only() {
    let rig = long();
    rig.poke(LEAF, 0x9000 | P | U);
    assert!(walk(&rig, 0x5000, Access::Write, Privilege::User).is_err());
    assert_eq!(rig.peek(0x1000) & (A | D), 0);
    assert!(read(&rig, 0x5000).is_ok());
    for at in [0x1000, 0x2000, 0x3000, LEAF] {
        assert_eq!(rig.peek(at) & (A | D), A, "{at:#x}");
    }
    rig.poke(LEAF, rig.peek(LEAF) | W);
    assert!(walk(&rig, 0x5000, Access::Write, Privilege::User).is_ok());
    assert_eq!(rig.peek(LEAF), 0x9000 | P | W | U | A | D);
    assert_eq!(rig.peek(0x3000) & D, 0, "only a leaf is dirty");
}

#[test]
fn legacy_entries_are_marked_without_touching_their_neighbours() {
    let rig = legacy();
    poke_narrow(&rig, 0x1000, 0x2000 | P | W);
    poke_narrow(&rig, 0x2000, 0x5000 | P | W);
    poke_narrow(&rig, 0x2004, 0x1234_5000);
    assert!(walk(&rig, 0, Access::Write, Privilege::Supervisor).is_ok());
    assert_eq!(rig.peek(0x2000), (0x1234_5000 << 32) | 0x5000 | P | W | A | D);
}

#[test]
fn tables_outside_of_ram_read_as_all_ones() {
    let mut rig = long();
    rig.cpu.cr3 = 0xf_0000_0000;
    assert_eq!(read(&rig, 0x5000), fault(9, 0x5000));
}

#[test]
fn a_path_is_told_once_its_flags_are_set() {
    let rig = long();
    let path = || {
        let found =
            Paging::of(&rig.cpu).path(&rig.memory, Gva::new(0x5010), Access::Execute, Privilege::Supervisor);
        found.map(|(path, gpa)| (path.steps().collect::<Vec<_>>(), gpa))
    };
    assert_eq!(path(), None);
    assert_eq!(walk(&rig, 0x5000, Access::Execute, Privilege::Supervisor), Ok(Gpa::new(0x9000)));
    let entries = [(0x1000, 0x2000), (0x2000, 0x3000), (0x3000, 0x4000), (LEAF, 0x9000)];
    let steps = entries.map(|(at, to)| (Gpa::new(at), to | P | W | U | A));
    assert_eq!(path(), Some((steps.to_vec(), Gpa::new(0x9010))));
    rig.poke(LEAF, 0x9000 | P | A | NX);
    assert_eq!(path(), None);
}

/// RAM in which another processor of the guest writes `entry` to `at` just before each flag is set.
struct Restless<'a> {
    ram: &'a MemoryMap<VecBlock>,
    at: u64,
    entry: Cell<u64>,
    /// Added to the entry after each of its writes.
    step: u64,
    writes: Cell<u32>,
}

impl GuestMemory for Restless<'_> {
    fn read(&self, gpa: Gpa, into: &mut [u8]) -> Result<(), OutsideRam> {
        self.ram.read(gpa, into)
    }

    fn write(&self, gpa: Gpa, from: &[u8]) -> Result<(), OutsideRam> {
        self.ram.write(gpa, from)
    }

    fn swap_u8(&self, gpa: Gpa, value: u8) -> Result<u8, OutsideRam> {
        self.ram.swap_u8(gpa, value)
    }

    fn compare_exchange_u32(&self, gpa: Gpa, current: u32, new: u32) -> Result<bool, OutsideRam> {
        self.ram.compare_exchange_u32(gpa, current, new)
    }

    fn compare_exchange_u64(&self, gpa: Gpa, current: u64, new: u64) -> Result<bool, OutsideRam> {
        if gpa.get() == self.at {
            self.ram.write_u64(gpa, self.entry.get())?;
            self.entry.set(self.entry.get() + self.step);
            self.writes.set(self.writes.get() + 1);
        }
        self.ram.compare_exchange_u64(gpa, current, new)
    }
}

#[test]
fn an_entry_that_changes_under_the_walk_is_walked_again() {
    let rig = long();
    let walk_with = |entry, step| {
        let ram =
            Restless { ram: &rig.memory, at: LEAF, entry: Cell::new(entry), step, writes: Cell::new(0) };
        let found = Paging::of(&rig.cpu).walk(&ram, Gva::new(0x5010), Access::Write, Privilege::Supervisor);
        (found, ram.writes.get())
    };
    let moved = walk_with(0xa000 | P | W, 0);
    assert_eq!(moved, (Ok(Gpa::new(0xa010)), 2), "the page that is there in the end");
    assert_eq!(rig.peek(LEAF), 0xa000 | P | W | A | D);
    rig.poke(LEAF, 0x9000 | P | W);
    assert_eq!(walk_with(0, 0), (fault(2, 0x5010), 1), "unmapped meanwhile");
    assert_eq!(rig.peek(LEAF), 0, "and never made present again");
}

#[test]
fn an_entry_that_never_holds_still_ends_the_walk_all_the_same() {
    let rig = long();
    let entry = Cell::new(0xa000 | P | W);
    let ram = Restless { ram: &rig.memory, at: LEAF, entry, step: 0x1000, writes: Cell::new(0) };
    let found = Paging::of(&rig.cpu).walk(&ram, Gva::new(0x5000), Access::Write, Privilege::Supervisor);
    assert!(found.is_ok());
    assert_eq!(ram.writes.get(), MARK_ATTEMPTS);
    assert_eq!(rig.peek(LEAF) & (A | D), 0, "the guest's own write stays");
}
