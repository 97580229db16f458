//! Random sequences of operations against a model of intervals.

use super::{Pool, all_leaves, ept};
use crate::*;
use arch::{GIB, Gpa, MIB};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Intervals by start: end, host address minus guest address, attributes.
#[derive(Clone, Debug, Default)]
struct Model(BTreeMap<u64, (u64, u64, Attributes)>);

impl Model {
    fn cut(&mut self, at: u64) {
        if let Some((&start, &(end, distance, attributes))) = self.0.range(..at).next_back()
            && end > at
        {
            self.0.insert(start, (at, distance, attributes));
            self.0.insert(at, (end, distance, attributes));
        }
    }

    fn first_mapped(&self, start: u64, end: u64) -> Option<u64> {
        if start == end {
            return None;
        }
        let before = self.0.range(..start).next_back().filter(|(_, value)| value.0 > start).map(|_| start);
        before.or_else(|| self.0.range(start..end).next().map(|(&at, _)| at))
    }

    fn keys(&mut self, start: u64, end: u64) -> Vec<u64> {
        self.cut(start);
        self.cut(end);
        self.0.range(start..end).map(|(&at, _)| at).collect()
    }

    /// The intervals with neighbours of one kind merged.
    fn merged(
        intervals: impl Iterator<Item = (u64, u64, u64, Attributes)>,
    ) -> Vec<(u64, u64, u64, Attributes)> {
        let mut merged: Vec<(u64, u64, u64, Attributes)> = Vec::new();
        for (start, end, distance, attributes) in intervals {
            match merged.last_mut() {
                Some(last) if last.1 == start && (last.2, last.3) == (distance, attributes) => last.1 = end,
                _ => merged.push((start, end, distance, attributes)),
            }
        }
        merged
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Map { gpa: u64, distance: u64, length: u64, attributes: Attributes },
    Unmap { gpa: u64, length: u64 },
    Protect { gpa: u64, length: u64, to: Permissions },
    Split { gpa: u64, size: LeafSize },
    Tables { left: usize },
    Settle,
}

fn permissions() -> impl Strategy<Value = Permissions> {
    prop_oneof![
        Just(Permissions::Read),
        Just(Permissions::ReadWrite),
        Just(Permissions::ReadExecute),
        Just(Permissions::ReadWriteExecute)
    ]
}

/// Addresses near borders of every leaf size, below 4 GiB.
fn address() -> impl Strategy<Value = u64> {
    (0..4u64, 0..4u64, 0..4u64).prop_map(|(g, m, k)| g * GIB + m * 2 * MIB + k * 4096)
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![3 => address(), 1 => Just(GIB), 1 => Just(2 * MIB), 1 => Just(4096u64)];
    let distance = prop_oneof![Just(0u64), Just(GIB), Just(6 * MIB), Just(12288u64)];
    let memory_type = prop_oneof![Just(MemoryType::WriteBack), Just(MemoryType::Uncacheable)];
    let size = prop_oneof![Just(LeafSize::Size4K), Just(LeafSize::Size2M)];
    prop_oneof![
        6 => (address(), distance, length.clone(), permissions(), memory_type).prop_map(
            |(gpa, distance, length, permissions, memory_type)| Step::Map {
                gpa, distance, length, attributes: Attributes { permissions, memory_type }
            }
        ),
        4 => (address(), length.clone()).prop_map(|(gpa, length)| Step::Unmap { gpa, length }),
        3 => (address(), length, permissions()).prop_map(|(gpa, length, to)| Step::Protect { gpa, length, to }),
        2 => (address(), size).prop_map(|(gpa, size)| Step::Split { gpa, size }),
        1 => prop_oneof![3 => Just(usize::MAX >> 1), 1 => 0usize..4].prop_map(|left| Step::Tables { left }),
        2 => Just(Step::Settle),
    ]
}

fn run_step(ept: &mut Ept<Pool>, pool: &Pool, model: &mut Model, step: Step) {
    let before = model.clone();
    let debt = match step {
        Step::Map { gpa, distance, length, attributes } => {
            match ept.map(Gpa::new(gpa), Hpa::new(gpa + distance), length, attributes) {
                Ok(()) => {
                    assert_eq!(model.first_mapped(gpa, gpa + length), None);
                    if length > 0 {
                        model.0.insert(gpa, (gpa + length, distance, attributes));
                    }
                }
                Err(MapError::AlreadyMapped(at)) => {
                    assert_eq!(Some(at.get()), model.first_mapped(gpa, gpa + length));
                }
                Err(MapError::OutOfTables) => assert!(pool.0.borrow().left < 3000),
                Err(MapError::Range(error)) => panic!("{error:?}"),
            }
            return;
        }
        Step::Unmap { gpa, length } => ept.unmap(Gpa::new(gpa), length).inspect(|debt| {
            let keys = model.keys(gpa, gpa + length);
            assert!(debt.is_needed() || keys.is_empty());
            for key in keys {
                model.0.remove(&key);
            }
        }),
        Step::Protect { gpa, length, to } => ept.protect(Gpa::new(gpa), length, to).inspect(|debt| {
            for key in model.keys(gpa, gpa + length) {
                let interval = model.0.get_mut(&key).expect("its key was listed");
                assert!(debt.is_needed() || to.covers(interval.2.permissions));
                interval.2.permissions = to;
            }
        }),
        Step::Split { gpa, size } => ept.split(Gpa::new(gpa), size).inspect(|_| {
            assert!(ept.translate(Gpa::new(gpa)).is_none_or(|leaf| leaf.size <= size));
        }),
        Step::Tables { left } => return pool.set_left(left),
        Step::Settle => Ok(ept.unmap(Gpa::new(0), 0).expect("nothing needs no table")),
    };
    match debt {
        // Debts are kept by the engine when the token is lost; the settle step pays them all.
        Ok(debt) if matches!(step, Step::Settle) => {
            ept.settle(debt, |_| {});
            assert_eq!(ept.statistics().retired_tables, 0);
        }
        Ok(debt) => drop(debt),
        Err(error) => {
            assert_eq!(error, EditError::OutOfTables);
            model.0 = before.0;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_sequence_agrees_with_the_model(
        steps in prop::collection::vec(step(), 1..30),
        features in prop_oneof![Just(Features::all()), Just(Features::LEAVES_2M)],
    ) {
        let pool = Pool::new(usize::MAX >> 1);
        let mut ept = ept(&pool, features);
        let mut model = Model::default();
        for step in steps {
            run_step(&mut ept, &pool, &mut model, step);
            let leaves = all_leaves(&ept);
            let from_tables = Model::merged(leaves.iter().map(|leaf| {
                let start = leaf.gpa.get();
                (start, start + leaf.size.bytes(), leaf.hpa.get() - start, leaf.attributes)
            }));
            let from_model = Model::merged(model.0.iter().map(|(&start, &(end, d, a))| (start, end, d, a)));
            prop_assert_eq!(from_tables, from_model);
            let statistics = ept.statistics();
            let count = |size| leaves.iter().filter(|leaf| leaf.size == size).count() as u64;
            prop_assert_eq!(statistics.leaves_4k, count(LeafSize::Size4K));
            prop_assert_eq!(statistics.leaves_2m, count(LeafSize::Size2M));
            prop_assert_eq!(statistics.leaves_1g, count(LeafSize::Size1G));
            prop_assert_eq!(statistics.tables + statistics.retired_tables, pool.in_use() as u64);
        }
        drop(ept);
        prop_assert_eq!(pool.in_use(), 0);
    }
}
