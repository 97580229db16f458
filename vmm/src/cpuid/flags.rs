//! The features that a guest may be offered, with their names and what each of them needs.
//!
//! SDM Vol. 2A, "CPUID—CPU Identification"; SDM Vol. 1, "Checking for SSE3/SSSE3/SSE4 Support" and the like for what builds
//! on what. An allow-list: a bit that is not here has no model. Not here is LA57: a guest with 57-bit addresses could leave
//! such an address in LSTAR or KERNEL_GS_BASE, which the host, with 48 bits, could not load back.

use super::Leaf;

/// A register of feature bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Word {
    /// CPUID.1:ECX.
    OneEcx,
    /// CPUID.1:EDX.
    OneEdx,
    /// CPUID.(7,0):EBX.
    SevenEbx,
    /// CPUID.(7,0):ECX.
    SevenEcx,
    /// CPUID.(7,0):EDX.
    SevenEdx,
    /// CPUID.(0DH,1):EAX.
    XsaveEax,
    /// CPUID.80000001H:ECX.
    ExtendedEcx,
    /// CPUID.80000001H:EDX.
    ExtendedEdx,
}

const WORDS: usize = 8;
const ALL_WORDS: [Word; WORDS] = [
    Word::OneEcx,
    Word::OneEdx,
    Word::SevenEbx,
    Word::SevenEcx,
    Word::SevenEdx,
    Word::XsaveEax,
    Word::ExtendedEcx,
    Word::ExtendedEdx,
];

impl Word {
    fn of_host(self, host: &dyn Fn(u32, u32) -> Leaf) -> u32 {
        match self {
            Self::OneEcx => host(1, 0).ecx,
            Self::OneEdx => host(1, 0).edx,
            Self::SevenEbx => host(7, 0).ebx,
            Self::SevenEcx => host(7, 0).ecx,
            Self::SevenEdx => host(7, 0).edx,
            Self::XsaveEax => host(0xd, 1).eax,
            Self::ExtendedEcx => host(0x8000_0001, 0).ecx,
            Self::ExtendedEdx => host(0x8000_0001, 0).edx,
        }
    }
}

/// One feature bit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Flag(Word, u8);

/// What is known of a feature.
#[derive(Clone, Copy, Debug)]
pub(super) struct Feature {
    pub(super) flag: Flag,
    /// As the manual names it, in small letters.
    pub(super) name: &'static str,
    /// The features that it builds on.
    pub(super) needs: &'static [Flag],
    /// The state components that it keeps its registers in, as bits of XCR0.
    pub(super) state: u64,
}

macro_rules! features {
    ($($constant:ident = $word:ident $bit:literal, $name:literal, [$($needs:ident)*] $(, $state:literal)?;)*) => {
        $(pub(super) const $constant: Flag = Flag(Word::$word, $bit);)*
        /// All features that may be offered.
        pub(super) const FEATURES: &[Feature] = &[
            $(Feature { flag: $constant, name: $name, needs: &[$($needs),*], state: 0 $(| $state)? },)*
        ];
    };
}

features! {
    SSE3 = OneEcx 0, "sse3", [SSE2];
    PCLMULQDQ = OneEcx 1, "pclmulqdq", [SSE2];
    SSSE3 = OneEcx 9, "ssse3", [SSE3];
    FMA = OneEcx 12, "fma", [AVX];
    CMPXCHG16B = OneEcx 13, "cmpxchg16b", [CX8 LONG_MODE];
    PCID = OneEcx 17, "pcid", [LONG_MODE];
    SSE4_1 = OneEcx 19, "sse4.1", [SSSE3];
    SSE4_2 = OneEcx 20, "sse4.2", [SSE4_1];
    X2APIC = OneEcx 21, "x2apic", [APIC];
    MOVBE = OneEcx 22, "movbe", [];
    POPCNT = OneEcx 23, "popcnt", [];
    TSC_DEADLINE = OneEcx 24, "tsc-deadline", [APIC TSC];
    AES = OneEcx 25, "aes", [SSE2];
    XSAVE = OneEcx 26, "xsave", [FXSR], 0b11;
    AVX = OneEcx 28, "avx", [XSAVE SSE4_2], 0b100;
    F16C = OneEcx 29, "f16c", [AVX];
    RDRAND = OneEcx 30, "rdrand", [];
    HYPERVISOR = OneEcx 31, "hypervisor", [];
    FPU = OneEdx 0, "fpu", [];
    VME = OneEdx 1, "vme", [];
    DE = OneEdx 2, "de", [];
    PSE = OneEdx 3, "pse", [];
    TSC = OneEdx 4, "tsc", [];
    MSR = OneEdx 5, "msr", [];
    PAE = OneEdx 6, "pae", [];
    MCE = OneEdx 7, "mce", [MSR];
    CX8 = OneEdx 8, "cx8", [];
    APIC = OneEdx 9, "apic", [MSR];
    SEP = OneEdx 11, "sep", [MSR];
    MTRR = OneEdx 12, "mtrr", [MSR];
    PGE = OneEdx 13, "pge", [];
    MCA = OneEdx 14, "mca", [MCE];
    CMOV = OneEdx 15, "cmov", [];
    PAT = OneEdx 16, "pat", [MSR];
    PSE36 = OneEdx 17, "pse36", [PSE];
    CLFLUSH = OneEdx 19, "clflush", [];
    MMX = OneEdx 23, "mmx", [FPU];
    FXSR = OneEdx 24, "fxsr", [FPU];
    SSE = OneEdx 25, "sse", [FXSR];
    SSE2 = OneEdx 26, "sse2", [SSE];
    FSGSBASE = SevenEbx 0, "fsgsbase", [LONG_MODE];
    TSC_ADJUST = SevenEbx 1, "tsc-adjust", [TSC MSR];
    BMI1 = SevenEbx 3, "bmi1", [];
    AVX2 = SevenEbx 5, "avx2", [AVX];
    FDP_EXCEPTION_ONLY = SevenEbx 6, "fdp-excptn-only", [FPU];
    SMEP = SevenEbx 7, "smep", [];
    BMI2 = SevenEbx 8, "bmi2", [];
    ERMS = SevenEbx 9, "erms", [];
    INVPCID = SevenEbx 10, "invpcid", [];
    NO_FCS_FDS = SevenEbx 13, "zero-fcs-fds", [FPU];
    AVX512F = SevenEbx 16, "avx512f", [AVX2 FMA], 0b1110_0000;
    AVX512DQ = SevenEbx 17, "avx512dq", [AVX512F];
    RDSEED = SevenEbx 18, "rdseed", [];
    ADX = SevenEbx 19, "adx", [];
    SMAP = SevenEbx 20, "smap", [];
    AVX512_IFMA = SevenEbx 21, "avx512-ifma", [AVX512F];
    CLFLUSHOPT = SevenEbx 23, "clflushopt", [CLFLUSH];
    CLWB = SevenEbx 24, "clwb", [CLFLUSH];
    AVX512CD = SevenEbx 28, "avx512cd", [AVX512F];
    SHA = SevenEbx 29, "sha", [SSSE3];
    AVX512BW = SevenEbx 30, "avx512bw", [AVX512F];
    AVX512VL = SevenEbx 31, "avx512vl", [AVX512F];
    AVX512_VBMI = SevenEcx 1, "avx512-vbmi", [AVX512BW];
    UMIP = SevenEcx 2, "umip", [];
    PKU = SevenEcx 3, "pku", [XSAVE LONG_MODE], 0b10_0000_0000;
    AVX512_VBMI2 = SevenEcx 6, "avx512-vbmi2", [AVX512BW];
    GFNI = SevenEcx 8, "gfni", [SSE2];
    VAES = SevenEcx 9, "vaes", [AVX AES];
    VPCLMULQDQ = SevenEcx 10, "vpclmulqdq", [AVX PCLMULQDQ];
    AVX512_VNNI = SevenEcx 11, "avx512-vnni", [AVX512F];
    AVX512_BITALG = SevenEcx 12, "avx512-bitalg", [AVX512BW];
    AVX512_VPOPCNTDQ = SevenEcx 14, "avx512-vpopcntdq", [AVX512F];
    RDPID = SevenEcx 22, "rdpid", [RDTSCP];
    FSRM = SevenEdx 4, "fsrm", [ERMS];
    MD_CLEAR = SevenEdx 10, "md-clear", [];
    ARCH_CAPABILITIES = SevenEdx 29, "arch-capabilities", [MSR];
    XSAVEOPT = XsaveEax 0, "xsaveopt", [XSAVE];
    XSAVEC = XsaveEax 1, "xsavec", [XSAVE];
    XGETBV1 = XsaveEax 2, "xgetbv1", [XSAVE];
    XSAVES = XsaveEax 3, "xsaves", [XSAVEC];
    LAHF = ExtendedEcx 0, "lahf", [];
    LZCNT = ExtendedEcx 5, "lzcnt", [];
    PREFETCHW = ExtendedEcx 8, "prefetchw", [];
    SYSCALL = ExtendedEdx 11, "syscall", [LONG_MODE];
    NX = ExtendedEdx 20, "nx", [PAE];
    GIB_PAGES = ExtendedEdx 26, "pdpe1gb", [LONG_MODE];
    RDTSCP = ExtendedEdx 27, "rdtscp", [TSC MSR];
    LONG_MODE = ExtendedEdx 29, "lm", [PAE MSR];
}

/// A set of features.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Flags([u32; WORDS]);

impl Flags {
    /// What of the host's features may be offered.
    pub(super) fn of_host(host: &dyn Fn(u32, u32) -> Leaf) -> Self {
        let mut flags = Self(ALL_WORDS.map(|word| word.of_host(host)));
        for (flags, known) in flags.0.iter_mut().zip(Self::of(FEATURES.iter().map(|feature| feature.flag)).0)
        {
            *flags &= known;
        }
        flags
    }

    /// These features.
    pub(super) fn of(flags: impl IntoIterator<Item = Flag>) -> Self {
        let mut set = Self([0; WORDS]);
        flags.into_iter().for_each(|flag| set.insert(flag));
        set
    }

    pub(super) const fn word(&self, word: Word) -> u32 {
        self.0[word as usize]
    }

    pub(super) const fn has(&self, Flag(word, bit): Flag) -> bool {
        self.word(word) & 1 << bit != 0
    }

    pub(super) const fn insert(&mut self, Flag(word, bit): Flag) {
        self.0[word as usize] |= 1 << bit;
    }

    pub(super) const fn remove(&mut self, Flag(word, bit): Flag) {
        self.0[word as usize] &= !(1 << bit);
    }

    /// The features in this set that are not in `other`.
    pub(super) fn missing_in(self, other: Self) -> impl Iterator<Item = &'static Feature> {
        FEATURES.iter().filter(move |feature| self.has(feature.flag) && !other.has(feature.flag))
    }

    /// The features in this set that need one that is not, or state that a guest of `xcr0_allowed` cannot enable.
    pub(super) fn unfounded(self, xcr0_allowed: u64) -> impl Iterator<Item = &'static Feature> {
        FEATURES.iter().filter(move |feature| {
            self.has(feature.flag)
                && (feature.state & !xcr0_allowed != 0 || feature.needs.iter().any(|need| !self.has(*need)))
        })
    }

    /// Takes out what has nothing to stand on.
    pub(super) fn close(&mut self, xcr0_allowed: u64) {
        // Each round but the last takes out at least one.
        while let Some(feature) = self.unfounded(xcr0_allowed).next() {
            self.remove(feature.flag);
        }
    }

    /// The state components, as bits of XCR0, that these features keep registers in.
    pub(super) fn state(&self) -> u64 {
        FEATURES
            .iter()
            .filter(|feature| self.has(feature.flag))
            .fold(0, |state, feature| state | feature.state)
    }
}
