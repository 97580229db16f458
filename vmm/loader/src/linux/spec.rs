//! Layouts of the Linux/x86 boot protocol.
//!
//! "The Linux/x86 Boot Protocol", "The Real-Mode Kernel Header"; "Zero Page" (`boot_params`); names are the kernel's.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Offset of [`SetupHeader`] in the image and in `boot_params`.
pub(crate) const SETUP_HEADER: usize = 0x1f1;
/// End of the room for the header in `boot_params`; newer headers may be longer than [`SetupHeader`].
pub(crate) const SETUP_HEADER_END: usize = 0x290;
/// Offset of the first byte past the fixed part of the header's jump instruction; the header's real end is here
/// plus the jump's displacement, the byte before.
pub(crate) const JUMP_END: usize = 0x202;

/// The header, from `setup_sects` on, as of protocol 2.15.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SetupHeader {
    pub(crate) setup_sects: u8,
    pub(crate) root_flags: U16,
    pub(crate) syssize: U32,
    pub(crate) ram_size: U16,
    pub(crate) vid_mode: U16,
    pub(crate) root_dev: U16,
    pub(crate) boot_flag: U16,
    pub(crate) jump: [u8; 2],
    pub(crate) header: [u8; 4],
    pub(crate) version: U16,
    pub(crate) realmode_swtch: U32,
    pub(crate) start_sys_seg: U16,
    pub(crate) kernel_version: U16,
    pub(crate) type_of_loader: u8,
    pub(crate) loadflags: u8,
    pub(crate) setup_move_size: U16,
    pub(crate) code32_start: U32,
    pub(crate) ramdisk_image: U32,
    pub(crate) ramdisk_size: U32,
    pub(crate) bootsect_kludge: U32,
    pub(crate) heap_end_ptr: U16,
    pub(crate) ext_loader_ver: u8,
    pub(crate) ext_loader_type: u8,
    pub(crate) cmd_line_ptr: U32,
    pub(crate) initrd_addr_max: U32,
    pub(crate) kernel_alignment: U32,
    pub(crate) relocatable_kernel: u8,
    pub(crate) min_alignment: u8,
    pub(crate) xloadflags: U16,
    pub(crate) cmdline_size: U32,
    pub(crate) hardware_subarch: U32,
    pub(crate) hardware_subarch_data: U64,
    pub(crate) payload_offset: U32,
    pub(crate) payload_length: U32,
    pub(crate) setup_data: U64,
    pub(crate) pref_address: U64,
    pub(crate) init_size: U32,
    pub(crate) handover_offset: U32,
    pub(crate) kernel_info_offset: U32,
}

const _: () = assert!(size_of::<SetupHeader>() == 0x26c - SETUP_HEADER);

/// `boot_flag` of every bootable image.
pub(crate) const BOOT_FLAG: u16 = 0xaa55;
/// The first protocol version with `xloadflags`.
pub(crate) const VERSION_2_12: u16 = 0x020c;
/// The first protocol version with `pref_address` and `init_size`, of Linux 2.6.31.
pub(crate) const VERSION_2_10: u16 = 0x020a;
/// `loadflags`: the protected-mode code is loaded high.
pub(crate) const LOADED_HIGH: u8 = 1 << 0;
/// `xloadflags`: there is a 64-bit entry point at 0x200.
pub(crate) const XLF_KERNEL_64: u16 = 1 << 0;
/// Offset of the 64-bit entry point in the protected-mode code.
pub(crate) const ENTRY_64: u64 = 0x200;
/// `type_of_loader` of a loader without a number of its own.
pub(crate) const LOADER_UNDEFINED: u8 = 0xff;
/// `vid_mode`: as the screen is.
pub(crate) const VIDEO_NORMAL: u16 = 0xffff;
/// Size of the sectors that `setup_sects` counts, in bytes.
pub(crate) const SECTOR: usize = 512;
/// What `setup_sects` 0 means.
pub(crate) const DEFAULT_SETUP_SECTORS: u8 = 4;
/// Size of the paragraphs that `syssize` counts, in bytes.
pub(crate) const PARAGRAPH: u64 = 16;

/// Size of `boot_params`, in bytes.
pub(crate) const BOOT_PARAMS_SIZE: usize = 4096;
/// Offset of `acpi_rsdp_addr` in `boot_params`, 8 bytes.
pub(crate) const ACPI_RSDP_ADDR: usize = 0x070;
/// Offset of `e820_entries`, 1 byte.
pub(crate) const E820_ENTRIES: usize = 0x1e8;
/// Offset of `e820_table`.
pub(crate) const E820_TABLE: usize = 0x2d0;

/// An entry of `e820_table`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct E820Entry {
    pub(crate) addr: U64,
    pub(crate) size: U64,
    pub(crate) kind: U32,
}

const _: () = assert!(size_of::<E820Entry>() == 20);
