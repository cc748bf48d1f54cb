//! The mount process: a space's files on the host, through /dev/fuse.
//!
//! The command that starts it mounts and unmounts; this process has the connection
//! to the kernel, the space's files and, once it serves, nothing else.

mod awake;
mod run;
mod serve;
mod settings;

pub use run::{Failure, Stage, run};
pub use settings::{DEFAULT_THREADS, Settings};
