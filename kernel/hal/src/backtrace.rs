//! Who called whom, by frame pointers: all code of the image is compiled with them.

use crate::image;
use crate::memory::stacks;

/// The most frames that are followed.
const DEPTH: usize = 40;

/// The return addresses on the stack, innermost first, from the frame that `frame_pointer` (RBP) points to.
/// Stops at the first address that is not on a stack or not in the code.
pub fn return_addresses(frame_pointer: u64) -> impl Iterator<Item = u64> {
    let mut rbp = frame_pointer;
    core::iter::from_fn(move || {
        let inside = rbp.is_multiple_of(8) && stacks::contains(rbp) && stacks::contains(rbp.checked_add(15)?);
        if !inside {
            return None;
        }
        let frame: *const [u64; 2] = core::ptr::with_exposed_provenance(usize::try_from(rbp).ok()?);
        // SAFETY: aligned and on a mapped stack. It may hold anything: the values are only compared.
        let [caller, address] = unsafe { frame.read_volatile() };
        // Callers' frames are at higher addresses: a loop ends here.
        rbp = if caller > rbp { caller } else { 0 };
        image::is_code(address).then_some(address)
    })
    .take(DEPTH)
}
