//! Aligned tables.

use crate::output::{Output, print};
use alloc::string::String;
use alloc::vec::Vec;

/// On which side of its column a cell stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A table with `N` columns.
#[derive(Clone, Debug)]
pub(crate) struct Table<const N: usize> {
    columns: [(&'static str, Align); N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(columns: [(&'static str, Align); N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    /// Writes the heading and the rows, each column as wide as its widest cell.
    pub(crate) fn print(&self, out: &mut dyn Output) {
        let mut widths = self.columns.map(|(heading, _)| heading.len());
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        self.print_row(self.columns.map(|(heading, _)| heading), widths, out);
        for row in &self.rows {
            self.print_row(row.each_ref().map(String::as_str), widths, out);
        }
    }

    fn print_row(&self, cells: [&str; N], widths: [usize; N], out: &mut dyn Output) {
        let mut line = String::new();
        for ((cell, width), (_, align)) in cells.iter().zip(widths).zip(self.columns) {
            let blanks = width.saturating_sub(cell.chars().count());
            let (before, after) = match align {
                Align::Left => (0, blanks),
                Align::Right => (blanks, 0),
            };
            line.push_str("  ");
            line.extend(core::iter::repeat_n(' ', before));
            line.push_str(cell);
            line.extend(core::iter::repeat_n(' ', after));
        }
        print(out, format_args!("{}\n", line.trim_end()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_under_their_headings() {
        let mut table = Table::new([("NAME", Align::Left), ("EXITS", Align::Right), ("STATE", Align::Left)]);
        table.row(["debian".into(), "7".into(), "running".into()]);
        table.row(["a".into(), "1,234,567".into(), "stopped".into()]);
        let mut out = Vec::new();
        table.print(&mut out);
        let expected =
            "  NAME        EXITS  STATE\r\n  debian          7  running\r\n  a       1,234,567  stopped\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
}
