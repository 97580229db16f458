//! What each CPU has of its own: descriptor tables, stacks, counters. GS points to it while the hypervisor runs.

use alloc::boxed::Box;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arch::Msr;
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, FS, GS, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::registers::segmentation::SegmentSelector;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

use crate::memory::stacks;
use crate::{interrupts, msr};

/// The most CPUs that are used.
pub const MAX_CPUS: usize = 256;

/// Size of each interrupt stack in bytes.
const IST_BYTES: u64 = 16 * 1024;

/// Interrupt-stack-table slots, numbered as in the task-state segment from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Ist {
    /// Double fault: the stack may be gone.
    DoubleFault = 0,
    /// Non-maskable interrupt: it comes at any instruction.
    Nmi = 1,
    /// Machine check.
    MachineCheck = 2,
    /// Page fault: it may be the guard page of the stack in use.
    PageFault = 3,
}

const ISTS: [Ist; 4] = [Ist::DoubleFault, Ist::Nmi, Ist::MachineCheck, Ist::PageFault];

/// The selectors and bases that the VMCS wants as host state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostSegments {
    /// Code segment selector.
    pub cs: u16,
    /// Selector of SS; DS, ES, FS and GS hold zero.
    pub ss: u16,
    /// Task register selector.
    pub tr: u16,
    /// Linear address of the task-state segment.
    pub tr_base: u64,
    /// Linear address of the global descriptor table.
    pub gdtr_base: u64,
    /// Linear address of the interrupt descriptor table.
    pub idtr_base: u64,
    /// GS base: this CPU's [`PerCpu`].
    pub gs_base: u64,
}

/// One CPU's data. Interrupt handlers share it with the code that they interrupt, so what changes is atomic.
#[derive(Debug)]
#[repr(C)]
pub struct PerCpu {
    /// Its own address, at GS:0.
    this: u64,
    /// Dense number, 0 for the CPU that booted.
    pub index: u32,
    /// Local APIC ID.
    pub apic_id: u32,
    /// NMIs taken in the hypervisor.
    pub nmi_count: AtomicU64,
    /// Set by an NMI taken in the hypervisor; whoever runs guests takes it with [`PerCpu::take_nmi`].
    nmi_pending: AtomicBool,
    /// Set by every device interrupt: there may be work.
    pending: AtomicBool,
    /// Device interrupts taken in the hypervisor.
    pub interrupt_count: AtomicU64,
    /// Interrupts that no source claims.
    pub spurious_count: AtomicU64,
    segments: Once<HostSegments>,
}

impl PerCpu {
    /// Whether an NMI came since the last call: it belongs to whoever watches the machine.
    #[inline]
    pub fn take_nmi(&self) -> bool {
        self.nmi_pending.swap(false, Ordering::Relaxed)
    }

    /// Whether a device interrupt came since the last call.
    #[inline]
    pub fn take_pending(&self) -> bool {
        self.pending.swap(false, Ordering::Acquire)
    }

    /// Whether a device interrupt came since the last [`take_pending`](Self::take_pending).
    #[inline]
    pub fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed)
    }

    pub(crate) fn set_pending(&self) {
        self.pending.store(true, Ordering::Release);
    }

    pub(crate) fn count_nmi(&self) {
        self.nmi_count.fetch_add(1, Ordering::Relaxed);
        self.nmi_pending.store(true, Ordering::Relaxed);
    }

    /// This CPU's segments, for the VMCS host state.
    pub fn host_segments(&self) -> HostSegments {
        *self.segments.get().expect("set when the CPU came up")
    }
}

static CPUS: [Once<&'static PerCpu>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];

/// The CPU numbered `index`, if it is up.
pub fn cpu(index: u32) -> Option<&'static PerCpu> {
    CPUS.get(usize::try_from(index).ok()?)?.get().copied()
}

/// The CPUs that are up, in order of their numbers.
pub fn cpus() -> impl Iterator<Item = &'static PerCpu> {
    CPUS.iter().map_while(|slot| slot.get().copied())
}

/// This CPU. Panics before the boot CPU is set up.
#[inline]
pub fn current() -> &'static PerCpu {
    assert!(CPUS[0].is_completed(), "per-CPU data is set up before it is used");
    let this: usize;
    // SAFETY: every CPU loads GS with its `PerCpu` before it runs anything else; the first word is its address.
    unsafe { asm!("mov {}, gs:[0]", out(reg) this, options(nostack, preserves_flags, readonly, pure)) };
    let this: *const PerCpu = core::ptr::with_exposed_provenance(this);
    // SAFETY: a `PerCpu` is never freed, and shared only.
    unsafe { &*this }
}

/// [`current`], or nothing before the boot CPU is set up: for the panic path.
pub fn try_current() -> Option<&'static PerCpu> {
    CPUS[0].is_completed().then(current)
}

/// Gives this CPU its descriptor tables, interrupt stacks and per-CPU data.
///
/// # Safety
/// Must be called once on each CPU, interrupts off, on the kernel's page tables, with `index` unused so far.
pub(crate) unsafe fn init(index: u32, apic_id: u32) {
    let cpu = Box::leak(Box::new(PerCpu {
        this: 0,
        index,
        apic_id,
        nmi_count: AtomicU64::new(0),
        nmi_pending: AtomicBool::new(false),
        pending: AtomicBool::new(false),
        interrupt_count: AtomicU64::new(0),
        spurious_count: AtomicU64::new(0),
        segments: Once::new(),
    }));
    let gs_base = (&raw mut *cpu).expose_provenance() as u64;
    cpu.this = gs_base;
    let cpu: &'static PerCpu = cpu;

    let mut tss = TaskStateSegment::new();
    for ist in ISTS {
        tss.interrupt_stack_table[usize::from(ist as u8)] = VirtAddr::new(stacks::allocate(IST_BYTES).top);
    }
    let tss: &'static TaskStateSegment = Box::leak(Box::new(tss));
    let mut gdt: GlobalDescriptorTable = GlobalDescriptorTable::new();
    let code = gdt.append(Descriptor::kernel_code_segment());
    let data = gdt.append(Descriptor::kernel_data_segment());
    let task = gdt.append(Descriptor::tss_segment(tss));
    let gdt: &'static GlobalDescriptorTable = Box::leak(Box::new(gdt));
    gdt.load();
    // SAFETY: the selectors were just put into the loaded table.
    unsafe { load_segments(code, data) };
    // SAFETY: the task-state segment lives for ever.
    unsafe { load_tss(task) };
    // SAFETY: `cpu` lives for ever; nothing else uses GS.
    unsafe { msr::write(Msr::GS_BASE, gs_base) };
    let idtr_base = interrupts::load_table();
    cpu.segments.call_once(|| HostSegments {
        cs: code.0,
        ss: data.0,
        tr: task.0,
        tr_base: (&raw const *tss).addr() as u64,
        gdtr_base: (&raw const *gdt).addr() as u64,
        idtr_base,
        gs_base,
    });
    CPUS[index as usize].call_once(|| cpu);
}

/// Loads all segment registers.
///
/// # Safety
/// `code` and `data` must be ring-0 segments of the loaded descriptor table.
unsafe fn load_segments(code: SegmentSelector, data: SegmentSelector) {
    // SAFETY: the caller vouches for the selector.
    unsafe { CS::set_reg(code) };
    // SAFETY: as above.
    unsafe { SS::set_reg(data) };
    // SAFETY: the null selector is valid for data segments in 64-bit mode.
    unsafe { DS::set_reg(SegmentSelector::NULL) };
    // SAFETY: as above.
    unsafe { ES::set_reg(SegmentSelector::NULL) };
    // SAFETY: as above; FS is not used.
    unsafe { FS::set_reg(SegmentSelector::NULL) };
    // SAFETY: as above; the caller sets the base of GS afterwards.
    unsafe { GS::set_reg(SegmentSelector::NULL) };
}
