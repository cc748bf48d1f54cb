//! Builds the native guest, so that it is linked into the binary.
//!
//! The guest is bare metal for the host's own target (no other can be assumed
//! installed) with a linker script of its own: a build of its own, in its own
//! target folder, so that the two cargos never wait for each other's lock.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

fn main() {
    let root =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../..");
    let guest = root.join("guest");
    for sources in ["abi", "hal", "kernel", "native/src", "native/Cargo.toml", "native/build.rs"] {
        println!("cargo:rerun-if-changed={}", guest.join(sources).display());
    }
    println!("cargo:rerun-if-changed={}", root.join("vmm/fuse").display());

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let target = out.join("guest");
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    cargo.args(["build", "--release", "--quiet", "--manifest-path"]);
    cargo.arg(guest.join("native/Cargo.toml")).arg("--target-dir").arg(&target);
    // The host's flags, wrappers (clippy) and profile are not the guest's.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let inherited = ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_HTTP_"];
        let ours = text.starts_with("CARGO") || text.starts_with("RUST") || text == "TARGET";
        if ours
            && !inherited.iter().any(|kept| text.starts_with(kept))
            && !["RUSTUP_HOME", "RUSTUP_TOOLCHAIN"].contains(&&*text)
        {
            cargo.env_remove(&name);
        }
    }
    let status = cargo.status().expect("cargo runs, as it runs this build script");
    assert!(status.success(), "the native guest in guest/native does not build");
    fs::copy(target.join("release/native"), out.join("native"))
        .expect("cargo built the native guest's image");
}
