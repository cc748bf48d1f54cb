//! A Linux kernel that nobody here wrote, as a process: its first program is a
//! shell that does what the test says, line by line, over its console.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Longest silence of a kernel that starts or works.
const PATIENCE: Duration = Duration::from_secs(40);

/// The end of every init script: commands come in, their output and status go out.
///
/// The console must be raw by then and its file systems mounted.
pub const SHELL: &str = r#"
exec 2>&1
echo @ready
while read -r line; do
  eval "$line" </dev/null
  printf '\n@done %s\n' $?
done
"#;

/// A kernel that runs, and the other end of its console; it ends with this.
pub struct Linux {
    process: Child,
    console: BufReader<UnixStream>,
}

/// What a command of the guest came to.
#[derive(Debug)]
pub struct Said {
    /// Its exit status.
    pub status: i32,
    /// What it wrote.
    pub text: String,
}

impl Linux {
    /// Starts `command`, whose standard input and output are the console of a kernel
    /// that runs [`SHELL`], and waits until it is ready. What the process itself says goes
    /// to `log`.
    ///
    /// # Errors
    /// What it said instead.
    pub fn boot(command: Command, log: &Path) -> Result<Linux, String> {
        let mut linux = Linux::start(command, log).map_err(|error| error.to_string())?;
        match linux.until("@ready") {
            Ok(_) => Ok(linux),
            Err(said) => Err(said + &fs::read_to_string(log).unwrap_or_default()),
        }
    }

    fn start(mut command: Command, log: &Path) -> io::Result<Linux> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(PATIENCE))?;
        command
            .stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?)))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .stderr(File::create(log)?);
        // The command with its ends of the console goes at once: or its end were never seen.
        Ok(Linux { process: command.spawn()?, console: BufReader::new(ours) })
    }

    /// Lets the guest run a line of shell.
    ///
    /// # Panics
    /// If it does not end in time, or the kernel does.
    pub fn run(&mut self, line: &str) -> Said {
        assert!(!line.contains('\n'), "one line at a time: {line}");
        writeln!(self.console.get_mut(), "{line}").expect("the kernel's console takes a line");
        match self.until("@done ") {
            Ok((text, status)) => Said { status: status.parse().unwrap_or(-1), text },
            Err(said) => panic!("no end of {line}: {said}"),
        }
    }

    /// The same for what must succeed.
    ///
    /// # Panics
    /// If it does not.
    pub fn must(&mut self, line: &str) -> String {
        let said = self.run(line);
        assert!(said.status == 0, "{line}: status {}: {}", said.status, said.text);
        said.text
    }

    /// Reads to a line that starts with `mark`; gives what came before it and the rest of it.
    fn until(&mut self, mark: &str) -> Result<(String, String), String> {
        let mut text = String::new();
        loop {
            let mut line = Vec::new();
            match self.console.read_until(b'\n', &mut line) {
                Ok(0) => {
                    let status = self.process.wait().map_err(|error| error.to_string())?;
                    return Err(format!("it ended ({status}): {text}"));
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(format!("silence: {text}"));
                }
                Err(error) => return Err(format!("{error}: {text}")),
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if let Some(rest) = line.strip_prefix(mark) {
                return Ok((text.trim_end().to_owned(), rest.to_owned()));
            }
            text.push_str(line);
            text.push('\n');
        }
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
