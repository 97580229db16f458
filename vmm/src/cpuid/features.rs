//! The features that a guest may be offered: what of the host's leaves passes.
//!
//! SDM Vol. 2A, "CPUID—CPU Identification". An allow-list: a bit that is not here has no model.

// CPUID.1:ECX.
pub(super) const LEAF1_ECX: u32 = 1 // SSE3
    | 1 << 1 // PCLMULQDQ
    | 1 << 9 // SSSE3
    | 1 << 12 // FMA
    | 1 << 13 // CMPXCHG16B
    | 1 << 17 // PCID
    | 1 << 19 // SSE4.1
    | 1 << 20 // SSE4.2
    | 1 << 22 // MOVBE
    | 1 << 23 // POPCNT
    | 1 << 25 // AES
    | 1 << 26 // XSAVE
    | 1 << 28 // AVX
    | 1 << 29 // F16C
    | 1 << 30; // RDRAND
pub(super) const LEAF1_ECX_X2APIC: u32 = 1 << 21;
pub(super) const LEAF1_ECX_TSC_DEADLINE: u32 = 1 << 24;
pub(super) const LEAF1_ECX_OSXSAVE: u32 = 1 << 27;
pub(super) const LEAF1_ECX_HYPERVISOR: u32 = 1 << 31;
// CPUID.1:EDX: FPU VME DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE-36 CLFSH MMX FXSR SSE SSE2.
pub(super) const LEAF1_EDX: u32 = 0x078b_fbff;
pub(super) const LEAF1_EDX_HTT: u32 = 1 << 28;
// CPUID.(7,0):EBX: FSGSBASE TSC_ADJUST BMI1 AVX2 FDP_EXCPTN_ONLY SMEP BMI2 ERMS INVPCID FCS/FDS AVX512F AVX512DQ
// RDSEED ADX SMAP AVX512_IFMA CLFLUSHOPT CLWB AVX512CD SHA AVX512BW AVX512VL.
pub(super) const LEAF7_EBX: u32 = 1
    | 1 << 1
    | 1 << 3
    | 1 << 5
    | 1 << 6
    | 1 << 7
    | 1 << 8
    | 1 << 9
    | 1 << 10
    | 1 << 13
    | 1 << 16
    | 1 << 17
    | 1 << 18
    | 1 << 19
    | 1 << 20
    | 1 << 21
    | 1 << 23
    | 1 << 24
    | 1 << 28
    | 1 << 29
    | 1 << 30
    | 1 << 31;
pub(super) const LEAF7_EBX_INVPCID: u32 = 1 << 10;
// CPUID.(7,0):ECX: AVX512_VBMI UMIP PKU VBMI2 GFNI VAES VPCLMULQDQ VNNI BITALG VPOPCNTDQ RDPID. Not LA57: a guest
// with 57-bit addresses could leave such an address in LSTAR or KERNEL_GS_BASE, which the host, with 48 bits, could
// not load back.
pub(super) const LEAF7_ECX: u32 =
    1 << 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 14 | 1 << 22;
pub(super) const LEAF7_ECX_OSPKE: u32 = 1 << 4;
pub(super) const LEAF7_ECX_PKU: u32 = 1 << 3;
pub(super) const LEAF7_ECX_RDPID: u32 = 1 << 22;
// CPUID.(7,0):EDX: FSRM, MD_CLEAR.
pub(super) const LEAF7_EDX: u32 = 1 << 4 | 1 << 10;
// CPUID.80000001H:ECX: LAHF/SAHF LZCNT PREFETCHW.
pub(super) const LEAF81_ECX: u32 = 1 | 1 << 5 | 1 << 8;
// CPUID.80000001H:EDX: SYSCALL NX 1-GByte pages, RDTSCP, Intel 64.
pub(super) const LEAF81_EDX: u32 = 1 << 11 | 1 << 20 | 1 << 26 | 1 << 27 | 1 << 29;
pub(super) const LEAF81_EDX_1G: u32 = 1 << 26;
pub(super) const LEAF81_EDX_RDTSCP: u32 = 1 << 27;
