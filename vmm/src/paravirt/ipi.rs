//! PV IPI: one hypercall sends an interrupt to up to 128 processors.
//!
//! The Linux Kernel documentation, "Linux KVM Hypercall", KVM_HC_SEND_IPI.

use super::hypercall::{Arguments, CallMode};
use super::spec::CallError;
use arch::Vector;
use bus::{DeliveryMode, Destination, InterruptMessage, TriggerMode};

/// An interrupt for a set of processors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SendIpi {
    /// What is sent. Its destination is that of the first target and means nothing: [`Self::targets`] counts.
    pub message: InterruptMessage,
    /// To whom. The sender may be among them.
    pub targets: Targets,
}

/// The APIC IDs of the processors that an IPI is for, ascending; at most 128. They are as the guest wrote them:
/// many, or all, may not exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Targets {
    first: u32,
    bits: u128,
}

impl Iterator for Targets {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        if self.bits == 0 {
            return None;
        }
        let index = self.bits.trailing_zeros();
        self.bits &= self.bits - 1;
        let id = self.first.checked_add(index);
        if id.is_none() {
            // All further ones lie past the end as well.
            self.bits = 0;
        }
        id
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, usize::try_from(self.bits.count_ones()).ok())
    }
}

// The interrupt command register (SDM Vol. 3A, "Interrupt Command Register (ICR)").
const LOGICAL: u64 = 1 << 11;
const ASSERT: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const SHORTHAND: u64 = 3 << 18;

/// Decodes the arguments: bitmap, its second half, the APIC ID of its first bit, and the ICR.
pub(super) fn decode(arguments: &Arguments, mode: CallMode) -> Result<SendIpi, CallError> {
    let [low, high, first, command] = arguments.0;
    if command & (LOGICAL | SHORTHAND) != 0 {
        return Err(CallError::Invalid);
    }
    let delivery = match command >> 8 & 7 {
        0 => DeliveryMode::Fixed,
        1 => DeliveryMode::LowestPriority,
        2 => DeliveryMode::Smi,
        4 => DeliveryMode::Nmi,
        5 => DeliveryMode::Init,
        6 => DeliveryMode::StartUp,
        // Reserved, and ExtINT, which no IPI can carry.
        _ => return Err(CallError::Invalid),
    };
    let half = match mode {
        CallMode::Bits32 => 32,
        CallMode::Bits64 => 64,
    };
    // KVM takes the low 32 bits of the APIC ID.
    let first = low_u32(first);
    let deasserts = command & LEVEL != 0 && command & ASSERT == 0;
    let bits = if delivery == DeliveryMode::Init && deasserts {
        // INIT level de-assert: only old processors act on it.
        0
    } else {
        u128::from(low) | u128::from(high) << half
    };
    let message = InterruptMessage {
        destination: Destination::Physical(first),
        mode: delivery,
        // The trigger mode of an IPI is edge, whatever the register says.
        trigger: TriggerMode::Edge,
        vector: Vector(command.to_le_bytes()[0]),
    };
    Ok(SendIpi { message, targets: Targets { first, bits } })
}

fn low_u32(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn targets(arguments: [u64; 4], mode: CallMode) -> Vec<u32> {
        decode(&Arguments(arguments), mode).expect("valid").targets.collect()
    }

    #[test]
    fn both_halves_of_the_bitmap_count_from_the_first_id() {
        let ids = targets([1 | 1 << 63, 0b11, 7, 0xfd], CallMode::Bits64);
        assert_eq!(ids, [7, 70, 71, 72]);
    }

    #[test]
    fn halves_are_32_bits_wide_outside_of_64_bit_mode() {
        assert_eq!(targets([1 << 31, 1, 0, 0xfd], CallMode::Bits32), [31, 32]);
    }

    #[test]
    fn the_message_is_what_the_command_says() {
        let message =
            |command| decode(&Arguments([1, 0, 3, command]), CallMode::Bits64).map(|ipi| ipi.message);
        let fixed = message(0xfb).expect("valid");
        assert_eq!((fixed.mode, fixed.vector), (DeliveryMode::Fixed, Vector(0xfb)));
        assert_eq!(fixed.destination, Destination::Physical(3));
        assert_eq!(message(0x400).map(|nmi| nmi.mode), Ok(DeliveryMode::Nmi));
        assert_eq!(message(0x80fd).map(|level| level.trigger), Ok(TriggerMode::Edge));
    }

    #[test]
    fn what_only_a_local_apic_can_send_is_invalid() {
        for command in [1 << 11, 1 << 18, 2 << 18, 3 << 18, 0x300, 0x700] {
            let refused = decode(&Arguments([1, 0, 0, command]), CallMode::Bits64);
            assert_eq!(refused, Err(CallError::Invalid), "{command:#x}");
        }
    }

    #[test]
    fn an_init_deassert_goes_to_nobody() {
        assert!(targets([1, 0, 0, 0x8500], CallMode::Bits64).is_empty());
        assert_eq!(targets([1, 0, 0, 0xc500], CallMode::Bits64), [0]);
    }

    #[test]
    fn ids_past_the_end_are_left_out() {
        let last = u64::from(u32::MAX);
        assert_eq!(targets([0b11, u64::MAX, last, 0xfd], CallMode::Bits64), [u32::MAX]);
    }

    proptest! {
        #[test]
        fn targets_are_the_bits_that_are_set(low: u64, high: u64, first in 0..10_000_u32) {
            let ids = targets([low, high, u64::from(first), 0xfd], CallMode::Bits64);
            let bits = u128::from(low) | u128::from(high) << 64;
            let expected: Vec<u32> =
                (0..128).filter(|bit| bits & 1 << bit != 0).map(|bit| first + bit).collect();
            prop_assert_eq!(ids, expected);
        }
    }
}
