//! The Python interpreter of tests that speak to a Python program.

use std::env;
use std::ffi::OsString;
use std::process::{Command, Stdio};

/// A Python interpreter that has these `modules`: the path in `PORTSPACE_PYTHON`, else `python3`.
///
/// # Errors
/// Why there is none, in words for whoever runs the tests; `remedy` says what to install.
pub fn python(modules: &str, remedy: &str) -> Result<OsString, String> {
    let python = match env::var_os("PORTSPACE_PYTHON") {
        // A path is one from here, not from the directory Python is started in.
        Some(path) => std::path::absolute(&path).map_err(|error| error.to_string())?.into(),
        None => "python3".into(),
    };
    let check = Command::new(&python)
        .args(["-c", &format!("import {modules}")])
        // Python looks for modules in the current directory, where a test may have their names.
        .current_dir("/")
        .stdin(Stdio::null())
        .output();
    let missing = match check {
        Ok(output) if output.status.success() => return Ok(python),
        Ok(output) => String::from_utf8_lossy(&output.stderr).lines().last().map(String::from),
        Err(error) => Some(error.to_string()),
    };
    Err(format!(
        "{} cannot import {modules} ({}): {remedy}, or name an interpreter in PORTSPACE_PYTHON",
        python.display(),
        missing.unwrap_or_default()
    ))
}
