//! Text and keys as the strokes of a keyboard with United States layout, in scan code set 2.
//! Microsoft, "Keyboard Scan Code Specification", Appendix A.
//!
//! Text is typed as it is. A key by its name is in angle brackets, with modifiers before it: `<enter>`, `<f12>`,
//! `<ctrl-alt-del>`; the less-than sign itself is `<lt>`. A single word like `ctrl-alt-del` needs no brackets.

use alloc::vec::Vec;

/// Keys that produce a character each: the code, and the characters without and with shift.
const CHARACTERS: [(u8, char, char); 48] = [
    (0x0e, '`', '~'),
    (0x16, '1', '!'),
    (0x1e, '2', '@'),
    (0x26, '3', '#'),
    (0x25, '4', '$'),
    (0x2e, '5', '%'),
    (0x36, '6', '^'),
    (0x3d, '7', '&'),
    (0x3e, '8', '*'),
    (0x46, '9', '('),
    (0x45, '0', ')'),
    (0x4e, '-', '_'),
    (0x55, '=', '+'),
    (0x15, 'q', 'Q'),
    (0x1d, 'w', 'W'),
    (0x24, 'e', 'E'),
    (0x2d, 'r', 'R'),
    (0x2c, 't', 'T'),
    (0x35, 'y', 'Y'),
    (0x3c, 'u', 'U'),
    (0x43, 'i', 'I'),
    (0x44, 'o', 'O'),
    (0x4d, 'p', 'P'),
    (0x54, '[', '{'),
    (0x5b, ']', '}'),
    (0x5d, '\\', '|'),
    (0x1c, 'a', 'A'),
    (0x1b, 's', 'S'),
    (0x23, 'd', 'D'),
    (0x2b, 'f', 'F'),
    (0x34, 'g', 'G'),
    (0x33, 'h', 'H'),
    (0x3b, 'j', 'J'),
    (0x42, 'k', 'K'),
    (0x4b, 'l', 'L'),
    (0x4c, ';', ':'),
    (0x52, '\'', '"'),
    (0x1a, 'z', 'Z'),
    (0x22, 'x', 'X'),
    (0x21, 'c', 'C'),
    (0x2a, 'v', 'V'),
    (0x32, 'b', 'B'),
    (0x31, 'n', 'N'),
    (0x3a, 'm', 'M'),
    (0x41, ',', '<'),
    (0x49, '.', '>'),
    (0x4a, '/', '?'),
    (0x29, ' ', ' '),
];

/// Marks codes that a keyboard sends behind `e0`.
const EXTENDED: u16 = 0xe000;

/// Keys that have names.
const NAMED: [(&str, u16); 38] = [
    ("enter", 0x5a),
    ("esc", 0x76),
    ("tab", 0x0d),
    ("backspace", 0x66),
    ("space", 0x29),
    ("lt", 0x41),
    ("up", EXTENDED | 0x75),
    ("down", EXTENDED | 0x72),
    ("left", EXTENDED | 0x6b),
    ("right", EXTENDED | 0x74),
    ("home", EXTENDED | 0x6c),
    ("end", EXTENDED | 0x69),
    ("pgup", EXTENDED | 0x7d),
    ("pgdn", EXTENDED | 0x7a),
    ("ins", EXTENDED | 0x70),
    ("del", EXTENDED | 0x71),
    ("f1", 0x05),
    ("f2", 0x06),
    ("f3", 0x04),
    ("f4", 0x0c),
    ("f5", 0x03),
    ("f6", 0x0b),
    ("f7", 0x83),
    ("f8", 0x0a),
    ("f9", 0x01),
    ("f10", 0x09),
    ("f11", 0x78),
    ("f12", 0x07),
    ("caps", 0x58),
    ("num", 0x77),
    ("scroll", 0x7e),
    ("ctrl", 0x14),
    ("alt", 0x11),
    ("shift", SHIFT),
    ("win", EXTENDED | 0x1f),
    ("menu", EXTENDED | 0x2f),
    ("altgr", EXTENDED | 0x11),
    ("minus", 0x4e),
];
const MODIFIERS: [&str; 4] = ["ctrl", "alt", "shift", "win"];
const SHIFT: u16 = 0x12;

/// What cannot be typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum NotTyped<'a> {
    /// The keyboard has no such character.
    Character(char),
    /// No key is called this.
    Key(&'a str),
}

/// The strokes that type `text`, each as the bytes that a keyboard sends.
pub(crate) fn strokes(text: &str) -> Result<Vec<Vec<u8>>, NotTyped<'_>> {
    let is_chord = |word: &str| MODIFIERS.iter().any(|modifier| word.starts_with(modifier));
    if !text.contains([' ', '<'])
        && is_chord(text)
        && text.contains('-')
        && let Ok(stroke) = chord(text)
    {
        return Ok([stroke].into());
    }
    let mut strokes = Vec::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if let Some((name, behind)) = rest.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
            strokes.push(chord(name)?);
            rest = behind;
            continue;
        }
        strokes.push(typed(character)?);
        rest = rest.get(character.len_utf8()..).unwrap_or_default();
    }
    Ok(strokes)
}

/// A key by its name or character, with modifiers.
fn chord(name: &str) -> Result<Vec<u8>, NotTyped<'_>> {
    let mut keys = Vec::new();
    let mut rest = name;
    while let Some((modifier, behind)) = rest.split_once('-')
        && MODIFIERS.contains(&modifier)
        && !behind.is_empty()
    {
        keys.push(named(modifier).ok_or(NotTyped::Key(name))?);
        rest = behind;
    }
    let mut characters = rest.chars();
    let key = match (characters.next(), characters.next()) {
        (Some(single), None) => character(single).map(|(code, _)| code),
        _ => named(rest),
    };
    keys.push(key.ok_or(NotTyped::Key(name))?);
    Ok(stroke(&keys))
}

fn typed<'a>(wanted: char) -> Result<Vec<u8>, NotTyped<'a>> {
    match character(wanted) {
        Some((code, true)) => Ok(stroke(&[SHIFT, code])),
        Some((code, false)) => Ok(stroke(&[code])),
        None => Err(NotTyped::Character(wanted)),
    }
}

fn named(name: &str) -> Option<u16> {
    NAMED.iter().find(|(other, _)| *other == name).map(|(_, code)| *code)
}

/// The key of a character, and whether it is with shift.
fn character(wanted: char) -> Option<(u16, bool)> {
    let key = CHARACTERS.iter().find(|(_, plain, shifted)| *plain == wanted || *shifted == wanted)?;
    Some((u16::from(key.0), key.1 != wanted))
}

/// The keys go down in order, and up in the other.
fn stroke(keys: &[u16]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let prefix = |key: u16| (key & 0xff00 == EXTENDED).then_some(0xe0);
    let code = |key: u16| key.to_le_bytes()[0];
    for key in keys {
        bytes.extend(prefix(*key));
        bytes.push(code(*key));
    }
    for key in keys.iter().rev() {
        bytes.extend(prefix(*key));
        bytes.extend([0xf0, code(*key)]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_typed_with_shift_where_it_needs_it() {
        let expected: [&[u8]; 4] = [
            &[0x1c, 0xf0, 0x1c],
            &[0x12, 0x1c, 0xf0, 0x1c, 0xf0, 0x12],
            &[0x29, 0xf0, 0x29],
            &[0x4a, 0xf0, 0x4a],
        ];
        assert_eq!(strokes("aA /"), Ok(expected.map(Vec::from).into()));
        assert_eq!(strokes(""), Ok(Vec::new()));
    }

    #[test]
    fn keys_have_names_and_modifiers() {
        let enter: &[u8] = &[0x5a, 0xf0, 0x5a];
        let reset: &[u8] = &[0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14];
        assert_eq!(strokes("<enter>"), Ok([enter.into()].into()));
        assert_eq!(strokes("<ctrl-alt-del>"), strokes("ctrl-alt-del"));
        assert_eq!(strokes("ctrl-alt-del"), Ok([reset.into()].into()));
        assert_eq!(strokes("l<enter>").map(|strokes| strokes.len()), Ok(2));
        assert_eq!(strokes("<ctrl-c>"), Ok([[0x14, 0x21, 0xf0, 0x21, 0xf0, 0x14].into()].into()));
        assert_eq!(strokes("<ctrl-->").map(|strokes| strokes.len()), Ok(1));
        assert_eq!(strokes("alternative").map(|strokes| strokes.len()), Ok(11), "text, as it looks");
    }

    #[test]
    fn what_the_keyboard_has_not_is_told() {
        assert_eq!(strokes("\u{e4}"), Err(NotTyped::Character('\u{e4}')));
        assert_eq!(strokes("<f13>"), Err(NotTyped::Key("f13")));
        assert_eq!(strokes("<ctrl-nothing>"), Err(NotTyped::Key("ctrl-nothing")));
        assert_eq!(strokes("a<b").map(|strokes| strokes.len()), Ok(3), "an open bracket is itself");
    }

    #[test]
    fn every_stroke_fits_a_keyboard() {
        for (name, _) in NAMED {
            let longest = chord(name).map(|stroke| stroke.len());
            assert!(longest.is_ok_and(|length| length <= 16), "{name}");
        }
        let text: alloc::string::String = (b' '..=b'~').map(char::from).filter(|c| *c != '<').collect();
        assert_eq!(strokes(&text).map(|strokes| strokes.len()), Ok(94));
        assert!(chord("ctrl-alt-shift-del").is_ok_and(|stroke| stroke.len() <= 16));
    }
}
