//! Names of directory entries and extended attributes, and symbolic links' targets, checked once.

use crate::Errno;

/// The name of one directory entry: 1 to 255 bytes, neither `.` nor `..`, without `/` and NUL.
///
/// Not necessarily UTF-8. A name of this type joined to a directory stays in that directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Longest name, bytes.
    pub const MAX: usize = 255;

    /// Checks `bytes`.
    ///
    /// # Errors
    /// `ENAMETOOLONG`, or `EINVAL` for everything else that is no name.
    pub fn new(bytes: &'a [u8]) -> Result<Name<'a>, Errno> {
        if bytes.len() > Self::MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let special = matches!(bytes, b"" | b"." | b"..");
        if special || bytes.iter().any(|&byte| byte == b'/' || byte == 0) {
            return Err(Errno::EINVAL);
        }
        Ok(Name(bytes))
    }

    /// The name's bytes.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// What a symbolic link points at: 1 to 4095 bytes without NUL.
///
/// Text for the guest to follow; the server never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a>(&'a [u8]);

impl<'a> Target<'a> {
    /// Longest target, bytes (`PATH_MAX` without its NUL).
    pub const MAX: usize = 4095;

    /// Checks `bytes`.
    ///
    /// # Errors
    /// `ENOENT` if empty, as `symlink(2)`; `ENAMETOOLONG`; `EINVAL` if there is a NUL in it.
    pub fn new(bytes: &'a [u8]) -> Result<Target<'a>, Errno> {
        match bytes {
            [] => Err(Errno::ENOENT),
            _ if bytes.len() > Self::MAX => Err(Errno::ENAMETOOLONG),
            _ if bytes.contains(&0) => Err(Errno::EINVAL),
            _ => Ok(Target(bytes)),
        }
    }

    /// The target's bytes.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// The name of an extended attribute: 1 to 255 bytes without NUL, such as `user.mime_type`.
///
/// Not necessarily UTF-8, and not necessarily in a namespace Linux knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct XattrName<'a>(&'a [u8]);

impl<'a> XattrName<'a> {
    /// Longest name, bytes (`XATTR_NAME_MAX`).
    pub const MAX: usize = 255;

    /// Checks `bytes`.
    ///
    /// # Errors
    /// `ERANGE` if empty or too long, as `setxattr(2)`; `EINVAL` if there is a NUL in it.
    pub fn new(bytes: &'a [u8]) -> Result<XattrName<'a>, Errno> {
        match bytes {
            [] => Err(Errno::ERANGE),
            _ if bytes.len() > Self::MAX => Err(Errno::ERANGE),
            _ if bytes.contains(&0) => Err(Errno::EINVAL),
            _ => Ok(XattrName(bytes)),
        }
    }

    /// The name's bytes.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_its_directory() {
        for bytes in [&b""[..], b".", b"..", b"a/b", b"/", b"../x", b"a\0b", b"\0"] {
            assert_eq!(Name::new(bytes), Err(Errno::EINVAL));
        }
        assert_eq!(Name::new(&[b'a'; 256]), Err(Errno::ENAMETOOLONG));
        for bytes in [&b"a"[..], b"...", b".x", b"\xff\xfe", &[b'a'; 255]] {
            assert_eq!(Name::new(bytes).map(Name::as_bytes), Ok(bytes));
        }
    }

    #[test]
    fn the_name_of_an_extended_attribute_has_one_to_255_bytes() {
        for bytes in [&b""[..], &[b'a'; 256]] {
            assert_eq!(XattrName::new(bytes), Err(Errno::ERANGE));
        }
        assert_eq!(XattrName::new(b"user.a\0"), Err(Errno::EINVAL));
        for bytes in [&b"user.a/b"[..], b"..", &[b'a'; 255]] {
            assert_eq!(XattrName::new(bytes).map(XattrName::as_bytes), Ok(bytes));
        }
    }
}
