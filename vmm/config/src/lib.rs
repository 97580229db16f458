//! The operator's configuration: `craton.toml`, and the boot archive that carries it with the guests' images.
//!
//! A mistake costs the virtual machine it is in and nothing else: [`Config`] has the machines that are sound, and an
//! error with line and field for each mistake.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

extern crate alloc;

mod archive;
mod error;
mod model;
mod parse;
mod table;
mod validate;

pub use archive::{Archive, Damage, File};
pub use error::{ConfigError, Place, Problem};
pub use model::{
    Boot, Class, Config, Cpu, Firmware, HostConfig, LogLevel, Module, Restart, Screen, VmConfig,
};
pub use validate::HostResources;

/// The configuration's name in the archive.
pub const FILE_NAME: &str = "craton.toml";
