//! From a boot loader's 32-bit protected mode to Rust in long mode.
//!
//! Two ways in, one entry: PVH (Xen, "x86/HVM direct boot ABI": an ELF note of type `XEN_ELFNOTE_PHYS32_ENTRY`, EBX
//! holds the address of `hvm_start_info`) and Multiboot2 ("Multiboot2 Specification", "I386 machine state": EAX holds a
//! magic number, EBX the address of the information structure). QEMU, KVM and Craton use the first; GRUB, for a run
//! without any hypervisor, the second.
//!
//! The first 4 GiB are mapped one to one with 2 MiB pages; everything above is left unmapped for the page-fault tests.

use core::arch::global_asm;

global_asm!(
    r#"
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
    movl %eax, %esi                 // Multiboot2 magic, or anything
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
    ljmpl $0x08, $testkit_entry64

    .code64
testkit_entry64:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    leaq boot_stack_top(%rip), %rsp
    xorl %ebp, %ebp
    movl %edi, %edi
    movl %esi, %esi
    call testkit_start
    ud2

    .section .data.boot, "aw"
    .balign 16
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff        // 0x08: 64-bit code
    .quad 0x00cf93000000ffff        // 0x10: data
    .quad 0x00cf13000000ffff        // 0x18: data, not present
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
"#,
    options(att_syntax)
);

/// Size of the copy that is kept of the command line; what is longer is cut.
const COMMAND_LINE_MAX: usize = 256;

/// The command line, copied out of the loader's memory.
pub(crate) struct CommandLine {
    bytes: [u8; COMMAND_LINE_MAX],
    length: usize,
}

impl CommandLine {
    /// The value of `key=` in the command line, if it is there.
    pub(crate) fn value_of(&self, key: &str) -> Option<&str> {
        let line = core::str::from_utf8(&self.bytes[..self.length]).ok()?;
        line.split_ascii_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
}

/// Finds the command line in the structure that the loader left at `info`.
///
/// `magic` is the loader's EAX: it tells Multiboot2 apart; everything else is taken for PVH.
pub(crate) fn command_line(info: u64, magic: u64) -> CommandLine {
    const MULTIBOOT2_MAGIC: u64 = 0x36d7_6289;
    const PVH_MAGIC: u32 = 0x336e_c578;
    let address = if magic == MULTIBOOT2_MAGIC {
        multiboot2_command_line(info)
    } else if read_u32(info) == PVH_MAGIC {
        // `hvm_start_info.cmdline_paddr`.
        Some(read_u64(info + 24)).filter(|&address| address != 0)
    } else {
        None
    };
    let mut line = CommandLine { bytes: [0; COMMAND_LINE_MAX], length: 0 };
    let Some(address) = address else { return line };
    for (byte, at) in line.bytes.iter_mut().zip(address..) {
        *byte = read_u8(at);
        if *byte == 0 {
            break;
        }
        line.length += 1;
    }
    line
}

/// Address of the string in the command line tag (type 1) of a Multiboot2 information structure.
fn multiboot2_command_line(info: u64) -> Option<u64> {
    let end = info + u64::from(read_u32(info));
    let mut tag = info + 8;
    while tag < end {
        let size = u64::from(read_u32(tag + 4)).max(8);
        match read_u32(tag) {
            0 => return None,
            1 => return Some(tag + 8),
            _ => tag += size.next_multiple_of(8),
        }
    }
    None
}

fn read_u8(address: u64) -> u8 {
    let at = usize::try_from(address).ok().filter(|at| (1..1 << 32).contains(at)).expect("mapped memory");
    // SAFETY: the first 4 GiB are mapped, any value is a valid u8, and the loader's structures are nobody's Rust object.
    unsafe { core::ptr::read_volatile(core::ptr::with_exposed_provenance(at)) }
}

fn read_u32(address: u64) -> u32 {
    u32::from_le_bytes(core::array::from_fn(|i| read_u8(address + i as u64)))
}

fn read_u64(address: u64) -> u64 {
    u64::from_le_bytes(core::array::from_fn(|i| read_u8(address + i as u64)))
}

/// Where the boot code calls into Rust: `info` and `magic` are the loader's EBX and EAX.
#[unsafe(no_mangle)]
extern "C" fn testkit_start(info: u64, magic: u64) -> ! {
    crate::start(info, magic)
}
