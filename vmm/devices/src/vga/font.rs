//! The characters of a PC's text screens: code page 437, and a font of them.
//!
//! The glyphs are 8 by 8 dots, each line drawn twice. Software that wants others loads its own, as a video BIOS does.

use font8x8::{
    BASIC_UNICODE, BLOCK_UNICODE, BOX_UNICODE, FontUnicode, GREEK_UNICODE, LATIN_UNICODE, MISC_UNICODE,
};

/// Lines of a glyph.
pub(super) const GLYPH_LINES: usize = 16;

/// What the codes are, as shown (the first 32 are control codes elsewhere).
#[rustfmt::skip]
const CODE_PAGE_437: [char; 256] = [
    ' ', '☺', '☻', '♥', '♦', '♣', '♠', '•', '◘', '○', '◙', '♂', '♀', '♪', '♫', '☼',
    '►', '◄', '↕', '‼', '¶', '§', '▬', '↨', '↑', '↓', '→', '←', '∟', '↔', '▲', '▼',
    ' ', '!', '"', '#', '$', '%', '&', '\'', '(', ')', '*', '+', ',', '-', '.', '/',
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', ':', ';', '<', '=', '>', '?',
    '@', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O',
    'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', '[', '\\', ']', '^', '_',
    '`', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o',
    'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', '{', '|', '}', '~', '⌂',
    'Ç', 'ü', 'é', 'â', 'ä', 'à', 'å', 'ç', 'ê', 'ë', 'è', 'ï', 'î', 'ì', 'Ä', 'Å',
    'É', 'æ', 'Æ', 'ô', 'ö', 'ò', 'û', 'ù', 'ÿ', 'Ö', 'Ü', '¢', '£', '¥', '₧', 'ƒ',
    'á', 'í', 'ó', 'ú', 'ñ', 'Ñ', 'ª', 'º', '¿', '⌐', '¬', '½', '¼', '¡', '«', '»',
    '░', '▒', '▓', '│', '┤', '╡', '╢', '╖', '╕', '╣', '║', '╗', '╝', '╜', '╛', '┐',
    '└', '┴', '┬', '├', '─', '┼', '╞', '╟', '╚', '╔', '╩', '╦', '╠', '═', '╬', '╧',
    '╨', '╤', '╥', '╙', '╘', '╒', '╓', '╫', '╪', '┘', '┌', '█', '▄', '▌', '▐', '▀',
    'α', 'ß', 'Γ', 'π', 'Σ', 'σ', 'µ', 'τ', 'Φ', 'Θ', 'Ω', 'δ', '∞', 'φ', 'ε', '∩',
    '≡', '±', '≥', '≤', '⌠', '⌡', '÷', '≈', '°', '∙', '·', '√', 'ⁿ', '²', '■', '\u{a0}',
];

/// The character of `code`, as shown.
pub(super) const fn character(code: u8) -> char {
    CODE_PAGE_437[code as usize]
}

/// The dots of `code`, the leftmost in bit 7. Characters that the font does not have are blank.
pub(super) fn glyph(code: u8) -> [u8; GLYPH_LINES] {
    let wanted = character(code);
    let fonts: [&[FontUnicode]; 6] =
        [&BASIC_UNICODE, &LATIN_UNICODE, &BOX_UNICODE, &BLOCK_UNICODE, &GREEK_UNICODE, &MISC_UNICODE];
    let found = fonts.into_iter().flatten().find(|font| font.char() == wanted);
    let lines = found.map_or([0; 8], |font| font.byte_array().map(u8::reverse_bits));
    core::array::from_fn(|line| lines[line / 2])
}
