//! The timers of the vCPUs that sleep on one core: a binary heap with at most one alarm for each vCPU, so that it never
//! grows and setting one that is there moves it. All memory is taken at the beginning.

use alloc::boxed::Box;
use alloc::vec;

/// An alarm that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Alarm {
    /// When, in ticks of the clock that the caller uses.
    pub at: u64,
    /// Whose: a number below the capacity.
    pub id: u32,
    /// Which sleep of it: an alarm of an earlier one is of no interest.
    pub sleep: u32,
}

/// Not in the heap.
const ABSENT: u32 = u32::MAX;

/// Alarms, the earliest first.
#[derive(Debug)]
pub struct Alarms {
    heap: Box<[Alarm]>,
    length: usize,
    /// By id: the place in the heap.
    places: Box<[u32]>,
}

impl Alarms {
    /// No alarms, with room for those of the ids below `capacity`.
    pub fn new(capacity: usize) -> Self {
        let nothing = Alarm { at: 0, id: 0, sleep: 0 };
        Self {
            heap: vec![nothing; capacity].into_boxed_slice(),
            length: 0,
            places: vec![ABSENT; capacity].into_boxed_slice(),
        }
    }

    /// Whether there are none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// When the first alarm is due; `u64::MAX` when there is none.
    #[inline]
    pub fn next(&self) -> u64 {
        if self.length == 0 { u64::MAX } else { self.heap[0].at }
    }

    /// Sets the alarm of `alarm.id`, in place of the one that it has. One at `u64::MAX` is none.
    ///
    /// # Panics
    /// If the id is not below the capacity.
    #[inline]
    pub fn set(&mut self, alarm: Alarm) {
        let place = self.places[index(alarm.id)];
        if alarm.at == u64::MAX {
            if place != ABSENT {
                self.remove(index(place));
            }
            return;
        }
        if place == ABSENT {
            let last = self.length;
            self.length += 1;
            self.put(last, alarm);
            self.rise(last);
        } else {
            let place = index(place);
            self.heap[place] = alarm;
            let place = self.rise(place);
            self.sink(place);
        }
    }

    /// Takes away the alarm of `id`, if it has one.
    #[inline]
    pub fn clear(&mut self, id: u32) {
        let place = self.places[index(id)];
        if place != ABSENT {
            self.remove(index(place));
        }
    }

    /// Takes the first alarm if it is due at `now`.
    #[inline]
    pub fn take_due(&mut self, now: u64) -> Option<Alarm> {
        if self.length == 0 || self.heap[0].at > now {
            return None;
        }
        let first = self.heap[0];
        self.remove(0);
        Some(first)
    }

    fn remove(&mut self, place: usize) {
        self.places[index(self.heap[place].id)] = ABSENT;
        self.length -= 1;
        if place != self.length {
            self.put(place, self.heap[self.length]);
            let place = self.rise(place);
            self.sink(place);
        }
    }

    fn put(&mut self, place: usize, alarm: Alarm) {
        self.heap[place] = alarm;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "there are fewer places than ids, which are 32 bits wide"
        )]
        let number = place as u32;
        self.places[index(alarm.id)] = number;
    }

    /// Moves the alarm at `place` towards the top as far as it belongs; returns where it is then.
    fn rise(&mut self, mut place: usize) -> usize {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent].at <= self.heap[place].at {
                break;
            }
            self.swap(place, parent);
            place = parent;
        }
        place
    }

    /// Moves the alarm at `place` away from the top as far as it belongs.
    fn sink(&mut self, mut place: usize) {
        loop {
            let left = 2 * place + 1;
            let earlier =
                |a: usize, b: usize| if b < self.length && self.heap[b].at < self.heap[a].at { b } else { a };
            let first = earlier(earlier(place, left), left + 1);
            if first == place {
                return;
            }
            self.swap(place, first);
            place = first;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        let (first, second) = (self.heap[a], self.heap[b]);
        self.put(a, second);
        self.put(b, first);
    }
}

const fn index(number: u32) -> usize {
    number as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn alarm(at: u64, id: u32) -> Alarm {
        Alarm { at, id, sleep: 0 }
    }

    #[test]
    fn alarms_come_in_order_and_only_when_due() {
        let mut alarms = Alarms::new(8);
        for (at, id) in [(50, 1), (10, 2), (30, 3)] {
            alarms.set(alarm(at, id));
        }
        assert_eq!(alarms.next(), 10);
        assert_eq!(alarms.take_due(9), None);
        assert_eq!(alarms.take_due(40), Some(alarm(10, 2)));
        assert_eq!(alarms.take_due(40), Some(alarm(30, 3)));
        assert_eq!(alarms.take_due(40), None);
        assert_eq!(alarms.next(), 50);
    }

    #[test]
    fn setting_again_replaces_and_never_is_none() {
        let mut alarms = Alarms::new(2);
        alarms.set(alarm(10, 0));
        alarms.set(Alarm { at: 90, id: 0, sleep: 7 });
        assert_eq!(alarms.take_due(50), None);
        assert_eq!(alarms.take_due(90), Some(Alarm { at: 90, id: 0, sleep: 7 }));
        alarms.set(alarm(10, 1));
        alarms.set(alarm(u64::MAX, 1));
        assert_eq!(alarms.next(), u64::MAX);
    }

    #[test]
    fn agrees_with_a_sorted_map_over_a_long_random_run() {
        const IDS: u32 = 37;
        let mut alarms = Alarms::new(IDS as usize);
        let mut model: BTreeMap<u32, u64> = BTreeMap::new();
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        for _ in 0..200_000 {
            let id = u32::try_from(next() % u64::from(IDS)).expect("small");
            match next() % 4 {
                0 | 1 => {
                    let at = next() % 1000;
                    alarms.set(alarm(at, id));
                    model.insert(id, at);
                }
                2 => {
                    alarms.clear(id);
                    model.remove(&id);
                }
                _ => {
                    let now = next() % 1000;
                    let earliest = model.values().min().copied();
                    match alarms.take_due(now) {
                        Some(due) => {
                            assert_eq!(Some(due.at), earliest);
                            assert_eq!(model.remove(&due.id), Some(due.at));
                        }
                        None => assert!(earliest.is_none_or(|at| at > now)),
                    }
                }
            }
            assert_eq!(alarms.next(), model.values().min().copied().unwrap_or(u64::MAX));
        }
    }
}
