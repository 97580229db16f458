//! `cargo xtask image`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::{guests, paths};

/// Builds the BIOS and the UEFI disk image.
#[derive(clap::Args, Clone, Debug)]
#[group(id = "image-arguments")]
pub(crate) struct Arguments {
    /// A directory that holds craton.toml and the guest images, packed as it is; or a configuration file.
    #[arg(long, value_name = "DIR")]
    guests: Option<PathBuf>,
    /// Where to put the images.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Runs the command: prints the images' paths.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let archive = guests::pack(arguments.guests.as_deref())?;
    let directory = match &arguments.output {
        Some(path) => paths::created(std::path::absolute(path)?)?,
        None => paths::build()?,
    };
    let images = super::build(&archive.to_tar()?, &directory)?;
    println!("{}\n{}", images.bios.display(), images.uefi.display());
    Ok(ExitCode::SUCCESS)
}
