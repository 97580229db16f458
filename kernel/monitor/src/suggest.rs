//! "Did you mean": the known word closest to what was typed.

use alloc::vec::Vec;

/// The word of `known` closest to `word`, if one is close: it begins with it, or at most a third of its letters (and
/// never more than two) are wrong, missing, extra, or swapped with their neighbour.
pub(crate) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(distance, candidate)| {
            distance <= candidate.len().div_ceil(3).min(2)
                || (!word.is_empty() && candidate.starts_with(word))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// The optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (row, letter) in a.chars().enumerate() {
        let mut current = Vec::with_capacity(b.len() + 1);
        current.push(row + 1);
        for (column, &other) in b.iter().enumerate() {
            let substituted = last[column] + usize::from(letter != other);
            let mut best = substituted.min(last[column + 1] + 1).min(current[column] + 1);
            if column > 0 && previous == Some(other) && b[column - 1] == letter {
                best = best.min(before_last[column - 1] + 1);
            }
            current.push(best);
        }
        previous = Some(letter);
        before_last = core::mem::replace(&mut last, current);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slip_counts_once() {
        for slip in ["liunx", "linx", "linuxx", "lenux"] {
            assert_eq!(distance(slip, "linux"), 1, "{slip}");
        }
        assert_eq!(distance("", "vm"), 2);
        assert_eq!(distance("vm", ""), 2);
    }

    #[test]
    fn near_misses_are_found_and_strangers_are_not() {
        let known = ["help", "vm", "stats", "exits", "host", "reboot"];
        assert_eq!(closest("hlep", known), Some("help"));
        assert_eq!(closest("lunix", ["debian", "linux"]), Some("linux"));
        assert_eq!(closest("stat", known), Some("stats"));
        assert_eq!(closest("reb", known), Some("reboot"));
        assert_eq!(closest("frobnicate", known), None);
        assert_eq!(closest("", known), None);
    }
}
