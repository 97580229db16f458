//! The instructions that checks run with registers of their choice: see `snippet`.

use super::snippet::Snippet;

macro_rules! snippets {
    ($($name:ident = $($line:literal),+;)+) => {
        #[expect(non_snake_case, reason = "each has the name of its snippet")]
        mod code {
            $(
                #[unsafe(naked)]
                pub(super) extern "C" fn $name() {
                    core::arch::naked_asm!(
                        ".byte 3f - 2f", "2:", $($line,)+ "3:", "jmp testkit_snippet_return"
                    )
                }
            )+
        }
        $(
            #[doc = concat!("`", $($line, "; ",)+ "`")]
            pub(crate) const $name: Snippet = Snippet { code: code::$name };
        )+
    };
}

snippets! {
    NOP = "nop";
    // Loads: from RDI, or RSI for strings.
    LOAD_AL = "mov al, [rdi]";
    LOAD_AH = "mov ah, [rdi]";
    LOAD_AX = "mov ax, [rdi]";
    LOAD_EAX = "mov eax, [rdi]";
    LOAD_RAX = "mov rax, [rdi]";
    LOAD_BH = "mov bh, [rdi]", "movzx eax, bh";
    LOAD_SIL = "mov r8, rdi", "mov sil, [r8]", "mov rax, rsi";
    LOAD_R9D = "mov r9, rax", "mov r9d, [rdi]", "mov rax, r9";
    LOAD_MOFFS = "movabs eax, [0xd0000000]";
    LOAD_SIB = "mov ecx, 4", "mov eax, [rdi + rcx * 8 + 16]";
    LOAD_NEGATIVE = "add rdi, 0x100", "mov eax, [rdi - 0x80]";
    LOAD_ADDRESS_32 = "mov eax, [edi]";
    LOAD_FS = "mov eax, fs:[rdi]";
    MOVZX_8 = "movzx eax, byte ptr [rdi]";
    MOVZX_16 = "movzx eax, word ptr [rdi]";
    MOVZX_64 = "movzx rax, byte ptr [rdi]";
    MOVZX_AX = "movzx ax, byte ptr [rdi]";
    MOVSX_8 = "movsx eax, byte ptr [rdi]";
    MOVSX_16 = "movsx eax, word ptr [rdi]";
    MOVSX_64 = "movsx rax, byte ptr [rdi]";
    MOVSX_16_64 = "movsx rax, word ptr [rdi]";
    MOVSXD = "movsxd rax, dword ptr [rdi]";
    MOVBE_32 = "movbe eax, [rdi]";
    LODSB = "mov rsi, rdi", "lodsb";
    LODSW = "mov rsi, rdi", "lodsw";
    LODSD = "mov rsi, rdi", "lodsd";
    LODSQ = "mov rsi, rdi", "lodsq";
    CMOVZ_TAKEN = "cmp eax, eax", "cmovz eax, [rdi]";
    CMOVNZ_NOT_TAKEN = "cmp eax, eax", "cmovnz eax, [rdi]";
    IMUL_LOAD = "imul eax, [rdi]";
    IMUL_LOAD_3 = "imul eax, [rdi], 5";
    MUL_LOAD = "mul dword ptr [rdi]";
    POPCNT_LOAD = "popcnt eax, [rdi]";
    BSF_LOAD = "bsf eax, [rdi]";
    BSR_LOAD = "bsr eax, [rdi]";
    PUSH_LOAD = "push qword ptr [rdi]", "pop rax";
    POP_STORE = "push rax", "pop qword ptr [rdi]";
    XADD_LOAD = "xadd [rdi], eax";
    XCHG_LOAD_8 = "xchg [rdi], al";
    XCHG_LOAD_16 = "xchg [rdi], ax";
    XCHG_LOAD_32 = "xchg [rdi], eax";
    XCHG_LOAD_64 = "xchg [rdi], rax";
    CMPXCHG_FAILS = "cmpxchg [rdi], ecx";
    CMPXCHG_EQUAL = "mov eax, -1", "cmpxchg [rdi], ecx";
    LOCK_CMPXCHG_64 = "lock cmpxchg [rdi], rcx";
    CMPXCHG8B = "lock cmpxchg8b [rdi]";
    CMPXCHG16B = "lock cmpxchg16b [rdi]";
    JUMP_THROUGH = "jmp [rdi]";
    CALL_THROUGH = "call [rdi]";
    // SSE: through memory behind RSI.
    SSE_MOVDQU = "movdqu xmm0, [rdi]", "movdqu [rsi], xmm0", "mov rax, [rsi + 8]";
    SSE_MOVAPS = "movaps xmm0, [rdi]", "movups [rsi], xmm0", "mov rax, [rsi + 8]";
    SSE_MOVD = "movd xmm0, [rdi]", "movdqu [rsi], xmm0", "mov rax, [rsi]";
    SSE_MOVQ = "movq xmm0, [rdi]", "movdqu [rsi], xmm0", "mov rax, [rsi]";
    SSE_MOVSS = "movss xmm0, [rdi]", "movdqu [rsi], xmm0", "mov rax, [rsi]";
    SSE_MOVSD = "movsd xmm0, [rdi]", "movdqu [rsi], xmm0", "mov rax, [rsi + 8]";
    SSE_MOVHPS = "pxor xmm0, xmm0", "movhps xmm0, [rdi]", "movdqu [rsi], xmm0", "mov rax, [rsi + 8]";
    SSE_MOVNTDQA = "movntdqa xmm0, [rdi]", "movdqu [rsi], xmm0", "mov rax, [rsi + 8]";
    SSE_STORE = "pcmpeqd xmm0, xmm0", "movdqu [rdi], xmm0";
    SSE_STORE_NT = "pcmpeqd xmm0, xmm0", "movntdq [rdi], xmm0";
    SSE_STORE_MOVD = "movd xmm0, eax", "movd [rdi], xmm0";
    SSE_STORE_MOVSS = "movd xmm0, eax", "movss [rdi], xmm0";
    SSE_UNALIGNED_ALIGNED = "movaps xmm0, [rdi + 4]";
    // Arithmetic with a load: flags.
    ADD_LOAD = "add eax, [rdi]";
    ADD_LOAD_8 = "add al, [rdi]";
    SUB_LOAD = "sub eax, [rdi]";
    ADC_LOAD = "stc", "adc eax, [rdi]";
    SBB_LOAD = "stc", "sbb eax, [rdi]";
    AND_LOAD = "and eax, [rdi]";
    OR_LOAD = "or eax, [rdi]";
    XOR_LOAD = "xor eax, [rdi]";
    CMP_LOAD = "cmp eax, [rdi]";
    CMP_LOAD_REVERSED = "cmp [rdi], eax";
    CMP_LOAD_IMMEDIATE = "cmp dword ptr [rdi], -1";
    CMP_LOAD_8 = "cmp byte ptr [rdi], 0x7f";
    CMP_LOAD_64 = "cmp [rdi], rax";
    TEST_LOAD = "test [rdi], eax";
    TEST_LOAD_IMMEDIATE = "test dword ptr [rdi], 0x80000000";
    TEST_LOAD_8 = "test byte ptr [rdi], 0x80";
    BT_IMMEDIATE = "bt dword ptr [rdi], 5";
    BT_REGISTER = "mov eax, 100", "bt [rdi], eax";
    BT_NEGATIVE = "add rdi, 0x100", "mov rax, -70", "bt [rdi], rax";
    SCASB = "scasb";
    SCASD = "scasd";
    SCASQ = "scasq";
    CMPSD = "cmpsd";
    // Read, change, write of 32 bits at RDI.
    STORE_EAX = "mov [rdi], eax";
    STORE_IMMEDIATE = "mov dword ptr [rdi], 0x12345678";
    STORE_R9D = "mov r9, rax", "mov [rdi], r9d";
    STORE_MOVNTI = "movnti [rdi], eax";
    STORE_MOVBE = "movbe [rdi], eax";
    STORE_XCHG = "xchg [rdi], eax";
    ADD_STORE = "add [rdi], eax";
    ADD_STORE_IMMEDIATE = "add dword ptr [rdi], 0x10";
    ADC_STORE = "stc", "adc [rdi], eax";
    SUB_STORE = "sub [rdi], eax";
    SBB_STORE = "stc", "sbb [rdi], eax";
    AND_STORE = "and [rdi], eax";
    OR_STORE = "or [rdi], eax";
    XOR_STORE = "xor [rdi], eax";
    INC_STORE = "inc dword ptr [rdi]";
    DEC_STORE = "dec dword ptr [rdi]";
    NOT_STORE = "not dword ptr [rdi]";
    NEG_STORE = "neg dword ptr [rdi]";
    SHL_STORE = "shl dword ptr [rdi], 4";
    SHR_STORE = "shr dword ptr [rdi], 4";
    SAR_STORE = "sar dword ptr [rdi], 4";
    ROL_STORE = "rol dword ptr [rdi], 8";
    SHLD_STORE = "shld [rdi], eax, 8";
    BTS_STORE = "bts dword ptr [rdi], 3";
    BTR_STORE = "btr dword ptr [rdi], 3";
    BTC_STORE = "btc dword ptr [rdi], 3";
    XADD_STORE = "xadd [rdi], eax";
    CMPXCHG_STORE = "cmpxchg [rdi], ecx";
    LOCK_ADD = "lock add [rdi], eax";
    LOCK_OR = "lock or [rdi], eax";
    LOCK_AND = "lock and [rdi], eax";
    LOCK_XOR = "lock xor [rdi], eax";
    LOCK_SUB = "lock sub [rdi], eax";
    LOCK_INC = "lock inc dword ptr [rdi]";
    LOCK_DEC = "lock dec dword ptr [rdi]";
    LOCK_NOT = "lock not dword ptr [rdi]";
    LOCK_NEG = "lock neg dword ptr [rdi]";
    LOCK_BTS = "lock bts dword ptr [rdi], 3";
    LOCK_BTR = "lock btr dword ptr [rdi], 3";
    LOCK_BTC = "lock btc dword ptr [rdi], 3";
    LOCK_XADD = "lock xadd [rdi], eax";
    LOCK_CMPXCHG = "lock cmpxchg [rdi], ecx";
    STOSD = "stosd";
    MOVSD = "movsd";
    SETC_STORE = "stc", "setc [rdi]";
    LOCK_ILLEGAL = ".byte 0xf0", "mov [rdi], eax";
    // Strings: RSI, RDI and RCX as given.
    REP_MOVSB = "rep movsb";
    REP_MOVSW = "rep movsw";
    REP_MOVSD = "rep movsd";
    REP_MOVSQ = "rep movsq";
    REP_STOSB = "rep stosb";
    REP_STOSD = "rep stosd";
    REP_STOSQ = "rep stosq";
    REP_LODSD = "rep lodsd";
    REPE_SCASB = "repe scasb";
    REPNE_SCASB = "repne scasb";
    REPE_CMPSB = "repe cmpsb";
    REPNE_CMPSB = "repne cmpsb";
    REP_MOVSD_ADDRESS_32 = ".byte 0x67", "rep movsd";
    // Port strings: DX, RCX and the address as given.
    INSB = "insb";
    INSW = "insw";
    INSD = "insd";
    OUTSB = "outsb";
    REP_INSB = "rep insb";
    REP_INSW = "rep insw";
    REP_INSD = "rep insd";
    REP_OUTSB = "rep outsb";
    REP_OUTSW = "rep outsw";
    REP_OUTSD = "rep outsd";
    IN_IMMEDIATE = "in al, 0x61";
    IN_AX = "in ax, dx";
    IN_EAX = "in eax, dx";
    IN_AL = "in al, dx";
    OUT_AL = "out dx, al";
    // A step each: the trap flag is set in front of what is stepped over.
    STEP_NOP = "pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop", "nop";
    STEP_MMIO_LOAD = "pushfq", "or qword ptr [rsp], 0x100", "popfq", "mov eax, [rdi]", "nop";
    STEP_MMIO_STORE = "pushfq", "or qword ptr [rsp], 0x100", "popfq", "mov [rdi], eax", "nop";
    STEP_CPUID = "xor eax, eax", "xor ecx, ecx", "pushfq", "or qword ptr [rsp], 0x100", "popfq", "cpuid", "nop";
    STEP_RDMSR = "mov ecx, 0x1b", "pushfq", "or qword ptr [rsp], 0x100", "popfq", "rdmsr", "nop";
    STEP_IN = "pushfq", "or qword ptr [rsp], 0x100", "popfq", "in al, dx", "nop";
    STEP_OUT = "pushfq", "or qword ptr [rsp], 0x100", "popfq", "out dx, al", "nop";
    STEP_REP_INSB = "pushfq", "or qword ptr [rsp], 0x100", "popfq", "rep insb", "nop";
    STEP_REP_MOVSD = "pushfq", "or qword ptr [rsp], 0x100", "popfq", "rep movsd", "nop";
    STEP_MOV_CR4 = "mov rax, cr4", "pushfq", "or qword ptr [rsp], 0x100", "popfq", "mov cr4, rax", "nop";
    STEP_MOV_CR8 = "xor eax, eax", "pushfq", "or qword ptr [rsp], 0x100", "popfq", "mov cr8, rax", "nop";
    STEP_MOV_SS = "mov eax, ss", "pushfq", "or qword ptr [rsp], 0x100", "popfq", "mov ss, ax", "nop", "nop";
    STEP_MOV_SS_CPUID = "mov r8d, ss", "xor eax, eax", "xor ecx, ecx", "pushfq", "or qword ptr [rsp], 0x100", "popfq",
        "mov ss, r8w", "cpuid", "nop";
    STEP_MOV_SS_MMIO = "mov r8d, ss", "pushfq", "or qword ptr [rsp], 0x100", "popfq", "mov ss, r8w", "mov eax, [rdi]",
        "nop";
    STEP_POPF = "pushfq", "pushfq", "or qword ptr [rsp], 0x100", "popfq", "popfq", "nop";
    STEP_UD = "pushfq", "or qword ptr [rsp], 0x100", "popfq", "ud2";
    STEP_INT3 = "pushfq", "or qword ptr [rsp], 0x100", "popfq", "int3", "nop";
    STEP_STI = "pushfq", "or qword ptr [rsp], 0x100", "popfq", "sti", "nop";
    STEP_WBINVD = "pushfq", "or qword ptr [rsp], 0x100", "popfq", "wbinvd", "nop";
    STEP_INVLPG = "pushfq", "or qword ptr [rsp], 0x100", "popfq", "invlpg [rdi]", "nop";
    STEP_RDTSC = "pushfq", "or qword ptr [rsp], 0x100", "popfq", "rdtsc", "nop";
    STEP_PAUSE = "pushfq", "or qword ptr [rsp], 0x100", "popfq", "pause", "nop";
    STEP_XCHG_MMIO = "pushfq", "or qword ptr [rsp], 0x100", "popfq", "xchg [rdi], eax", "nop";
    // Others.
    INT1 = ".byte 0xf1";
    INT3 = "int3";
    TOUCH = "mov al, [rdi]";
    PUT_AL = "mov [rdi], al";
    NOPS = "nop", "nop", "nop";
    READ_DR4 = ".byte 0x0f, 0x21, 0xe0";
    READ_DR6 = "mov rax, dr6";
    MOV_SS_LOADED = "mov r8d, ss", "mov ss, r8w", "mov al, [rdi]";
    RESUME = "mov rax, rsp", "mov ecx, ss", "push rcx", "push rax", "pushfq", "or dword ptr [rsp], 0x10000",
        "mov ecx, cs", "push rcx", "lea rax, [rip + 4f]", "push rax", "iretq", "4:", "nop";
    CPUID = "xor eax, eax", "xor ecx, ecx", "cpuid";
    CLTS = "clts";
    LMSW = "lmsw ax";
    SMSW = "smsw eax";
    MOV_CR2 = "mov cr2, rax";
    READ_CR0 = "mov rax, cr0";
    READ_CR1 = ".byte 0x0f, 0x20, 0xc8";
    READ_CR5 = ".byte 0x0f, 0x20, 0xe8";
    READ_CR15 = ".byte 0x44, 0x0f, 0x20, 0xf8";
    READ_DR7 = "mov rax, dr7";
    UD2 = "ud2";
    UD1 = ".byte 0x0f, 0xb9, 0xc0";
    AAM = ".byte 0xd4, 0x0a";
    DAA = ".byte 0x27";
    INTO = ".byte 0xce";
    PUSH_CS = ".byte 0x0e";
    LOCK_NOP = ".byte 0xf0, 0x90";
    MOV_CS = ".byte 0x8e, 0xc8";
    MONITOR = "monitor";
    RDTSC = "rdtsc";
    RDTSCP = "rdtscp";
    RDPMC = "rdpmc";
    RDFSBASE = "rdfsbase rax";
    INVPCID = "invpcid rax, [rdi]";
    LOCK_XGETBV = ".byte 0xf0, 0x0f, 0x01, 0xd0";
    XSETBV = "mov eax, 1", "xor edx, edx", "xor ecx, ecx", "4:", "xsetbv";
    XSAVE = "xsave64 [rdi]";
    XSAVES = "xsaves64 [rdi]";
    XRSTORS = "xrstors64 [rdi]";
    XSAVES_XMM0 = "movd xmm0, ecx", "xsaves64 [rdi]";
    XRSTORS_XMM0 = "pxor xmm0, xmm0", "xrstors64 [rdi]", "movd ecx, xmm0";
    SYSEXIT = "sysexit";
    FNINIT = "fninit";
    FWAIT = "fwait";
    X87_INVALID = "fninit", "push 0x37e", "fldcw [rsp]", "pop rax", "fldz", "fldz", "fdivp", "fwait";
    XORPS = "xorps xmm0, xmm0";
    HLT = "hlt";
    CLI = "cli";
    STI = "sti";
    RDMSR = "rdmsr";
    WRMSR = "wrmsr";
    LGDT = "lgdt [rdi]";
    LTR = "ltr ax";
    LLDT = "lldt ax";
    INVLPG = "invlpg [rdi]";
    INVD = "invd";
    WBINVD = "wbinvd";
    SWAPGS = "swapgs";
    INT_80 = "int 0x80";
    POPF_ALL = "push 0x3202", "popfq", "pushfq", "pop rax";
    PKU_LOAD = "xor ecx, ecx", "xor edx, edx", "wrpkru", "mov al, [rdi]";
    PKU_STORE = "xor ecx, ecx", "xor edx, edx", "wrpkru", "mov [rdi], al";
    MOV_DS = "mov ds, ax";
    MOV_SS = "mov ss, ax";
    FAR_RETURN = "push rax", "lea rcx, [rip + 4f]", "push rcx", "retfq", "4:", "nop";
    LAR = "lar eax, ecx";
    LSL = "lsl eax, ecx";
    VERW = "verw cx";
    LOAD_RBP = "mov rax, [rbp]";
    JUMP = "jmp rdi";
    // 32-bit and 16-bit code.
    C32_INC = ".code32", "inc eax", ".code64";
    C32_AAM = ".code32", ".byte 0xd4, 0x0a", ".code64";
    C32_AAM_0 = ".code32", ".byte 0xd4, 0x00", ".code64";
    C32_INTO = ".code32", "mov eax, 0x7fffffff", "inc eax", ".byte 0xce", ".code64";
    C32_BOUND = ".code32", ".byte 0x62, 0x07", ".code64";
    C32_LOAD = ".code32", "mov eax, [edi]", ".code64";
    C32_LOAD_WRAP = ".code32", "mov eax, [edi - 0x20000000]", ".code64";
    C32_JUMP = ".code32", "jmp dword ptr [edi]", ".code64";
    C32_CALL = ".code32", "call dword ptr [edi]", ".code64";
    C32_RET = ".code32", "ret", ".code64";
    C32_IN = ".code32", "in eax, dx", ".code64";
    C32_LIMIT = ".code32", "mov fs, ax", "mov eax, fs:[edi]", ".code64";
    C32_STORE_FS = ".code32", "mov fs, ax", "mov fs:[edi], eax", ".code64";
    C16_INC = ".code16", "inc ax", ".code64";
}
