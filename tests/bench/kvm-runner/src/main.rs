//! The smallest machine on Linux KVM that runs a PVH guest: what Craton's figures are compared with.
//!
//! `kvm-runner [--cpus N] [--on FIRST] GUEST.ELF [COMMAND LINE...]` gives the guest 64 MiB, N processors (1 if left out),
//! KVM's own local APICs, I/O APIC, 8259 and 8254, the ACPI table that names the processors, and in user space a first serial
//! port of which the data register prints and the scratch register remembers, and what `devices` has. Each processor is a thread that stays
//! on one of Linux' CPUs: FIRST (0 if left out), the next one, and so on, and round again. It ends when the guest writes
//! the PM1a control register (power off) or shuts down, and then prints how many VM exits KVM has counted,
//! `kvm: exits N`, where debugfs tells. Nothing here is slower than it must be: a port access costs what KVM's return to
//! user space costs, plus one match.
//!
//! Sources: Linux, "The Definitive KVM (Kernel-based Virtual Machine) API Documentation"; Xen, "x86/HVM direct boot ABI".

mod devices;
mod guest;
mod processor;

use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use anyhow::{Context, Result, bail};
use devices::Devices;
use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use rustix::thread::{CpuSet, sched_setaffinity};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

const MEMORY_BYTES: usize = 64 << 20;
/// Three pages that KVM wants for itself on Intel CPUs, below the firmware's place.
const TSS_ADDRESS: usize = 0xfffb_d000;
const IDENTITY_MAP_ADDRESS: u64 = 0xfffb_c000;

/// What KVM_RUN returns when it has nothing to tell. Linux, "errno-base.h".
const EINTR: i32 = 4;
const EAGAIN: i32 = 11;

const COM1_DATA: u16 = 0x3f8;
const COM1_LINE_STATUS: u16 = 0x3fd;
const COM1_SCRATCH: u16 = 0x3ff;
const TRANSMITTER_EMPTY: u8 = 0x60;
const PM1A_CONTROL: u16 = 0x604;

/// The command line.
struct Arguments {
    /// Processors of the guest.
    cpus: u8,
    /// Linux' CPU for the first of them.
    on: usize,
    guest: String,
    command_line: String,
}

impl Arguments {
    fn parse(words: impl Iterator<Item = String>) -> Result<Self> {
        let mut words = words.peekable();
        let (mut cpus, mut on) = (1, 0);
        while let Some(option) = words.next_if(|word| word.starts_with("--")) {
            let value = words.next().with_context(|| format!("{option} needs a number"))?;
            match option.as_str() {
                "--cpus" => cpus = value.parse().context("--cpus")?,
                "--on" => on = value.parse().context("--on")?,
                _ => bail!("{option} is no option"),
            }
        }
        let guest =
            words.next().context("usage: kvm-runner [--cpus N] [--on FIRST] GUEST.ELF [COMMAND LINE...]")?;
        Ok(Self { cpus, on, guest, command_line: words.collect::<Vec<_>>().join(" ") })
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let path = &arguments.guest;
    let image = std::fs::read(path).with_context(|| format!("cannot read {path}"))?;

    let kvm = Kvm::new().context("cannot open /dev/kvm")?;
    let vm = kvm.create_vm().context("KVM creates no VM")?;
    vm.set_tss_address(TSS_ADDRESS)?;
    vm.set_identity_map_address(IDENTITY_MAP_ADDRESS)?;
    vm.create_irq_chip()?;
    vm.create_pit2(kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() })?;

    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)])?;
    give_memory(&vm, &memory)?;
    let entry = guest::load(&image, &memory)?;
    guest::write_start_info(&memory, &arguments.command_line, arguments.cpus)?;

    let supported = processor::supported(&kvm)?;
    let mut vcpus = Vec::new();
    for number in 0..arguments.cpus {
        let vcpu = vm.create_vcpu(u64::from(number))?;
        vcpu.set_cpuid2(&processor::cpuid(&supported, number, arguments.cpus)?)?;
        vcpus.push(vcpu);
    }
    let first = vcpus.first().context("--cpus must not be 0")?;
    // The others wait for their startup IPI.
    processor::set_start_state(first, entry)?;

    let machine = Arc::new(Machine {
        vm: vm.as_raw_fd(),
        on: arguments.on,
        host_cpus: std::thread::available_parallelism()?.get(),
        scratch: AtomicU8::new(0),
        devices: Devices::new(),
    });
    let mut vcpus = vcpus.into_iter().enumerate();
    let first = vcpus.next();
    for (number, mut vcpu) in vcpus {
        let machine = Arc::clone(&machine);
        std::thread::spawn(move || machine.end(machine.run(number, &mut vcpu)));
    }
    match first {
        Some((number, mut vcpu)) => machine.end(machine.run(number, &mut vcpu)),
        None => Ok(()),
    }
}

fn give_memory(vm: &VmFd, memory: &GuestMemoryMmap) -> Result<()> {
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: MEMORY_BYTES as u64,
        userspace_addr: memory.get_host_address(GuestAddress(0))? as u64,
    };
    // SAFETY: the mapping has the region's size and lives until the process ends: `main` ends the process before it
    // drops it.
    unsafe { vm.set_user_memory_region(region) }.context("KVM takes no memory")
}

/// What the processors' threads share.
struct Machine {
    vm: RawFd,
    on: usize,
    host_cpus: usize,
    scratch: AtomicU8,
    devices: Devices,
}

impl Machine {
    /// Runs a processor until the guest switches itself off.
    fn run(&self, number: usize, vcpu: &mut VcpuFd) -> Result<()> {
        let mut cpus = CpuSet::new();
        cpus.set((self.on + number) % self.host_cpus);
        sched_setaffinity(None, &cpus).context("the thread cannot stay on its CPU")?;
        loop {
            let exit = match vcpu.run() {
                Ok(exit) => exit,
                // KVM returns once when a processor that waited for it gets its startup IPI.
                Err(error) if [EAGAIN, EINTR].contains(&error.errno()) => continue,
                Err(error) => return Err(error).context("KVM_RUN failed"),
            };
            match exit {
                VcpuExit::IoOut(COM1_SCRATCH, &[byte]) => self.scratch.store(byte, Relaxed),
                VcpuExit::IoIn(COM1_SCRATCH, [byte]) => *byte = self.scratch.load(Relaxed),
                VcpuExit::IoOut(COM1_DATA, &[byte]) => std::io::stdout().write_all(&[byte])?,
                VcpuExit::IoIn(COM1_LINE_STATUS, [byte]) => *byte = TRANSMITTER_EMPTY,
                VcpuExit::IoOut(PM1A_CONTROL, _) | VcpuExit::Shutdown => return Ok(()),
                VcpuExit::IoOut(port, data) => self.devices.write_port(port, data),
                VcpuExit::IoIn(port, data) => self.devices.read_port(port, data),
                VcpuExit::MmioWrite(address, data) => self.devices.write_memory(address, data),
                VcpuExit::MmioRead(address, data) => self.devices.read_memory(address, data),
                other => bail!("the guest left for a reason that this runner does not handle: {other:?}"),
            }
        }
    }

    /// Ends the process: the first processor that comes here speaks for all.
    fn end(&self, result: Result<()>) -> ! {
        let code = match result.and_then(|()| self.print_counters()) {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("kvm-runner: {error:#}");
                1
            }
        };
        std::process::exit(code)
    }

    /// Prints how many VM exits KVM has counted. Without debugfs nobody knows.
    fn print_counters(&self) -> Result<()> {
        let path = format!("/sys/kernel/debug/kvm/{}-{}/exits", std::process::id(), self.vm);
        if let Ok(exits) = std::fs::read_to_string(path) {
            println!("kvm: exits {}", exits.trim());
        }
        Ok(std::io::stdout().flush()?)
    }
}
