//! The CPUID policy: one consistent table a virtual machine, made once from the host's leaves or from a model.
//!
//! SDM Vol. 2A, "CPUID—CPU Identification"; the 0x4000_0000 leaves as Linux documents them in "KVM CPUID bits".

mod flags;
mod model;
#[cfg(test)]
mod tests;
mod topology;

use alloc::vec::Vec;
use arch::{Cr4Flags, Gpr, Gprs};
use flags::{Flags, Word};
use model::Fixed;
pub use model::{CpuModel, CpuModelMissing};
use topology::Package;

/// The four registers that CPUID returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Leaf {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

impl Leaf {
    const fn new(eax: u32, ebx: u32, ecx: u32, edx: u32) -> Self {
        Self { eax, ebx, ecx, edx }
    }
}

/// What the policy depends on beside the host's leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuidConfig {
    /// Which processor the guest sees.
    pub model: CpuModel,
    /// Frequency of the guest's TSC.
    pub tsc_hz: u64,
    /// The state components that a guest may enable in XCR0.
    pub xcr0_allowed: u64,
    /// RDTSCP and RDPID run natively (VMCS control "enable RDTSCP").
    pub rdtscp: bool,
    /// INVPCID runs natively (VMCS control "enable INVPCID").
    pub invpcid: bool,
    /// XSAVES and XRSTORS run natively (VMCS control "enable XSAVES/XRSTORS").
    pub xsaves: bool,
    /// How many vCPUs the machine has, from 1 to 64. They are one package of cores with one thread each.
    pub vcpus: u8,
    /// The APIC ID of this vCPU, less than `vcpus`.
    pub apic_id: u32,
    /// The host's IA32_ARCH_CAPABILITIES, `None` where it has none.
    pub arch_capabilities: Option<u64>,
    /// Leaf 0x4000_0001, EAX: the paravirtual features that are served, beside those that need no service.
    pub paravirt_features: u32,
}

/// Last basic leaf that is offered.
const LAST_BASIC: u32 = 0x1f;
/// Last extended leaf that is offered.
const LAST_EXTENDED: u32 = 0x8000_0008;
/// The width of linear addresses: 57-bit ones are not offered.
const LINEAR_ADDRESS_BITS: u32 = 48;
/// First hypervisor leaf.
const HYPERVISOR: u32 = 0x4000_0000;
/// Leaf with the XSAVE areas.
const XSAVE_LEAF: u32 = 0xd;

/// The KVM paravirtual interface's signature. It is what lets Linux use the x2APIC without interrupt remapping;
/// feature bits are offered only for what exists (ADR 0004).
const KVM_SIGNATURE: Leaf = Leaf::new(HYPERVISOR + 1, 0x4b4d_564b, 0x564b_4d56, 0x4d);
/// KVM_FEATURE_NOP_IO_DELAY: port 0x80 needs no delay writes.
const KVM_FEATURE_NOP_IO_DELAY: u32 = 1 << 1;

/// CPUID.(0DH,1):EAX: XSAVEC and XSAVES, which write the compacted format.
const XSAVEC: u32 = 1 << 1;
const XSAVES: u32 = 1 << 3;
/// CPUID.1:ECX.OSXSAVE and CPUID.(7,0):ECX.OSPKE, which mirror CR4.
const OSXSAVE: u32 = 1 << 27;
const OSPKE: u32 = 1 << 4;
/// CPUID.1:EDX.APIC, which mirrors IA32_APIC_BASE.
const APIC: u32 = 1 << 9;
/// CPUID.1:EDX.HTT: the package has several logical processors.
const HTT: u32 = 1 << 28;
/// Where the XSAVE area's components begin.
const XSAVE_FIXED_BYTES: u32 = 576;
/// What of IA32_ARCH_CAPABILITIES says that the processor is not affected by something, and needs neither a register nor an
/// instruction of which the guest has none: RDCL_NO, RSBA, SSB_NO, MDS_NO, IF_PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO,
/// FBSDP_NO, PSDP_NO, RRSBA, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO. Not IBRS_ALL: IA32_SPEC_CTRL is not offered.
const ARCH_CAPABILITIES: u64 = 1
    | 1 << 2
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 8
    | 1 << 13
    | 1 << 14
    | 1 << 15
    | 1 << 19
    | 1 << 20
    | 1 << 24
    | 1 << 26
    | 1 << 27;
/// FB_CLEAR and RFDS_CLEAR: VERW does more where CPUID reports MD_CLEAR.
const VERW_CLEARS: u64 = 1 << 17 | 1 << 28;

/// One component of the XSAVE area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Component {
    number: u32,
    size: u32,
    offset: u32,
    aligned: bool,
}

/// The table from which CPUID is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CpuidPolicy {
    basic: [Leaf; LAST_BASIC as usize + 1],
    extended: [Leaf; 9],
    hypervisor: [Leaf; 2],
    cache: Vec<Leaf>,
    topology: [Leaf; 2],
    xsave: Vec<Leaf>,
    components: Vec<Component>,
    flags: Flags,
    xcr0_allowed: u64,
    arch_capabilities: Option<u64>,
}

/// What of a processor's state CPUID mirrors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuidContext {
    /// The guest's CR4.
    pub cr4: Cr4Flags,
    /// The guest's XCR0.
    pub xcr0: u64,
    /// IA32_APIC_BASE has the local APIC enabled.
    pub apic_enabled: bool,
}

impl CpuidPolicy {
    /// Makes the table of `config`'s model, or from the host's leaves, which `host` reads.
    ///
    /// # Errors
    /// [`CpuModelMissing`] when the host lacks something of the model.
    pub fn new(host: &dyn Fn(u32, u32) -> Leaf, config: &CpuidConfig) -> Result<Self, CpuModelMissing> {
        let package = Package::new(config.vcpus);
        let fixed = config.model.fixed();
        let mut flags = offered(host, config);
        let arch_capabilities = match &fixed {
            Some(fixed) => {
                check(host, config.model, fixed, &flags)?;
                flags = fixed.flags;
                None
            }
            None => arch_capabilities(config, &mut flags),
        };
        let mut policy = Self {
            basic: [Leaf::default(); LAST_BASIC as usize + 1],
            extended: [Leaf::default(); 9],
            hypervisor: [
                KVM_SIGNATURE,
                // No hints: a core of its own can be taken from a vCPU at run time, so KVM_HINTS_REALTIME is never true.
                Leaf::new(KVM_FEATURE_NOP_IO_DELAY | config.paravirt_features, 0, 0, 0),
            ],
            cache: Vec::new(),
            topology: package.domains(config.apic_id),
            xsave: Vec::new(),
            components: Vec::new(),
            flags,
            xcr0_allowed: config.xcr0_allowed & flags.state(),
            arch_capabilities,
        };
        policy.fill_basic(host, config, package, fixed.as_ref());
        policy.fill_extended(host, fixed.as_ref());
        policy.fill_xsave(host, config.model);
        Ok(policy)
    }

    /// The same machine's table for the vCPU with `apic_id`. Tables that are derived from one agree in all but the
    /// ID, whichever core of the host they are made on.
    #[must_use]
    pub fn for_vcpu(&self, apic_id: u32) -> Self {
        let mut policy = self.clone();
        policy.basic[1].ebx = policy.basic[1].ebx & 0xff_ffff | apic_id << 24;
        for domain in &mut policy.topology {
            domain.edx = apic_id;
        }
        policy
    }

    fn fill_basic(
        &mut self,
        host: &dyn Fn(u32, u32) -> Leaf,
        config: &CpuidConfig,
        package: Package,
        fixed: Option<&Fixed>,
    ) {
        // Every host with VT-x has this vendor, so every model has it.
        self.basic[0] = Leaf { eax: LAST_BASIC, ..host(0, 0) };

        let one = host(1, 0);
        let (signature, flush_size) =
            fixed.map_or((one.eax, one.ebx & 0xff00), |fixed| (fixed.signature, 0x0800));
        // EBX: APIC ID's low byte, APIC IDs of the package, CLFLUSH size, no brand index.
        let ebx = config.apic_id << 24 | package.addressable_ids().min(0xff) << 16 | flush_size;
        let htt = if package.is_shared() { HTT } else { 0 };
        self.basic[1] = Leaf {
            eax: signature,
            ebx,
            ecx: self.flags.word(Word::OneEcx),
            edx: self.flags.word(Word::OneEdx) | htt,
        };
        // A fixed one has its caches in leaf 4 alone, which descriptor 0xFF says.
        self.basic[2] = if fixed.is_some() { Leaf::new(0xff01, 0, 0, 0) } else { host(2, 0) };

        for subleaf in 0..8 {
            let leaf = match fixed {
                Some(fixed) => fixed.caches.get(subleaf as usize).copied().unwrap_or_default(),
                None => host(4, subleaf),
            };
            if leaf.eax & 0x1f == 0 {
                break;
            }
            self.cache.push(package.cache(leaf));
        }
        // Leaf 6: ARAT alone: the APIC timer keeps running in idle states.
        self.basic[6] = Leaf::new(1 << 2, 0, 0, 0);
        self.basic[7] = Leaf::new(
            0,
            self.flags.word(Word::SevenEbx),
            self.flags.word(Word::SevenEcx),
            self.flags.word(Word::SevenEdx),
        );
        self.basic[0x15] = tsc_leaf(config.tsc_hz);
        let mhz = u32::try_from((config.tsc_hz + 500_000) / 1_000_000).unwrap_or(u32::MAX).min(0xffff);
        self.basic[0x16] = Leaf::new(mhz, mhz, 0, 0);
    }

    fn fill_extended(&mut self, host: &dyn Fn(u32, u32) -> Leaf, fixed: Option<&Fixed>) {
        self.extended[0] = Leaf::new(LAST_EXTENDED, 0, 0, 0);
        let signature = fixed.map_or(host(0x8000_0001, 0).eax, |_| 0);
        self.extended[1] = Leaf {
            eax: signature,
            ebx: 0,
            ecx: self.flags.word(Word::ExtendedEcx),
            edx: self.flags.word(Word::ExtendedEdx),
        };
        let widths = match fixed {
            Some(fixed) => {
                for (leaf, bytes) in self.extended[2..5].iter_mut().zip(fixed.brand.chunks_exact(16)) {
                    *leaf = text(bytes);
                }
                // The second-level cache, as leaf 4 has it: 256 KiB, 8 ways, lines of 64 bytes.
                self.extended[6] = Leaf::new(0, 0, 256 << 16 | 6 << 12 | 64, 0);
                u32::from(fixed.physical_address_bits) | LINEAR_ADDRESS_BITS << 8
            }
            None => {
                for number in 2..=6 {
                    self.extended[number as usize] = host(0x8000_0000 + number, 0);
                }
                host(0x8000_0008, 0).eax & 0xff | LINEAR_ADDRESS_BITS << 8
            }
        };
        // Invariant TSC.
        self.extended[7] = Leaf::new(0, 0, 0, 1 << 8);
        // Address widths; no WBNOINVD. ECX is reserved: only AMD's processors count cores there.
        self.extended[8] = Leaf::new(widths, 0, 0, 0);
    }

    fn fill_xsave(&mut self, host: &dyn Fn(u32, u32) -> Leaf, model: CpuModel) {
        if self.xcr0_allowed == 0 {
            return;
        }
        for number in 2..63_u32 {
            if self.xcr0_allowed & (1 << number) == 0 {
                continue;
            }
            let component = match model {
                // All processors have the one component of these models in the same place.
                CpuModel::V2 | CpuModel::V3 => {
                    Component { number, size: 256, offset: XSAVE_FIXED_BYTES, aligned: false }
                }
                CpuModel::Host => {
                    let leaf = host(XSAVE_LEAF, number);
                    Component { number, size: leaf.eax, offset: leaf.ebx, aligned: leaf.ecx & 2 != 0 }
                }
            };
            self.components.push(component);
        }
        let halves = self.xcr0_allowed.to_le_bytes();
        let low = u32::from_le_bytes([halves[0], halves[1], halves[2], halves[3]]);
        let high = u32::from_le_bytes([halves[4], halves[5], halves[6], halves[7]]);
        let largest = self.standard_size(self.xcr0_allowed);
        self.xsave.push(Leaf::new(low, 0, largest, high));
        // XSAVEOPT, XSAVEC, XGETBV with ECX=1, XSAVES: with it no component that is a supervisor's.
        self.xsave.push(Leaf::new(self.flags.word(Word::XsaveEax), 0, 0, 0));
        for number in 2..63_u32 {
            let leaf = self
                .components
                .iter()
                .find(|component| component.number == number)
                .map_or(Leaf::default(), |component| {
                    Leaf::new(component.size, component.offset, u32::from(component.aligned) << 1, 0)
                });
            self.xsave.push(leaf);
        }
    }

    /// Size in bytes of the standard-format XSAVE area for `xcr0`.
    fn standard_size(&self, xcr0: u64) -> u32 {
        self.enabled(xcr0)
            .map(|component| component.offset + component.size)
            .fold(XSAVE_FIXED_BYTES, u32::max)
    }

    /// Size in bytes of the compacted XSAVE area for `xcr0`.
    fn compacted_size(&self, xcr0: u64) -> u32 {
        self.enabled(xcr0).fold(XSAVE_FIXED_BYTES, |size, component| {
            let start = if component.aligned { size.next_multiple_of(64) } else { size };
            start + component.size
        })
    }

    fn enabled(&self, xcr0: u64) -> impl Iterator<Item = &Component> {
        self.components.iter().filter(move |component| xcr0 & (1 << component.number) != 0)
    }

    /// Answers CPUID for `leaf` and `subleaf`.
    #[inline]
    pub fn get(&self, leaf: u32, subleaf: u32, context: impl FnOnce() -> CpuidContext) -> Leaf {
        if leaf <= LAST_BASIC {
            match leaf {
                1 | 4 | 7 | 0xb | 0xd | LAST_BASIC => self.get_indexed(leaf, subleaf, &context()),
                _ => self.basic[leaf as usize],
            }
        } else if leaf.wrapping_sub(0x8000_0000) <= 8 {
            self.extended[(leaf - 0x8000_0000) as usize]
        } else if leaf.wrapping_sub(HYPERVISOR) < 2 {
            self.hypervisor[(leaf - HYPERVISOR) as usize]
        } else if leaf.wrapping_sub(HYPERVISOR) < 0x1000_0000 {
            Leaf::default()
        } else {
            // Out of range: the data of the highest basic leaf, as Intel's processors answer.
            self.domain(subleaf)
        }
    }

    fn get_indexed(&self, leaf: u32, subleaf: u32, context: &CpuidContext) -> Leaf {
        match leaf {
            1 => {
                let mut one = self.basic[1];
                if context.cr4.contains(Cr4Flags::OSXSAVE) {
                    one.ecx |= OSXSAVE;
                }
                if !context.apic_enabled {
                    one.edx &= !APIC;
                }
                one
            }
            4 => self.cache.get(subleaf as usize).copied().unwrap_or_default(),
            7 if subleaf == 0 => {
                let mut seven = self.basic[7];
                if context.cr4.contains(Cr4Flags::PROTECTION_KEY_USER) {
                    seven.ecx |= OSPKE;
                }
                seven
            }
            0xb | LAST_BASIC => self.domain(subleaf),
            XSAVE_LEAF => {
                let mut leaf = self.xsave.get(subleaf as usize).copied().unwrap_or_default();
                if subleaf == 0 && !self.xsave.is_empty() {
                    leaf.ebx = self.standard_size(context.xcr0);
                } else if subleaf == 1 && leaf.eax & (XSAVEC | XSAVES) != 0 {
                    leaf.ebx = self.compacted_size(context.xcr0);
                }
                leaf
            }
            _ => Leaf::default(),
        }
    }

    /// A subleaf of leaves 0xB and 0x1F, which are the same. One that is not there has type 0 and the APIC ID still.
    fn domain(&self, subleaf: u32) -> Leaf {
        let absent = Leaf { ecx: subleaf & 0xff, edx: self.topology[0].edx, ..Leaf::default() };
        self.topology.get(subleaf as usize).copied().unwrap_or(absent)
    }

    /// The frequency that leaf 0x15 gives for the crystal, which also clocks the local APIC's timer; Hz.
    pub const fn crystal_hz(&self) -> u64 {
        self.basic[0x15].ecx as u64
    }

    /// The width of physical addresses in bits.
    pub const fn physical_address_bits(&self) -> u8 {
        (self.extended[8].eax & 0xff) as u8
    }

    /// The state components that a guest may enable in XCR0.
    pub const fn xcr0_allowed(&self) -> u64 {
        self.xcr0_allowed
    }

    /// Whether INVPCID is offered.
    pub const fn has_invpcid(&self) -> bool {
        self.flags.has(flags::INVPCID)
    }

    /// Whether XSAVES, XRSTORS and IA32_XSS are offered.
    pub const fn has_xsaves(&self) -> bool {
        self.flags.has(flags::XSAVES)
    }

    /// IA32_ARCH_CAPABILITIES, `None` where the leaves do not report the register.
    pub const fn arch_capabilities(&self) -> Option<u64> {
        self.arch_capabilities
    }

    /// What the leaves say of paging.
    pub fn paging_features(&self) -> emulate::PagingFeatures {
        emulate::PagingFeatures {
            physical_address_bits: self.physical_address_bits(),
            gib_pages: self.flags.has(flags::GIB_PAGES),
        }
    }

    /// CR4 bits that this policy lets a guest set.
    pub fn cr4_allowed(&self) -> Cr4Flags {
        let mut allowed = Cr4Flags::VIRTUAL_8086_MODE_EXTENSIONS
            | Cr4Flags::PROTECTED_MODE_VIRTUAL_INTERRUPTS
            | Cr4Flags::TIMESTAMP_DISABLE
            | Cr4Flags::DEBUGGING_EXTENSIONS
            | Cr4Flags::PAGE_SIZE_EXTENSION
            | Cr4Flags::PHYSICAL_ADDRESS_EXTENSION
            | Cr4Flags::MACHINE_CHECK_EXCEPTION
            | Cr4Flags::PAGE_GLOBAL
            | Cr4Flags::PERFORMANCE_MONITOR_COUNTER
            | Cr4Flags::OSFXSR
            | Cr4Flags::OSXMMEXCPT_ENABLE;
        let offers = [
            (flags::PCID, Cr4Flags::PCID),
            (flags::XSAVE, Cr4Flags::OSXSAVE),
            (flags::FSGSBASE, Cr4Flags::FSGSBASE),
            (flags::SMEP, Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION),
            (flags::SMAP, Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION),
            (flags::UMIP, Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION),
            (flags::PKU, Cr4Flags::PROTECTION_KEY_USER),
        ];
        for (feature, flag) in offers {
            if self.flags.has(feature) {
                allowed |= flag;
            }
        }
        allowed
    }
}

/// What the host has that a guest may be offered, and what is emulated.
fn offered(host: &dyn Fn(u32, u32) -> Leaf, config: &CpuidConfig) -> Flags {
    let mut flags = Flags::of_host(host);
    model::EMULATED.into_iter().for_each(|flag| flags.insert(flag));
    // Processors report it in 64-bit mode alone, which is where every guest can get.
    flags.insert(flags::SYSCALL);
    if !config.invpcid {
        flags.remove(flags::INVPCID);
    }
    if !config.xsaves {
        flags.remove(flags::XSAVES);
    }
    if !config.rdtscp {
        flags.remove(flags::RDTSCP);
    }
    if config.arch_capabilities.is_none() {
        flags.remove(flags::ARCH_CAPABILITIES);
    }
    flags.close(config.xcr0_allowed);
    flags
}

/// Whether the host, which offers `flags`, can be the processor `fixed` of `model`.
fn check(
    host: &dyn Fn(u32, u32) -> Leaf,
    model: CpuModel,
    fixed: &Fixed,
    flags: &Flags,
) -> Result<(), CpuModelMissing> {
    let [width, ..] = host(0x8000_0008, 0).eax.to_le_bytes();
    let missing = CpuModelMissing {
        model,
        features: fixed.flags.missing_in(*flags).map(|feature| feature.name).collect(),
        physical_address_bits: (width < fixed.physical_address_bits).then_some(width),
    };
    if missing.features.is_empty() && missing.physical_address_bits.is_none() { Ok(()) } else { Err(missing) }
}

/// IA32_ARCH_CAPABILITIES as the host's model has it, and the bit that reports it.
fn arch_capabilities(config: &CpuidConfig, flags: &mut Flags) -> Option<u64> {
    let verw = if flags.has(flags::MD_CLEAR) { VERW_CLEARS } else { 0 };
    let value = config.arch_capabilities.map(|host| host & (ARCH_CAPABILITIES | verw));
    if value.is_some() {
        flags.insert(flags::ARCH_CAPABILITIES);
    }
    value
}

/// A leaf of the brand string.
fn text(bytes: &[u8]) -> Leaf {
    let word = |index: usize| {
        let bytes = bytes.get(index * 4..index * 4 + 4).and_then(|four| four.try_into().ok());
        u32::from_le_bytes(bytes.unwrap_or_default())
    };
    Leaf::new(word(0), word(1), word(2), word(3))
}

/// Leaf 0x15 for a TSC of `hz`: the smallest whole ratio whose crystal fits the 32 bits of ECX, so that nothing
/// is lost to rounding at ordinary frequencies.
fn tsc_leaf(hz: u64) -> Leaf {
    let mut ratio = 1_u32;
    while hz / u64::from(ratio) > u64::from(u32::MAX) {
        ratio += 1;
    }
    let crystal = u32::try_from(hz / u64::from(ratio)).unwrap_or(u32::MAX);
    Leaf::new(1, ratio, crystal, 0)
}

impl Leaf {
    /// Puts the leaf into EAX, EBX, ECX and EDX and clears the upper halves, as CPUID does.
    #[inline]
    pub fn store(self, gprs: &mut Gprs) {
        gprs.set(Gpr::Rax, u64::from(self.eax));
        gprs.set(Gpr::Rbx, u64::from(self.ebx));
        gprs.set(Gpr::Rcx, u64::from(self.ecx));
        gprs.set(Gpr::Rdx, u64::from(self.edx));
    }
}
