//! A function that another CPU, or an interrupt handler, is to call.

use core::marker::PhantomData;
use core::sync::atomic::{
    AtomicPtr,
    Ordering::{Acquire, Release},
};

/// Holds a function or nothing; shared by CPUs.
pub(crate) struct Call<R> {
    address: AtomicPtr<()>,
    returns: PhantomData<fn() -> R>,
}

impl<R> Call<R> {
    /// Nothing to call.
    pub(crate) const fn none() -> Self {
        Self { address: AtomicPtr::new(core::ptr::null_mut()), returns: PhantomData }
    }

    /// Has `function` called from now on.
    pub(crate) fn set(&self, function: fn() -> R) {
        self.address.store(function as *mut (), Release);
    }

    /// Nothing to call any more.
    pub(crate) fn clear(&self) {
        self.address.store(core::ptr::null_mut(), Release);
    }

    /// What is to be called.
    pub(crate) fn get(&self) -> Option<fn() -> R> {
        let address = self.address.load(Acquire);
        if address.is_null() {
            return None;
        }
        // SAFETY: only `set` stores an address, and that of a function of this type.
        Some(unsafe { core::mem::transmute::<*mut (), fn() -> R>(address) })
    }
}
