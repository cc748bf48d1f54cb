//! The mounts of this kind that this process sees.

use std::ffi::{CStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The type of our mounts, as /proc/self/mountinfo shows it.
pub const KIND: &str = "fuse.portspace";

pub(super) const C_KIND: &CStr = c"fuse.portspace";

/// A mount of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where it is.
    pub directory: PathBuf,
    /// Its device number, `MAJOR:MINOR`.
    pub device: String,
}

/// Every mount of ours that is seen from here, in the order they were made.
///
/// # Errors
/// /proc cannot be read.
pub fn mounts() -> io::Result<Vec<Mounted>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// proc_pid_mountinfo(5): id, parent, device, root, mount point, options, optional fields, `-`,
/// type, source, options.
fn parse(table: &[u8]) -> Vec<Mounted> {
    let lines = table.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| {
            let mut fields = line.split(|byte| *byte == b' ');
            let device = String::from_utf8_lossy(fields.nth(2)?).into_owned();
            let directory = PathBuf::from(OsString::from_vec(unescaped(fields.nth(1)?)));
            let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
            (kind == KIND.as_bytes()).then_some(Mounted { directory, device })
        })
        .collect()
}

/// Space, tab, newline and backslash stand there as three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let escaped = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_found_among_others_whatever_their_names_hold() {
        let table = b"22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
            98 22 0:57 / /mnt/a\\040b\\134 rw,nosuid - fuse.portspace portspace rw,user_id=0\n\
            99 22 0:58 / /mnt/c rw shared:7 master:1 - fuse.portspace portspace rw\n\
            bad line\n";
        let mounted = |directory: &str, device: &str| Mounted {
            directory: directory.into(),
            device: device.into(),
        };
        assert_eq!(parse(table), [mounted("/mnt/a b\\", "0:57"), mounted("/mnt/c", "0:58")]);
        assert!(mounts().is_ok());
    }
}
