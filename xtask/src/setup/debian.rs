//! Files from Debian packages without installing them: downloaded by apt, unpacked into the user's cache.
//!
//! Needs no root: when the system has no package lists, private ones are fetched into the cache from the sources
//! that the system is configured with.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::paths;
use crate::process::{capture, find_program, run_quietly};
use crate::progress;

/// The unpacked content of package `name`, downloaded at the first call.
///
/// # Errors
/// When apt cannot download it; the message says what was tried.
pub(crate) fn unpacked(name: &str) -> Result<PathBuf> {
    let target = cached(name)?;
    if target.is_dir() {
        return Ok(target);
    }
    progress::timed(format_args!("downloading Debian package {name}"), || fetch(name, &target))?;
    Ok(target)
}

/// Where package `name` is unpacked, whether it is there or not.
pub(crate) fn cached(name: &str) -> Result<PathBuf> {
    Ok(paths::cache_location()?.join("debian").join(name))
}

/// The packages that package `name` depends on.
pub(crate) fn dependencies(name: &str) -> Result<Vec<String>> {
    let text = Apt::for_package(name)?.cache(&["depends", "--important", name])?;
    Ok(parse_dependencies(&text))
}

fn parse_dependencies(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .map(|name| name.trim().to_owned())
        .collect()
}

/// The mirror that the machine takes its Debian release from, ending in a slash.
pub(crate) fn mirror() -> Result<String> {
    let text = capture(Command::new("apt-get").args([
        "indextargets",
        "Created-By: Packages",
        "--format",
        "$(REPO_URI)|$(RELEASE)|$(COMPONENT)",
    ]))
    .context("asking apt for the configured mirror")?;
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename =
        release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or("stable");
    choose_mirror(&text, codename).with_context(|| format!("apt has no source for Debian {codename} main"))
}

/// Picks the source that carries the release itself: neither its updates nor its security fixes.
fn choose_mirror(targets: &str, codename: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut fields = line.split('|');
        let (uri, release, component) = (fields.next()?, fields.next()?, fields.next()?);
        let is_release = release == codename || release == "stable";
        (is_release && component == "main").then(|| format!("{}/", uri.trim_end_matches('/')))
    })
}

/// Downloads `path` below the mirror to `target`, checked against `sha256`.
pub(crate) fn download(path: &str, target: &Path, sha256: &str) -> Result<()> {
    let url = format!("{}{path}", mirror()?);
    run_quietly(
        Command::new("/usr/lib/apt/apt-helper")
            .args(as_this_user())
            .args(["download-file", &url])
            .arg(target)
            .arg(format!("SHA256:{sha256}")),
    )
}

fn fetch(name: &str, target: &Path) -> Result<()> {
    let parent = target.parent().context("the package cache has no parent")?;
    let scratch = paths::created(parent.join(format!("{name}.{}.new", std::process::id())))?;
    let result = Apt::for_package(name).and_then(|apt| apt.download(name, &scratch)).and_then(|()| {
        let archive = only_archive(&scratch)?;
        let content = scratch.join("content");
        run_quietly(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&content))?;
        std::fs::rename(&content, target).with_context(|| format!("cannot create {}", target.display()))
    });
    // Only our own scratch directory; what failed is reported below.
    drop(std::fs::remove_dir_all(&scratch));
    result.with_context(|| format!("Debian package {name} is neither in the cache nor downloadable"))
}

fn only_archive(directory: &Path) -> Result<PathBuf> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            return Ok(path);
        }
    }
    bail!("apt downloaded nothing")
}

/// apt started as root otherwise wants a user who may not enter the cache directory.
fn as_this_user() -> [&'static str; 2] {
    ["-o", "APT::Sandbox::User=root"]
}

/// Further apt sources beside, or instead of, the system's.
pub(crate) enum Sources {
    /// What the system is configured with.
    System,
    /// Only this line in the format of `sources.list`.
    Only(String),
}

/// One way of calling apt: with the system's package lists, or with private ones.
#[derive(Clone, Debug)]
pub(crate) struct Apt {
    options: Vec<String>,
}

impl Apt {
    /// Uses the system's lists when they know `name`, otherwise fetches private ones.
    pub(crate) fn for_package(name: &str) -> Result<Self> {
        for tool in ["apt-get", "apt-cache", "dpkg-deb"] {
            if find_program(tool).is_none() {
                bail!("`{tool}` is missing: guest images and firmware come from Debian packages");
            }
        }
        let system = Apt { options: Vec::new() };
        if system.knows(name) {
            return Ok(system);
        }
        let private = Apt::private_for_system()?;
        if !private.knows(name) {
            bail!("apt's sources have no package {name}");
        }
        Ok(private)
    }

    /// Private lists of the system's sources. They are fetched once a run of this command.
    fn private_for_system() -> Result<Self> {
        static FETCHED: Mutex<Option<Apt>> = Mutex::new(None);
        let mut fetched = FETCHED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(apt) = &*fetched {
            return Ok(apt.clone());
        }
        let apt = progress::timed("fetching package lists", || Apt::private("system", &Sources::System))?;
        *fetched = Some(apt.clone());
        Ok(apt)
    }

    /// Fetches the lists of `sources` into the cache, under a directory of its own called `label`.
    pub(crate) fn private(label: &str, sources: &Sources) -> Result<Self> {
        let base = paths::created(paths::cache()?.join("apt").join(label))?;
        paths::created(base.join("lists/partial"))?;
        paths::created(base.join("cache/archives/partial"))?;
        let option = |name: &str, value: &Path| format!("{name}={}", value.display());
        let mut options =
            vec![option("Dir::State::Lists", &base.join("lists")), option("Dir::Cache", &base.join("cache"))];
        if let Sources::Only(line) = sources {
            let list = base.join("sources.list");
            std::fs::write(&list, line)?;
            options.push(option("Dir::Etc::SourceList", &list));
            options.push("Dir::Etc::SourceParts=/dev/null".into());
        }
        let apt = Apt { options };
        run_quietly(apt.command("apt-get").args(["update", "-qq"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(as_this_user());
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }

    fn cache(&self, arguments: &[&str]) -> Result<String> {
        capture(self.command("apt-cache").args(arguments))
    }

    fn knows(&self, name: &str) -> bool {
        self.cache(&["show", "--no-all-versions", name]).is_ok_and(|text| text.contains("Filename:"))
    }

    /// Downloads package `name` (or `name=version`) into `directory`.
    pub(crate) fn download(&self, name: &str, directory: &Path) -> Result<()> {
        run_quietly(self.command("apt-get").args(["download", "-qq", name]).current_dir(directory))
    }
}

#[cfg(test)]
mod tests {
    use super::{choose_mirror, parse_dependencies};

    #[test]
    fn mirror_of_the_release_is_chosen_over_updates_and_security() {
        let targets = "http://a.example/security|bookworm-security|main\n\
                       http://a.example/debian|bookworm-updates|main\n\
                       http://b.example/debian|bookworm|contrib\n\
                       http://c.example/debian/|bookworm|main\n";
        assert_eq!(choose_mirror(targets, "bookworm").as_deref(), Some("http://c.example/debian/"));
        assert_eq!(choose_mirror(targets, "trixie"), None);
    }

    #[test]
    fn dependencies_are_taken_from_apt_cache() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n  Suggests: x\n";
        assert_eq!(parse_dependencies(text), ["linux-image-6.1.0-56-cloud-amd64"]);
    }
}
