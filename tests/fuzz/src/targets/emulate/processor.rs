//! The processor of the emulator's target: plain registers, in one of the modes to begin with.

use super::{CODE, DATA, DEVICE};
use crate::Bytes;
use arch::{
    Cr0Flags, Cr4Flags, EferFlags, Gpa, Gpr, RFlags, Segment, SegmentRegister, VectorRegister, VectorValue,
    XCr0Flags,
};
use emulate::{Cpu, PagingFeatures};
use memory::{GuestMemory, MemoryMap, VecBlock};

/// Registers, and nothing behind them.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Processor {
    pub(super) gprs: [u64; 16],
    pub(super) rip: u64,
    pub(super) rflags: RFlags,
    segments: [Segment; 8],
    cr0: Cr0Flags,
    cr3: u64,
    cr4: Cr4Flags,
    efer: EferFlags,
    features: PagingFeatures,
    pkru: u32,
    dr7: u64,
    breakpoints: [u64; 4],
    xcr0: XCr0Flags,
    vectors: [VectorValue; 32],
    mode: u8,
}

/// Tables that map RAM to itself by small pages, and what devices have by a large one.
const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const DIRECTORIES: [u64; 2] = [0x3000, 0x5000];
const TABLE: u64 = 0x4000;

impl Processor {
    /// The processor in mode `mode` of: real, protected, 64-bit, the same in ring 3, and compatibility mode.
    pub(super) fn in_mode(mode: u8, memory: &MemoryMap<VecBlock>) -> Self {
        const MODES: u8 = 5;
        let mode = mode % MODES;
        let (code_rights, data_rights, limit) = match mode {
            0 => (0x9b, 0x93, 0xffff),
            1 | 4 => (0xc09b, 0xc093, u32::MAX),
            2 => (0xa09b, 0xc093, u32::MAX),
            _ => (0xa0fb, 0xc0f3, u32::MAX),
        };
        let data = Segment { selector: 0x10, base: 0, limit, access_rights: data_rights };
        let code = Segment { selector: 8, base: 0, limit, access_rights: code_rights };
        let task = Segment { selector: 0x40, base: 0xc000, limit: 0x67, access_rights: 0x8b };
        let mut gprs = [DATA; 16];
        gprs[Gpr::Rsp as usize] = DATA + 0x1000;
        gprs[Gpr::Rbx as usize] = DEVICE;
        let mut cpu = Self {
            gprs,
            rip: CODE,
            rflags: RFlags::from_bits_retain(2),
            segments: [data, code, data, data, data, data, Segment::unusable(), task],
            cr0: Cr0Flags::empty(),
            cr3: PML4,
            cr4: Cr4Flags::OSFXSR | Cr4Flags::OSXSAVE,
            efer: EferFlags::empty(),
            features: PagingFeatures { physical_address_bits: 40, gib_pages: true },
            pkru: 0,
            dr7: 0x400,
            breakpoints: [DATA, DEVICE, 0x80, u64::MAX],
            xcr0: XCr0Flags::all(),
            vectors: [[0x5a; 64]; 32],
            mode,
        };
        if mode != 0 {
            cpu.cr0 |= Cr0Flags::PROTECTED_MODE_ENABLE;
        }
        if mode >= 2 {
            cpu.cr0 |= Cr0Flags::PAGING | Cr0Flags::WRITE_PROTECT;
            cpu.cr4 |= Cr4Flags::PHYSICAL_ADDRESS_EXTENSION;
            cpu.efer =
                EferFlags::LONG_MODE_ENABLE | EferFlags::LONG_MODE_ACTIVE | EferFlags::NO_EXECUTE_ENABLE;
            map(memory, if mode == 3 { 7 } else { 3 });
        }
        cpu
    }

    /// The mode that it began in.
    pub(super) const fn mode(&self) -> u8 {
        self.mode
    }

    /// Changes something that a sane system leaves alone.
    pub(super) fn spoil(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.byte() % 9 {
            0 => self.cr0 = Cr0Flags::from_bits_retain(self.cr0.bits() ^ 1 << (bytes.byte() & 31)),
            1 => self.cr4 = Cr4Flags::from_bits_retain(self.cr4.bits() ^ 1 << (bytes.byte() & 31)),
            2 => self.efer = EferFlags::from_bits_retain(self.efer.bits() ^ 1 << (bytes.byte() & 15)),
            3 => self.cr3 = bytes.magnitude(),
            4 => self.pkru = bytes.dword(),
            5 => self.xcr0 = XCr0Flags::from_bits_retain(u64::from(bytes.byte())),
            6 => self.features.physical_address_bits = bytes.byte(),
            7 => self.dr7 = bytes.magnitude(),
            _ => {
                let index = usize::from(bytes.byte()) % self.segments.len();
                self.segments[index] = Segment {
                    selector: bytes.word(),
                    base: bytes.magnitude(),
                    limit: bytes.dword(),
                    access_rights: bytes.dword(),
                };
            }
        }
    }
}

fn map(memory: &MemoryMap<VecBlock>, rights: u64) {
    const LARGE: u64 = 0x80;
    const DEVICE_DIRECTORY: u64 = DEVICE >> 30;
    const DEVICE_ENTRY: u64 = DEVICE >> 21 & 0x1ff;
    let write = |at: u64, entry: u64| memory.write_u64(Gpa::new(at), entry).expect("RAM");
    let [low, high] = DIRECTORIES;
    write(PML4, PDPT | rights);
    write(PDPT, low | rights);
    write(PDPT + 8 * DEVICE_DIRECTORY, high | rights);
    write(low, TABLE | rights);
    write(high + 8 * DEVICE_ENTRY, DEVICE | LARGE | rights);
    for page in 0..16 {
        write(TABLE + 8 * page, page << 12 | rights);
    }
}

impl Cpu for Processor {
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
        assert!(met != 0 && self.dr7 & 0xff != 0 && met < 16, "breakpoints that are there");
    }
}
