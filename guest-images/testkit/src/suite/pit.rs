//! The 8254 interval timer, and port 0x61 with the gate and the output of its third channel.
//!
//! Source: Intel "8254 Programmable Interval Timer"; "82371AB (PIIX4)", "NMI Status and Control Register".

use super::{Check, Checked, Group, check, clock};
use crate::machine::cpu::{in8, out8};
use crate::programs::{expect, expect_within};

pub(super) const GROUP: Group = Group::new(CHECKS).resting(rest);

const CHECKS: &[Check] = &[
    check("pit.status-of-control-word", status_of_control_word),
    check("pit.null-count-until-loaded", null_count),
    check("pit.readback-status-is-latched-once", status_latched_once),
    check("pit.readback-several-channels", readback_several),
    check("pit.readback-status-then-count", status_then_count),
    check("pit.readback-count-of-unlatched-is-not-kept", readback_nothing),
    check("pit.latch-holds-while-counting", latch_holds),
    check("pit.second-latch-is-ignored", second_latch),
    check("pit.latch-of-lsb-only", latch_lsb),
    check("pit.latch-of-msb-only", latch_msb),
    check("pit.low-then-high-byte", low_then_high),
    check("pit.unlatched-read-alternates", alternates),
    check("pit.control-word-resets-byte-order", control_resets_order),
    check("pit.lsb-only-write-clears-msb", lsb_write),
    check("pit.msb-only-write-clears-lsb", msb_write),
    check("pit.mode0-output-low-until-end", mode0_output),
    check("pit.mode0-counts-on-behind-end", mode0_wraps),
    check("pit.mode0-first-byte-stops", mode0_first_byte),
    check("pit.mode0-new-count-starts-again", mode0_new_count),
    check("pit.mode0-gate-stops-counting", mode0_gate),
    check("pit.mode1-waits-for-gate", mode1_waits),
    check("pit.mode1-output-low-for-count", mode1_output),
    check("pit.mode1-retriggers", mode1_retrigger),
    check("pit.mode2-output-high-at-once", mode2_output),
    check("pit.mode2-counts-down-from-count", mode2_counts),
    check("pit.mode2-new-count-waits-for-end", mode2_new_count),
    check("pit.mode2-gate-low-stops-high", mode2_gate),
    check("pit.mode2-count-loads-with-gate-low", mode2_gate_low),
    check("pit.mode2-gate-edge-reloads", mode2_gate_edge),
    check("pit.mode3-counts-by-two", mode3_even),
    check("pit.mode3-output-is-square", mode3_square),
    check("pit.mode3-readback", mode3_readback),
    check("pit.mode4-output-high", mode4_output),
    check("pit.mode4-counts-on-behind-strobe", mode4_wraps),
    check("pit.mode5-waits-for-gate", mode5_waits),
    check("pit.mode6-is-2", || alias(6, 2)),
    check("pit.mode7-is-3", || alias(7, 3)),
    check("pit.bcd-counts-decimal", bcd),
    check("pit.bcd-of-zero-is-10000", bcd_zero),
    check("pit.zero-is-65536", zero_is_65536),
    check("pit.port61-gate-and-speaker-read-back", port61_bits),
    check("pit.port61-output-of-channel-2", port61_output),
    check("pit.port61-refresh-toggles", port61_refresh),
    check("pit.port61-error-bits-clear", port61_errors),
    check("pit.rate-against-the-clock", rate),
    check("pit.control-port-reads-nothing", control_reads),
];

const CONTROL: u16 = 0x43;
const CHANNEL_0: u16 = 0x40;
const CHANNEL_2: u16 = 0x42;
const PORT_61: u16 = 0x61;
/// Status: the output is high; the count is not loaded yet.
const OUTPUT: u8 = 0x80;
const NULL: u8 = 0x40;
/// Long enough for a count to be loaded, and short for any count that is used: 20 periods.
const LOADED_US: u64 = 17;

fn rest() {
    gate(Gate::Low);
    // Loading a count takes the gate's last edge away, which Bochs otherwise keeps for the next mode.
    program(0, 0x100);
    clock::wait(LOADED_US);
    out8(CONTROL, 0xb0);
    out8(CONTROL, 0x30);
}

#[derive(Clone, Copy)]
enum Gate {
    Low,
    High,
}

/// The gate of channel 2.
fn gate(gate: Gate) {
    let other = in8(PORT_61) & 0x0c;
    out8(
        PORT_61,
        other
            | match gate {
                Gate::Low => 0,
                Gate::High => 1,
            },
    );
}

/// Channel 2 in `mode`, two bytes of count.
fn program(mode: u8, count: u16) {
    out8(CONTROL, 0xb0 | mode << 1);
    load(count);
}

fn load(count: u16) {
    let [low, high] = count.to_le_bytes();
    out8(CHANNEL_2, low);
    out8(CHANNEL_2, high);
}

/// The status of channel 2.
fn status() -> u8 {
    out8(CONTROL, 0xe8);
    in8(CHANNEL_2)
}

fn output() -> u64 {
    u64::from(status() & OUTPUT != 0)
}

/// The running count of channel 2.
fn count() -> u16 {
    out8(CONTROL, 0x80);
    u16::from_le_bytes([in8(CHANNEL_2), in8(CHANNEL_2)])
}

/// The count, which must be between these.
fn count_within(what: &'static str, low: u16, high: u16) -> Checked {
    Ok(expect_within(what, u64::from(count()), u64::from(low), u64::from(high))?)
}

fn status_of_control_word() -> Checked {
    for word in [0x30u8, 0x12, 0x24, 0x36, 0x18, 0x3a, 0x35, 0x31] {
        out8(CONTROL, 0x80 | word);
        expect("access, mode and BCD", status() & 0x3f, word)?;
    }
    Ok(())
}

fn null_count() -> Checked {
    gate(Gate::High);
    out8(CONTROL, 0xb4);
    expect("behind the control word", status() & NULL, NULL)?;
    out8(CHANNEL_2, 0);
    expect("behind the first byte", status() & NULL, NULL)?;
    out8(CHANNEL_2, 0x80);
    clock::wait(LOADED_US);
    Ok(expect("once it counts", status() & NULL, 0u8)?)
}

fn status_latched_once() -> Checked {
    program(0, 0x8000);
    gate(Gate::High);
    clock::wait(LOADED_US);
    out8(CONTROL, 0xe8);
    // A second one while the first waits to be read is ignored, though the status would be another by now.
    out8(CONTROL, 0xe8);
    expect("status", in8(CHANNEL_2) & 0x3f, 0x30u8)?;
    let byte = in8(CHANNEL_2);
    let high = in8(CHANNEL_2);
    Ok(expect_within("then the count", u64::from(u16::from_le_bytes([byte, high])), 0x7000, 0x8000)?)
}

fn readback_several() -> Checked {
    out8(CONTROL, 0x34);
    program(3, 0x1000);
    // Status of channels 0 and 2 by one command.
    out8(CONTROL, 0xea);
    expect("channel 0", in8(CHANNEL_0) & 0x3f, 0x34u8)?;
    Ok(expect("channel 2", in8(CHANNEL_2) & 0x3f, 0x36u8)?)
}

fn status_then_count() -> Checked {
    gate(Gate::High);
    program(2, 0x8000);
    clock::wait(LOADED_US);
    // Both at once: the status is read first, whichever was asked for.
    out8(CONTROL, 0xc8);
    expect("status", in8(CHANNEL_2) & 0x3f, 0x34u8)?;
    let latched = u16::from_le_bytes([in8(CHANNEL_2), in8(CHANNEL_2)]);
    Ok(expect_within("count", u64::from(latched), 0x7000, 0x8000)?)
}

/// A read-back that latches neither does nothing.
fn readback_nothing() -> Checked {
    program(2, 0x8000);
    clock::wait(LOADED_US);
    out8(CONTROL, 0xf8);
    let read = u16::from_le_bytes([in8(CHANNEL_2), in8(CHANNEL_2)]);
    Ok(expect_within("the running count", u64::from(read), 0x7000, 0x8000)?)
}

fn latch_holds() -> Checked {
    gate(Gate::High);
    program(2, 0);
    clock::wait(100);
    out8(CONTROL, 0x80);
    clock::wait(2000);
    let latched = u16::from_le_bytes([in8(CHANNEL_2), in8(CHANNEL_2)]);
    let now = count();
    Ok(expect_within("counted on meanwhile", u64::from(latched.wrapping_sub(now)), 1500, 20000)?)
}

fn second_latch() -> Checked {
    gate(Gate::High);
    program(2, 0);
    clock::wait(100);
    out8(CONTROL, 0x80);
    clock::wait(2000);
    out8(CONTROL, 0x80);
    let latched = u16::from_le_bytes([in8(CHANNEL_2), in8(CHANNEL_2)]);
    let now = count();
    Ok(expect_within("the first one counts", u64::from(latched.wrapping_sub(now)), 1500, 20000)?)
}

fn latch_lsb() -> Checked {
    gate(Gate::High);
    out8(CONTROL, 0x94);
    out8(CHANNEL_2, 0xf0);
    clock::wait(LOADED_US);
    gate(Gate::Low);
    out8(CONTROL, 0x80);
    let first = in8(CHANNEL_2);
    let second = in8(CHANNEL_2);
    expect("one byte, the gate is low", first, second)?;
    Ok(expect_within("the count", u64::from(first), 1, 0xf0)?)
}

fn latch_msb() -> Checked {
    out8(CONTROL, 0xa4);
    out8(CHANNEL_2, 0x40);
    clock::wait(LOADED_US);
    out8(CONTROL, 0x80);
    let first = in8(CHANNEL_2);
    Ok(expect_within("the high byte", u64::from(first), 0x3f, 0x40)?)
}

fn low_then_high() -> Checked {
    stand_still(0x1280);
    count_within("count", 0x1180, 0x1280)
}

/// Channel 2 in mode 2 from `count`, stopped by its gate shortly behind.
fn stand_still(count: u16) {
    gate(Gate::High);
    program(2, count);
    clock::wait(LOADED_US);
    gate(Gate::Low);
}

fn alternates() -> Checked {
    stand_still(0x1280);
    let first = [in8(CHANNEL_2), in8(CHANNEL_2)];
    expect_within("the count", u64::from(u16::from_le_bytes(first)), 0x1180, 0x1280)?;
    expect("low", in8(CHANNEL_2), first[0])?;
    Ok(expect("high", in8(CHANNEL_2), first[1])?)
}

/// The count is loaded whatever the gate says, which only stops it.
fn mode2_gate_low() -> Checked {
    program(2, 0x1234);
    clock::wait(300);
    count_within("count", 0x1233, 0x1234)
}

fn control_resets_order() -> Checked {
    stand_still(0x1280);
    in8(CHANNEL_2);
    stand_still(0x5680);
    let read = u16::from_le_bytes([in8(CHANNEL_2), in8(CHANNEL_2)]);
    Ok(expect_within("low, then high", u64::from(read), 0x5580, 0x5680)?)
}

fn lsb_write() -> Checked {
    program(2, 0xffff);
    out8(CONTROL, 0x94);
    out8(CHANNEL_2, 0x40);
    clock::wait(LOADED_US);
    // The same count, seen through both bytes, needs a control word: so the output tells. 0x40 periods are 54 us.
    gate(Gate::High);
    out8(CONTROL, 0x90);
    out8(CHANNEL_2, 0x40);
    let ended = clock::until(1000, || output() == 1);
    Ok(expect("64 periods end within a millisecond", u64::from(ended), 1u64)?)
}

fn msb_write() -> Checked {
    gate(Gate::High);
    out8(CONTROL, 0xa0);
    out8(CHANNEL_2, 0x02);
    clock::wait(LOADED_US);
    expect("the output is low", output(), 0u64)?;
    let ended = clock::until(4000, || output() == 1);
    Ok(expect("512 periods end", u64::from(ended), 1u64)?)
}

fn mode0_output() -> Checked {
    gate(Gate::High);
    program(0, 2000);
    expect("low at first", output(), 0u64)?;
    expect("high at the end", u64::from(clock::until(10_000, || output() == 1)), 1u64)?;
    clock::wait(100);
    Ok(expect("and it stays", output(), 1u64)?)
}

fn mode0_wraps() -> Checked {
    gate(Gate::High);
    program(0, 100);
    expect("ends", u64::from(clock::until(10_000, || output() == 1)), 1u64)?;
    clock::wait(200);
    count_within("below zero", 0xe000, 0xffff)
}

fn mode0_first_byte() -> Checked {
    gate(Gate::High);
    program(0, 0x8000);
    clock::wait(LOADED_US);
    out8(CHANNEL_2, 0);
    let first = count();
    clock::wait(200);
    let second = count();
    expect("counting stands still", second, first)?;
    out8(CHANNEL_2, 0x40);
    clock::wait(LOADED_US);
    count_within("the new count", 0x3000, 0x4000)
}

fn mode0_new_count() -> Checked {
    gate(Gate::High);
    program(0, 100);
    expect("ends", u64::from(clock::until(10_000, || output() == 1)), 1u64)?;
    load(0x8000);
    clock::wait(LOADED_US);
    expect("low again", output(), 0u64)?;
    count_within("the new count", 0x7000, 0x8000)
}

fn mode0_gate() -> Checked {
    gate(Gate::High);
    program(0, 0x8000);
    clock::wait(LOADED_US);
    gate(Gate::Low);
    let first = count();
    clock::wait(300);
    expect("counting stands still", count(), first)?;
    gate(Gate::High);
    clock::wait(300);
    let on = first.wrapping_sub(count());
    Ok(expect_within("and goes on", u64::from(on), 200, 20000)?)
}

fn mode1_waits() -> Checked {
    program(1, 500);
    expect("high", output(), 1u64)?;
    clock::wait(1000);
    expect("still high", output(), 1u64)?;
    gate(Gate::High);
    clock::wait(LOADED_US);
    Ok(expect("low behind the edge", output(), 0u64)?)
}

fn mode1_output() -> Checked {
    program(1, 2000);
    gate(Gate::High);
    clock::wait(LOADED_US);
    expect("low", output(), 0u64)?;
    gate(Gate::Low);
    clock::wait(100);
    expect("low without the gate", output(), 0u64)?;
    Ok(expect("high at the end", u64::from(clock::until(10_000, || output() == 1)), 1u64)?)
}

fn mode1_retrigger() -> Checked {
    program(1, 0x8000);
    gate(Gate::High);
    clock::wait(3000);
    gate(Gate::Low);
    gate(Gate::High);
    clock::wait(LOADED_US);
    count_within("from the start", 0x7800, 0x8000)
}

fn mode2_output() -> Checked {
    out8(CONTROL, 0x30 | 0x80);
    out8(CONTROL, 0xb4);
    Ok(expect("high", output(), 1u64)?)
}

fn mode2_counts() -> Checked {
    gate(Gate::High);
    program(2, 0x1000);
    clock::wait(LOADED_US);
    for _ in 0..50 {
        count_within("between 1 and the count", 1, 0x1000)?;
        clock::wait(97);
    }
    Ok(())
}

fn mode2_new_count() -> Checked {
    gate(Gate::High);
    program(2, 0x8000);
    clock::wait(LOADED_US);
    load(0x100);
    clock::wait(LOADED_US);
    expect("not loaded yet", status() & NULL, NULL)?;
    count_within("the old one runs on", 0x7000, 0x8000)
}

fn mode2_gate() -> Checked {
    gate(Gate::High);
    program(2, 0x8000);
    clock::wait(LOADED_US);
    gate(Gate::Low);
    let first = count();
    clock::wait(300);
    expect("counting stands still", count(), first)?;
    Ok(expect("high", output(), 1u64)?)
}

fn mode2_gate_edge() -> Checked {
    gate(Gate::High);
    program(2, 0x8000);
    clock::wait(3000);
    gate(Gate::Low);
    gate(Gate::High);
    clock::wait(LOADED_US);
    count_within("from the start", 0x7800, 0x8000)
}

fn mode3_even() -> Checked {
    gate(Gate::High);
    program(3, 0xf000);
    clock::wait(LOADED_US);
    for _ in 0..30 {
        expect("even", count() & 1, 0u16)?;
        clock::wait(31);
    }
    Ok(())
}

fn mode3_square() -> Checked {
    gate(Gate::High);
    program(3, 1000);
    for _ in 0..3 {
        expect("high", u64::from(clock::until(10_000, || output() == 1)), 1u64)?;
        expect("low", u64::from(clock::until(10_000, || output() == 0)), 1u64)?;
    }
    Ok(())
}

fn mode3_readback() -> Checked {
    gate(Gate::High);
    program(3, 0x8000);
    clock::wait(LOADED_US);
    expect("status: high, loaded, both bytes, mode 3", status(), 0xb6u8)?;
    // It falls by two a period: half of the count is 13.7 ms.
    expect("low in the second half", u64::from(clock::until(20_000, || output() == 0)), 1u64)?;
    Ok(expect("status then", status() & 0x7f, 0x36u8)?)
}

fn mode4_output() -> Checked {
    gate(Gate::High);
    program(4, 2000);
    clock::wait(LOADED_US);
    expect("high", output(), 1u64)?;
    clock::wait(4000);
    Ok(expect("high again behind the strobe", output(), 1u64)?)
}

fn mode4_wraps() -> Checked {
    gate(Gate::High);
    program(4, 100);
    clock::wait(500);
    count_within("below zero", 0xe000, 0xffff)
}

fn mode5_waits() -> Checked {
    program(5, 0x8000);
    clock::wait(500);
    expect("high", output(), 1u64)?;
    gate(Gate::High);
    clock::wait(LOADED_US);
    count_within("counts behind the edge", 0x7000, 0x8000)
}

fn alias(written: u8, read: u8) -> Checked {
    gate(Gate::High);
    program(written, 0x8000);
    clock::wait(LOADED_US);
    expect("high at first", output(), 1u64)?;
    count_within("counts", 0x6000, 0x8000)?;
    let mode = status() >> 1 & 7;
    Ok(expect("mode without the bit that does not matter", mode & 3, read)?)
}

fn bcd() -> Checked {
    gate(Gate::High);
    out8(CONTROL, 0xb5);
    load(0x1000);
    clock::wait(100);
    for _ in 0..30 {
        let now = count();
        let decimal = (0..4).all(|digit| now >> (4 * digit) & 0xf <= 9);
        expect("decimal digits", u64::from(decimal), 1u64)?;
        expect_within("not above", u64::from(now), 1, 0x1000)?;
        clock::wait(23);
    }
    Ok(())
}

fn bcd_zero() -> Checked {
    gate(Gate::High);
    out8(CONTROL, 0xb5);
    load(0);
    clock::wait(100);
    count_within("from 10000 down", 0x9000, 0x9999)
}

fn zero_is_65536() -> Checked {
    gate(Gate::High);
    program(2, 0);
    clock::wait(100);
    count_within("from 65536 down", 0xf000, 0xffff)
}

fn port61_bits() -> Checked {
    for bits in [0, 1, 2, 3] {
        out8(PORT_61, bits);
        expect("gate and speaker", in8(PORT_61) & 3, bits)?;
    }
    Ok(())
}

fn port61_output() -> Checked {
    gate(Gate::High);
    out8(CONTROL, 0xb0);
    expect("low", in8(PORT_61) & 0x20, 0u8)?;
    out8(CONTROL, 0xb4);
    expect("high", in8(PORT_61) & 0x20, 0x20u8)?;
    program(0, 500);
    expect("low", in8(PORT_61) & 0x20, 0u8)?;
    let ended = clock::until(10_000, || in8(PORT_61) & 0x20 != 0);
    Ok(expect("high at the end", u64::from(ended), 1u64)?)
}

fn port61_refresh() -> Checked {
    for _ in 0..4 {
        let before = in8(PORT_61) & 0x10;
        let toggled = clock::until(1000, || in8(PORT_61) & 0x10 != before);
        expect("toggles", u64::from(toggled), 1u64)?;
    }
    Ok(())
}

fn port61_errors() -> Checked {
    out8(PORT_61, 0x0c);
    Ok(expect("no parity or channel error", in8(PORT_61) & 0xc0, 0u8)?)
}

/// Two counts of known length, against each other: the counter is linear.
fn rate() -> Checked {
    let mut took = [0; 2];
    for (took, periods) in took.iter_mut().zip([2000, 8000]) {
        gate(Gate::Low);
        gate(Gate::High);
        let start = crate::machine::cpu::rdtsc();
        program(0, periods);
        expect("ends", u64::from(clock::until(50_000, || in8(PORT_61) & 0x20 != 0)), 1u64)?;
        *took = crate::machine::cpu::rdtsc() - start;
    }
    Ok(expect_within("four times as long", took[1] * 100 / took[0].max(1), 370, 420)?)
}

fn control_reads() -> Checked {
    stand_still(0x1280);
    in8(CONTROL);
    count_within("unharmed", 0x1180, 0x1280)
}
