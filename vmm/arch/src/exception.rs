//! Interrupt vectors and the exceptions that software can observe.
//!
//! SDM Vol. 3A, "Exception and Interrupt Reference".

/// An interrupt vector, 0 to 255.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Vector(pub u8);

/// A fault or trap to deliver to a guest, with what the CPU would push or set for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exception {
    /// #DE, vector 0.
    DivideError,
    /// #DB, vector 1, with the DR6 bits to set.
    Debug {
        /// Bits to merge into DR6.
        dr6: u64,
    },
    /// #BP, vector 3.
    Breakpoint,
    /// #OF, vector 4.
    Overflow,
    /// #BR, vector 5.
    BoundRange,
    /// #UD, vector 6.
    InvalidOpcode,
    /// #NM, vector 7.
    DeviceNotAvailable,
    /// #DF, vector 8; its error code is always 0.
    DoubleFault,
    /// #TS, vector 10, with its error code.
    InvalidTss(u32),
    /// #NP, vector 11, with its error code.
    SegmentNotPresent(u32),
    /// #SS, vector 12, with its error code.
    StackFault(u32),
    /// #GP, vector 13, with its error code.
    GeneralProtection(u32),
    /// #PF, vector 14.
    PageFault {
        /// The error code (SDM Vol. 3A, "Page-Fault Error Code").
        error_code: u32,
        /// The linear address for CR2.
        address: u64,
    },
    /// #MF, vector 16.
    FloatingPoint,
    /// #AC, vector 17; its error code is always 0 for user alignment checks.
    AlignmentCheck,
    /// #MC, vector 18.
    MachineCheck,
    /// #XM, vector 19.
    SimdFloatingPoint,
}

impl Exception {
    /// The vector that the exception is delivered through.
    pub const fn vector(self) -> Vector {
        Vector(match self {
            Self::DivideError => 0,
            Self::Debug { .. } => 1,
            Self::Breakpoint => 3,
            Self::Overflow => 4,
            Self::BoundRange => 5,
            Self::InvalidOpcode => 6,
            Self::DeviceNotAvailable => 7,
            Self::DoubleFault => 8,
            Self::InvalidTss(_) => 10,
            Self::SegmentNotPresent(_) => 11,
            Self::StackFault(_) => 12,
            Self::GeneralProtection(_) => 13,
            Self::PageFault { .. } => 14,
            Self::FloatingPoint => 16,
            Self::AlignmentCheck => 17,
            Self::MachineCheck => 18,
            Self::SimdFloatingPoint => 19,
        })
    }

    /// The error code that is pushed, or `None` for exceptions that push none.
    pub const fn error_code(self) -> Option<u32> {
        match self {
            Self::DivideError
            | Self::Debug { .. }
            | Self::Breakpoint
            | Self::Overflow
            | Self::BoundRange
            | Self::InvalidOpcode
            | Self::DeviceNotAvailable
            | Self::FloatingPoint
            | Self::MachineCheck
            | Self::SimdFloatingPoint => None,
            Self::DoubleFault | Self::AlignmentCheck => Some(0),
            Self::InvalidTss(code)
            | Self::SegmentNotPresent(code)
            | Self::StackFault(code)
            | Self::GeneralProtection(code)
            | Self::PageFault { error_code: code, .. } => Some(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_fault_pushes_its_error_code() {
        let fault = Exception::PageFault { error_code: 7, address: 0x1000 };
        assert_eq!(fault.vector(), Vector(14));
        assert_eq!(fault.error_code(), Some(7));
    }

    #[test]
    fn double_fault_pushes_zero() {
        assert_eq!(Exception::DoubleFault.error_code(), Some(0));
    }
}
