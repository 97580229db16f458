//! The smallest machine on Linux KVM that runs a PVH guest: what Craton's figures are compared with.
//!
//! `kvm-runner GUEST.ELF [COMMAND LINE...]` gives the guest 64 MiB, one CPU, KVM's own local APIC, I/O APIC, 8259 and 8254,
//! and a first serial port in user space of which the data register prints and the scratch register remembers. It ends
//! when the guest writes the PM1a control register (power off) or shuts down. Nothing here is slower than it must be: a
//! port access costs what KVM's return to user space costs, plus one match.
//!
//! Sources: Linux, "The Definitive KVM (Kernel-based Virtual Machine) API Documentation"; Xen, "x86/HVM direct boot ABI".

use std::io::Write;

use anyhow::{Context, Result, bail, ensure};
use elf::{ElfBytes, abi::PT_LOAD, abi::PT_NOTE, endian::LittleEndian};
use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, KVM_PIT_SPEAKER_DUMMY, kvm_pit_config, kvm_segment,
    kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

const MEMORY_BYTES: usize = 64 << 20;
/// Three pages that KVM wants for itself on Intel CPUs, below the firmware's place.
const TSS_ADDRESS: usize = 0xfffb_d000;
const IDENTITY_MAP_ADDRESS: u64 = 0xfffb_c000;
/// Where the start information lies: below the guest's image at 1 MiB.
const START_INFO: u64 = 0x6000;
const COMMAND_LINE: u64 = 0x7000;
const COMMAND_LINE_MAX: usize = 0x1000;
const START_INFO_MAGIC: u32 = 0x336e_c578;
const PHYS32_ENTRY: u64 = 18;

const COM1_DATA: u16 = 0x3f8;
const COM1_LINE_STATUS: u16 = 0x3fd;
const COM1_SCRATCH: u16 = 0x3ff;
const TRANSMITTER_EMPTY: u8 = 0x60;
const PM1A_CONTROL: u16 = 0x604;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("usage: kvm-runner GUEST.ELF [COMMAND LINE...]")?;
    let command_line = arguments.collect::<Vec<_>>().join(" ");
    let image = std::fs::read(&path).with_context(|| format!("cannot read {path}"))?;

    let kvm = Kvm::new().context("cannot open /dev/kvm")?;
    let vm = kvm.create_vm().context("KVM creates no VM")?;
    vm.set_tss_address(TSS_ADDRESS)?;
    vm.set_identity_map_address(IDENTITY_MAP_ADDRESS)?;
    vm.create_irq_chip()?;
    vm.create_pit2(kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() })?;

    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)])?;
    give_memory(&vm, &memory)?;
    let entry = load(&image, &memory)?;
    write_start_info(&memory, &command_line)?;

    let mut vcpu = vm.create_vcpu(0)?;
    vcpu.set_cpuid2(&cpuid(&kvm)?)?;
    set_start_state(&vcpu, entry)?;
    run(&mut vcpu)
}

fn give_memory(vm: &VmFd, memory: &GuestMemoryMmap) -> Result<()> {
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: MEMORY_BYTES as u64,
        userspace_addr: memory.get_host_address(GuestAddress(0))? as u64,
    };
    // SAFETY: the mapping has the region's size and lives until the process ends: `main` drops it after its last use.
    unsafe { vm.set_user_memory_region(region) }.context("KVM takes no memory")
}

/// Copies the loadable segments and returns the PVH entry point.
fn load(image: &[u8], memory: &GuestMemoryMmap) -> Result<u64> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(image).context("not an ELF file")?;
    let mut entry = None;
    for segment in file.segments().context("no program headers")? {
        match segment.p_type {
            PT_LOAD => memory
                .write_slice(file.segment_data(&segment)?, GuestAddress(segment.p_paddr))
                .context("a segment does not fit the guest's memory")?,
            PT_NOTE => {
                for note in file.segment_data_as_notes(&segment)? {
                    if let elf::note::Note::Unknown(note) = note
                        && note.n_type == PHYS32_ENTRY
                        && note.name_str().is_ok_and(|name| name == "Xen")
                    {
                        let low = note.desc.first_chunk().context("the entry note is too short")?;
                        entry = Some(u64::from(u32::from_le_bytes(*low)));
                    }
                }
            }
            // Segments of other kinds say nothing about the memory image.
            _ => {}
        }
    }
    entry.context("no PVH entry note in the guest's image")
}

/// `hvm_start_info`, version 1, with a command line and nothing else.
fn write_start_info(memory: &GuestMemoryMmap, command_line: &str) -> Result<()> {
    ensure!(command_line.len() < COMMAND_LINE_MAX, "the command line is too long");
    let mut text = command_line.as_bytes().to_vec();
    text.push(0);
    memory.write_slice(&text, GuestAddress(COMMAND_LINE))?;
    memory.write_obj(START_INFO_MAGIC, GuestAddress(START_INFO))?;
    memory.write_obj(1u32, GuestAddress(START_INFO + 4))?;
    memory.write_obj(COMMAND_LINE, GuestAddress(START_INFO + 24))?;
    Ok(())
}

/// What KVM supports, and the TSC-deadline timer, which it reports as a capability instead.
fn cpuid(kvm: &Kvm) -> Result<CpuId> {
    const TSC_DEADLINE: u32 = 1 << 24;
    const HYPERVISOR: u32 = 1 << 31;
    let mut cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
    for leaf in cpuid.as_mut_slice().iter_mut().filter(|leaf| leaf.function == 1) {
        leaf.ecx |= HYPERVISOR;
        if kvm.check_extension(Cap::TscDeadlineTimer) {
            leaf.ecx |= TSC_DEADLINE;
        }
        // Initial APIC id 0, one logical processor.
        leaf.ebx &= 0xffff;
    }
    Ok(cpuid)
}

/// 32-bit protected mode with flat segments and paging off.
fn set_start_state(vcpu: &VcpuFd, entry: u64) -> Result<()> {
    const CODE: u8 = 0xb;
    const DATA: u8 = 0x3;
    const BUSY_TSS: u8 = 0xb;
    let flat = |kind| kvm_segment {
        limit: u32::MAX,
        type_: kind,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    let mut sregs = vcpu.get_sregs()?;
    sregs.cs = flat(CODE);
    for segment in [&mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs, &mut sregs.ss] {
        *segment = flat(DATA);
    }
    sregs.tr = kvm_segment { limit: 0x67, type_: BUSY_TSS, present: 1, ..Default::default() };
    sregs.cr0 = 0x11;
    sregs.cr4 = 0;
    sregs.efer = 0;
    vcpu.set_sregs(&sregs)?;
    let mut regs = vcpu.get_regs()?;
    regs.rip = entry;
    regs.rbx = START_INFO;
    regs.rflags = 2;
    vcpu.set_regs(&regs)?;
    Ok(())
}

/// Runs the guest until it switches itself off.
fn run(vcpu: &mut VcpuFd) -> Result<()> {
    let mut output = std::io::stdout().lock();
    let mut scratch = 0u8;
    loop {
        match vcpu.run().context("KVM_RUN failed")? {
            VcpuExit::IoOut(COM1_SCRATCH, &[byte]) => scratch = byte,
            VcpuExit::IoIn(COM1_SCRATCH, [byte]) => *byte = scratch,
            VcpuExit::IoOut(COM1_DATA, &[byte]) => output.write_all(&[byte])?,
            VcpuExit::IoIn(COM1_LINE_STATUS, [byte]) => *byte = TRANSMITTER_EMPTY,
            VcpuExit::IoOut(PM1A_CONTROL, _) | VcpuExit::Shutdown => return Ok(output.flush()?),
            VcpuExit::IoOut(..) | VcpuExit::MmioWrite(..) => {}
            VcpuExit::IoIn(_, data) | VcpuExit::MmioRead(_, data) => data.fill(0xff),
            other => bail!("the guest left for a reason that this runner does not handle: {other:?}"),
        }
    }
}
