//! Typed access to the fields of one TOML table, collecting mistakes instead of stopping at the first.

use crate::{ConfigError, Place, Problem};
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::{Range, RangeInclusive};
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

const WHOLE_NUMBER: &str = "a whole number";

/// The text of a configuration, to tell lines.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a>(pub(crate) &'a str);

impl Source<'_> {
    /// The line, from 1, in which `span` begins.
    pub(crate) fn line(self, span: &Range<usize>) -> u32 {
        let before = self.0.as_bytes().get(..span.start).unwrap_or(self.0.as_bytes());
        let ends = before.iter().filter(|byte| **byte == b'\n').count();
        u32::try_from(ends).unwrap_or(u32::MAX).saturating_add(1)
    }
}

/// A value with the line it stands in.
#[derive(Clone, Copy)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) line: u32,
}

/// The words for a value's type.
pub(crate) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// One table, its place in the file, and the mistakes found in it.
pub(crate) struct Table<'a> {
    source: Source<'a>,
    table: &'a DeTable<'a>,
    /// The line of the table's header.
    pub(crate) line: u32,
    pub(crate) place: Place,
    pub(crate) errors: Vec<ConfigError>,
}

impl<'a> Table<'a> {
    pub(crate) fn new(source: Source<'a>, table: &'a DeTable<'a>, line: u32, place: Place) -> Self {
        Self { source, table, line, place, errors: Vec::new() }
    }

    /// Whether `field` is there.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.table.get(field).is_some()
    }

    /// Notes a mistake.
    pub(crate) fn error(&mut self, line: u32, field: &str, problem: Problem) {
        let place = self.place.clone();
        self.errors.push(ConfigError { line: Some(line), place, field: Some(field.into()), problem });
    }

    /// Notes every field that is not one of `known`.
    pub(crate) fn refuse_unknown(&mut self, known: &'static [&'static str]) {
        for (key, _) in self.table.iter() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                self.error(self.source.line(&key.span()), name, Problem::UnknownField { known });
            }
        }
    }

    /// Notes that `field` has to be there, if it is not.
    pub(crate) fn require(&mut self, field: &str, example: &'static str) {
        if self.table.get(field).is_none() {
            self.error(self.line, field, Problem::Missing { example });
        }
    }

    /// The line of `field`, if it is there.
    pub(crate) fn line_of(&self, field: &str) -> Option<u32> {
        self.field(field).map(|(_, line)| line)
    }

    fn field(&self, field: &str) -> Option<(&'a Spanned<DeValue<'a>>, u32)> {
        let value = self.table.get(field)?;
        Some((value, self.source.line(&value.span())))
    }

    fn wrong_type(&mut self, line: u32, field: &str, expected: &'static str, found: &DeValue<'_>) {
        self.error(line, field, Problem::WrongType { expected, found: type_name(found) });
    }

    /// The text in `field`, if it is there and not empty.
    pub(crate) fn text(&mut self, field: &str) -> Option<Located<&'a str>> {
        let value = self.any_text(field)?;
        if value.value.is_empty() {
            self.error(value.line, field, Problem::EmptyText);
            return None;
        }
        Some(value)
    }

    /// The text in `field`, if it is there.
    pub(crate) fn any_text(&mut self, field: &str) -> Option<Located<&'a str>> {
        let (value, line) = self.field(field)?;
        let DeValue::String(text) = value.get_ref() else {
            self.wrong_type(line, field, "text in quotes", value.get_ref());
            return None;
        };
        Some(Located { value: text, line })
    }

    /// The truth value in `field`, if it is there.
    pub(crate) fn flag(&mut self, field: &str) -> Option<Located<bool>> {
        let (value, line) = self.field(field)?;
        let DeValue::Boolean(flag) = value.get_ref() else {
            self.wrong_type(line, field, "true or false", value.get_ref());
            return None;
        };
        Some(Located { value: *flag, line })
    }

    /// The number in `field`, if it is there and in `range`.
    pub(crate) fn number(&mut self, field: &str, least: u64, most: u64) -> Option<Located<u64>> {
        let (value, line) = self.field(field)?;
        let DeValue::Integer(number) = value.get_ref() else {
            self.wrong_type(line, field, WHOLE_NUMBER, value.get_ref());
            return None;
        };
        self.in_range(line, field, number, least..=most)
    }

    /// The numbers of the list in `field`, if it is there and all of them are in `range`. Of a list with mistakes,
    /// the first is noted.
    pub(crate) fn numbers(
        &mut self,
        field: &str,
        range: &RangeInclusive<u64>,
    ) -> Option<Located<Vec<Located<u64>>>> {
        let (value, line) = self.field(field)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(line, field, "a list of whole numbers, as [0, 1]", value.get_ref());
            return None;
        };
        let mut numbers = Vec::with_capacity(items.len());
        for item in items.iter() {
            let line = self.source.line(&item.span());
            let DeValue::Integer(number) = item.get_ref() else {
                let found = type_name(item.get_ref());
                self.error(line, field, Problem::WrongItem { expected: WHOLE_NUMBER, found });
                return None;
            };
            numbers.push(self.in_range(line, field, number, range.clone())?);
        }
        Some(Located { value: numbers, line })
    }

    /// The texts of the list in `field`, if it is there and none of them is empty. Of a list with mistakes, the first
    /// is noted.
    pub(crate) fn texts(&mut self, field: &str) -> Option<Located<Vec<&'a str>>> {
        let (value, line) = self.field(field)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(line, field, "a list of texts in quotes, as [\"a\", \"b\"]", value.get_ref());
            return None;
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items.iter() {
            let line = self.source.line(&item.span());
            let DeValue::String(text) = item.get_ref() else {
                let found = type_name(item.get_ref());
                self.error(line, field, Problem::WrongItem { expected: "text in quotes", found });
                return None;
            };
            if text.trim().is_empty() {
                self.error(line, field, Problem::EmptyText);
                return None;
            }
            texts.push(text.as_ref());
        }
        Some(Located { value: texts, line })
    }

    fn in_range(
        &mut self,
        line: u32,
        field: &str,
        number: &DeInteger<'_>,
        range: RangeInclusive<u64>,
    ) -> Option<Located<u64>> {
        let value = u64::from_str_radix(number.as_str(), number.radix()).ok();
        let value = value.filter(|value| range.contains(value));
        if value.is_none() {
            let (value, (least, most)) = (String::from(number.as_str()), range.into_inner());
            self.error(line, field, Problem::OutOfRange { value, least, most });
        }
        value.map(|value| Located { value, line })
    }

    /// The value of `choices` whose name is the text in `field`; `names` are theirs, in the same order.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        field: &str,
        names: &'static [&'static str],
        choices: &[T],
    ) -> Option<T> {
        let text = self.text(field)?;
        let chosen = names.iter().zip(choices).find(|(name, _)| **name == text.value);
        if chosen.is_none() {
            let value = Cow::from(text.value).into_owned();
            self.error(text.line, field, Problem::NotAChoice { value, choices: names });
        }
        chosen.map(|(_, choice)| *choice)
    }
}
