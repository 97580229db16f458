//! VMCS fields, typed by width and by who may write them.
//!
//! SDM Vol. 3D, "Field Encoding in VMCS". Sensitivity, not the manual's grouping, decides the kind: what could
//! reach host memory or host state is for the hardware layer alone.

use core::marker::PhantomData;

/// Written by safe code: guest state, and controls that only change what the guest sees.
#[derive(Debug)]
pub enum Guest {}
/// Written by the hardware layer alone: host state, execution controls, physical addresses.
#[derive(Debug)]
pub enum Sensitive {}
/// Written by the processor alone.
#[derive(Debug)]
pub enum ReadOnly {}

/// The width of a VMCS field.
pub trait FieldWidth: Copy {
    /// The low bits of a VMREAD result, as this width.
    fn from_raw(raw: u64) -> Self;
    /// The value for VMWRITE.
    fn to_raw(self) -> u64;
}

macro_rules! width {
    ($type:ty) => {
        impl FieldWidth for $type {
            #[inline]
            #[expect(
                clippy::cast_possible_truncation,
                reason = "VMREAD of a field clears the bits above its width"
            )]
            fn from_raw(raw: u64) -> Self {
                raw as Self
            }

            #[inline]
            fn to_raw(self) -> u64 {
                u64::from(self)
            }
        }
    };
}
width!(u16);
width!(u32);

impl FieldWidth for u64 {
    #[inline]
    fn from_raw(raw: u64) -> Self {
        raw
    }

    #[inline]
    fn to_raw(self) -> u64 {
        self
    }
}

/// A VMCS field of kind `K` and width `W`.
#[derive(Debug)]
pub struct Field<K, W> {
    encoding: u32,
    marker: PhantomData<(K, W)>,
}

impl<K, W> Clone for Field<K, W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, W> Copy for Field<K, W> {}

impl<K, W: FieldWidth> Field<K, W> {
    const fn new(encoding: u32) -> Self {
        // Bits 14:13 of an encoding are its width: 0 16-bit, 1 64-bit, 2 32-bit, 3 natural.
        let bytes = match encoding >> 13 & 3 {
            0 => 2,
            2 => 4,
            _ => 8,
        };
        assert!(size_of::<W>() == bytes, "the encoding says another width");
        Self { encoding, marker: PhantomData }
    }

    /// The field's encoding.
    #[inline]
    pub const fn encoding(self) -> u32 {
        self.encoding
    }
}

macro_rules! fields {
    ($($name:ident: $kind:ident, $width:ty = $encoding:expr, $doc:expr;)*) => {
        $(#[doc = $doc] pub const $name: Field<$kind, $width> = Field::new($encoding);)*
        /// Every field by name, for dumps.
        pub const ALL: &[(&str, u32)] = &[$((stringify!($name), $encoding)),*];
    };
}

fields! {
    VPID: Sensitive, u16 = 0x0000, "Virtual-processor identifier.";
    GUEST_ES_SELECTOR: Guest, u16 = 0x0800, "Guest ES selector; CS, SS, DS, FS, GS, LDTR, TR follow at steps of 2.";
    GUEST_CS_SELECTOR: Guest, u16 = 0x0802, "Guest CS selector.";
    GUEST_SS_SELECTOR: Guest, u16 = 0x0804, "Guest SS selector.";
    GUEST_DS_SELECTOR: Guest, u16 = 0x0806, "Guest DS selector.";
    GUEST_FS_SELECTOR: Guest, u16 = 0x0808, "Guest FS selector.";
    GUEST_GS_SELECTOR: Guest, u16 = 0x080a, "Guest GS selector.";
    GUEST_LDTR_SELECTOR: Guest, u16 = 0x080c, "Guest LDTR selector.";
    GUEST_TR_SELECTOR: Guest, u16 = 0x080e, "Guest TR selector.";
    HOST_ES_SELECTOR: Sensitive, u16 = 0x0c00, "Host ES selector.";
    HOST_CS_SELECTOR: Sensitive, u16 = 0x0c02, "Host CS selector.";
    HOST_SS_SELECTOR: Sensitive, u16 = 0x0c04, "Host SS selector.";
    HOST_DS_SELECTOR: Sensitive, u16 = 0x0c06, "Host DS selector.";
    HOST_FS_SELECTOR: Sensitive, u16 = 0x0c08, "Host FS selector.";
    HOST_GS_SELECTOR: Sensitive, u16 = 0x0c0a, "Host GS selector.";
    HOST_TR_SELECTOR: Sensitive, u16 = 0x0c0c, "Host TR selector.";
    IO_BITMAP_A: Sensitive, u64 = 0x2000, "HPA of the bitmap for ports 0 to 0x7fff.";
    IO_BITMAP_B: Sensitive, u64 = 0x2002, "HPA of the bitmap for ports 0x8000 to 0xffff.";
    MSR_BITMAP: Sensitive, u64 = 0x2004, "HPA of the MSR bitmap.";
    VM_EXIT_MSR_STORE_ADDRESS: Sensitive, u64 = 0x2006, "HPA of the exit MSR-store area.";
    VM_EXIT_MSR_LOAD_ADDRESS: Sensitive, u64 = 0x2008, "HPA of the exit MSR-load area.";
    VM_ENTRY_MSR_LOAD_ADDRESS: Sensitive, u64 = 0x200a, "HPA of the entry MSR-load area.";
    TSC_OFFSET: Guest, u64 = 0x2010, "Added to the TSC that the guest reads.";
    VIRTUAL_APIC_ADDRESS: Sensitive, u64 = 0x2012, "HPA of the virtual-APIC page.";
    EPT_POINTER: Sensitive, u64 = 0x201a, "EPTP.";
    XSS_EXITING_BITMAP: Guest, u64 = 0x202c, "Components of XSS whose use by XSAVES exits.";
    GUEST_PHYSICAL_ADDRESS: ReadOnly, u64 = 0x2400, "GPA of an EPT violation or misconfiguration.";
    VMCS_LINK_POINTER: Sensitive, u64 = 0x2800, "Link pointer; guest state by the manual, an HPA in effect.";
    GUEST_DEBUGCTL: Guest, u64 = 0x2802, "Guest IA32_DEBUGCTL.";
    GUEST_PAT: Guest, u64 = 0x2804, "Guest IA32_PAT.";
    GUEST_EFER: Guest, u64 = 0x2806, "Guest IA32_EFER.";
    GUEST_PDPTE0: Guest, u64 = 0x280a, "Guest PDPTE 0; 1 to 3 follow at steps of 2.";
    GUEST_PDPTE1: Guest, u64 = 0x280c, "Guest PDPTE 1.";
    GUEST_PDPTE2: Guest, u64 = 0x280e, "Guest PDPTE 2.";
    GUEST_PDPTE3: Guest, u64 = 0x2810, "Guest PDPTE 3.";
    HOST_PAT: Sensitive, u64 = 0x2c00, "Host IA32_PAT.";
    HOST_EFER: Sensitive, u64 = 0x2c02, "Host IA32_EFER.";
    PIN_BASED_CONTROLS: Sensitive, u32 = 0x4000, "Pin-based VM-execution controls.";
    PROCESSOR_BASED_CONTROLS: Sensitive, u32 = 0x4002, "Primary processor-based VM-execution controls.";
    EXCEPTION_BITMAP: Guest, u32 = 0x4004, "Exceptions that exit.";
    PAGE_FAULT_ERROR_CODE_MASK: Guest, u32 = 0x4006, "Page-fault error-code mask.";
    PAGE_FAULT_ERROR_CODE_MATCH: Guest, u32 = 0x4008, "Page-fault error-code match.";
    CR3_TARGET_COUNT: Guest, u32 = 0x400a, "CR3-target count.";
    VM_EXIT_CONTROLS: Sensitive, u32 = 0x400c, "VM-exit controls.";
    VM_EXIT_MSR_STORE_COUNT: Sensitive, u32 = 0x400e, "Exit MSR-store count.";
    VM_EXIT_MSR_LOAD_COUNT: Sensitive, u32 = 0x4010, "Exit MSR-load count.";
    VM_ENTRY_CONTROLS: Sensitive, u32 = 0x4012, "VM-entry controls.";
    VM_ENTRY_MSR_LOAD_COUNT: Sensitive, u32 = 0x4014, "Entry MSR-load count.";
    VM_ENTRY_INTERRUPTION_INFO: Guest, u32 = 0x4016, "Event to deliver on entry.";
    VM_ENTRY_EXCEPTION_ERROR_CODE: Guest, u32 = 0x4018, "Error code of that event.";
    VM_ENTRY_INSTRUCTION_LENGTH: Guest, u32 = 0x401a, "Instruction length of that event, bytes.";
    TPR_THRESHOLD: Guest, u32 = 0x401c, "TPR threshold.";
    SECONDARY_CONTROLS: Sensitive, u32 = 0x401e, "Secondary processor-based VM-execution controls.";
    VM_INSTRUCTION_ERROR: ReadOnly, u32 = 0x4400, "VM-instruction error.";
    EXIT_REASON: ReadOnly, u32 = 0x4402, "Exit reason.";
    EXIT_INTERRUPTION_INFO: ReadOnly, u32 = 0x4404, "VM-exit interruption information.";
    EXIT_INTERRUPTION_ERROR_CODE: ReadOnly, u32 = 0x4406, "VM-exit interruption error code.";
    IDT_VECTORING_INFO: ReadOnly, u32 = 0x4408, "Event whose delivery the exit cut off.";
    IDT_VECTORING_ERROR_CODE: ReadOnly, u32 = 0x440a, "Error code of that event.";
    EXIT_INSTRUCTION_LENGTH: ReadOnly, u32 = 0x440c, "Length of the instruction that exited, bytes.";
    EXIT_INSTRUCTION_INFO: ReadOnly, u32 = 0x440e, "Operands of the instruction that exited.";
    GUEST_ES_LIMIT: Guest, u32 = 0x4800, "Guest ES limit, bytes; the others follow at steps of 2.";
    GUEST_CS_LIMIT: Guest, u32 = 0x4802, "Guest CS limit.";
    GUEST_SS_LIMIT: Guest, u32 = 0x4804, "Guest SS limit.";
    GUEST_DS_LIMIT: Guest, u32 = 0x4806, "Guest DS limit.";
    GUEST_FS_LIMIT: Guest, u32 = 0x4808, "Guest FS limit.";
    GUEST_GS_LIMIT: Guest, u32 = 0x480a, "Guest GS limit.";
    GUEST_LDTR_LIMIT: Guest, u32 = 0x480c, "Guest LDTR limit.";
    GUEST_TR_LIMIT: Guest, u32 = 0x480e, "Guest TR limit.";
    GUEST_GDTR_LIMIT: Guest, u32 = 0x4810, "Guest GDTR limit.";
    GUEST_IDTR_LIMIT: Guest, u32 = 0x4812, "Guest IDTR limit.";
    GUEST_ES_ACCESS_RIGHTS: Guest, u32 = 0x4814, "Guest ES access rights; the others follow at steps of 2.";
    GUEST_CS_ACCESS_RIGHTS: Guest, u32 = 0x4816, "Guest CS access rights.";
    GUEST_SS_ACCESS_RIGHTS: Guest, u32 = 0x4818, "Guest SS access rights.";
    GUEST_DS_ACCESS_RIGHTS: Guest, u32 = 0x481a, "Guest DS access rights.";
    GUEST_FS_ACCESS_RIGHTS: Guest, u32 = 0x481c, "Guest FS access rights.";
    GUEST_GS_ACCESS_RIGHTS: Guest, u32 = 0x481e, "Guest GS access rights.";
    GUEST_LDTR_ACCESS_RIGHTS: Guest, u32 = 0x4820, "Guest LDTR access rights.";
    GUEST_TR_ACCESS_RIGHTS: Guest, u32 = 0x4822, "Guest TR access rights.";
    GUEST_INTERRUPTIBILITY: Guest, u32 = 0x4824, "Guest interruptibility state.";
    GUEST_ACTIVITY: Guest, u32 = 0x4826, "Guest activity state.";
    GUEST_SYSENTER_CS: Guest, u32 = 0x482a, "Guest IA32_SYSENTER_CS.";
    PREEMPTION_TIMER: Guest, u32 = 0x482e, "VMX-preemption timer value.";
    HOST_SYSENTER_CS: Sensitive, u32 = 0x4c00, "Host IA32_SYSENTER_CS.";
    CR0_MASK: Guest, u64 = 0x6000, "CR0 bits that the host owns.";
    CR4_MASK: Guest, u64 = 0x6002, "CR4 bits that the host owns.";
    CR0_SHADOW: Guest, u64 = 0x6004, "CR0 bits that the guest reads where the host owns them.";
    CR4_SHADOW: Guest, u64 = 0x6006, "CR4 bits that the guest reads where the host owns them.";
    EXIT_QUALIFICATION: ReadOnly, u64 = 0x6400, "Exit qualification.";
    GUEST_LINEAR_ADDRESS: ReadOnly, u64 = 0x640a, "Linear address of the access that exited.";
    GUEST_CR0: Guest, u64 = 0x6800, "Guest CR0.";
    GUEST_CR3: Guest, u64 = 0x6802, "Guest CR3.";
    GUEST_CR4: Guest, u64 = 0x6804, "Guest CR4.";
    GUEST_ES_BASE: Guest, u64 = 0x6806, "Guest ES base; the others follow at steps of 2.";
    GUEST_CS_BASE: Guest, u64 = 0x6808, "Guest CS base.";
    GUEST_SS_BASE: Guest, u64 = 0x680a, "Guest SS base.";
    GUEST_DS_BASE: Guest, u64 = 0x680c, "Guest DS base.";
    GUEST_FS_BASE: Guest, u64 = 0x680e, "Guest FS base.";
    GUEST_GS_BASE: Guest, u64 = 0x6810, "Guest GS base.";
    GUEST_LDTR_BASE: Guest, u64 = 0x6812, "Guest LDTR base.";
    GUEST_TR_BASE: Guest, u64 = 0x6814, "Guest TR base.";
    GUEST_GDTR_BASE: Guest, u64 = 0x6816, "Guest GDTR base.";
    GUEST_IDTR_BASE: Guest, u64 = 0x6818, "Guest IDTR base.";
    GUEST_DR7: Guest, u64 = 0x681a, "Guest DR7.";
    GUEST_RSP: Guest, u64 = 0x681c, "Guest RSP.";
    GUEST_RIP: Guest, u64 = 0x681e, "Guest RIP.";
    GUEST_RFLAGS: Guest, u64 = 0x6820, "Guest RFLAGS.";
    GUEST_PENDING_DEBUG_EXCEPTIONS: Guest, u64 = 0x6822, "Guest pending debug exceptions.";
    GUEST_SYSENTER_ESP: Guest, u64 = 0x6824, "Guest IA32_SYSENTER_ESP.";
    GUEST_SYSENTER_EIP: Guest, u64 = 0x6826, "Guest IA32_SYSENTER_EIP.";
    HOST_CR0: Sensitive, u64 = 0x6c00, "Host CR0.";
    HOST_CR3: Sensitive, u64 = 0x6c02, "Host CR3.";
    HOST_CR4: Sensitive, u64 = 0x6c04, "Host CR4.";
    HOST_FS_BASE: Sensitive, u64 = 0x6c06, "Host FS base.";
    HOST_GS_BASE: Sensitive, u64 = 0x6c08, "Host GS base.";
    HOST_TR_BASE: Sensitive, u64 = 0x6c0a, "Host TR base.";
    HOST_GDTR_BASE: Sensitive, u64 = 0x6c0c, "Host GDTR base.";
    HOST_IDTR_BASE: Sensitive, u64 = 0x6c0e, "Host IDTR base.";
    HOST_SYSENTER_ESP: Sensitive, u64 = 0x6c10, "Host IA32_SYSENTER_ESP.";
    HOST_SYSENTER_EIP: Sensitive, u64 = 0x6c12, "Host IA32_SYSENTER_EIP.";
    HOST_RSP: Sensitive, u64 = 0x6c14, "Host RSP.";
    HOST_RIP: Sensitive, u64 = 0x6c16, "Host RIP.";
}

macro_rules! optional_fields {
    ($($name:ident: $kind:ident, $width:ty = $encoding:expr, $doc:expr;)*) => {
        $(#[doc = $doc] pub const $name: Field<$kind, $width> = Field::new($encoding);)*
    };
}

// Fields of features that a processor may lack: read only where the control that they belong to is set, and not in
// `ALL`, as VMREAD of a field that does not exist fails.
optional_fields! {
    GUEST_INTERRUPT_STATUS: Guest, u16 = 0x0810, "Requesting virtual interrupt (7:0) and servicing one (15:8).";
    EOI_EXIT_BITMAP0: Guest, u64 = 0x201c, "Vectors 0 to 63 whose EOI exits; 1 to 3 follow at steps of 2.";
    EOI_EXIT_BITMAP1: Guest, u64 = 0x201e, "Vectors 64 to 127 whose EOI exits.";
    EOI_EXIT_BITMAP2: Guest, u64 = 0x2020, "Vectors 128 to 191 whose EOI exits.";
    EOI_EXIT_BITMAP3: Guest, u64 = 0x2022, "Vectors 192 to 255 whose EOI exits.";
    POSTED_INTERRUPT_VECTOR: Sensitive, u16 = 0x0002, "Posted-interrupt notification vector.";
    PML_ADDRESS: Sensitive, u64 = 0x200e, "HPA of the page-modification log.";
    APIC_ACCESS_ADDRESS: Sensitive, u64 = 0x2014, "HPA of the APIC-access page.";
    POSTED_INTERRUPT_DESCRIPTOR: Sensitive, u64 = 0x2016, "HPA of the posted-interrupt descriptor.";
    VM_FUNCTION_CONTROLS: Sensitive, u64 = 0x2018, "VM-function controls.";
    EPTP_LIST_ADDRESS: Sensitive, u64 = 0x2024, "HPA of the EPTP list.";
    VMREAD_BITMAP: Sensitive, u64 = 0x2026, "HPA of the VMREAD bitmap.";
    VMWRITE_BITMAP: Sensitive, u64 = 0x2028, "HPA of the VMWRITE bitmap.";
    VIRTUALIZATION_EXCEPTION_INFO: Sensitive, u64 = 0x202a, "HPA of the virtualization-exception information.";
    SUB_PAGE_PERMISSION_POINTER: Sensitive, u64 = 0x2030, "Sub-page-permission-table pointer.";
    TSC_MULTIPLIER: Guest, u64 = 0x2032, "Multiplies the TSC that the guest reads, in units of 2^-48.";
    GUEST_BNDCFGS: Guest, u64 = 0x2812, "Guest IA32_BNDCFGS.";
    GUEST_PKRS: Guest, u64 = 0x2818, "Guest IA32_PKRS.";
    HOST_PKRS: Sensitive, u64 = 0x2c06, "Host IA32_PKRS.";
    GUEST_S_CET: Guest, u64 = 0x6828, "Guest IA32_S_CET.";
    GUEST_SSP: Guest, u64 = 0x682a, "Guest SSP.";
    GUEST_INTERRUPT_SSP_TABLE: Guest, u64 = 0x682c, "Guest IA32_INTERRUPT_SSP_TABLE_ADDR.";
    HOST_S_CET: Sensitive, u64 = 0x6c18, "Host IA32_S_CET.";
    HOST_SSP: Sensitive, u64 = 0x6c1a, "Host SSP.";
    HOST_INTERRUPT_SSP_TABLE: Sensitive, u64 = 0x6c1c, "Host IA32_INTERRUPT_SSP_TABLE_ADDR.";
}

/// The fields of one guest segment register, by its place in `SegmentRegister::ALL`.
#[derive(Debug)]
pub struct SegmentFields {
    /// Selector.
    pub selector: Field<Guest, u16>,
    /// Limit, bytes.
    pub limit: Field<Guest, u32>,
    /// Access rights.
    pub access_rights: Field<Guest, u32>,
    /// Base.
    pub base: Field<Guest, u64>,
}

/// The segment fields, in the order of `arch::SegmentRegister::ALL`.
pub const SEGMENTS: [SegmentFields; 8] =
    [segment(0), segment(1), segment(2), segment(3), segment(4), segment(5), segment(6), segment(7)];

const fn segment(index: u32) -> SegmentFields {
    let step = index * 2;
    SegmentFields {
        selector: Field::new(GUEST_ES_SELECTOR.encoding() + step),
        limit: Field::new(GUEST_ES_LIMIT.encoding() + step),
        access_rights: Field::new(GUEST_ES_ACCESS_RIGHTS.encoding() + step),
        base: Field::new(GUEST_ES_BASE.encoding() + step),
    }
}
