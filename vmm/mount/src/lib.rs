//! The mount process: a space's files for a kernel that is not the space's own, the host's through
//! /dev/fuse or a foreign machine's through vhost-user.
//!
//! The command that starts it mounts and unmounts, or listens; this process has the connection
//! to the kernel, the space's files and, once it serves, nothing else.

mod awake;
mod host;
mod machine;
mod run;
mod settings;

pub use run::{Failure, Stage, run};
pub use settings::{DEFAULT_THREADS, Host, Kernel, Settings};
