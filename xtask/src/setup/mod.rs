//! Everything a fresh machine lacks, added with a progress line and only when it is missing.
//!
//! Nothing here touches the network when all is present.

pub(crate) mod bochs;
pub(crate) mod debian;
pub(crate) mod packages;
pub(crate) mod rust;

pub(crate) use packages::Package;
