//! From the boot loader's hands to a machine that the rest of the kernel can use.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::naked_asm;

use arch::{Hpa, Msr};
use bootloader_api::config::{BootloaderConfig, Mapping};
use bootloader_api::info::{BootInfo, FrameBufferInfo, MemoryRegionKind, Optional};
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags, EferFlags};

use crate::acpi::Platform;
use crate::flight::{self, Tag};
use crate::framebuffer::Framebuffer;
use crate::memory::{direct_map, frames, layout, stacks, tables};
use crate::{acpi, apic, cpu, image, ioapic, msr, percpu, pic, power, serial, smp, time};

/// What the kernel asks of the boot loader: physical memory mapped where our own tables will have it.
pub const CONFIG: BootloaderConfig = {
    let mut config = BootloaderConfig::new_default();
    config.mappings.physical_memory = Some(Mapping::FixedAddress(layout::DIRECT_MAP_BASE));
    config.kernel_stack_size = 128 * 1024;
    config
};

/// Size of a CPU's stack in bytes.
pub(crate) const STACK_BYTES: u64 = 256 * 1024;

/// The machine, ready: what boot hands to the kernel.
#[derive(Debug)]
pub struct Machine {
    /// What the firmware's tables say.
    pub platform: Platform,
    /// The boot archive, as it was loaded; empty when the medium has none.
    pub archive: &'static [u8],
    /// The screen, where there is one. Taken by whoever draws.
    pub screen: Option<Framebuffer>,
    /// All memory that the firmware reports as usable, in bytes.
    pub memory_bytes: u64,
    /// How the rate of the TSC was found.
    pub tsc_source: time::Source,
}

/// What is carried from the loader's tables and stack to ours.
struct Handoff {
    rsdp: Option<Hpa>,
    archive: Option<(Hpa, u64)>,
    screen: Option<(Hpa, FrameBufferInfo)>,
    memory_bytes: u64,
    main: fn(Machine) -> !,
}

/// Takes the machine over and calls `main` on a stack of the kernel's own. The log should be set up: with
/// [`serial::init`] done, it reaches the serial line from the first line on.
///
/// # Panics
/// When the machine has too little memory or no usable ACPI tables.
pub fn start(info: &'static mut BootInfo, main: fn(Machine) -> !) -> ! {
    cpu::disable_interrupts();
    time::clear_adjustment();
    time::mark_boot();
    flight::record(Tag::Boot, 1, 0);
    assert!(
        matches!(info.physical_memory_offset, Optional::Some(layout::DIRECT_MAP_BASE)),
        "the boot loader maps physical memory where it was told to"
    );
    // SAFETY: these are the boot loader's regions, mapped in its direct map; called once.
    unsafe { frames::init(&info.memory_regions) };
    smp::reserve(&info.memory_regions);
    let memory_bytes = info
        .memory_regions
        .iter()
        .filter(|region| region.kind == MemoryRegionKind::Usable)
        .map(|region| region.end - region.start)
        .sum();
    // SAFETY: the boot loader's tables are active.
    let physical = |address: u64| unsafe { tables::loader_translate(address) };
    let handoff = Handoff {
        rsdp: info.rsdp_addr.into_option().map(Hpa::new),
        archive: match info.ramdisk_addr {
            Optional::Some(address) if info.ramdisk_len > 0 => {
                physical(address).map(|hpa| (hpa, info.ramdisk_len))
            }
            Optional::Some(_) | Optional::None => None,
        },
        screen: match &info.framebuffer {
            Optional::Some(buffer) => {
                physical(buffer.buffer().as_ptr().addr() as u64).map(|hpa| (hpa, buffer.info()))
            }
            Optional::None => None,
        },
        memory_bytes,
        main,
    };
    // SAFETY: the loader's copy of the image stays where it is: its memory is not reported as usable.
    unsafe { image::keep_symbols(Hpa::new(info.kernel_addr), info.kernel_len) };
    // SAFETY: the boot loader's tables are active and map memory where ours will.
    let root = unsafe { tables::build(&info.memory_regions) };
    let stack = stacks::allocate(STACK_BYTES).expect("memory for the first CPU's stack");
    let handoff = Box::into_raw(Box::new(handoff));
    // SAFETY: our tables map the image, all memory and the stack.
    unsafe { switch(root, stack.top, on_own_stack, handoff) }
}

/// Loads the page tables at `root` and goes on in `entry` on another stack.
///
/// # Safety
/// The tables must map the code, the stack below `top`, and what `handoff` points to.
#[unsafe(naked)]
unsafe extern "C" fn switch(
    root: Hpa,
    top: u64,
    entry: extern "C" fn(*mut Handoff) -> !,
    handoff: *mut Handoff,
) -> ! {
    naked_asm!(
        "mov cr3, rdi",
        "mov rsp, rsi",
        "xor ebp, ebp",
        "mov rdi, rcx",
        // The callee finds the stack as after a call; the zero ends backtraces.
        "push 0",
        "jmp rdx",
    )
}

/// Where `switch` is: CPUs that are started go through it too.
pub(crate) fn switch_address() -> u64 {
    switch as *const () as usize as u64
}

extern "C" fn on_own_stack(handoff: *mut Handoff) -> ! {
    // SAFETY: `start` made it from a box and gave it away.
    let handoff = unsafe { Box::from_raw(handoff) };
    bring_up(&handoff)
}

/// Sets this CPU's control registers as the kernel wants them.
pub(crate) fn set_control_registers() {
    let features = cpu::cpuid(7, 0);
    let mut cr4 = Cr4Flags::PAGE_GLOBAL;
    // CPUID.(EAX=07H,ECX=0):EBX[7]: no execution of user pages; there are none, so it costs nothing.
    if features.ebx & (1 << 7) != 0 {
        cr4 |= Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION;
    }
    // SAFETY: adds protections that the kernel's tables satisfy.
    unsafe { Cr4::update(|flags| *flags |= cr4) };
    let efer = msr::read(Msr::EFER);
    // SAFETY: as above.
    unsafe { msr::write(Msr::EFER, efer | EferFlags::NO_EXECUTE_ENABLE.bits()) };
    // SAFETY: as above. The hypervisor has no floating-point code: TS and EM are clear for the guests' sake. Firmware may
    // leave caches off.
    unsafe {
        Cr0::update(|flags| {
            *flags |= Cr0Flags::WRITE_PROTECT | Cr0Flags::NUMERIC_ERROR | Cr0Flags::MONITOR_COPROCESSOR;
            flags.remove(Cr0Flags::EMULATE_COPROCESSOR | Cr0Flags::TASK_SWITCHED);
            flags.remove(Cr0Flags::CACHE_DISABLE | Cr0Flags::NOT_WRITE_THROUGH);
        });
    };
}

fn bring_up(handoff: &Handoff) -> ! {
    flight::record(Tag::Boot, 2, 0);
    set_control_registers();
    // SAFETY: nothing with PWT has been mapped yet.
    unsafe { tables::set_pat() };
    // SAFETY: the first CPU, interrupts off, own tables.
    unsafe { percpu::init(apic::own_id()) };
    flight::record(Tag::Boot, 3, 0);
    let screen = handoff.screen.and_then(|(hpa, info)| {
        // SAFETY: the boot loader reported it, and nobody else has it now.
        unsafe { Framebuffer::new(hpa, info) }
    });
    let platform = read_platform(handoff.rsdp);
    power::keep(platform.power.clone());
    pic::disable();
    // SAFETY: handlers are in place, interrupts are off; the firmware names the address.
    unsafe { apic::init(Hpa::new(platform.local_apic)) };
    // SAFETY: the firmware names the addresses; called once.
    unsafe { ioapic::init(&platform.io_apics) };
    flight::record(Tag::Boot, 4, 0);
    let tsc_source = time::calibrate(platform.pm_timer);
    serial::enable_interrupt(&platform);
    let archive = handoff.archive.map_or(&[][..], |(hpa, length)| {
        // SAFETY: the boot archive's memory is not reported as usable, and nobody writes it.
        unsafe { direct_map::bytes(hpa, length) }.unwrap_or_default()
    });
    log_machine(&platform, handoff.memory_bytes, archive.len(), tsc_source);
    flight::record(Tag::Boot, 5, 0);
    (handoff.main)(Machine { platform, archive, screen, memory_bytes: handoff.memory_bytes, tsc_source })
}

/// What the firmware's tables say; without usable tables, what every PC has.
fn read_platform(rsdp: Option<Hpa>) -> Platform {
    let plain = || Platform::plain_pc(percpu::current().apic_id);
    let Some(rsdp) = rsdp else {
        log::warn!(
            "the firmware has no ACPI tables: one CPU, no power-off; the I/O APIC is taken to be where PCs have it"
        );
        return plain();
    };
    // SAFETY: the address is the boot loader's.
    unsafe { acpi::read(rsdp) }.unwrap_or_else(|error| {
        log::warn!("the firmware's ACPI tables are not used, and with them all CPUs but one: {error}");
        plain()
    })
}

fn log_machine(platform: &Platform, memory_bytes: u64, archive_bytes: usize, tsc_source: time::Source) {
    let counters = frames::counters();
    let mhz = (time::tsc_hz() + 500_000) / 1_000_000;
    log::info!("TSC: {mhz} MHz, by {tsc_source:?}");
    log::info!(
        "CPUs: {} (this one has APIC ID {}), {}, timer {:?}",
        platform.cpus.len(),
        percpu::current().apic_id,
        if apic::is_x2apic() { "x2APIC" } else { "xAPIC" },
        apic::timer_mode()
    );
    log::info!("memory: {} MiB usable, {} MiB free", memory_bytes >> 20, counters.free_bytes >> 20);
    let ids: Vec<u32> = platform.io_apics.iter().map(|io_apic| u32::from(io_apic.id)).collect();
    log::debug!(
        "I/O APICs: {ids:?}; PM timer: {:?}; soft off: {:?}",
        platform.pm_timer,
        platform.power.soft_off
    );
    log::info!("boot archive: {} KiB", archive_bytes >> 10);
}
