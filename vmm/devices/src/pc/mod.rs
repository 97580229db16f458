//! The virtual PC: every device, wired, behind [`Platform`].
//!
//! After each access, and after each timer, the interrupt lines that moved are carried to both interrupt
//! controllers, ISA interrupt 0 to pin 2 of the I/O APIC and every other to the pin of its number; PCI's lines to pins
//! of their own and, as the ISA bridge routes them, to the 8259s. The output of the 8259s goes to INTR, and to pin 0 of
//! the I/O APIC (Intel MultiProcessor Specification, "Virtual Wire Mode via I/O APIC"). Only the device
//! that was touched is asked for its new deadline: the path of a port access is short, whatever else there is.

mod firmware_memory;
mod firmware_ports;
mod hpet;
mod mmio;
mod pci_bus;
mod ports;
mod screen;
#[cfg(test)]
mod tests;

use arch::platform_layout::{
    AUXILIARY_IRQ, COM1_IRQ, KEYBOARD_IRQ, PM_TIMER_IS_32_BIT, RTC_IRQ, SCI_IRQ, TIMER_GSI, TIMER_IRQ,
};
use arch::{Gpa, Nanos, Port, Vector, Width};
use bus::{Attention, InterruptMessage, IrqBank, PipeEnd, Platform, PowerRequest, SavePlatform};

use firmware_memory::{FirmwareMemory, FirmwareMemoryState};
use memory::Arrangement;

pub use firmware_memory::{Firmware, windows as firmware_windows};

use crate::acpi_pm::{AcpiPm, AcpiPmState, TimerWidth};
use crate::debug_ports::{DebugConsole, DebugExit, DebugPorts, DebugPortsState};
use crate::fw_cfg::{FwCfg, FwCfgState};
use crate::hpet::{Hpet, HpetState};
use crate::i8042::{I8042, I8042State};
use crate::ioapic::{IoApic, IoApicState};
use crate::lanes::low_word;
use crate::pci::{PciHost, PciHostState, StartedBy};
use crate::pic::{PicPair, PicPairState};
use crate::pit::{Pit, PitState};
use crate::reset_control::{ResetControl, ResetControlState};
use crate::rtc::{MemorySizes, Rtc, RtcState};
use crate::scratch::{Scratch, ScratchState};
use crate::typist::{Stroke, Typist, TypistState};
use crate::uart::{Uart, UartState};
use crate::vga::VideoMemory;
use alloc::boxed::Box;
use alloc::sync::Arc;
use screen::VideoWindows;

/// What a PC is made from.
#[derive(Debug)]
pub struct PcConfig {
    /// The serial port's end of the console pipe.
    pub console: PipeEnd,
    /// The wall clock at machine time zero, in seconds since 1970, UTC.
    pub wall_clock_unix_s: u64,
    /// How much RAM there is, for the CMOS memory.
    pub memory: MemorySizes,
    /// Whether the guest can end its machine with a status.
    pub debug_exit: DebugExit,
    /// What becomes of text on the debug console.
    pub debug_console: DebugConsole,
    /// Whether there are functions for test programs.
    pub test_devices: TestDevices,
    /// The screen.
    pub screen: Screen,
    /// The firmware configuration device, if there is one.
    pub fw_cfg: Option<FwCfg>,
    /// Firmware that starts the machine; without it a kernel is loaded.
    pub firmware: Option<Firmware>,
}

/// What a machine shows pictures on.
#[derive(Debug)]
pub enum Screen {
    /// Nothing.
    Absent,
    /// A VGA.
    Vga {
        /// Its memory.
        memory: VideoMemory,
        /// Its BIOS.
        rom: Option<Arc<[u8]>>,
    },
}

/// Whether a machine has the devices that exist for test programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TestDevices {
    /// It has them.
    Present,
    /// It has not.
    Absent,
}

/// Everything about the machine's devices that a snapshot needs; the console pipe's contents are not part of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PcState {
    uart: UartState,
    pic: PicPairState,
    pit: PitState,
    rtc: RtcState,
    ioapic: IoApicState,
    acpi_pm: AcpiPmState,
    reset_control: ResetControlState,
    hpet: HpetState,
    i8042: I8042State,
    typist: Box<TypistState>,
    debug_ports: DebugPortsState,
    pci: PciHostState,
    fw_cfg: Option<FwCfgState>,
    firmware: Option<FirmwareMemoryState>,
    scratch: Option<ScratchState>,
    power_request: Option<PowerRequest>,
}

/// The devices that have timers, as indices of their deadlines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Timer {
    Uart,
    Pit,
    Rtc,
    AcpiPm,
    Hpet,
    Pci,
    FwCfg,
    Typist,
}

impl Timer {
    const ALL: [Self; 8] =
        [Self::Uart, Self::Pit, Self::Rtc, Self::AcpiPm, Self::Hpet, Self::Pci, Self::FwCfg, Self::Typist];
}

/// A PC's devices.
#[derive(Debug)]
pub struct Pc {
    uart: Uart,
    pic: PicPair,
    pit: Pit,
    rtc: Rtc,
    ioapic: IoApic,
    acpi_pm: AcpiPm,
    reset_control: ResetControl,
    hpet: Hpet,
    i8042: I8042,
    typist: Typist,
    debug_ports: DebugPorts,
    pci: PciHost,
    fw_cfg: Option<FwCfg>,
    firmware: Option<FirmwareMemory>,
    scratch: Option<Scratch>,

    lines: IrqBank,
    /// The levels that the controllers have seen.
    carried: u32,

    /// Each timer's deadline, by [`Timer`].
    deadlines: [Nanos; Timer::ALL.len()],
    /// The earliest of them.
    earliest: Nanos,
    attention: Attention,
    power_request: Option<PowerRequest>,
    video_windows: VideoWindows,
}

impl Pc {
    /// A PC at power-on, at machine time zero.
    pub fn new(config: PcConfig) -> Self {
        let lines = IrqBank::new();
        let scratch = match config.test_devices {
            TestDevices::Present => Some(Scratch::new()),
            TestDevices::Absent => None,
        };
        let started_by = if config.firmware.is_some() { StartedBy::Firmware } else { StartedBy::Loader };
        let timer_width = if PM_TIMER_IS_32_BIT { TimerWidth::Bits32 } else { TimerWidth::Bits24 };
        Self {
            uart: Uart::new(config.console, lines.line(COM1_IRQ)),
            pic: PicPair::new(),
            pit: Pit::new(lines.line(TIMER_IRQ)),
            rtc: Rtc::new(lines.line(RTC_IRQ), config.wall_clock_unix_s, config.memory),
            ioapic: IoApic::new(),
            acpi_pm: AcpiPm::new(timer_width, lines.line(SCI_IRQ)),
            reset_control: ResetControl::new(),
            hpet: Hpet::new(hpet::lines(&lines)),
            i8042: I8042::new(lines.line(KEYBOARD_IRQ), lines.line(AUXILIARY_IRQ)),
            typist: Typist::new(),
            debug_ports: DebugPorts::new(config.debug_exit, config.debug_console),
            pci: pci_bus::bus(&lines, config.test_devices, config.screen, started_by),
            fw_cfg: config.fw_cfg,
            firmware: config.firmware.map(FirmwareMemory::new),
            scratch,
            lines,
            carried: 0,
            deadlines: [Nanos::NEVER; Timer::ALL.len()],
            earliest: Nanos::NEVER,
            attention: Attention::empty(),
            power_request: None,
            video_windows: VideoWindows::new(),
        }
    }

    /// Looks at the console pipe: to be called when it got input, or room.
    pub fn console_input(&mut self, now: Nanos) {
        self.uart.poll(now);
        self.touched(Timer::Uart);
        self.carry_lines();
    }

    /// Presses the ACPI power button, which asks the guest's operating system to shut down.
    pub fn press_power_button(&mut self) {
        self.acpi_pm.press_power_button();
        self.touched(Timer::AcpiPm);
        self.carry_lines();
    }

    /// General-purpose event `number` (modulo 16) of ACPI happened.
    pub fn raise_general_event(&mut self, number: u8) {
        self.acpi_pm.raise_general_event(number);
        self.carry_lines();
    }

    /// The keys did what `codes` of scan code set 2 say, as [`I8042::keys`] explains. Returns whether they were taken.
    pub fn press_keys(&mut self, codes: &[u8]) -> bool {
        let taken = self.i8042.keys(codes);
        self.carry_lines();
        taken
    }

    /// Has `strokes` made at the keyboard, one after the other. Returns whether there was room: all are taken or none.
    pub fn type_keys(&mut self, strokes: &[Stroke], now: Nanos) -> bool {
        let taken = self.typist.enqueue(strokes, now);
        self.touched(Timer::Typist);
        taken
    }

    /// The last byte that the guest wrote to the diagnostic port: how far its firmware has come.
    pub fn diagnostic_code(&self) -> u8 {
        self.debug_ports.diagnostic()
    }

    /// Resets all devices, as the machine's reset line does. The clock keeps its time, the CMOS its memory, and the
    /// console pipe what it holds.
    pub fn reset(&mut self, now: Nanos) {
        self.uart.reset();
        self.pit.reset();
        self.rtc.reset(now);
        self.acpi_pm.reset(now);
        self.reset_control.reset();
        self.hpet.reset(now);
        self.i8042.reset();
        self.typist.reset();
        self.debug_ports.reset();
        self.pci.reset();
        if let Some(fw_cfg) = &mut self.fw_cfg {
            fw_cfg.reset();
        }
        if let Some(firmware) = &mut self.firmware {
            firmware.reset();
        }
        if let Some(scratch) = &mut self.scratch {
            scratch.reset();
        }
        self.look_at_memory();
        let _moved = self.lines.take_changes();
        let driven = self.lines.levels();
        let level = self.wired(driven);
        self.carried = level;
        self.pic.reset(self.pic_inputs(level, driven));
        self.ioapic.reset(self.pins(level));
        self.power_request = None;
        self.everything_changed();
    }

    /// The state of all devices, to be restored later.
    pub fn save(&self) -> PcState {
        PcState {
            uart: self.uart.save(),
            pic: self.pic.save(),
            pit: self.pit.save(),
            rtc: self.rtc.save(),
            ioapic: self.ioapic.save(),
            acpi_pm: self.acpi_pm.save(),
            reset_control: self.reset_control.save(),
            hpet: self.hpet.save(),
            i8042: self.i8042.save(),
            typist: self.typist.save(),
            debug_ports: self.debug_ports.save(),
            pci: self.pci.save(),
            fw_cfg: self.fw_cfg.as_ref().map(FwCfg::save),
            firmware: self.firmware.as_ref().map(FirmwareMemory::save),
            scratch: self.scratch.as_ref().map(Scratch::save),
            power_request: self.power_request,
        }
    }

    /// Becomes the PC that [`Self::save`] saw, at the machine time at which it did.
    pub fn restore(&mut self, state: &PcState) {
        self.uart.restore(&state.uart);
        self.pit.restore(&state.pit);
        self.rtc.restore(&state.rtc);
        self.acpi_pm.restore(&state.acpi_pm);
        self.reset_control.restore(&state.reset_control);
        self.hpet.restore(&state.hpet);
        self.i8042.restore(&state.i8042);
        self.typist.restore(&state.typist);
        self.debug_ports.restore(&state.debug_ports);
        self.pci.restore(&state.pci);
        if let (Some(fw_cfg), Some(state)) = (&mut self.fw_cfg, &state.fw_cfg) {
            fw_cfg.restore(state);
        }
        if let (Some(firmware), Some(state)) = (&mut self.firmware, &state.firmware) {
            firmware.restore(state);
        }
        if let (Some(scratch), Some(state)) = (&mut self.scratch, &state.scratch) {
            scratch.restore(state);
        }
        self.look_at_memory();
        // The controllers were saved with the lines as they are now: they have seen these levels.
        let _seen = self.lines.take_changes();
        self.carried = self.wired(self.lines.levels());
        self.pic.restore(&state.pic);
        self.ioapic.restore(&state.ioapic);
        self.power_request = state.power_request;
        self.everything_changed();
    }

    fn deadline_of(&self, timer: Timer) -> Nanos {
        match timer {
            Timer::Uart => self.uart.next_deadline(),
            Timer::Pit => self.pit.next_deadline(),
            Timer::Rtc => self.rtc.next_deadline(),
            Timer::AcpiPm => self.acpi_pm.next_deadline(),
            Timer::Hpet => self.hpet.next_deadline(),
            Timer::Pci => self.pci.next_deadline(),
            Timer::Typist => self.typist.next_deadline(),
            Timer::FwCfg => self.fw_cfg.as_ref().map_or(Nanos::NEVER, FwCfg::next_deadline),
        }
    }

    /// Asks a device that was touched for its deadline.
    #[inline]
    fn touched(&mut self, timer: Timer) {
        let deadline = self.deadline_of(timer);
        if deadline != self.deadlines[timer as usize] {
            self.deadline_moved(timer, deadline);
        }
    }

    #[cold]
    fn deadline_moved(&mut self, timer: Timer, deadline: Nanos) {
        self.deadlines[timer as usize] = deadline;
        let earliest = self.deadlines.iter().copied().min().unwrap_or(Nanos::NEVER);
        if earliest != self.earliest {
            self.earliest = earliest;
            self.attention |= Attention::DEADLINE;
        }
    }

    /// Carries moved interrupt lines to the controllers.
    #[inline]
    fn carry_lines(&mut self) {
        if let Some(changes) = self.lines.take_changes() {
            self.carry(changes.level, changes.rose);
        }
    }

    /// The devices drive their lines to `driven`, and those in `driven_up` went up in between.
    // Out of line: most accesses move no line, and their path is to stay short.
    #[inline(never)]
    fn carry(&mut self, driven: u32, driven_up: u32) {
        let level = self.wired(driven);
        // A line that was wired elsewhere until now may be up without having moved.
        let rose = self.wired(driven_up) | level & !self.carried;
        self.carried = level;
        self.ioapic.set_lines(self.pins(level), isa_pins(rose));
        self.notice_ioapic();
        let (level, rose) = (self.pic_inputs(level, driven), self.pic_inputs(rose, driven_up));
        self.change_pic(|pic| pic.set_lines(level, rose));
    }

    /// Lets `change` do something to the 8259 pair that may move its output.
    fn change_pic<R>(&mut self, change: impl FnOnce(&mut PicPair) -> R) -> R {
        let before = self.pic.output();
        let result = change(&mut self.pic);
        if self.pic.output() != before {
            self.intr_moved();
        }
        result
    }

    /// The 8259 pair's output, which is also at pin 0 of the I/O APIC, went up or down.
    #[inline(never)]
    fn intr_moved(&mut self) {
        self.attention |= Attention::INTERRUPT;
        self.ioapic.set_lines(self.pins(self.carried), 0);
    }

    /// The I/O APIC's pins, with the interrupt lines at `level`.
    fn pins(&self, level: u32) -> u32 {
        let intr = if self.pic.output() { INTR_PIN } else { 0 };
        isa_pins(level) | intr
    }

    fn notice_ioapic(&mut self) {
        if self.ioapic.has_message() {
            self.attention |= Attention::INTERRUPT;
        }
    }

    #[inline(never)]
    fn request_power(&mut self, request: Option<PowerRequest>) {
        if request.is_some() {
            self.power_request = request;
            self.attention |= Attention::POWER;
        }
    }

    fn everything_changed(&mut self) {
        self.video_windows.forget();
        for timer in Timer::ALL {
            self.deadlines[timer as usize] = self.deadline_of(timer);
        }
        self.earliest = self.deadlines.iter().copied().min().unwrap_or(Nanos::NEVER);
        self.attention = Attention::all();
    }
}

impl SavePlatform for Pc {
    type State = PcState;

    fn save(&self) -> PcState {
        self.save()
    }

    fn restore(&mut self, state: &PcState) {
        self.restore(state);
    }
}

impl Platform for Pc {
    fn port_read(&mut self, port: Port, width: Width, now: Nanos) -> u32 {
        let value = self.read_port(port.0, width, now);
        self.carry_lines();
        value
    }

    fn port_write(&mut self, port: Port, width: Width, value: u32, now: Nanos) {
        self.write_port(port.0, width, value, now);
        self.carry_lines();
    }

    fn mmio_read(&mut self, gpa: Gpa, width: Width, now: Nanos) -> u64 {
        self.read_mmio(gpa.get(), width, now)
    }

    fn mmio_write(&mut self, gpa: Gpa, width: Width, value: u64, now: Nanos) {
        self.write_mmio(gpa.get(), width, value, now);
    }

    fn end_of_interrupt(&mut self, vector: Vector, _now: Nanos) {
        self.ioapic.end_of_interrupt(vector);
        self.notice_ioapic();
    }

    fn advance(&mut self, now: Nanos) {
        if now < self.earliest {
            return;
        }
        for timer in Timer::ALL {
            if now < self.deadlines[timer as usize] {
                continue;
            }
            match timer {
                Timer::Uart => self.uart.advance(now),
                Timer::Pit => self.pit.advance(now),
                Timer::Rtc => self.rtc.advance(now),
                Timer::AcpiPm => self.acpi_pm.advance(now),
                Timer::Hpet => {
                    self.hpet.advance(now);
                    self.hpet_touched();
                }
                Timer::Pci => self.advance_pci(now),
                Timer::FwCfg => self.advance_fw_cfg(now),
                Timer::Typist => self.typist.advance(now, &mut self.i8042),
            }
            self.touched(timer);
        }
        self.carry_lines();
    }

    fn next_deadline(&self) -> Nanos {
        self.earliest
    }

    fn take_attention(&mut self) -> Attention {
        core::mem::replace(&mut self.attention, Attention::empty())
    }

    fn take_message(&mut self) -> Option<InterruptMessage> {
        self.ioapic.take_message().or_else(|| self.hpet.take_message()).or_else(|| self.pci.take_message())
    }

    fn external_interrupt(&self) -> bool {
        self.pic.output()
    }

    fn acknowledge_external_interrupt(&mut self) -> Vector {
        let vector = self.change_pic(PicPair::acknowledge);
        if self.pic.output() {
            // It goes down with the acknowledge, and up again for what else is requested.
            self.ioapic.set_lines(self.pins(self.carried), INTR_PIN);
            self.notice_ioapic();
        }
        vector
    }

    fn take_power_request(&mut self) -> Option<PowerRequest> {
        self.power_request.take()
    }

    fn arrangement(&self) -> Arrangement {
        let shown = self.shown_memory();
        Arrangement {
            generation: shown.generation + self.video_windows.generation(),
            video: self.video_windows.shown(),
            ..shown
        }
    }
}

/// The pin of the I/O APIC that the 8259 pair drives, as a bit.
const INTR_PIN: u32 = 1 << 0;

/// Interrupt lines as I/O APIC pins: ISA interrupt 0 is at [`TIMER_GSI`], whose place is free as 2 is the 8259s' cascade.
fn isa_pins(lines: u32) -> u32 {
    const MOVED: u32 = 1 << TIMER_IRQ | 1 << TIMER_GSI;
    let timer = (lines >> TIMER_IRQ) & 1;
    low_word(u64::from(lines & !MOVED | timer << TIMER_GSI))
}
