//! Everything that is measured of one hypervisor and can be compared with another's.

use serde_json::{Value, json};

use super::figures::{self, Figures, Unit};

/// The figures of one hypervisor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Instructions on a machine with one processor.
    pub(crate) one: Figures,
    /// Instructions on a machine with two.
    pub(crate) two: Figures,
    /// Hundredths of an exit per event.
    pub(crate) exits: Figures,
}

const ONE: &str = "instructions per";
const TWO: &str = "on 2 processors, per";
const EXITS: &str = "exits";

impl Report {
    /// The parts, with their titles and units.
    fn parts(&self) -> [(&'static str, Unit, &Figures); 3] {
        [
            (ONE, Unit::Instructions, &self.one),
            (TWO, Unit::Instructions, &self.two),
            (EXITS, Unit::Exits, &self.exits),
        ]
    }

    /// As tables, beside `other`'s.
    pub(crate) fn tables(&self, other: Option<&Self>) -> String {
        let others = |index: usize| other.map(|other| other.parts()[index].2);
        let filled = self.parts().into_iter().enumerate().filter(|(_, (.., figures))| !figures.is_empty());
        let tables =
            filled.map(|(index, (title, unit, ours))| figures::table(title, unit, ours, others(index)));
        tables.collect::<Vec<_>>().join("\n")
    }

    /// As tables of `name`'s figures alone.
    pub(crate) fn tables_alone(&self, name: &str) -> String {
        let filled = self.parts().into_iter().filter(|(.., figures)| !figures.is_empty());
        let table = |(title, unit, figures): (_, Unit, &Figures)| {
            let rows = figures
                .iter()
                .map(|(operation, figure)| format!("{operation:<30}{:>9}\n", unit.show(figure)));
            format!("{title:<30}{name:>9}\n{}", rows.collect::<String>())
        };
        filled.map(table).collect::<Vec<_>>().join("\n")
    }

    /// Figures above what should be reached now, one line each.
    pub(crate) fn missed(&self) -> Vec<String> {
        self.parts().into_iter().flat_map(|(_, unit, figures)| figures::missed(figures, unit)).collect()
    }

    /// Figures that are not the same in `other`, one line each.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let pairs = self.parts().into_iter().zip(other.parts());
        pairs
            .flat_map(|((title, _, ours), (_, _, theirs))| {
                ours.differences(theirs).into_iter().map(move |line| format!("{title} {line}"))
            })
            .collect()
    }

    /// As a JSON object.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "instructions": self.one.to_json(),
            "instructions_of_2_processors": self.two.to_json(),
            "hundredths_of_an_exit": self.exits.to_json(),
        })
    }

    /// Reads what [`Self::to_json`] wrote.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let part = |name| Figures::from_json(value.get(name)?);
        Some(Self {
            one: part("instructions")?,
            two: part("instructions_of_2_processors")?,
            exits: part("hundredths_of_an_exit")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut exits = Figures::default();
        exits.push("exits-periodic-tick", 200);
        Report {
            one: Figures::lines("bench: vmcall 151"),
            two: Figures::lines("bench: ipi-wake 1200"),
            exits,
        }
    }

    #[test]
    fn remembered_report_is_the_measured_one() {
        assert_eq!(Report::from_json(&report().to_json()), Some(report()));
        assert_eq!(Report::from_json(&json!({ "vmcall": 1 })), None);
    }

    #[test]
    fn each_part_is_a_table_and_is_judged() {
        let tables = report().tables(Some(&report()));
        for line in [
            "vmcall 151 151 1.0x 150 80",
            "ipi-wake 1200 1200 1.0x - -",
            "exits-periodic-tick 2.00 2.00 1.0x 1.00 1.00",
        ] {
            let is_there = tables.lines().any(|row| row.split_whitespace().eq(line.split(' ')));
            assert!(is_there, "{line} is not in\n{tables}");
        }
        assert_eq!(report().missed().len(), 2);
        let empty = Report { two: Figures::default(), ..report() };
        assert!(!empty.tables(None).contains(TWO));
        assert_eq!(report().differences(&empty), ["on 2 processors, per ipi-wake: 1200, then nothing"]);
    }
}
