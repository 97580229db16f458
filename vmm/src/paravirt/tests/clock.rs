//! kvmclock, read by the rules of "KVM-specific MSRs".

use super::*;
use crate::paravirt::Others;
use core::cell::RefCell;
use memory::OutsideRam;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Record {
    version: u32,
    tsc: u64,
    system_time: u64,
    multiplier: u32,
    shift: i8,
    flags: u8,
}

const STABLE: u8 = 1;
const STOPPED: u8 = 2;

fn record(memory: &impl GuestMemory, gpa: u64) -> Record {
    let word = |offset: u64| memory.read_u32(Gpa::new(gpa + offset)).expect("RAM");
    let long = |offset: u64| memory.read_u64(Gpa::new(gpa + offset)).expect("RAM");
    let last = word(28).to_le_bytes();
    Record {
        version: word(0),
        tsc: long(8),
        system_time: long(16),
        multiplier: word(24),
        shift: i8::from_le_bytes([last[0]]),
        flags: last[1],
    }
}

impl Record {
    /// The time at `tsc`, as Linux computes it.
    fn time(&self, tsc: u64) -> u64 {
        let ticks = tsc.wrapping_sub(self.tsc);
        let shift = u32::from(self.shift.unsigned_abs());
        let ticks = if self.shift < 0 { ticks >> shift } else { ticks << shift };
        let nanos = (u128::from(ticks) * u128::from(self.multiplier)) >> 32;
        self.system_time + u64::try_from(nanos).expect("fits")
    }
}

#[test]
fn a_guest_computes_the_machines_time() {
    let (memory, mut paravirt) = (memory(), paravirt());
    set(&mut paravirt, SYSTEM_TIME, 0x201, &memory);
    let record = record(&memory, 0x200);
    assert_eq!((record.version, record.flags), (2, STABLE));
    // One second after time zero.
    let clock = Clock::new(Tsc(1000), 3_000_000_000);
    let host = 1000 + 3_000_000_000;
    let error = record.time(host - 500).abs_diff(clock.nanos(Tsc(host)).0);
    assert!(error <= 2, "{error} ns");
    assert_eq!(record.time(500), 0, "the guest's TSC at time zero");
}

#[test]
fn records_of_vcpus_with_one_tsc_are_the_same() {
    let (memory, mut one, mut other) = (memory(), paravirt(), paravirt());
    set(&mut one, SYSTEM_TIME, 0x201, &memory);
    set(&mut other, SYSTEM_TIME, 0x241, &memory);
    assert_eq!(record(&memory, 0x200), record(&memory, 0x240));
}

#[test]
fn a_tsc_that_was_written_shows_the_same_time_and_is_not_stable() {
    let (memory, mut one, mut other) = (memory(), paravirt(), paravirt());
    let clock = Clock::new(Tsc(1000), 3_000_000_000);
    let agreement = TscAgreement::new(2, 0);
    let both = Times::new(&clock, 0, &agreement, UNIX);
    assert_eq!(one.write_msr(SYSTEM_TIME, 0x201, &memory, || both), Some(Ok(Loaded::Ready)));
    assert_eq!(other.write_msr(SYSTEM_TIME, 0x241, &memory, || both), Some(Ok(Loaded::Ready)));

    // The guest sets vCPU 1's TSC ahead by an hour.
    let ahead = 3_000_000_000 * 3600;
    assert_eq!(agreement.set(1, ahead), Others::OutOfDate);
    other.tsc_changed(&memory, &Times::new(&clock, ahead, &agreement, UNIX));
    assert!(one.clock_is_stale(agreement.generation()));
    assert!(!other.clock_is_stale(agreement.generation()));
    one.tsc_changed(&memory, &Times::new(&clock, 0, &agreement, UNIX));
    assert!(!one.clock_is_stale(agreement.generation()));

    let (first, second) = (record(&memory, 0x200), record(&memory, 0x240));
    assert_eq!((first.flags, second.flags), (0, 0));
    for host in [1000, 2000, 9_000_001_000] {
        assert_eq!(first.time(host), second.time(host + ahead), "host TSC {host}");
    }
    // And back.
    assert_eq!(agreement.set(1, 0), Others::OutOfDate);
    assert!(one.clock_is_stale(agreement.generation()));
    one.tsc_changed(&memory, &Times::new(&clock, 0, &agreement, UNIX));
    assert_eq!(record(&memory, 0x200).flags, STABLE);
}

#[test]
fn the_clock_goes_on_over_save_and_restore_and_says_that_it_stood() {
    let (memory, mut before) = (memory(), paravirt());
    let clock = Clock::new(Tsc(1000), 3_000_000_000);
    let agreement = TscAgreement::new(1, 0);
    let times = Times::new(&clock, 0, &agreement, UNIX);
    assert_eq!(before.write_msr(SYSTEM_TIME, 0x201, &memory, || times), Some(Ok(Loaded::Ready)));
    let old = record(&memory, 0x200);

    // Saved at host TSC 5000, restored on a host whose TSC reads 77 then: the guest's TSC goes on.
    let resumed =
        Clock::new(Tsc(0), 3_000_000_000).resumed(&clock.save(Tsc(5000)), Tsc(77)).expect("same pace");
    let offset = 5000_u64.wrapping_sub(77);
    let mut after = paravirt();
    after.restore(&before.save(), Nanos(0)).expect("possible");
    after.resumed(&memory, &Times::new(&resumed, offset, &agreement, UNIX));
    let new = record(&memory, 0x200);
    assert_eq!(new, Record { version: old.version + 2, flags: STABLE | STOPPED, ..old });

    // The flag is the guest's to clear: it survives an update, and does not come back.
    after.tsc_changed(&memory, &Times::new(&resumed, offset, &agreement, UNIX));
    assert_eq!(record(&memory, 0x200).flags, STABLE | STOPPED);
    memory.write(Gpa::new(0x200 + 29), &[STABLE]).expect("RAM");
    after.tsc_changed(&memory, &Times::new(&resumed, offset, &agreement, UNIX));
    assert_eq!(record(&memory, 0x200).flags, STABLE);
}

#[test]
fn a_clock_that_is_off_is_left_alone() {
    let (memory, mut paravirt) = (memory(), paravirt());
    set(&mut paravirt, SYSTEM_TIME, 0x201, &memory);
    set(&mut paravirt, SYSTEM_TIME, 0x200, &memory);
    memory.write(Gpa::new(0x200), &[0; 32]).expect("RAM");
    paravirt.resumed(&memory, &times());
    assert_eq!(record(&memory, 0x200).version, 0);
    // A standstill while it was off is no news when it is switched on.
    set(&mut paravirt, SYSTEM_TIME, 0x201, &memory);
    assert_eq!(record(&memory, 0x200).flags, STABLE);
}

#[test]
fn the_wall_clock_is_that_of_time_zero() {
    let (memory, mut paravirt) = (memory(), paravirt());
    memory.write_u32(Gpa::new(0x100), 7).expect("RAM");
    set(&mut paravirt, WALL_CLOCK, 0x100, &memory);
    let word = |offset: u64| memory.read_u32(Gpa::new(0x100 + offset)).expect("RAM");
    assert_eq!((word(4), word(8)), (1_767_225_600, 500_000_000));
    assert_eq!(word(0), 10, "even, and not what was there");
}

/// RAM in which a guest looks at a record after every single write of ours.
struct Watched {
    ram: MemoryMap<VecBlock>,
    /// Each record with an even version that the guest has seen.
    seen: RefCell<Vec<Record>>,
}

impl GuestMemory for Watched {
    fn read(&self, gpa: Gpa, into: &mut [u8]) -> Result<(), OutsideRam> {
        self.ram.read(gpa, into)
    }

    fn write(&self, gpa: Gpa, from: &[u8]) -> Result<(), OutsideRam> {
        // Byte by byte, the worst that a copy may do.
        for (offset, byte) in (0_u64..).zip(from) {
            // Words that are aligned are written whole.
            if from.len() > 4 {
                self.ram.write(gpa + offset, &[*byte])?;
                self.look();
            }
        }
        self.ram.write(gpa, from)?;
        self.look();
        Ok(())
    }

    fn swap_u8(&self, gpa: Gpa, value: u8) -> Result<u8, OutsideRam> {
        self.ram.swap_u8(gpa, value)
    }

    fn compare_exchange_u32(&self, gpa: Gpa, current: u32, new: u32) -> Result<bool, OutsideRam> {
        self.ram.compare_exchange_u32(gpa, current, new)
    }

    fn compare_exchange_u64(&self, gpa: Gpa, current: u64, new: u64) -> Result<bool, OutsideRam> {
        self.ram.compare_exchange_u64(gpa, current, new)
    }
}

impl Watched {
    fn look(&self) {
        let record = record(&self.ram, 0x200);
        if record.version.is_multiple_of(2) && self.seen.borrow().last() != Some(&record) {
            self.seen.borrow_mut().push(record);
        }
    }
}

#[test]
fn no_guest_sees_a_record_that_is_half_written() {
    let memory = Watched { ram: memory(), seen: RefCell::default() };
    let mut paravirt = paravirt();
    set(&mut paravirt, SYSTEM_TIME, 0x201, &memory);
    let other =
        Times { guest_tsc: u64::MAX, system_time: Nanos(1 << 60), frequency_hz: 1_000_000, ..times() };
    paravirt.resumed(&memory, &other);
    let apart = Times { stability: Stability::Apart, ..times() };
    paravirt.tsc_changed(&memory, &apart);
    let seen = memory.seen.into_inner();
    assert_eq!(seen.iter().map(|record| record.version).collect::<Vec<_>>(), [2, 4, 6]);
    assert_eq!(seen[1].tsc, u64::MAX);
    assert_eq!(seen[2].flags, STOPPED);
}
