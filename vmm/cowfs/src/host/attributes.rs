//! Extended attributes of open files.

use super::{Directory, File, fault, refused};
use fuse::Errno;
use rustix::buffer::spare_capacity;
use rustix::fs::XattrFlags;
use rustix::{fs, io};
use std::os::fd::{AsFd, BorrowedFd};

/// Longest value of an attribute, and longest list of names, of Linux (`limits.h`).
const LONGEST: usize = 65536;

/// What has extended attributes: an open file, or a directory opened for reading.
pub(crate) trait Attributes {
    /// The descriptor.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// The value, `None` if there is no such attribute or the file cannot have any.
    fn attribute(&self, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
        let mut short = [0; 128];
        match fs::fgetxattr(self.descriptor(), name, &mut short) {
            Ok(length) => return Ok(Some(short[..length].to_vec())),
            Err(io::Errno::RANGE) => {}
            Err(errno) if no_attribute(errno) => return Ok(None),
            Err(errno) => return Err(refused(errno)),
        }
        let mut value = Vec::with_capacity(LONGEST);
        match fs::fgetxattr(self.descriptor(), name, spare_capacity(&mut value)) {
            Ok(_) => Ok(Some(value)),
            Err(errno) if no_attribute(errno) => Ok(None),
            Err(errno) => Err(refused(errno)),
        }
    }

    /// The names, each with its namespace.
    fn attribute_names(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let mut list = Vec::with_capacity(LONGEST);
        match fs::flistxattr(self.descriptor(), spare_capacity(&mut list)) {
            Ok(_) => {
                let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
                Ok(names.map(<[u8]>::to_vec).collect())
            }
            Err(errno) if no_attribute(errno) => Ok(Vec::new()),
            Err(errno) => Err(refused(errno)),
        }
    }

    /// Sets an attribute; `flags` are those of `setxattr(2)`.
    fn set_attribute(&self, name: &[u8], value: &[u8], flags: u32) -> Result<(), Errno> {
        fault::step()?;
        let flags = XattrFlags::from_bits_retain(flags);
        fs::fsetxattr(self.descriptor(), name, value, flags).map_err(refused)
    }

    /// Removes an attribute; ENODATA if it is not there.
    fn remove_attribute(&self, name: &[u8]) -> Result<(), Errno> {
        fault::step()?;
        fs::fremovexattr(self.descriptor(), name).map_err(refused)
    }
}

impl Attributes for File {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

impl Attributes for Directory {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

/// The attribute is not there, or nothing of that kind can have one.
fn no_attribute(errno: io::Errno) -> bool {
    matches!(errno, io::Errno::NODATA | io::Errno::OPNOTSUPP | io::Errno::PERM)
}
