//! What the commands show: the hypervisor's data as text.

use crate::control::{ExitRecord, HostInfo, VmInfo, VmSummary};
use crate::definition::Nodes;
use crate::numbers::{bytes, duration, fine_duration, grouped, megahertz};
use crate::output::{Output, print};
use crate::stats;
use crate::table::{Align, Table};
use crate::times::CoreShares;
use alloc::format;
use alloc::string::{String, ToString};

/// Rows of `vm list`: what is beyond is counted.
const MOST_VMS: usize = 256;

/// `vm list`.
pub(crate) fn vm_list(vms: &[VmSummary], out: &mut dyn Output) {
    if vms.is_empty() {
        print(out, format_args!("no virtual machines: craton.toml in the boot archive names none\n"));
        return;
    }
    let mut table = Table::new([
        ("NAME", Align::Left),
        ("STATE", Align::Left),
        ("VCPUS", Align::Right),
        ("MEMORY", Align::Right),
        ("EXITS", Align::Right),
        ("UPTIME", Align::Right),
    ]);
    for vm in vms.iter().take(MOST_VMS) {
        table.row([
            vm.name.clone(),
            vm.state.to_string(),
            grouped(u64::from(vm.vcpus)),
            bytes(vm.memory_bytes),
            grouped(vm.exits),
            if vm.uptime.is_zero() { String::from("-") } else { duration(vm.uptime) },
        ]);
    }
    table.print(out);
    if vms.len() > MOST_VMS {
        print(out, format_args!("  and {} more\n", vms.len() - MOST_VMS));
    }
}

/// `vm info`.
pub(crate) fn vm_info(info: &VmInfo, out: &mut dyn Output) {
    let vm = &info.summary;
    let initramfs = info.initramfs.as_deref().unwrap_or("none");
    let why = if info.detail.is_empty() { String::new() } else { format!(" ({})", info.detail) };
    print(out, format_args!("  name          {}\n", vm.name));
    print(out, format_args!("  state         {}{why}\n", vm.state));
    print(out, format_args!("  memory        {}\n", bytes(vm.memory_bytes)));
    print(out, format_args!("  kernel        {}\n", info.kernel));
    print(out, format_args!("  initramfs     {initramfs}\n"));
    print(out, format_args!("  command line  {}\n", info.command_line));
    if let Nodes::Count(count) = info.nodes {
        print(out, format_args!("  nodes         {count}\n"));
    }
    let scheduling = &info.scheduling;
    print(
        out,
        format_args!(
            "  scheduling    weight {}, cap {}, cores {}, class {}\n",
            scheduling.weight, scheduling.cap, scheduling.cores, scheduling.class
        ),
    );
    print(out, format_args!("  restart       {}\n", info.restart));
    print(out, format_args!("  exits         {}\n", grouped(vm.exits)));
    if !vm.uptime.is_zero() {
        print(out, format_args!("  uptime        {}\n", duration(vm.uptime)));
    }
    if info.vcpus.is_empty() {
        return;
    }
    print(out, format_args!("\n"));
    let mut table = Table::new([
        ("VCPU", Align::Right),
        ("ACTIVITY", Align::Left),
        ("CORE", Align::Right),
        ("RUN", Align::Right),
        ("STEAL", Align::Right),
        ("MIGRATIONS", Align::Right),
        ("EXITS", Align::Right),
        ("RIP", Align::Right),
    ]);
    for vcpu in &info.vcpus {
        table.row([
            vcpu.id.to_string(),
            vcpu.activity.to_string(),
            vcpu.host_cpu.map_or_else(|| String::from("-"), |cpu| cpu.to_string()),
            fine_duration(vcpu.times.ran),
            fine_duration(vcpu.times.waited),
            grouped(vcpu.times.migrations),
            grouped(vcpu.times.exits),
            format!("{:#x}", vcpu.rip),
        ]);
    }
    table.print(out);
}

/// `exits`.
pub(crate) fn exits(name: &str, vcpu: u32, records: &[ExitRecord], out: &mut dyn Output) {
    let Some(first) = records.first() else {
        print(out, format_args!("vCPU {vcpu} of {name} has had no exits since it was last started\n"));
        return;
    };
    let mut table = Table::new([
        ("TSC", Align::Right),
        ("SINCE LAST", Align::Right),
        ("REASON", Align::Left),
        ("DETAIL", Align::Right),
        ("RIP", Align::Right),
    ]);
    let mut before = first.tsc;
    for record in records {
        table.row([
            grouped(record.tsc),
            format!("+{}", grouped(record.tsc.saturating_sub(before))),
            record.reason.to_string(),
            format!("{:#x}", record.detail),
            format!("{:#x}", record.rip),
        ]);
        before = record.tsc;
    }
    table.print(out);
}

/// `host`.
pub(crate) fn host(host: &HostInfo, cores: &[CoreShares], out: &mut dyn Output) {
    let memory = host.memory;
    print(out, format_args!("  processor  {}\n", host.cpu_model));
    print(out, format_args!("  TSC        {}\n", megahertz(host.tsc_hz)));
    print(out, format_args!("  uptime     {}\n", duration(host.uptime)));
    let own = memory.total.saturating_sub(memory.free).saturating_sub(memory.guests);
    print(
        out,
        format_args!(
            "  memory     {} total, {} in guests, {} for the hypervisor, {} free\n",
            bytes(memory.total),
            bytes(memory.guests),
            bytes(own),
            bytes(memory.free)
        ),
    );
    print(out, format_args!("\n"));
    let mut cpus = Table::new([("CPU", Align::Right), ("APIC ID", Align::Right), ("ACTIVITY", Align::Left)]);
    for cpu in &host.cpus {
        cpus.row([cpu.id.to_string(), cpu.apic_id.to_string(), cpu.activity.clone()]);
    }
    cpus.print(out);
    print(out, format_args!("\n"));
    stats::of_cores(cores, out);
    print(out, format_args!("\n"));
    let mut features = Table::new([("FEATURE", Align::Left), ("STATE", Align::Left)]);
    for feature in &host.features {
        features.row([feature.name.to_string(), feature.state.to_string()]);
    }
    features.print(out);
    print(out, format_args!("\n"));
    let mut mitigations = Table::new([("SPECULATION ISSUE", Align::Left), ("STATUS", Align::Left)]);
    for mitigation in &host.mitigations {
        mitigations.row([mitigation.name.to_string(), mitigation.status.to_string()]);
    }
    mitigations.print(out);
}
