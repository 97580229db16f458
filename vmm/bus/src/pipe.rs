//! A bounded two-way byte pipe between a guest's serial device and whoever shows it.
//!
//! Each direction is a ring with one writer and one reader, so no lock is needed: either end may be on a core of its
//! own.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// One direction. Both counts only grow; their difference is what waits.
#[derive(Debug)]
struct Ring {
    bytes: Box<[AtomicU8]>,
    /// Bytes put in, ever. Only the sending end writes it.
    put: AtomicUsize,
    /// Bytes taken out, ever. Only the receiving end writes it.
    taken: AtomicUsize,
}

impl Ring {
    fn new() -> Self {
        let bytes = (0..Pipe::CAPACITY).map(|_| AtomicU8::new(0)).collect();
        Self { bytes, put: AtomicUsize::new(0), taken: AtomicUsize::new(0) }
    }

    #[inline]
    fn waiting(&self) -> usize {
        self.put.load(Ordering::Acquire).wrapping_sub(self.taken.load(Ordering::Acquire))
    }

    #[inline]
    fn put(&self, byte: u8) -> bool {
        let put = self.put.load(Ordering::Relaxed);
        if put.wrapping_sub(self.taken.load(Ordering::Acquire)) >= Pipe::CAPACITY {
            return false;
        }
        self.bytes[put % Pipe::CAPACITY].store(byte, Ordering::Relaxed);
        self.put.store(put.wrapping_add(1), Ordering::Release);
        true
    }

    #[inline]
    fn take(&self) -> Option<u8> {
        let taken = self.taken.load(Ordering::Relaxed);
        if self.put.load(Ordering::Acquire) == taken {
            return None;
        }
        let byte = self.bytes[taken % Pipe::CAPACITY].load(Ordering::Relaxed);
        self.taken.store(taken.wrapping_add(1), Ordering::Release);
        Some(byte)
    }
}

/// Makes pipes.
#[derive(Debug)]
pub struct Pipe;

impl Pipe {
    /// Bytes that one direction holds before the sender must wait: a boot log, so that a guest need not poll for
    /// room. A power of two, so that the counts may wrap.
    pub const CAPACITY: usize = 16 * 1024;

    /// A new pipe's two ends. All memory is taken here; sending never allocates.
    pub fn ends() -> (PipeEnd, PipeEnd) {
        let (there, back) = (Arc::new(Ring::new()), Arc::new(Ring::new()));
        let first = PipeEnd { outgoing: Arc::clone(&there), incoming: Arc::clone(&back) };
        (first, PipeEnd { outgoing: back, incoming: there })
    }
}

const _: () = assert!(Pipe::CAPACITY.is_power_of_two());

/// One end of a pipe, which belongs to one owner: bytes of two that send at once could be lost.
#[derive(Debug)]
pub struct PipeEnd {
    outgoing: Arc<Ring>,
    incoming: Arc<Ring>,
}

impl PipeEnd {
    /// Sends `byte`; `false` if the direction is full.
    #[inline]
    pub fn send(&self, byte: u8) -> bool {
        self.outgoing.put(byte)
    }

    /// How many bytes [`Self::send`] would take now.
    pub fn room(&self) -> usize {
        Pipe::CAPACITY.saturating_sub(self.outgoing.waiting())
    }

    /// Takes the next byte that the other end sent.
    #[inline]
    pub fn receive(&self) -> Option<u8> {
        self.incoming.take()
    }

    /// Bytes waiting to be received.
    pub fn waiting(&self) -> usize {
        self.incoming.waiting()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_in_order_on_the_other_end_only() {
        let (a, b) = Pipe::ends();
        assert!(a.send(1) && a.send(2));
        assert_eq!(a.receive(), None);
        assert_eq!((b.receive(), b.receive(), b.receive()), (Some(1), Some(2), None));
    }

    #[test]
    fn a_full_direction_refuses_and_the_other_still_works() {
        let (a, b) = Pipe::ends();
        let taken = (0..Pipe::CAPACITY * 2).filter(|_| a.send(0)).count();
        assert_eq!((taken, a.room(), b.waiting()), (Pipe::CAPACITY, 0, Pipe::CAPACITY));
        assert!(b.send(9));
        assert_eq!(a.receive(), Some(9));
    }

    #[test]
    fn a_ring_that_went_around_still_keeps_order() {
        let (a, b) = Pipe::ends();
        for round in 0..3 * Pipe::CAPACITY {
            let byte = round.to_le_bytes()[0];
            assert!(a.send(byte));
            assert_eq!(b.receive(), Some(byte));
        }
    }

    #[test]
    fn both_ends_may_be_on_cores_of_their_own() {
        let (a, b) = Pipe::ends();
        let sender = std::thread::spawn(move || {
            let mut sent = 0_u32;
            while sent < 100_000 {
                sent += u32::from(a.send(sent.to_le_bytes()[0]));
            }
        });
        let mut received = 0_u32;
        while received < 100_000 {
            if let Some(byte) = b.receive() {
                assert_eq!(byte, received.to_le_bytes()[0]);
                received += 1;
            }
        }
        sender.join().expect("the sender only sends");
    }
}
