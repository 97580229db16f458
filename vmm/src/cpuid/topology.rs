//! How a virtual machine's processors share: one package of cores with one thread each.
//!
//! SDM Vol. 2A, "CPUID—CPU Identification", leaves 01H, 04H, 0BH and 1FH; Vol. 3A, "Hierarchical Mapping of CPUID
//! Extended Topology Leaf". The vCPUs' APIC IDs count from 0, so that the low bits of an ID are the core's number and
//! nothing is above them. Threads are not offered: which vCPUs share a host core changes as they are scheduled.

use super::Leaf;

/// Cache level from which on the cores of a package share: the one that Intel's processors call the last level.
const SHARED_CACHE_LEVEL: u32 = 3;
/// The largest values of the fields that hold a count less one. CPUID.4:EAX[25:14] and EAX[31:26].
const MOST_SHARING: u32 = (1 << 12) - 1;
const MOST_CORES: u32 = (1 << 6) - 1;
/// Domain types of leaves 0xB and 0x1F, in ECX[15:8].
const DOMAIN_LOGICAL_PROCESSOR: u32 = 1;
const DOMAIN_CORE: u32 = 2;

/// The package of a virtual machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Package {
    cores: u32,
}

impl Package {
    /// A package with a core for each of `vcpus`, at least one.
    pub(super) fn new(vcpus: u8) -> Self {
        Self { cores: u32::from(vcpus.max(1)) }
    }

    /// Whether the package has several logical processors, CPUID.1:EDX.HTT.
    pub(super) const fn is_shared(self) -> bool {
        self.cores > 1
    }

    /// How many APIC IDs are set aside for the package: a power of two.
    pub(super) const fn addressable_ids(self) -> u32 {
        self.cores.next_power_of_two()
    }

    /// Leaf 4's `host` cache as the package has it: the last level is of all cores, the others are of one.
    pub(super) fn cache(self, host: Leaf) -> Leaf {
        let ids = self.addressable_ids() - 1;
        let level = host.eax >> 5 & 0b111;
        let sharing = if level >= SHARED_CACHE_LEVEL { ids.min(MOST_SHARING) } else { 0 };
        Leaf { eax: host.eax & 0x3fff | sharing << 14 | ids.min(MOST_CORES) << 26, ..host }
    }

    /// The domains of leaves 0xB and 0x1F for the processor with `apic_id`: threads of a core, cores of the package.
    pub(super) fn domains(self, apic_id: u32) -> [Leaf; 2] {
        let id_bits = self.addressable_ids().trailing_zeros();
        [
            Leaf::new(0, 1, DOMAIN_LOGICAL_PROCESSOR << 8, apic_id),
            Leaf::new(id_bits, self.cores, 1 | DOMAIN_CORE << 8, apic_id),
        ]
    }
}
