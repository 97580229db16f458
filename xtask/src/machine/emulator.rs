//! Starting an emulator, and ending the one we started, whatever happens.

use std::ffi::OsStr;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::control::Control;
use super::{Firmware, Kind, Processor, Serial, Size, bochs, qemu};
use crate::image::Images;
use crate::paths;
use crate::process::find_program;
use crate::setup::{self, Package, packages};

/// How long an emulator may take to connect to us.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);

/// A machine to be started.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// What executes it.
    pub(crate) kind: Kind,
    /// What it boots by.
    pub(crate) firmware: Firmware,
    /// Its size.
    pub(crate) size: Size,
    /// The processor that Bochs models.
    pub(crate) processor: Processor,
    /// The disk images to boot.
    pub(crate) images: Images,
    /// What the run is called: part of its directory's name.
    pub(crate) name: String,
}

/// What becomes of the emulator's remarks on what its processors do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Complaints {
    /// They are in its log.
    Logged,
    /// They are lost: where something is remarked upon all the time, remarks would take most of it.
    Dropped,
}

/// A running emulator. Dropping it ends it.
pub(crate) struct Emulator {
    kind: Kind,
    child: Child,
    directory: PathBuf,
    /// QEMU's; Bochs has none.
    control: Option<Control>,
    /// Its first serial line.
    pub(crate) serial: Serial,
}

/// Makes sure that what `kind` needs is there.
pub(crate) fn prepare(kind: Kind) -> Result<()> {
    match kind {
        Kind::Bochs => setup::bochs::ensure().map(drop),
        Kind::Kvm => packages::ensure(&[Package::QemuSystemX86]),
        Kind::Tcg => packages::ensure(&[Package::QemuSystemX86, Package::Ovmf]),
    }
}

impl Machine {
    /// Starts it. Everything it writes is in a directory of its own under `build/runs`.
    pub(crate) fn start(&self) -> Result<Emulator> {
        self.start_with(Complaints::Logged)
    }

    /// [`Machine::start`], with a choice about what the emulator itself has to say.
    pub(crate) fn start_with(&self, complaints: Complaints) -> Result<Emulator> {
        let directory = run_directory(&self.name)?;
        let image = match self.firmware {
            Firmware::Bios => &self.images.bios,
            Firmware::Uefi => &self.images.uefi,
        };
        let disk = directory.join("disk.img");
        std::fs::copy(image, &disk).with_context(|| format!("cannot copy {}", image.display()))?;
        let listeners = Listeners::new()?;
        let mut command = self.command(&directory, &disk, &listeners, complaints)?;
        let output = std::fs::File::create(directory.join("emulator.log"))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        match self.connect(&listeners, &mut child, &directory) {
            Ok((serial, control)) => Ok(Emulator { kind: self.kind, child, directory, control, serial }),
            Err(error) => {
                end(&mut child);
                let log = std::fs::read_to_string(directory.join("emulator.log")).unwrap_or_default();
                Err(error.context(format!("{} did not start:\n{log}", self.kind.name())))
            }
        }
    }

    fn connect(
        &self,
        listeners: &Listeners,
        child: &mut Child,
        directory: &Path,
    ) -> Result<(Serial, Option<Control>)> {
        let log = std::fs::File::create(directory.join("serial.log"))?;
        let serial = Serial::new(accept(&listeners.serial, child)?, log)?;
        let control = match self.kind {
            Kind::Bochs => None,
            Kind::Kvm | Kind::Tcg => Some(Control::new(accept(&listeners.control, child)?)?),
        };
        Ok((serial, control))
    }

    fn command(
        &self,
        directory: &Path,
        disk: &Path,
        listeners: &Listeners,
        complaints: Complaints,
    ) -> Result<Command> {
        match self.kind {
            Kind::Bochs => {
                let uefi = match self.firmware {
                    Firmware::Bios => None,
                    Firmware::Uefi => {
                        packages::ensure(&[Package::Ovmf])?;
                        Some(qemu::ovmf_combined())
                    }
                };
                let installed = setup::bochs::ensure()?;
                let log = directory.join("bochs.log");
                let serial_port = port(&listeners.serial)?;
                let wiring = bochs::Wiring { disk, log: &log, serial_port, uefi: uefi.as_deref() };
                let configuration = directory.join("bochsrc");
                let script = directory.join("debugger-script");
                let text = bochs::configuration(&installed, self.size, self.processor, wiring);
                let text = match complaints {
                    Complaints::Logged => text,
                    Complaints::Dropped => text.replace("action=report", "action=ignore"),
                };
                std::fs::write(&configuration, text)?;
                std::fs::write(&script, bochs::DEBUGGER_SCRIPT)?;
                let mut command = tied_to_us(installed.program.as_os_str());
                command.args(bochs::arguments(&installed, &configuration, &script)).current_dir(directory);
                Ok(command)
            }
            Kind::Kvm => self.qemu(qemu::Accelerator::Kvm, directory, disk, listeners),
            Kind::Tcg => self.qemu(qemu::Accelerator::Tcg, directory, disk, listeners),
        }
    }

    fn qemu(
        &self,
        accelerator: qemu::Accelerator,
        directory: &Path,
        disk: &Path,
        listeners: &Listeners,
    ) -> Result<Command> {
        packages::ensure(&[Package::QemuSystemX86])?;
        let variables = directory.join("ovmf-variables.fd");
        let code = match self.firmware {
            Firmware::Bios => None,
            Firmware::Uefi => {
                packages::ensure(&[Package::Ovmf])?;
                std::fs::copy(qemu::ovmf_variables(), &variables).context("UEFI variables")?;
                qemu::ovmf_code()
            }
        };
        let wiring = qemu::Wiring {
            disk,
            serial_port: port(&listeners.serial)?,
            control_port: port(&listeners.control)?,
            ovmf: code.as_deref().map(|code| (code, variables.as_path())),
        };
        let mut command = tied_to_us(OsStr::new("qemu-system-x86_64"));
        command.args(qemu::arguments(accelerator, self.firmware, self.size, wiring)).current_dir(directory);
        Ok(command)
    }
}

impl Emulator {
    /// What executes it.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Where this run's logs are: `serial.log`, `emulator.log` and, for Bochs, `bochs.log`.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the screen shows now, as a portable pixmap.
    ///
    /// # Errors
    /// Always on Bochs, which runs without a display.
    pub(crate) fn picture(&mut self) -> Result<Vec<u8>> {
        let control = self.control.as_mut().context("Bochs has no screen here")?;
        let file = self.directory.join("screen.ppm");
        control.screendump(&file)?;
        std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))
    }

    /// Ends it and removes everything it wrote.
    pub(crate) fn discard(mut self) {
        end(&mut self.child);
        // What cannot be removed is only clutter in the build directory.
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        end(&mut self.child);
        // The logs stay for the reader; the disk's copy is large and tells nothing.
        drop(std::fs::remove_file(self.directory.join("disk.img")));
    }
}

/// An empty directory for a run called `name`. Those of earlier runs of that name, kept for their logs, go.
fn run_directory(name: &str) -> Result<PathBuf> {
    let runs = paths::created(paths::build()?.join("runs"))?;
    for entry in std::fs::read_dir(&runs)? {
        let entry = entry?;
        let entry_name = entry.file_name().to_string_lossy().into_owned();
        let Some((earlier, process)) = entry_name.rsplit_once('-') else { continue };
        let is_running =
            Path::new("/proc").join(process).is_dir() && process != std::process::id().to_string();
        if earlier == name && !is_running {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    paths::created(runs.join(format!("{name}-{}", std::process::id())))
}

/// Starts `program` so that it ends when this process dies, even without a chance to clean up.
fn tied_to_us(program: &OsStr) -> Command {
    match find_program("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Where the emulator connects to: the listeners are there first, so no port has to be guessed.
struct Listeners {
    serial: TcpListener,
    control: TcpListener,
}

impl Listeners {
    fn new() -> Result<Self> {
        let listen = || TcpListener::bind(("127.0.0.1", 0)).context("no port for the emulator to connect to");
        Ok(Listeners { serial: listen()?, control: listen()? })
    }
}

fn port(listener: &TcpListener) -> Result<u16> {
    Ok(listener.local_addr()?.port())
}

fn accept(listener: &TcpListener, child: &mut Child) -> Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + CONNECT_PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(status) = child.try_wait()? {
            bail!("it ended at once ({status})");
        }
        if Instant::now() > deadline {
            bail!("it did not connect to us");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself; then both calls have nothing to do.
    drop(child.kill());
    drop(child.wait());
}
