//! Loads a file as it is and starts it, with nothing passed to it.
//!
//! An entry point below 1 MiB is started in real mode, as a PC's firmware starts a boot sector, and one above in 32-bit
//! protected mode with flat segments, as Multiboot starts a kernel.

use crate::layout::{CONVENTIONAL_END, HIGH_MEMORY, MemoryLayout};
use crate::program::Program;
use crate::space::{NoRoom, Space};
use crate::{EntryState, LoadError, VmDescription, end_of, image};
use arch::{Gpa, PAGE_SIZE};
use memory::GuestMemory;

/// The stack ends here, if the file leaves that page: where a boot sector has it, below itself.
const USUAL_STACK: Gpa = Gpa::new(0x6000);

/// Loads the file that `vm` names to `load_address`, to be entered at `entry`.
pub(crate) fn load(
    memory: &impl GuestMemory,
    vm: &VmDescription<'_>,
    layout: &MemoryLayout,
    load_address: Gpa,
    entry: Gpa,
) -> Result<EntryState, LoadError> {
    let file = vm.kernel;
    if file.bytes.is_empty() {
        return Err(image::not_kernel(file, crate::NotKernel::Empty));
    }
    let end = end_of(load_address, file.bytes.len() as u64).ok_or(LoadError::KernelTooLarge {
        file: file.name.into(),
        end: u64::MAX,
        memory_end: layout.low_end(),
    })?;
    let program = Program::flat(file, load_address, end, file.bytes);
    if !program.contains(entry.get()) {
        let end = Gpa::new(end);
        return Err(LoadError::FlatEntryOutside { file: file.name.into(), entry, start: load_address, end });
    }
    let mut space = Space::new(layout);
    program.claim(&mut space)?;
    let stack = space
        .lowest(PAGE_SIZE, PAGE_SIZE, USUAL_STACK, CONVENTIONAL_END.get())
        .or_else(|_| space.lowest(PAGE_SIZE, PAGE_SIZE, Gpa::new(0), CONVENTIONAL_END.get()))
        .map_err(|NoRoom(room)| LoadError::NoRoomForBootInformation { bytes: PAGE_SIZE, room })?;

    program.write(memory)?;
    Ok(if entry < HIGH_MEMORY {
        EntryState::real_mode(entry, stack)
    } else {
        EntryState { rsp: (stack + PAGE_SIZE).get(), ..EntryState::protected_mode(entry.get()) }
    })
}
