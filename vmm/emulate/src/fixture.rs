//! A processor, memory and a device for the tests of this crate.

use crate::{Cpu, Emulated, Emulator, KnownTranslation, Mmio, PagingFeatures, Ports};
use arch::{
    Cr0Flags, Cr4Flags, EferFlags, Gpa, Gpr, Port, RFlags, Segment, SegmentRegister, VectorRegister,
    VectorValue, Width, XCr0Flags,
};
use memory::{GuestMemory, MemoryMap, VecBlock};
use std::collections::VecDeque;

/// RAM reaches from 0 to here.
pub(crate) const RAM_SIZE: usize = 0x20_0000;
/// Where the tests put code, linear and guest-physical.
pub(crate) const CODE: u64 = 0x8000;
/// RAM for data, linear and guest-physical.
pub(crate) const DATA: u64 = 0x9000;
/// The initial stack pointer.
pub(crate) const STACK: u64 = 0xb000;
/// Device memory, linear and guest-physical.
pub(crate) const DEVICE: u64 = 0xfee0_0000;
/// The same device memory in the upper half of 64-bit address space.
pub(crate) const DEVICE_HIGH: u64 = 0xffff_ffff_ffe0_0000;
/// The page table of the first 2 MiB in [`Rig::long`].
pub(crate) const PAGE_TABLE: u64 = 0x4000;

/// Present, writable, accessed, dirty.
const KERNEL_PAGE: u64 = 0x63;

/// What CR4 has for vector instructions.
const VECTORS: Cr4Flags = Cr4Flags::OSFXSR.union(Cr4Flags::OSXSAVE);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TestCpu {
    pub(crate) gprs: [u64; 16],
    pub(crate) rip: u64,
    pub(crate) rflags: RFlags,
    pub(crate) segments: [Segment; 8],
    pub(crate) cr0: Cr0Flags,
    pub(crate) cr3: u64,
    pub(crate) cr4: Cr4Flags,
    pub(crate) efer: EferFlags,
    pub(crate) features: PagingFeatures,
    pub(crate) pdptes: Option<[u64; 4]>,
    pub(crate) pkru: u32,
    pub(crate) dr7: u64,
    pub(crate) breakpoints: [u64; 4],
    /// The breakpoints that were met.
    pub(crate) met: u64,
    pub(crate) xcr0: XCr0Flags,
    pub(crate) vectors: [VectorValue; 32],
}

impl Cpu for TestCpu {
    fn gpr(&self, register: Gpr) -> u64 {
        self.gprs[register as usize]
    }
    fn set_gpr(&mut self, register: Gpr, value: u64) {
        self.gprs[register as usize] = value;
    }
    fn rip(&self) -> u64 {
        self.rip
    }
    fn rflags(&self) -> RFlags {
        self.rflags
    }
    fn set_rflags(&mut self, flags: RFlags) {
        self.rflags = flags;
    }
    fn segment(&self, register: SegmentRegister) -> Segment {
        self.segments[register as usize]
    }
    fn cr0(&self) -> Cr0Flags {
        self.cr0
    }
    fn cr3(&self) -> u64 {
        self.cr3
    }
    fn cr4(&self) -> Cr4Flags {
        self.cr4
    }
    fn efer(&self) -> EferFlags {
        self.efer
    }
    fn paging_features(&self) -> PagingFeatures {
        self.features
    }
    fn pdptes(&self) -> Option<[u64; 4]> {
        self.pdptes
    }
    fn xcr0(&self) -> XCr0Flags {
        self.xcr0
    }
    fn vector(&self, register: VectorRegister) -> VectorValue {
        self.vectors[register.index()]
    }
    fn set_vector(&mut self, register: VectorRegister, value: &VectorValue) {
        self.vectors[register.index()] = *value;
    }
    fn pkru(&self) -> u32 {
        self.pkru
    }
    fn dr7(&self) -> u64 {
        self.dr7
    }
    fn breakpoints(&self) -> [u64; 4] {
        self.breakpoints
    }
    fn meet_breakpoints(&mut self, met: u64) {
        self.met |= met;
    }
}

/// What the devices saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Read(u64, Width),
    Write(u64, Width, u64),
    In(u16, Width),
    Out(u16, Width, u32),
}

/// Devices that record accesses and answer reads from a list, then with all ones.
#[derive(Default, Debug)]
pub(crate) struct TestDevices {
    pub(crate) seen: Vec<Seen>,
    pub(crate) answers: VecDeque<u64>,
}

impl Mmio for TestDevices {
    fn mmio_read(&mut self, gpa: Gpa, width: Width) -> u64 {
        self.seen.push(Seen::Read(gpa.get(), width));
        self.answers.pop_front().unwrap_or(u64::MAX)
    }
    fn mmio_write(&mut self, gpa: Gpa, width: Width, value: u64) {
        self.seen.push(Seen::Write(gpa.get(), width, value));
    }
}

impl Ports for TestDevices {
    fn port_read(&mut self, port: Port, width: Width) -> u32 {
        self.seen.push(Seen::In(port.0, width));
        u32::try_from(self.answers.pop_front().unwrap_or(u64::MAX) & 0xffff_ffff).expect("masked")
    }
    fn port_write(&mut self, port: Port, width: Width, value: u32) {
        self.seen.push(Seen::Out(port.0, width, value));
    }
}

/// A processor with memory and devices, ready to run one instruction.
pub(crate) struct Rig {
    pub(crate) cpu: TestCpu,
    pub(crate) memory: MemoryMap<VecBlock>,
    pub(crate) devices: TestDevices,
    pub(crate) emulator: Emulator,
    pub(crate) known: Option<KnownTranslation>,
}

impl Rig {
    fn with(code: Segment, data: Segment) -> Self {
        let mut memory = MemoryMap::new();
        memory.add(Gpa::new(0), VecBlock::new(RAM_SIZE)).expect("free");
        let task = Segment { selector: 0x40, base: 0xc000, limit: 0x67, access_rights: 0x8b };
        let mut gprs = [0; 16];
        gprs[Gpr::Rsp as usize] = STACK;
        Self {
            cpu: TestCpu {
                gprs,
                rip: CODE,
                rflags: RFlags::from_bits_retain(2),
                segments: [data, code, data, data, data, data, Segment::unusable(), task],
                cr0: Cr0Flags::empty(),
                cr3: 0,
                cr4: VECTORS,
                efer: EferFlags::empty(),
                features: PagingFeatures { physical_address_bits: 40, gib_pages: true },
                pdptes: None,
                pkru: 0,
                dr7: 0x400,
                breakpoints: [0; 4],
                met: 0,
                xcr0: XCr0Flags::all(),
                vectors: core::array::from_fn(|register| {
                    core::array::from_fn(|byte| u8::try_from((register * 64 + byte) % 251).expect("small"))
                }),
            },
            memory,
            devices: TestDevices::default(),
            emulator: Emulator::new(),
            known: None,
        }
    }

    /// Real-address mode; code at 0:CODE.
    pub(crate) fn real() -> Self {
        let code = Segment { selector: 0, base: 0, limit: 0xffff, access_rights: 0x9b };
        let data = Segment { selector: 0, base: 0, limit: 0xffff, access_rights: 0x93 };
        Self::with(code, data)
    }

    /// Flat 32-bit protected mode at CPL 0, without paging.
    pub(crate) fn protected() -> Self {
        let code = Segment { selector: 8, base: 0, limit: u32::MAX, access_rights: 0xc09b };
        let data = Segment { selector: 16, base: 0, limit: u32::MAX, access_rights: 0xc093 };
        let mut rig = Self::with(code, data);
        rig.cpu.cr0 = Cr0Flags::PROTECTED_MODE_ENABLE;
        rig
    }

    /// 64-bit mode at CPL 0: RAM by 4-KiB pages and the device by 2-MiB pages, as supervisor pages.
    pub(crate) fn long() -> Self {
        let code = Segment { selector: 8, base: 0, limit: u32::MAX, access_rights: 0xa09b };
        let data = Segment { selector: 16, base: 0, limit: u32::MAX, access_rights: 0xc093 };
        let mut rig = Self::with(code, data);
        rig.cpu.cr0 = Cr0Flags::PROTECTED_MODE_ENABLE | Cr0Flags::PAGING | Cr0Flags::WRITE_PROTECT;
        rig.cpu.cr4 |= Cr4Flags::PHYSICAL_ADDRESS_EXTENSION;
        rig.cpu.efer =
            EferFlags::LONG_MODE_ENABLE | EferFlags::LONG_MODE_ACTIVE | EferFlags::NO_EXECUTE_ENABLE;
        rig.cpu.cr3 = 0x1000;
        let large = KERNEL_PAGE | 0x80;
        rig.poke(0x1000, 0x2000 | KERNEL_PAGE);
        rig.poke(0x1000 + 511 * 8, 0x6000 | KERNEL_PAGE);
        rig.poke(0x2000, 0x3000 | KERNEL_PAGE);
        rig.poke(0x2000 + 3 * 8, 0x5000 | KERNEL_PAGE);
        rig.poke(0x3000, PAGE_TABLE | KERNEL_PAGE);
        for page in 0..512 {
            rig.poke(PAGE_TABLE + page * 8, (page << 12) | KERNEL_PAGE);
        }
        rig.poke(0x5000 + 0x1f7 * 8, DEVICE | large);
        rig.poke(0x6000 + 511 * 8, 0x7000 | KERNEL_PAGE);
        rig.poke(0x7000 + 511 * 8, DEVICE | large);
        rig
    }

    /// Makes everything on the way to the pages of [`Rig::long`] a user page and goes to CPL 3.
    pub(crate) fn enter_user_mode(&mut self) {
        for table in [0x1000_u64, 0x2000, 0x3000, PAGE_TABLE, 0x5000, 0x6000, 0x7000] {
            for index in 0..512 {
                let at = table + index * 8;
                let entry = self.peek(at);
                if entry & 1 != 0 {
                    self.poke(at, entry | 4);
                }
            }
        }
        self.cpu.segments[SegmentRegister::Ss as usize].access_rights |= 0x60;
        self.cpu.segments[SegmentRegister::Cs as usize].access_rights |= 0x60;
    }

    /// Writes a quadword to RAM.
    pub(crate) fn poke(&self, gpa: u64, value: u64) {
        self.memory.write_u64(Gpa::new(gpa), value).expect("RAM");
    }

    /// Reads a quadword of RAM.
    pub(crate) fn peek(&self, gpa: u64) -> u64 {
        self.memory.read_u64(Gpa::new(gpa)).expect("RAM")
    }

    pub(crate) fn set(&mut self, register: Gpr, value: u64) -> &mut Self {
        self.cpu.set_gpr(register, value);
        self
    }

    pub(crate) fn get(&self, register: Gpr) -> u64 {
        self.cpu.gpr(register)
    }

    pub(crate) fn answer(&mut self, values: &[u64]) -> &mut Self {
        self.devices.answers.extend(values);
        self
    }

    /// Puts `code` at RIP (whose linear address must be its guest-physical one) and emulates it.
    pub(crate) fn run(&mut self, code: &[u8]) -> Emulated {
        self.memory.write(Gpa::new(self.cpu.rip), code).expect("RAM");
        self.step()
    }

    /// Emulates what is at RIP.
    pub(crate) fn step(&mut self) -> Emulated {
        self.emulator.step(&mut self.cpu, &self.memory, &mut self.devices, self.known)
    }

    /// Runs `code`, which must be one instruction that ends well.
    #[track_caller]
    pub(crate) fn done(&mut self, code: &[u8]) -> &mut Self {
        let next_rip = self.cpu.rip + code.len() as u64;
        assert_eq!(self.run(code), Emulated::Done { next_rip });
        self
    }

    /// What the devices saw since the last call.
    pub(crate) fn seen(&mut self) -> Vec<Seen> {
        core::mem::take(&mut self.devices.seen)
    }
}
