//! Hands the kernel's linker script to the linker: only the kernel is linked at the top of the address space.
fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    println!("cargo:rerun-if-changed=link.ld");
    println!("cargo:rustc-link-arg-bins=-T{folder}/link.ld");
    println!("cargo:rustc-link-arg-bins=--build-id=none");
}
