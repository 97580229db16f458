//! One 8259A: request, service and mask registers, priorities, command words.

use super::spec::{CASCADE, Icw1, Icw4, Ocw2, Ocw3, SPURIOUS};
use crate::lanes::low_byte;

/// The initialization word that the next write to the odd port is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expecting {
    /// None: a write is the mask.
    Mask,
    Icw2,
    Icw3,
    Icw4,
}

/// What the next read of the even port gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ReadSelect {
    Requests,
    InService,
}

/// The registers of one chip.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Registers {
    /// Levels of the inputs.
    lines: u8,
    /// Edges that were seen and not yet acknowledged.
    edges: u8,
    /// Inputs that the chipset makes level-triggered.
    pub(super) elcr: u8,
    in_service: u8,
    mask: u8,
    vector_base: u8,
    /// The input with the lowest priority; the next one has the highest.
    lowest: u8,
    icw1: Icw1,
    icw4: Icw4,
    expecting: Expecting,
    read_select: ReadSelect,
    poll: bool,
    special_mask: bool,
    rotate_in_auto_eoi: bool,
}

impl Registers {
    /// The chip at power-on. Hardware leaves this undefined; everything is masked here, so that nothing happens
    /// before the guest has programmed the chip.
    pub(super) fn after_reset(elcr: u8) -> Self {
        Self {
            lines: 0,
            edges: 0,
            elcr,
            in_service: 0,
            mask: 0xff,
            vector_base: 0,
            lowest: 7,
            icw1: Icw1::empty(),
            icw4: Icw4::empty(),
            expecting: Expecting::Mask,
            read_select: ReadSelect::Requests,
            poll: false,
            special_mask: false,
            rotate_in_auto_eoi: false,
        }
    }

    /// The inputs are now at `lines`; those in `rose` went up since the last call, perhaps down again.
    pub(super) fn set_lines(&mut self, lines: u8, rose: u8) {
        let fell = self.lines & !lines;
        // An input must stay up until it is acknowledged; one that falls withdraws its request. A pulse that
        // rose and fell between two looks counts as an edge.
        self.edges = (self.edges & !fell) | rose;
        self.lines = lines;
    }

    /// Whether the chip was told that there is no other.
    pub(super) fn is_single(&self) -> bool {
        self.icw1.contains(Icw1::SINGLE)
    }

    /// The inputs for which a reset keeps the level.
    pub(super) fn lines(&self) -> u8 {
        self.lines
    }

    /// Whether INT is asserted.
    pub(super) fn output(&self) -> bool {
        self.highest_request().is_some()
    }

    /// The INTA cycle: the acknowledged input, `None` if the request went away.
    pub(super) fn acknowledge(&mut self) -> Option<u8> {
        let input = self.highest_request()?;
        let bit = 1 << input;
        self.edges &= !bit;
        if self.icw4.contains(Icw4::AUTO_EOI) {
            if self.rotate_in_auto_eoi {
                self.lowest = input;
            }
        } else {
            self.in_service |= bit;
        }
        Some(input)
    }

    /// The vector of `input`.
    pub(super) fn vector(&self, input: u8) -> u8 {
        self.vector_base | (input & 7)
    }

    pub(super) fn read(&mut self, odd_port: bool) -> u8 {
        if self.poll {
            self.poll = false;
            return match self.acknowledge() {
                Some(input) => 0x80 | input,
                None => SPURIOUS,
            };
        }
        if odd_port {
            return self.mask;
        }
        match self.read_select {
            ReadSelect::Requests => self.requests(),
            ReadSelect::InService => self.in_service,
        }
    }

    pub(super) fn write(&mut self, odd_port: bool, value: u8) {
        if odd_port {
            self.write_odd(value);
        } else if value & Icw1::THIS_IS_ICW1.bits() != 0 {
            self.initialize(Icw1::from_bits_truncate(value));
        } else if value & Ocw3::THIS_IS_OCW3.bits() != 0 {
            self.operate(Ocw3::from_bits_truncate(value));
        } else {
            self.end_of_interrupt(Ocw2::decode(value));
        }
    }

    fn initialize(&mut self, icw1: Icw1) {
        // Datasheet, "Initialization Command Words 1 and 2": what ICW1 resets.
        self.edges = 0;
        self.mask = 0;
        self.in_service = 0;
        self.lowest = 7;
        self.special_mask = false;
        self.rotate_in_auto_eoi = false;
        self.poll = false;
        self.read_select = ReadSelect::Requests;
        self.icw1 = icw1;
        self.icw4 = Icw4::empty();
        self.expecting = Expecting::Icw2;
    }

    fn write_odd(&mut self, value: u8) {
        match self.expecting {
            Expecting::Mask => self.mask = value,
            Expecting::Icw2 => {
                self.vector_base = value & 0xf8;
                self.expecting =
                    if self.icw1.contains(Icw1::SINGLE) { self.after_icw3() } else { Expecting::Icw3 };
            }
            // The cascade is wired, to input 2; what ICW3 says about it changes nothing.
            Expecting::Icw3 => self.expecting = self.after_icw3(),
            Expecting::Icw4 => {
                self.icw4 = Icw4::from_bits_truncate(value);
                self.expecting = Expecting::Mask;
            }
        }
    }

    fn after_icw3(&self) -> Expecting {
        if self.icw1.contains(Icw1::NEEDS_ICW4) { Expecting::Icw4 } else { Expecting::Mask }
    }

    fn operate(&mut self, ocw3: Ocw3) {
        if ocw3.contains(Ocw3::SPECIAL_MASK_COMMAND) {
            self.special_mask = ocw3.contains(Ocw3::SPECIAL_MASK);
        }
        // Poll overrides a read command in the same word.
        if ocw3.contains(Ocw3::POLL) {
            self.poll = true;
        } else if ocw3.contains(Ocw3::READ_COMMAND) {
            self.read_select =
                if ocw3.contains(Ocw3::READ_ISR) { ReadSelect::InService } else { ReadSelect::Requests };
        }
    }

    fn end_of_interrupt(&mut self, command: Ocw2) {
        match command {
            Ocw2::RotateInAutoEoiOff => self.rotate_in_auto_eoi = false,
            Ocw2::RotateInAutoEoiOn => self.rotate_in_auto_eoi = true,
            Ocw2::NonSpecificEoi => {
                let _ended = self.end_highest();
            }
            Ocw2::RotateOnNonSpecificEoi => {
                if let Some(input) = self.end_highest() {
                    self.lowest = input;
                }
            }
            Ocw2::SpecificEoi(input) => self.in_service &= !(1 << input),
            Ocw2::RotateOnSpecificEoi(input) => {
                self.in_service &= !(1 << input);
                self.lowest = input;
            }
            Ocw2::SetPriority(input) => self.lowest = input,
            Ocw2::NoOperation => {}
        }
    }

    /// Ends the interrupt of the highest priority in service; one that special mask mode hides is not ended.
    fn end_highest(&mut self) -> Option<u8> {
        let input = self.highest_of(self.inhibiting())?;
        self.in_service &= !(1 << input);
        Some(input)
    }

    /// Inputs that request service, masked or not.
    fn requests(&self) -> u8 {
        // ICW1's bit for level triggering has no effect in a PC: the ELCR says it of each line.
        (self.edges & !self.elcr) | (self.lines & self.elcr)
    }

    /// Inputs in service that keep lower priorities from being served.
    fn inhibiting(&self) -> u8 {
        if self.special_mask { self.in_service & !self.mask } else { self.in_service }
    }

    fn highest_request(&self) -> Option<u8> {
        if self.expecting != Expecting::Mask {
            return None;
        }
        let input = self.highest_of(self.requests() & !self.mask)?;
        let allowed = match self.highest_of(self.inhibiting()) {
            None => true,
            Some(serving) => {
                let (requested, serving) = (self.rank(input), self.rank(serving));
                // In special fully nested mode the secondary may interrupt its own service.
                requested < serving
                    || (requested == serving
                        && input == CASCADE
                        && self.icw4.contains(Icw4::SPECIAL_FULLY_NESTED))
            }
        };
        allowed.then_some(input)
    }

    /// 0 for the input with the highest priority, 7 for the lowest.
    fn rank(&self, input: u8) -> u8 {
        input.wrapping_sub(self.lowest + 1) & 7
    }

    fn highest_of(&self, inputs: u8) -> Option<u8> {
        if inputs == 0 {
            return None;
        }
        // Rotated so that the input with the highest priority is bit 0.
        let first = self.lowest + 1;
        let rank = low_byte(inputs.rotate_right(u32::from(first)).trailing_zeros());
        Some((first + rank) & 7)
    }
}
