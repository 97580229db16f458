//! A bounded two-way byte pipe between a guest's serial device and whoever shows it.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use spin::Mutex;

#[derive(Debug)]
struct Directions {
    queues: [Mutex<VecDeque<u8>>; 2],
}

/// Makes pipes.
#[derive(Debug)]
pub struct Pipe;

impl Pipe {
    /// Bytes that one direction holds before the sender must wait: a boot log, so that a guest need not poll for
    /// room.
    pub const CAPACITY: usize = 16 * 1024;

    /// A new pipe's two ends. All memory is taken here; sending never allocates.
    pub fn ends() -> (PipeEnd, PipeEnd) {
        let queue = || Mutex::new(VecDeque::with_capacity(Pipe::CAPACITY));
        let directions = Arc::new(Directions { queues: [queue(), queue()] });
        (PipeEnd { directions: Arc::clone(&directions), sends_on: 0 }, PipeEnd { directions, sends_on: 1 })
    }
}

/// One end of a pipe. The locks inside are leaf locks, held for one push or pop.
#[derive(Debug)]
pub struct PipeEnd {
    directions: Arc<Directions>,
    sends_on: usize,
}

impl PipeEnd {
    /// Sends `byte`; `false` if the direction is full.
    pub fn send(&self, byte: u8) -> bool {
        let mut queue = self.directions.queues[self.sends_on].lock();
        if queue.len() >= Pipe::CAPACITY {
            return false;
        }
        queue.push_back(byte);
        true
    }

    /// How many bytes [`Self::send`] would take now.
    pub fn room(&self) -> usize {
        Pipe::CAPACITY - self.directions.queues[self.sends_on].lock().len()
    }

    /// Takes the next byte that the other end sent.
    pub fn receive(&self) -> Option<u8> {
        self.directions.queues[1 - self.sends_on].lock().pop_front()
    }

    /// Bytes waiting to be received.
    pub fn waiting(&self) -> usize {
        self.directions.queues[1 - self.sends_on].lock().len()
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
}
