//! The devices of the virtual PC, as state machines without I/O: each is handed register accesses, bytes and the
//! time, and answers with values, interrupt-line levels and its next deadline.
//!
//! [`Pc`] wires them together behind [`bus::Platform`]. Every device lives in a folder of its own: `mod.rs` the
//! state machine, `spec.rs` the layouts of its datasheet, `tests.rs` its tests. Every device can be saved and
//! restored at any moment, as plain data.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

extern crate alloc;

mod acpi_pm;
mod clock;
mod debug_ports;
mod flash;
mod fw_cfg;
mod hpet;
mod i8042;
mod ioapic;
mod lanes;
mod pc;
mod pci;
mod pic;
mod pit;
mod reset_control;
mod rtc;
mod scratch;
mod typist;
mod uart;
mod vga;

/// Where the devices are; shared with the builder of the firmware tables.
pub use arch::platform_layout as layout;

pub use acpi_pm::{AcpiPm, AcpiPmState, TimerWidth};
pub use debug_ports::{DebugConsole, DebugExit, DebugPorts, DebugPortsState};
pub use flash::{Flash, FlashState};
pub use fw_cfg::{Contents, DmaMemory, FileRefused, FwCfg, FwCfgState, Item};
pub use hpet::{Hpet, HpetLines, HpetState};
pub use i8042::{I8042, I8042Port, I8042State};
pub use ioapic::{IoApic, IoApicState};
pub use pc::{Firmware, Pc, PcConfig, PcState, Screen, TestDevices, firmware_windows};
pub use pci::{
    Bar, BarKind, ConfigSpace, ConfigSpaceState, Delivery, Endpoint, EndpointState, Function,
    FunctionAddress, FunctionLayout, FunctionState, Identity, InterruptPin, MsiState, MsixLayout, MsixState,
    PAM_SEGMENTS, PamSegment, PciDevice, PciHost, PciHostState, Signals, StartedBy, TestFunction,
    TestFunctionState,
};
pub use pic::{Chip, PicPair, PicPairState};
pub use pit::{Pit, PitState};
pub use reset_control::{ResetControl, ResetControlState, Trigger};
pub use rtc::{MemorySizes, Rtc, RtcState};
pub use scratch::{Scratch, ScratchState};
pub use typist::{STROKE_BYTES, Stroke, TypistState};
pub use uart::{Uart, UartState};
pub use vga::{TextScreen, VIDEO_MEMORY_BYTES, Vga, VgaState, VideoMemory, View};
