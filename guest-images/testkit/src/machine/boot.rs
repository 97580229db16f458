//! From a boot loader's 32-bit protected mode, or a startup IPI's real mode, to Rust in long mode.
//!
//! Three ways in, one entry: PVH (Xen, "x86/HVM direct boot ABI": an ELF note of type `XEN_ELFNOTE_PHYS32_ENTRY`, EBX
//! holds the address of `hvm_start_info`), Multiboot ("Multiboot Specification", "Machine state") and Multiboot2
//! ("Multiboot2 Specification", "I386 machine state"): EAX holds a magic number, EBX the address of the information
//! structure. QEMU, KVM and Craton use the first; GRUB, for a run without any hypervisor, the last.
//!
//! The other CPUs come by the startup IPI (SDM Vol. 3A, "Multiple-Processor Initialization") and share the page tables.
//!
//! The first 4 GiB are mapped one to one with 2 MiB pages; everything above is left unmapped for the page-fault tests.

use core::arch::global_asm;

global_asm!(
    r#"
    // From 32-bit protected mode with any segments to `target` in long mode. Changes EAX, ECX, EDX.
    .macro long_mode target
    movl %cr4, %eax
    orl $0x20, %eax                 // PAE
    movl %eax, %cr4
    movl $boot_pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx          // IA32_EFER: LME, NXE
    rdmsr
    orl $0x900, %eax
    wrmsr
    movl %cr0, %eax
    andl $0x9fffffff, %eax          // caches on
    orl $0x80010001, %eax           // PG, WP, PE
    movl %eax, %cr0
    lgdtl boot_gdt_pointer
    ljmpl $0x08, $\target
    .endm

    .macro data_segments
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    .endm

    .section .multiboot2, "ax"
    .balign 8
multiboot2_header:
    .long 0xe85250d6                // magic
    .long 0                         // architecture: i386 protected mode
    .long multiboot2_end - multiboot2_header
    .long -(0xe85250d6 + 0 + (multiboot2_end - multiboot2_header))
    .short 0                        // end tag
    .short 0
    .long 8
multiboot2_end:

    .balign 4
multiboot_header:
    .long 0x1badb002                // magic
    .long 0x3                       // flags: modules on page boundaries, memory information
    .long -(0x1badb002 + 0x3)

    .section .note.pvh, "a", @note
    .balign 4
    .long 4                         // name size
    .long 8                         // descriptor size
    .long 18                        // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad testkit_entry32

    .section .text.boot, "ax"
    .code32
    .global testkit_entry32
testkit_entry32:
    cli
    cld
    movl %eax, %esi                 // a Multiboot magic, or anything
    movl %ebx, %edi                 // the loader's information structure

    movl $(boot_pdpt + 3), boot_pml4
    movl $0, boot_pml4 + 4
    movl $(boot_pd + 3), %eax
    movl $boot_pdpt, %ebx
    movl $4, %ecx
2:  movl %eax, (%ebx)
    addl $0x1000, %eax
    addl $8, %ebx
    decl %ecx
    jnz 2b

    movl $0x83, %eax                // present, writable, 2 MiB
    movl $boot_pd, %ebx
    movl $2048, %ecx
3:  movl %eax, (%ebx)
    addl $0x200000, %eax
    addl $8, %ebx
    decl %ecx
    jnz 3b
                                    // the top 1 GiB is device memory: page cache disable
    movl $(boot_pd + 3 * 0x1000), %ebx
    movl $512, %ecx
4:  orl $0x10, (%ebx)
    addl $8, %ebx
    decl %ecx
    jnz 4b

    long_mode testkit_entry64

    .code64
testkit_entry64:
    data_segments
    leaq boot_stack_top(%rip), %rsp
    xorl %ebp, %ebp
    movl %edi, %edi
    movl %esi, %esi
    call testkit_start
    ud2

    // Where a startup IPI begins. This part is copied to `startup::PAGE`, so it names itself only by offsets.
    .code16
    .global testkit_startup
testkit_startup:
    cli
    cld
    movw %cs, %di                   // the page that the IPI named, for the report
    movw %di, %ds
    lgdtl (startup_gdt_pointer - testkit_startup)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $0x20, $startup_entry32
startup_gdt_pointer:
    .short boot_gdt_end - boot_gdt - 1
    .long boot_gdt
    .balign 16
    .global testkit_startup_iret
testkit_startup_iret:               // what real mode does about an NMI
    iretw
    .global testkit_startup_end
testkit_startup_end:

    .code32
startup_entry32:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %ss
    long_mode startup_entry64

    .code64
startup_entry64:
    data_segments
    movl $1, %eax
    cpuid
    shrl $24, %ebx                  // initial APIC id
    movzbl {slots}(%rbx), %eax
    cmpl ${most}, %eax
    jb 5f
4:  hlt                             // not in the firmware's table
    jmp 4b
5:  movzwl %di, %esi
    movl %eax, %edi
    incl %eax
    imulq ${stack}, %rax, %rax
    leaq startup_stacks(%rax), %rsp
    xorl %ebp, %ebp
    call {ap}
    ud2

    .section .data.boot, "aw"
    .balign 16
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff        // 0x08: 64-bit code
    .quad 0x00cf93000000ffff        // 0x10: data
    .quad 0x00cf13000000ffff        // 0x18: data, not present
    .quad 0x00cf9b000000ffff        // 0x20: 32-bit code
    .quad 0x00cffb000000ffff        // 0x28: 32-bit code, ring 3
    .quad 0x00cff3000000ffff        // 0x30: data, ring 3
    .global testkit_tss_descriptor
testkit_tss_descriptor:
    .quad 0                         // 0x38: task state, written by who needs it
    .quad 0
    .quad 0x00affb000000ffff        // 0x48: 64-bit code, ring 3
    .quad 0xbf009ba00000ffff        // 0x50: 16-bit code at the `pages` window, 64 KiB
    .quad 0xbf0093a00000ffff        // 0x58: data at the same place, 64 KiB
    .quad 0x00cf91000000ffff        // 0x60: data, read-only
    .quad 0x00cf99000000ffff        // 0x68: 32-bit code, execute-only
    .quad 0x00af9f000000ffff        // 0x70: 64-bit code, conforming
    .quad 0x00409300000000ff        // 0x78: data, 256 bytes
    .quad 0x00ef9b000000ffff        // 0x80: code with both L and D
    .quad 0x0000ec0000000000        // 0x88: 64-bit call gate to nothing
    .quad 0
boot_gdt_end:
boot_gdt_pointer:
    .short boot_gdt_end - boot_gdt - 1
    .quad boot_gdt

    .section .bss.boot, "aw", @nobits
    .balign 4096
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pd:   .skip 4 * 4096
    .skip 64 * 1024
boot_stack_top:
    .skip 16
startup_stacks:
    .skip {most} * {stack}
"#,
    slots = sym super::startup::SLOT_OF_APIC_ID,
    most = const super::percpu::MAX,
    stack = const STARTUP_STACK,
    ap = sym super::startup::enter,
    options(att_syntax)
);

/// Bytes of stack of a CPU other than the first.
const STARTUP_STACK: usize = 16 * 1024;

/// Where the boot code calls into Rust: `info` and `magic` are the loader's EBX and EAX.
#[unsafe(no_mangle)]
extern "C" fn testkit_start(info: u64, magic: u64) -> ! {
    crate::start(info, magic)
}
