//! Running a program inside: frames on one vsock connection per run.
