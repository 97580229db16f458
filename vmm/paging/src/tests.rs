//! The engine's behaviours one by one. `tests/model.rs` holds it against a model.

mod model;

use super::*;
use arch::{GIB, Gpa, MIB, PAGE_SIZE};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

const RAM: Attributes =
    Attributes { permissions: Permissions::ReadWriteExecute, memory_type: MemoryType::WriteBack };

#[derive(Debug)]
struct Frames {
    tables: HashMap<Hpa, Box<[u64; 512]>>,
    next: u64,
    left: usize,
}

/// Table memory on the heap with a limit; freeing what is not allocated, or using it, fails the test.
#[derive(Clone, Debug)]
struct Pool(Rc<RefCell<Frames>>);

impl Pool {
    fn new(limit: usize) -> Self {
        // Starts at address 0, which is a frame like any other.
        Self(Rc::new(RefCell::new(Frames { tables: HashMap::new(), next: 0, left: limit })))
    }

    fn in_use(&self) -> usize {
        self.0.borrow().tables.len()
    }

    fn set_left(&self, left: usize) {
        self.0.borrow_mut().left = left;
    }
}

impl TableMemory for Pool {
    fn allocate(&mut self) -> Option<Hpa> {
        let mut frames = self.0.borrow_mut();
        frames.left = frames.left.checked_sub(1)?;
        let hpa = Hpa::new(frames.next);
        frames.next += PAGE_SIZE;
        frames.tables.insert(hpa, Box::new([0; 512]));
        Some(hpa)
    }

    fn free(&mut self, table: Hpa) {
        let mut frames = self.0.borrow_mut();
        assert!(frames.tables.remove(&table).is_some(), "{table} freed twice");
        frames.left += 1;
    }

    fn read(&self, table: Hpa, index: usize) -> u64 {
        self.0.borrow().tables.get(&table).expect("a live table")[index]
    }

    fn write(&mut self, table: Hpa, index: usize, entry: u64) {
        self.0.borrow_mut().tables.get_mut(&table).expect("a live table")[index] = entry;
    }
}

fn ept(pool: &Pool, features: Features) -> Ept<Pool> {
    Ept::new(pool.clone(), features).expect("a root")
}

fn all_leaves(ept: &Ept<Pool>) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    ept.for_each_leaf(Gpa::new(0), 1 << 48, |leaf| leaves.push(leaf)).expect("the whole space");
    leaves
}

/// Sets flags in the leaf at `gpa` as the CPU would.
fn touch(pool: &Pool, ept: &Ept<Pool>, gpa: u64, usage: Usage) {
    let (mut table, mut level) = (Hpa::new(ept.root_pointer().0 & !0xfff), Level::Root);
    loop {
        let index = level.index(gpa);
        let raw = pool.read(table, index);
        match EptFormat::decode(level, raw) {
            Entry::Empty => panic!("{gpa:#x} is mapped"),
            Entry::Table(next) => table = next,
            Entry::Leaf(_) => {
                pool.clone().write(table, index, raw | EptFormat::usage_bits(usage));
                return;
            }
        }
        level = level.below().expect("a leaf at the end");
    }
}

#[test]
fn the_largest_leaves_that_fit_are_used() {
    let pool = Pool::new(100);
    let mut ept = ept(&pool, Features::all());
    ept.map(Gpa::new(GIB - 2 * MIB - 4096), Hpa::new(3 * GIB - 2 * MIB - 4096), GIB + 4 * MIB + 8192, RAM)
        .expect("room");
    let expected = Statistics { leaves_4k: 2, leaves_2m: 2, leaves_1g: 1, tables: 6, retired_tables: 0 };
    assert_eq!(ept.statistics(), expected);
    assert_eq!(ept.statistics().mapped_bytes(), GIB + 4 * MIB + 8192);
    let leaf = ept.translate(Gpa::new(GIB + 12345)).expect("mapped");
    assert_eq!(
        (leaf.size, leaf.host_address(Gpa::new(GIB + 12345))),
        (LeafSize::Size1G, Some(Hpa::new(3 * GIB + 12345)))
    );
    assert_eq!(leaf.host_address(Gpa::new(GIB - 1)), None);
}

#[test]
fn leaves_that_the_cpu_cannot_do_are_not_used() {
    let pool = Pool::new(2000);
    let mut small = ept(&pool, Features::LEAVES_1G);
    small.map(Gpa::new(0), Hpa::new(0), 4 * MIB, RAM).expect("room");
    assert_eq!(small.statistics().leaves_4k, 1024);
    let mut middle = ept(&pool, Features::LEAVES_2M);
    middle.map(Gpa::new(0), Hpa::new(0), GIB, RAM).expect("room");
    assert_eq!(middle.statistics().leaves_2m, 512);
}

#[test]
fn mapping_twice_is_refused_and_changes_nothing() {
    let pool = Pool::new(100);
    let mut ept = ept(&pool, Features::all());
    ept.map(Gpa::new(2 * MIB), Hpa::new(0), 2 * MIB, RAM).expect("room");
    let before = (all_leaves(&ept), ept.statistics(), pool.in_use());
    assert_eq!(
        ept.map(Gpa::new(0), Hpa::new(0), 4 * MIB, RAM),
        Err(MapError::AlreadyMapped(Gpa::new(2 * MIB)))
    );
    assert_eq!(
        ept.map(Gpa::new(3 * MIB), Hpa::new(0), 4096, RAM),
        Err(MapError::AlreadyMapped(Gpa::new(3 * MIB)))
    );
    assert_eq!((all_leaves(&ept), ept.statistics(), pool.in_use()), before);
}

#[test]
fn impossible_ranges_are_refused() {
    let pool = Pool::new(100);
    let mut ept = ept(&pool, Features::all());
    let (gpa, length) = (Gpa::new(1), 4096);
    assert_eq!(
        ept.map(gpa, Hpa::new(0), length, RAM),
        Err(MapError::Range(RangeError::Misaligned { gpa, length }))
    );
    let gpa = Gpa::new((1 << 48) - 4096);
    ept.map(gpa, Hpa::new(0), 4096, RAM).expect("the last page is one");
    let beyond = RangeError::BeyondReach { gpa, length: 8192 };
    assert_eq!(ept.unmap(gpa, 8192), Err(EditError::Range(beyond)));
    assert!(ept.map(Gpa::new(0), Hpa::new((1 << 52) - 4096), 8192, RAM).is_err());
    assert!(ept.map(Gpa::new(!4095), Hpa::new(0), 8192, RAM).is_err());
    assert_eq!(ept.translate(Gpa::new(1 << 48)), None);
    assert_eq!(ept.translate(Gpa::new(u64::MAX)), None);
}

#[test]
fn without_tables_an_operation_changes_nothing() {
    let pool = Pool::new(4);
    let mut ept = ept(&pool, Features::all());
    ept.map(Gpa::new(0), Hpa::new(0), GIB, RAM).expect("one table");
    assert_eq!(pool.in_use(), 2);
    assert_eq!(ept.map(Gpa::new(1 << 40), Hpa::new(0), 4096, RAM), Err(MapError::OutOfTables));
    pool.set_left(1);
    assert_eq!(ept.unmap(Gpa::new(4096), 4096), Err(EditError::OutOfTables));
    assert_eq!(ept.split(Gpa::new(4096), LeafSize::Size4K), Err(EditError::OutOfTables));
    assert_eq!(ept.statistics().leaves_1g, 1);
    assert_eq!(pool.in_use(), 2);
}

#[test]
fn unmapping_a_page_of_a_large_leaf_splits_it_at_that_page_only() {
    let pool = Pool::new(100);
    let mut ept = ept(&pool, Features::all());
    ept.map(Gpa::new(0), Hpa::new(GIB), GIB, RAM).expect("room");
    let debt = ept.unmap(Gpa::new(5 * MIB), 4096).expect("room");
    assert!(debt.is_needed());
    ept.settle(debt, |_| {});
    let expected = Statistics { leaves_4k: 511, leaves_2m: 511, leaves_1g: 0, tables: 4, retired_tables: 0 };
    assert_eq!(ept.statistics(), expected);
    assert_eq!(ept.translate(Gpa::new(5 * MIB)), None);
    assert_eq!(ept.translate(Gpa::new(5 * MIB + 4096)).expect("mapped").hpa, Hpa::new(GIB + 5 * MIB + 4096));
}

#[test]
fn emptied_tables_are_freed_by_the_flush_and_not_before() {
    let pool = Pool::new(100);
    let mut ept = ept(&pool, Features::all());
    ept.map(Gpa::new(0x1000), Hpa::new(0), 0x3000, RAM).expect("room");
    assert_eq!(pool.in_use(), 4);
    let first = ept.unmap(Gpa::new(0x1000), 0x2000).expect("room");
    assert_eq!(ept.statistics().retired_tables, 0);
    let second = ept.unmap(Gpa::new(0x3000), 0x1000).expect("room");
    assert_eq!(pool.in_use(), 4, "CPUs may still walk them");
    let mut flushed = None;
    ept.settle(first.and(second), |root| flushed = Some(root));
    assert_eq!(flushed, Some(ept.root_pointer()));
    assert_eq!(pool.in_use(), 1);
    assert_eq!(ept.statistics(), Statistics { tables: 1, ..Statistics::default() });
}

#[test]
fn a_lost_debt_is_paid_with_the_next() {
    let pool = Pool::new(100);
    let mut ept = ept(&pool, Features::all());
    ept.map(Gpa::new(0), Hpa::new(0), 4096, RAM).expect("room");
    drop(ept.unmap(Gpa::new(0), 4096).expect("room"));
    let nothing = ept.unmap(Gpa::new(0), 4096).expect("room");
    assert!(!nothing.is_needed());
    let mut flushes = 0;
    ept.settle(nothing, |_| flushes += 1);
    assert_eq!(flushes, 1);
    let nothing = ept.unmap(Gpa::new(0), 4096).expect("room");
    ept.settle(nothing, |_| flushes += 1);
    assert_eq!(flushes, 1);
}

#[test]
fn only_weaker_permissions_need_a_flush() {
    let pool = Pool::new(100);
    let mut ept = ept(&pool, Features::all());
    ept.map(Gpa::new(0), Hpa::new(0), 2 * MIB, RAM).expect("room");
    let mut protect = |to| {
        let debt = ept.protect(Gpa::new(0), 2 * MIB, to).expect("room");
        let needed = debt.is_needed();
        ept.settle(debt, |_| {});
        needed
    };
    assert!(!protect(Permissions::ReadWriteExecute));
    assert!(protect(Permissions::ReadExecute));
    assert!(protect(Permissions::ReadWrite));
    assert!(!protect(Permissions::ReadWriteExecute));
    assert_eq!(ept.statistics().leaves_2m, 1);
}

#[test]
fn splitting_keeps_translation_attributes_and_usage() {
    let pool = Pool::new(100);
    let mut ept = ept(&pool, Features::all());
    let device = Attributes { permissions: Permissions::ReadWrite, memory_type: MemoryType::Uncacheable };
    ept.map(Gpa::new(GIB), Hpa::new(7 * GIB), GIB, device).expect("room");
    touch(&pool, &ept, GIB, Usage::all());
    let debt = ept.split(Gpa::new(GIB + 3 * MIB + 5), LeafSize::Size4K).expect("room");
    ept.settle(debt, |_| {});
    let leaf = ept.translate(Gpa::new(GIB + 3 * MIB + 5)).expect("mapped");
    assert_eq!((leaf.size, leaf.attributes, leaf.usage), (LeafSize::Size4K, device, Usage::all()));
    assert_eq!(leaf.hpa, Hpa::new(7 * GIB + 3 * MIB));
    assert_eq!((ept.statistics().leaves_2m, ept.statistics().leaves_4k), (511, 512));
}

#[test]
fn harvest_reports_dirty_pages_once_and_wants_a_flush() {
    let pool = Pool::new(100);
    let mut ept = ept(&pool, Features::all());
    ept.map(Gpa::new(0), Hpa::new(0), 2 * MIB + 8192, RAM).expect("room");
    touch(&pool, &ept, 0, Usage::all());
    touch(&pool, &ept, 2 * MIB, Usage::ACCESSED);
    touch(&pool, &ept, 2 * MIB + 4096, Usage::all());
    let mut dirty = Vec::new();
    let debt =
        ept.harvest(Gpa::new(0), 4 * MIB, Usage::DIRTY, |leaf| dirty.push(leaf.gpa.get())).expect("range");
    assert_eq!(dirty, [0, 2 * MIB + 4096]);
    assert!(debt.is_needed());
    ept.settle(debt, |_| {});
    let debt =
        ept.harvest(Gpa::new(0), 4 * MIB, Usage::DIRTY, |leaf| panic!("{leaf:?} is clean")).expect("range");
    assert!(!debt.is_needed());
    assert_eq!(ept.translate(Gpa::new(0)).expect("mapped").usage, Usage::ACCESSED);
}

/// Memory in which the CPU sets the dirty flag of every leaf just before it is exchanged.
#[derive(Debug)]
struct BusyCpu(Pool);

impl TableMemory for BusyCpu {
    fn allocate(&mut self) -> Option<Hpa> {
        self.0.allocate()
    }
    fn free(&mut self, table: Hpa) {
        self.0.free(table);
    }
    fn read(&self, table: Hpa, index: usize) -> u64 {
        self.0.read(table, index)
    }
    fn write(&mut self, table: Hpa, index: usize, entry: u64) {
        self.0.write(table, index, entry);
    }
    fn exchange(&mut self, table: Hpa, index: usize, entry: u64) -> u64 {
        let old = self.0.exchange(table, index, entry);
        if old == 0 { 0 } else { old | EptFormat::usage_bits(Usage::all()) }
    }
}

#[test]
fn usage_that_the_cpu_notes_during_a_change_is_kept() {
    let pool = Pool::new(100);
    let mut ept = Ept::new(BusyCpu(pool), Features::all()).expect("a root");
    ept.map(Gpa::new(0), Hpa::new(0), 4 * MIB, RAM).expect("room");
    let debt = ept.protect(Gpa::new(0), 2 * MIB, Permissions::Read).expect("room");
    let debt = debt.and(ept.split(Gpa::new(2 * MIB), LeafSize::Size4K).expect("room"));
    assert_eq!(ept.translate(Gpa::new(0)).expect("mapped").usage, Usage::all());
    assert_eq!(ept.translate(Gpa::new(3 * MIB)).expect("mapped").usage, Usage::all());
    ept.settle(debt, |_| {});
}

#[test]
fn clear_and_drop_give_every_table_back() {
    let pool = Pool::new(100);
    let mut ept = ept(&pool, Features::all());
    ept.map(Gpa::new(4096), Hpa::new(0), 5 * GIB, RAM)
        .expect_err("misaligned 1 GiB borders need 2000 tables");
    ept.map(Gpa::new(0), Hpa::new(0), 5 * GIB + 4096, RAM).expect("room");
    let debt = ept.clear();
    ept.settle(debt, |_| {});
    assert_eq!(pool.in_use(), 1);
    assert_eq!(all_leaves(&ept), []);
    ept.map(Gpa::new(4096), Hpa::new(0), 4096, RAM).expect("room");
    let lost = ept.unmap(Gpa::new(4096), 4096).expect("room");
    assert!(lost.is_needed());
    drop(ept);
    assert_eq!(pool.in_use(), 0);
}
