//! Links for bare metal: no start files, no libraries, one fixed address.

fn main() {
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo names the package's directory");
    println!("cargo:rerun-if-changed=link.ld");
    println!("cargo:rerun-if-changed=build.rs");
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    for argument in ["--gc-sections", "--build-id=none", "--no-eh-frame-hdr", "-z,norelro"] {
        println!("cargo:rustc-link-arg-bins=-Wl,{argument}");
    }
    println!("cargo:rustc-link-arg-bins=-Wl,-z,max-page-size=4096,-z,noexecstack");
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{here}/link.ld");
}
