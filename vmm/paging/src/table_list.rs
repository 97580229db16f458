//! A list of tables that hang in no tree, linked through their own first entries.
//!
//! A link leaves the entry's low eleven bits clear, so a CPU whose cached pointers still lead to such a table
//! finds that entry not present.

use crate::TableMemory;
use arch::Hpa;

/// Tells a link from the end of the list; a table may lie at address 0.
const LINKED: u64 = 1 << 11;

/// Tables linked through their first entries.
#[derive(Debug)]
pub(crate) struct TableList {
    head: Option<Hpa>,
}

impl TableList {
    pub(crate) const EMPTY: Self = Self { head: None };

    /// Puts `table` on the list.
    pub(crate) fn push(&mut self, memory: &mut impl TableMemory, table: Hpa) {
        let link = self.head.map_or(0, |next| next.get() | LINKED);
        memory.write(table, 0, link);
        self.head = Some(table);
    }

    /// Takes a table off the list, its first entry cleared.
    pub(crate) fn pop(&mut self, memory: &mut impl TableMemory) -> Option<Hpa> {
        let table = self.head?;
        let link = memory.read(table, 0);
        self.head = (link & LINKED != 0).then_some(Hpa::new(link & !LINKED));
        memory.write(table, 0, 0);
        Some(table)
    }

    /// Frees every table on the list.
    pub(crate) fn free_all(&mut self, memory: &mut impl TableMemory) {
        while let Some(table) = self.pop(memory) {
            memory.free(table);
        }
    }
}
