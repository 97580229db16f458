//! Dependencies between our crates point one way: the table in `README.md`, "How it is built".

use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::paths;
use crate::process::capture;

/// Which of our crates each of our crates may name. Crates that are not listed may name none.
const ALLOWED: &[(&str, &[&str])] = &[
    ("hal", &["arch", "vmx", "paging", "memory"]),
    ("vmm", &["bus", "memory", "sched", "arch", "emulate"]),
    ("vmx", &["vmm", "arch"]),
    ("devices", &["bus", "memory", "arch"]),
    ("loader", &["arch", "memory"]),
    ("emulate", &["arch", "memory"]),
    ("paging", &["arch"]),
    ("memory", &["arch"]),
    ("bus", &["arch", "memory"]),
    ("sched", &["arch"]),
    ("turns", &["arch"]),
    ("config", &["arch", "memory"]),
    (
        "fuzz",
        &[
            "vm_sim", "vmm", "arch", "bus", "config", "devices", "emulate", "loader", "memory", "paging",
            "sched",
        ],
    ),
    (
        "vm_sim",
        &["vmm", "vmx", "arch", "bus", "devices", "memory", "paging", "loader", "emulate", "sched", "config"],
    ),
];

/// The one crate that may name every other.
const COMPOSER: &str = "kernel";

/// One crate of the workspace, as far as this check is concerned.
#[derive(Clone, Debug)]
struct Crate {
    name: String,
    /// Whether its manifest is under `vmm/`.
    is_vmm: bool,
    /// Our crates that it names.
    dependencies: Vec<Dependency>,
}

#[derive(Clone, Debug)]
struct Dependency {
    name: String,
    /// Only for tests: these may point anywhere but at the kernel.
    is_for_tests: bool,
}

/// Compares `cargo metadata` with the table.
pub(super) fn check() -> Result<()> {
    let text = capture(Command::new("cargo").current_dir(paths::root()).args([
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
    ]))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata")?;
    let crates = parse(&metadata).context("cargo metadata has another form than expected")?;
    let wrong = violations(&crates);
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

fn parse(metadata: &Value) -> Option<Vec<Crate>> {
    let root = metadata.get("workspace_root")?.as_str()?;
    let vmm = format!("{root}/vmm/");
    metadata.get("packages")?.as_array()?.iter().map(|package| parse_package(package, &vmm)).collect()
}

fn parse_package(package: &Value, vmm: &str) -> Option<Crate> {
    let mut dependencies = Vec::new();
    for dependency in package.get("dependencies")?.as_array()? {
        // A dependency of ours is one by path.
        if dependency.get("path").is_some_and(Value::is_string) {
            dependencies.push(Dependency {
                name: dependency.get("name")?.as_str()?.to_owned(),
                is_for_tests: dependency.get("kind")?.as_str() == Some("dev"),
            });
        }
    }
    Some(Crate {
        name: package.get("name")?.as_str()?.to_owned(),
        is_vmm: package.get("manifest_path")?.as_str()?.starts_with(vmm),
        dependencies,
    })
}

/// Every dependency that the table does not allow, one line each.
fn violations(crates: &[Crate]) -> Vec<String> {
    let mut wrong = Vec::new();
    for this in crates.iter().filter(|this| this.name != COMPOSER) {
        let allowed = ALLOWED.iter().find(|(name, _)| *name == this.name).map_or(&[][..], |(_, list)| list);
        for dependency in &this.dependencies {
            let is_kernel_side = matches!(dependency.name.as_str(), "kernel" | "hal");
            let is_allowed = allowed.contains(&dependency.name.as_str());
            if this.is_vmm && is_kernel_side {
                wrong.push(format!("{}: nothing under vmm/ may name {}", this.name, dependency.name));
            } else if !is_allowed && (!dependency.is_for_tests || is_kernel_side) {
                let list = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
                wrong.push(format!("{} must not depend on {} (allowed: {list})", this.name, dependency.name));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, is_vmm: bool, dependencies: &[(&str, bool)]) -> Crate {
        let dependencies = dependencies
            .iter()
            .map(|(name, is_for_tests)| Dependency { name: (*name).into(), is_for_tests: *is_for_tests })
            .collect();
        Crate { name: name.into(), is_vmm, dependencies }
    }

    #[test]
    fn allowed_directions_pass() {
        let crates = [
            named("kernel", false, &[("hal", false), ("vmm", false), ("devices", false)]),
            named("vmx", true, &[("vmm", false), ("arch", false)]),
            named("arch", true, &[]),
        ];
        assert_eq!(violations(&crates), Vec::<String>::new());
    }

    #[test]
    fn wrong_direction_is_named_with_what_is_allowed() {
        let wrong = violations(&[named("vmm", true, &[("vmx", false)])]);
        assert_eq!(wrong, ["vmm must not depend on vmx (allowed: bus, memory, sched, arch, emulate)"]);
    }

    #[test]
    fn crate_outside_the_table_may_name_none_of_ours() {
        assert_eq!(violations(&[named("new", true, &[("arch", false)])]).len(), 1);
    }

    #[test]
    fn tests_may_name_more_but_never_the_kernel() {
        assert!(violations(&[named("paging", true, &[("memory", true)])]).is_empty());
        assert_eq!(violations(&[named("paging", true, &[("hal", true)])]).len(), 1);
        assert_eq!(violations(&[named("xtask", false, &[("hal", true)])]).len(), 1);
    }

    #[test]
    fn metadata_is_read() {
        let metadata = serde_json::json!({
            "workspace_root": "/w",
            "packages": [{
                "name": "vmx",
                "manifest_path": "/w/vmm/vmx/Cargo.toml",
                "dependencies": [
                    { "name": "arch", "path": "/w/vmm/arch", "kind": null },
                    { "name": "log", "kind": null },
                    { "name": "memory", "path": "/w/vmm/memory", "kind": "dev" },
                ],
            }],
        });
        let crates = parse(&metadata).expect("well formed");
        assert!(crates[0].is_vmm);
        let names: Vec<_> =
            crates[0].dependencies.iter().map(|d| (d.name.as_str(), d.is_for_tests)).collect();
        assert_eq!(names, [("arch", false), ("memory", true)]);
    }
}
