//! The registers behind the legacy ports.

use super::VgaState;
use super::spec::{Misc, Status1, VgaPort, attribute, crtc, graphics, sequencer};
use arch::Nanos;

/// A picture takes this long, in nanoseconds: 70 Hz.
pub(super) const FRAME_NS: u64 = 14_285_714;
/// Lines of it, of which those from [`FIRST_HIDDEN`] on are the return to the top. A monitor's retrace is two of
/// them; here it is all, so that a guest that waits for it need not look at just that moment.
const LINES: u64 = 449;
const FIRST_HIDDEN: u64 = 400;

/// Registers behind an index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Indexed<const N: usize> {
    pub(super) index: u8,
    pub(super) values: [u8; N],
}

impl<const N: usize> Indexed<N> {
    pub(super) const fn new(values: [u8; N]) -> Self {
        Self { index: 0, values }
    }

    fn get(&self) -> u8 {
        self.values.get(usize::from(self.index)).copied().unwrap_or(0)
    }

    fn set(&mut self, value: u8, kept: &[u8; N]) {
        let index = usize::from(self.index);
        if let (Some(register), Some(kept)) = (self.values.get_mut(index), kept.get(index)) {
            *register = value & kept;
        }
    }
}

/// The palette, and the way to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Dac {
    pub(super) mask: u8,
    /// Red, green and blue of each entry.
    pub(super) palette: [[u8; 3]; 256],
    write: (u8, u8),
    read: (u8, u8),
    /// What the state register says: 3 after the read address was set, 0 after the write address was.
    state: u8,
}

impl Dac {
    pub(super) const fn new(palette: [[u8; 3]; 256]) -> Self {
        Self { mask: 0xff, palette, write: (0, 0), read: (0, 0), state: 0 }
    }

    fn read_data(&mut self) -> u8 {
        let (entry, component) = self.read;
        self.read = next(self.read);
        self.palette[usize::from(entry)][usize::from(component % 3)]
    }

    fn write_data(&mut self, value: u8) {
        let (entry, component) = self.write;
        self.write = next(self.write);
        self.palette[usize::from(entry)][usize::from(component % 3)] = value;
    }
}

/// The component after this one.
const fn next((entry, component): (u8, u8)) -> (u8, u8) {
    if component >= 2 { (entry.wrapping_add(1), 0) } else { (entry, component + 1) }
}

impl VgaState {
    pub(super) fn read_port(&mut self, port: u16, now: Nanos) -> u8 {
        match VgaPort::at(port, self.misc.contains(Misc::COLOUR)) {
            VgaPort::CrtcIndex => self.crtc.index,
            VgaPort::CrtcData => self.crtc.get(),
            VgaPort::Status1 => {
                self.attribute_data = false;
                status_1(now).bits()
            }
            VgaPort::Attribute => self.attribute.index,
            VgaPort::AttributeRead => {
                let index = self.attribute.index & 0x1f;
                self.attribute.values.get(usize::from(index)).copied().unwrap_or(0)
            }
            // A monitor with colours is there; no interrupt is pending.
            VgaPort::Misc => 0x10,
            VgaPort::SequencerIndex => self.sequencer.index,
            VgaPort::SequencerData => self.sequencer.get(),
            VgaPort::PixelMask => self.dac.mask,
            VgaPort::DacState => self.dac.state,
            VgaPort::DacWriteAddress => self.dac.write.0,
            VgaPort::DacData => self.dac.read_data(),
            VgaPort::FeatureRead => self.feature,
            VgaPort::MiscRead => self.misc.bits(),
            VgaPort::GraphicsIndex => self.graphics.index,
            VgaPort::GraphicsData => self.graphics.get(),
            VgaPort::Nothing => 0xff,
        }
    }

    pub(super) fn write_port(&mut self, port: u16, value: u8) {
        match VgaPort::at(port, self.misc.contains(Misc::COLOUR)) {
            VgaPort::CrtcIndex => self.crtc.index = value & 0x1f,
            VgaPort::CrtcData => self.write_crtc(value),
            VgaPort::Status1 => self.feature = value & 0x0b,
            VgaPort::Attribute => self.write_attribute(value),
            VgaPort::Misc => self.misc = Misc::from_bits_retain(value & 0xef),
            VgaPort::SequencerIndex => self.sequencer.index = value & 7,
            VgaPort::SequencerData => self.sequencer.set(value, &sequencer::KEPT),
            VgaPort::PixelMask => self.dac.mask = value,
            VgaPort::DacState => {
                self.dac.read = (value, 0);
                self.dac.state = 3;
            }
            VgaPort::DacWriteAddress => {
                self.dac.write = (value, 0);
                self.dac.state = 0;
            }
            VgaPort::DacData => {
                let kept = if self.dispi.has_8_bit_palette() { 0xff } else { 0x3f };
                self.dac.write_data(value & kept);
            }
            VgaPort::GraphicsIndex => self.graphics.index = value & 0xf,
            VgaPort::GraphicsData => self.graphics.set(value, &graphics::KEPT),
            VgaPort::AttributeRead | VgaPort::FeatureRead | VgaPort::MiscRead | VgaPort::Nothing => {}
        }
    }

    fn write_crtc(&mut self, value: u8) {
        let index = usize::from(self.crtc.index);
        let is_protected =
            self.crtc.values[crtc::RETRACE_END] & crtc::PROTECT != 0 && index <= crtc::OVERFLOW;
        let kept = match (is_protected, index) {
            (false, _) => 0xff,
            (true, crtc::OVERFLOW) => crtc::LINE_COMPARE_8,
            (true, _) => 0,
        };
        if let Some(register) = self.crtc.values.get_mut(index) {
            *register = (*register & !kept) | (value & kept);
        }
    }

    fn write_attribute(&mut self, value: u8) {
        let is_data = self.attribute_data;
        self.attribute_data = !is_data;
        if !is_data {
            self.attribute.index = value & 0x3f;
            return;
        }
        let kept = match usize::from(self.attribute.index & 0x1f) {
            // The palette is software's while the picture does not use it.
            0..attribute::MODE if self.attribute.index & attribute::PALETTE_IN_USE != 0 => return,
            0..attribute::MODE | attribute::PLANES => 0x3f,
            attribute::MODE => 0xef,
            attribute::OVERSCAN => 0xff,
            attribute::PANNING | attribute::COLOUR_SELECT => 0x0f,
            _ => return,
        };
        self.attribute.values[usize::from(self.attribute.index & 0x1f)] = value & kept;
    }
}

/// Where the beam is at `now`.
fn status_1(now: Nanos) -> Status1 {
    // In 449ths of a line, to be exact without large numbers.
    let line_at = now.0 % FRAME_NS * LINES;
    let (line, into) = (line_at / FRAME_NS, line_at % FRAME_NS);
    // A fifth of each line is the return to its left.
    let horizontal = into >= FRAME_NS / 5 * 4;
    let mut status = Status1::empty();
    status.set(Status1::VERTICAL_RETRACE, line >= FIRST_HIDDEN);
    status.set(Status1::DISPLAY_OFF, line >= FIRST_HIDDEN || horizontal);
    status
}
