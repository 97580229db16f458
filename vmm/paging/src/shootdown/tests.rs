//! The protocol against a model of cores with translation caches: memory that is freed while any core still caches a
//! way to it is found out, whatever the emulator's or the processor's own caches do.
//!
//! The model runs whole steps in an order drawn from a seed, so a run is repeatable. Each wrong order of steps is run
//! too, and must be found out: that is what shows that the instrument sees.

use super::{Barrier, Flushed, FreedBehind, Request, Shootdown};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

const CORES: usize = 5;
/// Guest pages that the cores translate.
const PAGES: usize = 6;
/// Frames of memory; more than pages, so that one is reused for another page.
const FRAMES: usize = 8;

/// How a core that takes a page away goes about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// Unmap, ask, wait for all while serving, free.
    Right,
    /// Unmap, free.
    WithoutShootdown,
    /// Unmap, ask, flush here, free: nobody is waited for.
    WithoutWaiting,
    /// Unmap, free, and only then ask and wait.
    FreedFirst,
    /// Ask and wait, then unmap and free.
    AskedFirst,
    /// As the right one, but cores say that they have flushed before they do.
    SaidBeforeDone,
    /// As the right one, but a core that waits does not serve others.
    WaitingDeaf,
}

/// What a core that takes pages away does next.
#[derive(Debug)]
enum Next {
    Unmap,
    Ask { frame: usize },
    Wait { frame: usize, request: Request },
    Free { frame: usize },
    LateAsk,
    LateWait { request: Request },
    EarlyAsk,
    EarlyWait { request: Request },
}

/// Pages, frames and the translation caches of all cores.
struct World {
    protocol: Shootdown<CORES>,
    order: Way,
    /// The frame of each page.
    table: [Option<usize>; PAGES],
    free: Vec<usize>,
    caches: [BTreeMap<usize, usize>; CORES],
    next: [Next; CORES],
    /// Cores that said that they flushed and have yet to.
    owes_flush: [bool; CORES],
    /// Memory that was freed while a core cached a way to it.
    caught: usize,
    freed: usize,
    random: u64,
}

impl World {
    fn new(order: Way, seed: u64) -> Self {
        let first = || if order == Way::AskedFirst { Next::EarlyAsk } else { Next::Unmap };
        Self {
            protocol: Shootdown::new(),
            order,
            table: std::array::from_fn(Some),
            free: (PAGES..FRAMES).collect(),
            caches: Default::default(),
            next: std::array::from_fn(|_| first()),
            owes_flush: [false; CORES],
            caught: 0,
            freed: 0,
            random: seed.wrapping_mul(2).wrapping_add(1),
        }
    }

    fn draw(&mut self, below: usize) -> usize {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.random >> 33).expect("31 bits") % below
    }

    /// One step of a core drawn at random. The first two take pages away; the others only use them, and the last goes
    /// off and on.
    fn step(&mut self) {
        let core = self.draw(CORES);
        if core == CORES - 1 && self.draw(4) == 0 {
            return self.toggle(core);
        }
        match (core, self.draw(3)) {
            (0 | 1, 0 | 1) => self.take_away(core),
            (_, 0) => self.serve(core),
            _ => self.translate(core),
        }
    }

    fn toggle(&mut self, core: usize) {
        let cache = &mut self.caches[core];
        if self.protocol.is_online(core) {
            self.protocol.leave(core, || cache.clear());
            self.owes_flush[core] = false;
        } else {
            self.protocol.join(core, || cache.clear());
        }
    }

    fn translate(&mut self, core: usize) {
        let page = self.draw(PAGES);
        if self.protocol.is_online(core)
            && let Some(frame) = self.table[page]
        {
            self.caches[core].entry(page).or_insert(frame);
        }
    }

    fn serve(&mut self, core: usize) {
        let cache = &mut self.caches[core];
        if self.owes_flush[core] {
            self.owes_flush[core] = false;
            cache.clear();
        }
        if self.order == Way::SaidBeforeDone {
            self.owes_flush[core] = self.protocol.serve(core, || {});
        } else {
            self.protocol.serve(core, || cache.clear());
        }
    }

    fn unmap(&mut self) -> Option<usize> {
        let page = self.draw(PAGES);
        self.table[page].take()
    }

    /// Frees `frame` and maps another one where one is missing. Here is the instrument.
    fn free(&mut self, frame: usize) {
        self.freed += 1;
        if self.caches.iter().any(|cache| cache.values().any(|cached| *cached == frame)) {
            self.caught += 1;
        }
        self.free.insert(0, frame);
        if let Some(hole) = self.table.iter_mut().find(|entry| entry.is_none()) {
            *hole = self.free.pop();
        }
    }

    fn take_away(&mut self, core: usize) {
        let next = std::mem::replace(&mut self.next[core], Next::Unmap);
        self.next[core] = match next {
            Next::Unmap => match (self.unmap(), self.order) {
                (None, _) => Next::Unmap,
                (Some(frame), Way::WithoutShootdown | Way::AskedFirst) => Next::Free { frame },
                (Some(frame), Way::FreedFirst) => {
                    self.free(frame);
                    Next::LateAsk
                }
                (Some(frame), Way::Right | Way::WithoutWaiting | Way::SaidBeforeDone | Way::WaitingDeaf) => {
                    Next::Ask { frame }
                }
            },
            Next::Ask { frame } => {
                let request = self.protocol.ask();
                self.serve(core);
                if self.order == Way::WithoutWaiting {
                    Next::Free { frame }
                } else {
                    Next::Wait { frame, request }
                }
            }
            Next::Wait { frame, request } => {
                if self.order != Way::WaitingDeaf {
                    self.serve(core);
                }
                match self.protocol.is_over(request) {
                    Ok(_) => Next::Free { frame },
                    Err(request) => Next::Wait { frame, request },
                }
            }
            Next::Free { frame } => {
                self.free(frame);
                if self.order == Way::AskedFirst { Next::EarlyAsk } else { Next::Unmap }
            }
            Next::LateAsk => Next::LateWait { request: self.protocol.ask() },
            Next::LateWait { request } => {
                self.wait(core, request).map_or_else(|request| Next::LateWait { request }, |_| Next::Unmap)
            }
            Next::EarlyAsk => Next::EarlyWait { request: self.protocol.ask() },
            Next::EarlyWait { request } => {
                self.wait(core, request).map_or_else(|request| Next::EarlyWait { request }, |_| Next::Unmap)
            }
        };
    }

    fn wait(&mut self, core: usize, request: Request) -> Result<Flushed, Request> {
        self.serve(core);
        self.protocol.is_over(request)
    }

    fn waits(&self, core: usize) -> bool {
        matches!(self.next[core], Next::Wait { .. })
    }
}

/// Runs `steps` steps with all but the last core online.
fn run(order: Way, seed: u64, steps: usize) -> World {
    let mut world = World::new(order, seed);
    for core in 0..CORES - 1 {
        world.protocol.join(core, || {});
    }
    for _ in 0..steps {
        world.step();
    }
    world
}

#[test]
fn nothing_is_freed_while_a_core_caches_a_way_to_it() {
    let mut freed = 0;
    for seed in 0..300 {
        let world = run(Way::Right, seed, 2_000);
        assert_eq!(world.caught, 0, "seed {seed}");
        freed += world.freed;
    }
    assert!(freed > 10_000, "the model takes pages away: {freed}");
}

#[test]
fn the_instrument_catches_every_wrong_order() {
    for order in
        [Way::WithoutShootdown, Way::WithoutWaiting, Way::FreedFirst, Way::AskedFirst, Way::SaidBeforeDone]
    {
        let caught: usize = (0..20).map(|seed| run(order, seed, 2_000).caught).sum();
        assert!(caught > 0, "{order:?} was not found out");
    }
}

#[test]
fn requests_that_cross_end_because_a_core_that_waits_serves() {
    // Both ask, and from then on nothing runs but their waiting.
    let both_wait = |order| {
        let mut world = World::new(order, 7);
        for core in [0, 1] {
            world.protocol.join(core, || {});
        }
        world.next = std::array::from_fn(|frame| Next::Ask { frame });
        world.table = [None; PAGES];
        for core in [0, 1] {
            world.take_away(core);
        }
        assert!(world.waits(0) && world.waits(1));
        for _ in 0..10 {
            for core in [0, 1] {
                if world.waits(core) {
                    world.take_away(core);
                }
            }
        }
        world.waits(0) || world.waits(1)
    };
    assert!(!both_wait(Way::Right));
    assert!(both_wait(Way::WaitingDeaf), "the model sees that deaf waiting never ends");
}

#[test]
fn a_request_waits_for_each_core_that_is_online_and_no_other() {
    let protocol = Shootdown::<4>::new();
    for core in [0, 2] {
        protocol.join(core, || {});
    }
    let request = protocol.ask();
    assert_eq!([0, 1, 2, 3].map(|core| protocol.waits_for(&request, core)), [true, false, true, false]);
    assert!(protocol.serve(0, || {}));
    let request = protocol.is_over(request).expect_err("core 2 has not flushed");
    protocol.leave(2, || {});
    assert_eq!(protocol.is_over(request).map(|flushed| flushed.number()), Ok(1));
}

#[test]
fn one_flush_serves_all_requests_made_before_it() {
    let protocol = Shootdown::<2>::new();
    protocol.join(1, || {});
    let (first, second) = (protocol.ask(), protocol.ask());
    let flushes = Cell::new(0);
    assert!(protocol.serve(1, || flushes.set(flushes.get() + 1)));
    assert!(!protocol.serve(1, || flushes.set(flushes.get() + 1)), "nothing is left to do");
    assert!(protocol.is_over(first).is_ok() && protocol.is_over(second).is_ok());
    assert_eq!(flushes.get(), 1);
}

#[test]
fn a_request_that_comes_during_a_flush_needs_another() {
    let protocol = Shootdown::<2>::new();
    protocol.join(1, || {});
    let _first = protocol.ask();
    let during = RefCell::new(None);
    protocol.serve(1, || *during.borrow_mut() = Some(protocol.ask()));
    let request = during.into_inner().expect("the flush ran");
    assert!(protocol.waits_for(&request, 1));
    assert!(protocol.serve(1, || {}));
    assert!(protocol.is_over(request).is_ok());
}

#[test]
fn a_core_that_joins_owes_nothing_for_requests_before_it() {
    let protocol = Shootdown::<2>::new();
    protocol.join(0, || {});
    let _request = protocol.ask();
    let flushed = Cell::new(false);
    protocol.join(1, || flushed.set(true));
    assert!(flushed.get() && !protocol.serve(1, || panic!("it joined after the request")));
}

#[test]
fn numbers_beyond_the_last_core_are_ignored() {
    let protocol = Shootdown::<2>::new();
    protocol.join(2, || panic!("there is no such core"));
    protocol.leave(9, || panic!("there is no such core"));
    let request = protocol.ask();
    assert!(!protocol.serve(2, || {}) && !protocol.is_online(2) && protocol.is_over(request).is_ok());
}

/// Frames of the threaded run: who holds which, and the caches that lead to them.
struct Shared {
    protocol: Shootdown<8>,
    /// The number that each page's frame was filled with last; a frame is freed by filling it anew.
    table: [AtomicUsize; 4],
    frames: [AtomicU64; 64],
    stop: AtomicBool,
}

#[test]
fn cores_that_run_at_once_never_use_freed_memory_and_never_wait_for_each_other() {
    const FREED: u64 = u64::MAX;
    let shared = Shared {
        protocol: Shootdown::new(),
        table: std::array::from_fn(AtomicUsize::new),
        frames: std::array::from_fn(|_| AtomicU64::new(0)),
        stop: AtomicBool::new(false),
    };
    let shared = &shared;
    let use_page = |cache: &mut BTreeMap<usize, usize>, page: usize| {
        let frame = *cache.entry(page).or_insert_with(|| shared.table[page].load(Ordering::Acquire));
        assert_ne!(shared.frames[frame].load(Ordering::Relaxed), FREED, "a freed frame is used");
    };
    std::thread::scope(|scope| {
        // Cores that only use pages.
        for core in 4..8 {
            scope.spawn(move || {
                let cache = RefCell::new(BTreeMap::new());
                while !shared.stop.load(Ordering::Relaxed) {
                    shared.protocol.join(core, || cache.borrow_mut().clear());
                    for turn in 0..50 {
                        use_page(&mut cache.borrow_mut(), turn % 4);
                        shared.protocol.serve(core, || cache.borrow_mut().clear());
                    }
                    shared.protocol.leave(core, || cache.borrow_mut().clear());
                }
            });
        }
        // Cores that give a page of their own new memory again and again.
        let changers = [0, 1, 2, 3].map(|core| {
            scope.spawn(move || {
                let cache = RefCell::new(BTreeMap::new());
                shared.protocol.join(core, || {});
                for round in 0..300 {
                    use_page(&mut cache.borrow_mut(), round % 4);
                    // Frames of this core: its number, and others 4 apart.
                    let new = core + 4 * (1 + round % 15);
                    shared.frames[new].store(1, Ordering::Relaxed);
                    let old = shared.table[core].swap(new, Ordering::AcqRel);
                    let flushed = shared.protocol.flush_everywhere(
                        core,
                        || cache.borrow_mut().clear(),
                        |_| {},
                        std::thread::yield_now,
                    );
                    assert!(flushed.number() > 0);
                    if old != new {
                        shared.frames[old].store(FREED, Ordering::Relaxed);
                    }
                }
                shared.protocol.leave(core, || cache.borrow_mut().clear());
            })
        });
        for changer in changers {
            changer.join().expect("no core saw freed memory");
        }
        shared.stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(shared.protocol.requests(), 4 * 300);
}

/// A guest's memory in a model where freeing looks at every core's cache.
struct Ram {
    caches: Rc<RefCell<[BTreeMap<usize, usize>; 2]>>,
    frame: usize,
    caught: Rc<Cell<bool>>,
}

impl Drop for Ram {
    fn drop(&mut self) {
        let cached =
            self.caches.borrow().iter().any(|cache| cache.values().any(|frame| *frame == self.frame));
        self.caught.set(self.caught.get() || cached);
    }
}

/// All cores of that model.
struct Cores(Rc<RefCell<[BTreeMap<usize, usize>; 2]>>);

impl Barrier for Cores {
    fn pass(&self) {
        let protocol = Shootdown::<2>::new();
        for core in [0, 1] {
            protocol.join(core, || {});
        }
        let flush = |core: usize| self.0.borrow_mut()[core].clear();
        protocol.flush_everywhere(
            0,
            || flush(0),
            |core| assert!(protocol.serve(core, || flush(core))),
            || {},
        );
    }
}

#[test]
fn what_is_freed_behind_a_barrier_is_freed_when_no_core_caches_it() {
    let caches = Rc::new(RefCell::new([BTreeMap::from([(1, 40)]), BTreeMap::from([(2, 41)])]));
    let caught = Rc::new(Cell::new(false));
    let ram = |frame| Ram { caches: Rc::clone(&caches), frame, caught: Rc::clone(&caught) };
    drop(FreedBehind::new(Cores(Rc::clone(&caches)), ram(41)));
    assert!(!caught.get() && caches.borrow().iter().all(BTreeMap::is_empty));

    // Without the barrier the same is found out.
    caches.borrow_mut()[1].insert(2, 41);
    drop(ram(41));
    assert!(caught.get());
}
