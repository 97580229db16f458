//! What each CPU has of its own: descriptor tables, stacks, counters. GS points to it while the hypervisor runs.

use alloc::boxed::Box;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arch::Msr;
use spin::{Mutex, Once};
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, FS, GS, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::registers::segmentation::SegmentSelector;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

use crate::flight::Ring;
use crate::interrupts::TrapFrame;
use crate::memory::OutOfFrames;
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

/// What a CPU looks at before it sleeps, in a cache line of its own: MWAIT watches it.
#[derive(Debug)]
#[repr(C, align(64))]
struct Wake {
    /// Set by every device interrupt: there may be work.
    pending: AtomicBool,
}

/// One CPU's data. Interrupt handlers share it with the code that they interrupt, and other CPUs read it, so what
/// changes is atomic.
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
    /// Set by every interrupt but the timer's and those of other CPUs.
    device: AtomicBool,
    /// Device interrupts taken in the hypervisor.
    pub interrupt_count: AtomicU64,
    /// Interrupts that no source claims.
    pub spurious_count: AtomicU64,
    wake: Wake,
    /// How often in a row MWAIT returned although nothing had happened.
    pub(crate) false_alarms: AtomicU32,
    /// The registers at the last exception of the hypervisor on this CPU, until somebody takes them.
    pub(crate) fault: Mutex<Option<TrapFrame>>,
    /// What happened on this CPU.
    pub(crate) flight: Ring,
    tables: &'static Tables,
    segments: HostSegments,
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
        self.wake.pending.swap(false, Ordering::Acquire)
    }

    /// Whether a device interrupt came since the last [`take_pending`](Self::take_pending).
    #[inline]
    pub fn is_pending(&self) -> bool {
        self.wake.pending.load(Ordering::Relaxed)
    }

    /// Whether a device interrupted since the last call: more than the timer and other CPUs.
    #[inline]
    pub fn take_device(&self) -> bool {
        self.device.load(Ordering::Relaxed) && self.device.swap(false, Ordering::Acquire)
    }

    pub(crate) fn set_device(&self) {
        self.device.store(true, Ordering::Release);
    }

    #[inline]
    pub(crate) fn set_pending(&self) {
        self.wake.pending.store(true, Ordering::Release);
    }

    /// The address that MONITOR watches.
    #[inline]
    pub(crate) fn watched(&self) -> *const u8 {
        (&raw const self.wake).cast()
    }

    pub(crate) fn count_nmi(&self) {
        self.nmi_count.fetch_add(1, Ordering::Relaxed);
        self.nmi_pending.store(true, Ordering::Relaxed);
    }

    /// This CPU's segments, for the VMCS host state.
    #[inline]
    pub fn host_segments(&self) -> &HostSegments {
        &self.segments
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
    // SAFETY: a `PerCpu` is never freed while a CPU has it in GS, and shared only.
    unsafe { &*this }
}

/// [`current`], or nothing before the boot CPU is set up: for the panic path.
pub fn try_current() -> Option<&'static PerCpu> {
    CPUS[0].is_completed().then(current)
}

/// A CPU's descriptor tables and the stacks that they name. Nothing in them says which CPU it is.
#[derive(Debug)]
pub(crate) struct Tables {
    gdt: GlobalDescriptorTable,
    tss: &'static TaskStateSegment,
    code: SegmentSelector,
    data: SegmentSelector,
    task: SegmentSelector,
}

impl Tables {
    /// Tables with interrupt stacks, for ever.
    ///
    /// # Errors
    /// [`OutOfFrames`] when memory for a stack is missing.
    pub(crate) fn new() -> Result<&'static Self, OutOfFrames> {
        let mut tss = TaskStateSegment::new();
        for ist in ISTS {
            tss.interrupt_stack_table[usize::from(ist as u8)] =
                VirtAddr::new(stacks::allocate(IST_BYTES)?.top);
        }
        let tss: &'static TaskStateSegment = Box::leak(Box::new(tss));
        let mut gdt: GlobalDescriptorTable = GlobalDescriptorTable::new();
        let code = gdt.append(Descriptor::kernel_code_segment());
        let data = gdt.append(Descriptor::kernel_data_segment());
        let task = gdt.append(Descriptor::tss_segment(tss));
        Ok(Box::leak(Box::new(Self { gdt, tss, code, data, task })))
    }
}

/// The data of a CPU that is not up yet: number `index`, with the APIC ID `apic_id`.
pub(crate) fn prepare(index: u32, apic_id: u32, tables: &'static Tables) -> Box<PerCpu> {
    let mut cpu = Box::new(PerCpu {
        this: 0,
        index,
        apic_id,
        nmi_count: AtomicU64::new(0),
        nmi_pending: AtomicBool::new(false),
        device: AtomicBool::new(false),
        interrupt_count: AtomicU64::new(0),
        spurious_count: AtomicU64::new(0),
        wake: Wake { pending: AtomicBool::new(false) },
        false_alarms: AtomicU32::new(0),
        fault: Mutex::new(None),
        flight: Ring::new(),
        tables,
        segments: HostSegments {
            cs: tables.code.0,
            ss: tables.data.0,
            tr: tables.task.0,
            tr_base: (&raw const *tables.tss).addr() as u64,
            gdtr_base: (&raw const tables.gdt).addr() as u64,
            idtr_base: interrupts::table_base(tables.code.0),
            gs_base: 0,
        },
    });
    let gs_base = (&raw mut *cpu).expose_provenance() as u64;
    cpu.this = gs_base;
    cpu.segments.gs_base = gs_base;
    cpu
}

/// Gives this CPU its descriptor tables, interrupt stacks and per-CPU data. Takes no lock and no memory.
///
/// # Safety
/// Must be called once on each CPU, interrupts off, on the kernel's page tables, with a `cpu` of its own that lives for
/// ever.
pub(crate) unsafe fn install(cpu: &'static PerCpu) {
    let tables = cpu.tables;
    tables.gdt.load();
    // SAFETY: the selectors are of the loaded table.
    unsafe { load_segments(tables.code, tables.data) };
    // SAFETY: the task-state segment lives for ever, and no other CPU has loaded it.
    unsafe { load_tss(tables.task) };
    // SAFETY: `cpu` lives for ever; nothing else uses GS.
    unsafe { msr::write(Msr::GS_BASE, cpu.segments.gs_base) };
    interrupts::load_table(tables.code.0);
}

/// Counts `cpu` among the CPUs that are up: its number is the next one, and it has been installed.
pub(crate) fn publish(cpu: &'static PerCpu) {
    CPUS[cpu.index as usize].call_once(|| cpu);
}

/// Sets the CPU that booted up: number 0.
///
/// # Safety
/// Must be called once, interrupts off, on the kernel's page tables.
///
/// # Panics
/// When memory is short.
pub(crate) unsafe fn init(apic_id: u32) {
    let tables = Tables::new().expect("memory for the first CPU's stacks");
    let cpu: &'static PerCpu = Box::leak(prepare(0, apic_id, tables));
    // SAFETY: the caller's promise; the data is new.
    unsafe { install(cpu) };
    publish(cpu);
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
