//! The hypercalls of KVM: number in RAX, arguments in RBX, RCX, RDX and RSI, result in RAX.
//!
//! The Linux Kernel documentation, "Linux KVM Hypercall". KVM_HC_KICK_CPU is answered as on a KVM that does not offer
//! KVM_FEATURE_PV_UNHALT: there is no such call, and nobody halts for want of a kick.

use super::ipi::{self, SendIpi};
use super::spec::{CallError, Features, call};
use arch::{Gpr, Gprs};

/// How wide a caller's registers are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallMode {
    /// Any mode but 64-bit mode: numbers, arguments and results have 32 bits.
    Bits32,
    /// 64-bit mode: CS.L in long mode.
    Bits64,
}

/// What a hypercall asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hypercall {
    /// It is done: put this into RAX.
    Done(u64),
    /// Send an interrupt, and put the number of processors that got it into RAX.
    SendIpi(SendIpi),
}

/// The first four arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Arguments(pub(super) [u64; 4]);

/// Whether a call of this number may exist: a quick look, for those that do not.
#[inline]
pub const fn may_be_call(number: u32) -> bool {
    number as u64 <= call::SEND_IPI
}

/// Decodes the hypercall of a guest with `gprs` at privilege level `cpl`.
pub(super) fn decode(offered: Features, gprs: &Gprs, cpl: u8, mode: CallMode) -> Hypercall {
    let mask = match mode {
        CallMode::Bits32 => u64::from(u32::MAX),
        CallMode::Bits64 => u64::MAX,
    };
    let outcome = if cpl != 0 {
        Err(CallError::NotPermitted)
    } else {
        match gprs.get(Gpr::Rax) & mask {
            call::POLL_IRQ => return Hypercall::Done(0),
            call::SEND_IPI if offered.contains(Features::SEND_IPI) => {
                let arguments = [Gpr::Rbx, Gpr::Rcx, Gpr::Rdx, Gpr::Rsi].map(|gpr| gprs.get(gpr) & mask);
                ipi::decode(&Arguments(arguments), mode)
            }
            _ => Err(CallError::NoSuchCall),
        }
    };
    match outcome {
        Ok(ipi) => Hypercall::SendIpi(ipi),
        Err(error) => Hypercall::Done(u64::from_ne_bytes((error as i64).to_ne_bytes()) & mask),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(rax: u64, cpl: u8, mode: CallMode) -> Hypercall {
        let mut gprs = Gprs::default();
        gprs.set(Gpr::Rax, rax);
        decode(Features::SOFTWARE_APIC, &gprs, cpl, mode)
    }

    #[test]
    fn an_unknown_call_is_refused_in_the_width_of_the_caller() {
        for number in [0, 2, 4, 5, 9, 11, 12, u64::MAX] {
            let refused = Hypercall::Done(1000_u64.wrapping_neg());
            assert_eq!(call(number, 0, CallMode::Bits64), refused, "{number}");
            assert_eq!(call(number, 0, CallMode::Bits32), Hypercall::Done(0xffff_fc18), "{number}");
        }
    }

    #[test]
    fn applications_may_not_call() {
        for (number, cpl) in [(1, 3), (10, 1), (99, 3)] {
            assert_eq!(call(number, cpl, CallMode::Bits64), Hypercall::Done(u64::MAX));
            assert_eq!(call(number, cpl, CallMode::Bits32), Hypercall::Done(0xffff_ffff));
        }
    }

    #[test]
    fn a_poll_does_nothing() {
        assert_eq!(call(1, 0, CallMode::Bits64), Hypercall::Done(0));
    }

    #[test]
    fn upper_halves_count_in_64_bit_mode_alone() {
        let mut gprs = Gprs::default();
        gprs.set(Gpr::Rax, 1 << 32 | 10);
        gprs.set(Gpr::Rbx, 1 << 32 | 1);
        gprs.set(Gpr::Rcx, 1 << 32);
        gprs.set(Gpr::Rdx, 1 << 32 | 2);
        gprs.set(Gpr::Rsi, 0xfd);
        let decode = |mode| decode(Features::SOFTWARE_APIC, &gprs, 0, mode);
        assert_eq!(decode(CallMode::Bits64), Hypercall::Done(1000_u64.wrapping_neg()));
        let Hypercall::SendIpi(ipi) = decode(CallMode::Bits32) else { panic!("call 10") };
        assert_eq!(ipi.targets.collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn an_ipi_that_is_not_offered_or_not_valid_is_not_sent() {
        let mut gprs = Gprs::default();
        gprs.set(Gpr::Rax, 10);
        gprs.set(Gpr::Rsi, 1 << 11);
        let invalid = Hypercall::Done(22_u64.wrapping_neg());
        assert_eq!(decode(Features::SOFTWARE_APIC, &gprs, 0, CallMode::Bits64), invalid);
        let absent = Hypercall::Done(1000_u64.wrapping_neg());
        assert_eq!(decode(Features::empty(), &gprs, 0, CallMode::Bits64), absent);
    }
}
