//! A local APIC's state as plain data.

use super::pins::Pins;
use super::spec::{
    Command, DFR_FLAT, DIVIDE_WRITABLE, Errors, Lvt, LvtEntry, SVR_ENABLED, SVR_NO_FOCUS, svr_writable,
};
use super::timer::TimerState;
use super::{Config, LocalApic, Mode, VectorSet};

/// Everything that [`LocalApic::restore`] needs, besides the [`Config`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are the registers of the same names")]
pub struct State {
    pub apic_base: u64,
    pub tpr: u8,
    pub ldr: u32,
    pub dfr: u32,
    pub svr: u32,
    pub isr: [u64; 4],
    pub tmr: [u64; 4],
    pub irr: [u64; 4],
    /// The error status register as software sees it.
    pub esr: u8,
    /// Errors that the next write to the error status register shows.
    pub new_errors: u8,
    pub icr: u64,
    /// Timer, thermal, performance, LINT0, LINT1, error.
    pub lvt: [u32; 6],
    pub timer_initial_count: u32,
    pub timer_divide: u32,
    /// In the guest's TSC: restore that first.
    pub timer: TimerState,
    /// The levels of LINT0 (bit 0) and LINT1 (bit 1).
    pub pins: u8,
}

/// A state that no local APIC of this configuration can be in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadState {
    /// IA32_APIC_BASE says enabled x2APIC mode without enabling the APIC, or has reserved bits set.
    ApicBase(u64),
    /// IRR or ISR hold vectors below 16.
    IllegalVector,
    /// A register has reserved bits set.
    ReservedBits,
}

const ENTRIES: [LvtEntry; LvtEntry::COUNT] = [
    LvtEntry::Timer,
    LvtEntry::Thermal,
    LvtEntry::Performance,
    LvtEntry::Lint0,
    LvtEntry::Lint1,
    LvtEntry::Error,
];

impl LocalApic {
    /// The state. The timer's due time is absolute, in the guest's TSC.
    pub fn save(&self) -> State {
        State {
            apic_base: self.base,
            tpr: self.task_priority,
            ldr: self.logical_destination,
            dfr: self.destination_format,
            svr: self.spurious,
            isr: self.in_service.words(),
            tmr: self.triggered.words(),
            irr: self.requested.words(),
            esr: self.errors.bits(),
            new_errors: self.new_errors.bits(),
            icr: self.command.0,
            lvt: self.lvt.map(|entry| entry.0),
            timer_initial_count: self.timer.initial(),
            timer_divide: self.timer.divide(),
            timer: self.timer.save(),
            pins: self.pins.to_bits(),
        }
    }

    /// A local APIC in `state`.
    ///
    /// # Errors
    /// [`BadState`] when it cannot be in that state.
    pub fn restore(config: Config, state: &State) -> Result<Self, BadState> {
        let mut apic = Self::new(config);
        let bad_base = BadState::ApicBase(state.apic_base);
        // By way of xAPIC mode, from which every mode is one legal step.
        apic.set_base(state.apic_base).map_err(|_| bad_base)?;
        check_vectors(state)?;
        check_reserved(config, state)?;
        apic.task_priority = state.tpr;
        apic.logical_destination = state.ldr;
        apic.destination_format = state.dfr;
        apic.spurious = state.svr;
        apic.in_service = VectorSet::from_words(state.isr);
        apic.triggered = VectorSet::from_words(state.tmr);
        apic.requested = VectorSet::from_words(state.irr);
        apic.errors = Errors::from_bits(state.esr).ok_or(BadState::ReservedBits)?;
        apic.new_errors = Errors::from_bits(state.new_errors).ok_or(BadState::ReservedBits)?;
        apic.command = Command(state.icr);
        apic.lvt = state.lvt.map(Lvt);
        let mode = apic.entry(LvtEntry::Timer).timer_mode();
        apic.timer.restore(mode, state.timer_initial_count, state.timer_divide, state.timer);
        apic.pins = Pins::from_bits(state.pins);
        match apic.mode {
            // Without an APIC nothing pends and nothing runs, but CR8 is there. LINT0 may be as an INIT leaves it.
            Mode::Disabled => {
                let lint0 = apic.entry(LvtEntry::Lint0);
                apic.clear();
                apic.task_priority = state.tpr;
                if lint0 == Lvt::EXTERNAL {
                    apic.lvt[LvtEntry::Lint0 as usize] = lint0;
                }
            }
            Mode::XApic | Mode::X2Apic => apic.recompute(),
        }
        Ok(apic)
    }
}

fn check_vectors(state: &State) -> Result<(), BadState> {
    let below_16 = (state.isr[0] | state.irr[0]) & 0xffff;
    if below_16 == 0 { Ok(()) } else { Err(BadState::IllegalVector) }
}

fn check_reserved(config: Config, state: &State) -> Result<(), BadState> {
    let lvt_is_fine = ENTRIES
        .iter()
        .zip(state.lvt)
        .all(|(entry, value)| value & !(entry.writable(config.features) | entry.kept() | Lvt::MASK) == 0);
    // An unmasked entry while the APIC is disabled by software: only LINT0 as power-up leaves it.
    let masks_are_fine = state.svr & SVR_ENABLED != 0
        || state.lvt.iter().all(|&value| Lvt(value).is_masked() || Lvt(value) == Lvt::EXTERNAL);
    let fine = lvt_is_fine
        && masks_are_fine
        && state.svr & !(svr_writable(config.features) | SVR_NO_FOCUS) == 0
        && state.ldr & 0x00ff_ffff == 0
        && state.dfr | DFR_FLAT >> 4 == state.dfr
        && Command(state.icr).low() & !Command::LOW_WRITABLE == 0
        && state.timer_divide & !DIVIDE_WRITABLE == 0;
    if fine { Ok(()) } else { Err(BadState::ReservedBits) }
}
