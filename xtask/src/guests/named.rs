//! Guests by name: those of the configurations in `guest-images/`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::image::archive::{Archive, CONFIGURATION};
use crate::paths;

/// Packs the guest called `name` of the checkout's configurations, alone, with the files that it needs. It starts by
/// itself, and its console is shown.
pub(crate) fn pack(name: &str) -> Result<Archive> {
    let directory = paths::root().join("guest-images");
    let configurations = configurations(&directory)?;
    let mut known = Vec::new();
    for (path, text) in &configurations {
        let table: toml::Table = text.parse().with_context(|| path.display().to_string())?;
        if let Some(alone) = alone(&table, name, &mut known) {
            let text = alone.to_string();
            return super::archive_of(&text, path);
        }
    }
    bail!("there is no guest {name} in guest-images; there are {}", known.join(", "));
}

/// The configurations in `directory`, the usual one first.
fn configurations(directory: &Path) -> Result<Vec<(PathBuf, String)>> {
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path)?;
        Ok((path, text))
    };
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort_by_key(|path| (!path.ends_with(CONFIGURATION), path.clone()));
    paths.into_iter().map(read).collect()
}

/// The configuration `table` with the guest called `name` alone. The names of all are added to `known`.
fn alone(table: &toml::Table, name: &str, known: &mut Vec<String>) -> Option<toml::Table> {
    let guests: Vec<&toml::Table> =
        table.get("vm")?.as_array()?.iter().filter_map(toml::Value::as_table).collect();
    let called = |guest: &toml::Table| guest.get("name").and_then(toml::Value::as_str).map(String::from);
    known.extend(guests.iter().filter_map(|guest| called(guest)));
    let found = guests.iter().find(|guest| called(guest).as_deref() == Some(name))?;
    let mut guest = (*found).clone();
    guest.insert("autostart".into(), true.into());
    guest.insert("console".into(), true.into());
    let mut alone = table.clone();
    alone.insert("vm".into(), vec![toml::Value::Table(guest)].into());
    Some(alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_is_alone_on_the_console_with_the_hosts_settings() {
        let text =
            "[host]\nescape='ctrl-a'\n[[vm]]\nname='a'\nconsole=true\n[[vm]]\nname='b'\nautostart=false\n";
        let table: toml::Table = text.parse().expect("valid");
        let mut known = Vec::new();
        let alone = alone(&table, "b", &mut known).expect("found");
        assert_eq!(known, ["a", "b"]);
        let guests = alone["vm"].as_array().expect("a list");
        assert_eq!(guests.len(), 1);
        assert_eq!((guests[0]["name"].as_str(), guests[0]["console"].as_bool()), (Some("b"), Some(true)));
        assert_eq!(guests[0]["autostart"].as_bool(), Some(true));
        assert_eq!(alone["host"]["escape"].as_str(), Some("ctrl-a"));
    }

    #[test]
    fn guests_of_the_checkout_have_names_of_their_own() {
        let directory = paths::root().join("guest-images");
        let mut names = Vec::new();
        for (path, text) in configurations(&directory).expect("readable") {
            let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{path:?}: {error}"));
            assert_eq!(alone(&table, "no such guest", &mut names), None);
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert!(names.len() == count && count > 3, "{names:?}");
    }
}
