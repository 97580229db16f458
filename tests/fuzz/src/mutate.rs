//! Variations of an input.

use crate::random::Random;

/// The longest input.
pub(crate) const LONGEST: usize = 4096;
/// The longest input that is made from nothing.
const LONGEST_FRESH: usize = 256;
/// Bytes that are more often special than others.
const SPECIAL: [u8; 12] = [0, 1, 2, 3, 4, 7, 8, 0x10, 0x7f, 0x80, 0xfe, 0xff];

/// An input from nothing.
pub(crate) fn fresh(random: &mut Random) -> Vec<u8> {
    let length = random.below(LONGEST_FRESH) + 1;
    (0..length).map(|_| random.byte()).collect()
}

/// Changes `input` in some places; `other` is another input that was worth keeping.
pub(crate) fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(6) {
        change_once(input, other, random);
    }
    input.truncate(LONGEST);
    if input.is_empty() {
        input.push(random.byte());
    }
}

fn change_once(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let place = random.below(input.len());
    let span = random.below(16) + 1;
    let end = (place + span).min(input.len());
    match random.below(9) {
        0 if !input.is_empty() => input[place] ^= 1 << random.below(8),
        1 if !input.is_empty() => input[place] = random.byte(),
        2 if !input.is_empty() => input[place] = SPECIAL[random.below(SPECIAL.len())],
        3 if !input.is_empty() => {
            input[place] = input[place].wrapping_add(if random.below(2) == 0 { 1 } else { 0xff });
        }
        4 => {
            input.drain(place..end);
        }
        5 => {
            let part = input[place..end].to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, part);
        }
        6 => {
            let added: Vec<u8> = (0..span).map(|_| random.byte()).collect();
            input.splice(place..place, added);
        }
        7 if !other.is_empty() => {
            let from = random.below(other.len());
            let to = (from + random.below(64) + 1).min(other.len());
            input.splice(place..place, other[from..to].iter().copied());
        }
        8 if !other.is_empty() => {
            input.truncate(place);
            input.extend(&other[random.below(other.len())..]);
        }
        _ => input.push(random.byte()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variations_are_repeatable_bounded_and_various() {
        let vary = |seed| {
            let mut random = Random::new(seed);
            let mut input = fresh(&mut random);
            let other = fresh(&mut random);
            for _ in 0..2000 {
                mutate(&mut input, &other, &mut random);
                assert!((1..=LONGEST).contains(&input.len()));
            }
            input
        };
        assert_eq!(vary(7), vary(7));
        assert_ne!(vary(7), vary(8));
    }
}
