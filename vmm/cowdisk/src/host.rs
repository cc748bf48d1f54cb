//! The host's files of a disk: every system call of this crate is here.
//!
//! The chain of files is the caller's to state. What a file says of the one below it is compared
//! with that, and never followed.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, FallocateFlags, FileType, FlockOperation, Mode, OFlags, SeekFrom};
use rustix::io::{Errno, retry_on_intr};

use crate::format::{CLUSTER, Damage, Geometry, Header, MAX_NAME};
use crate::layer::Layer;
use crate::map::LoadFailure;
use crate::{Disk, MAX_LAYERS, Store};

/// A file of the host.
#[derive(Debug)]
pub struct HostFile(OwnedFd);

/// What a disk is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The raw image, absolute. It must not change as long as a layer rests on it.
    pub image: PathBuf,
    /// The maps of the layers, absolute, the lowest first; each has its data beside it, in a file
    /// of the same name with the ending `data`.
    pub layers: Vec<PathBuf>,
    /// Whether the topmost layer takes writes; it is created if it is not there.
    pub writable: bool,
}

/// Why a disk cannot be opened. Nothing of it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenFailure {
    /// The image.
    #[error("the image {0} cannot be opened; put it back, or name the one that is there")]
    Image(PathBuf, #[source] io::Error),
    /// Something that is not on a disk of the host, or is one.
    #[error("{0} is no regular file; a disk is made of files")]
    NotAFile(PathBuf),
    /// The image's length.
    #[error("the image {0} has {1} bytes; a disk has a multiple of 512, at most 4 TiB")]
    Size(PathBuf, u64),
    /// More layers than reading may have to look into.
    #[error("the disk has {0} layers over its image; at most {MAX_LAYERS}")]
    TooMany(usize),
    /// A loop, or two names of one file.
    #[error("{0} is in the disk twice; name each file once")]
    Twice(PathBuf),
    /// Somebody writes it, or wants to.
    #[error("the layer {0} is in use by another process; stop the space that uses it")]
    InUse(PathBuf),
    /// A name that the format has no room for.
    #[error("the name of {0} is too long for a layer above it; at most {MAX_NAME} bytes")]
    LongName(PathBuf),
    /// The layer was made over something else.
    #[error(
        "the layer {layer} was made over {found}, not over {wanted}; name that one again, or remove the space to start anew"
    )]
    OtherBelow {
        /// The layer.
        layer: PathBuf,
        /// What it was made over.
        found: String,
        /// What it is to be over.
        wanted: PathBuf,
    },
    /// The layer was made for another size.
    #[error(
        "the layer {layer} is for {found} bytes, but {below} has {wanted} now; put back what was there, or remove the space to start anew"
    )]
    OtherSize {
        /// The layer.
        layer: PathBuf,
        /// The image.
        below: PathBuf,
        /// The layer's bytes.
        found: u64,
        /// The image's bytes.
        wanted: u64,
    },
    /// The layer is not what a layer can be.
    #[error("the layer {0} is damaged; restore it, or remove the space to start anew")]
    Damaged(PathBuf, #[source] Damage),
    /// A data file with data of which nothing says where they belong.
    #[error(
        "{0} holds data, but its map {1} is gone; restore that, or remove the space to start anew"
    )]
    Orphan(PathBuf, PathBuf),
    /// A layer's files.
    #[error("the layer {0} cannot be opened")]
    Layer(PathBuf, #[source] io::Error),
    /// A new layer's files.
    #[error("the layer {0} cannot be created; is there space left?")]
    Create(PathBuf, #[source] io::Error),
}

/// Opens all files of a disk, and creates the topmost layer if it is to be written and not there.
///
/// # Errors
/// [`OpenFailure`], with the file, what is wrong with it and what to do.
pub fn open(config: &Config) -> Result<Disk<HostFile>, OpenFailure> {
    if config.layers.len() > MAX_LAYERS {
        return Err(OpenFailure::TooMany(config.layers.len()));
    }
    let mut chain = Chain::default();
    let failed = |error| OpenFailure::Image(config.image.clone(), error);
    let image = HostFile::open(&config.image, Access::Read).map_err(failed)?;
    chain.add(&config.image, &image)?;
    let size = image.length().map_err(failed)?;
    let geometry =
        Geometry::new(size).ok_or_else(|| OpenFailure::Size(config.image.clone(), size))?;
    let mut layers = Vec::new();
    let mut below = &config.image;
    for (at, path) in config.layers.iter().enumerate() {
        let place = Place { path, below, below_is_raw: at == 0, image: &config.image };
        let is_top = at + 1 == config.layers.len();
        let access = if is_top && config.writable { Access::Write } else { Access::Read };
        layers.push(place.layer(geometry, access, &mut chain)?);
        below = path;
    }
    Ok(Disk::new(geometry, image, layers, config.writable))
}

/// The files of a disk so far, by device and inode.
#[derive(Default)]
struct Chain(Vec<(u64, u64)>);

impl Chain {
    /// # Errors
    /// The file is in the chain, or no regular one.
    fn add(&mut self, path: &Path, file: &HostFile) -> Result<(), OpenFailure> {
        let stat = fs::fstat(&file.0)
            .map_err(|error| OpenFailure::Layer(path.to_owned(), error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(OpenFailure::NotAFile(path.to_owned()));
        }
        let identity = (stat.st_dev, stat.st_ino);
        if self.0.contains(&identity) {
            return Err(OpenFailure::Twice(path.to_owned()));
        }
        self.0.push(identity);
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// A layer and what it is to be over.
struct Place<'a> {
    path: &'a Path,
    below: &'a Path,
    below_is_raw: bool,
    image: &'a Path,
}

impl Place<'_> {
    fn failed(&self, error: impl Into<io::Error>) -> OpenFailure {
        OpenFailure::Layer(self.path.to_owned(), error.into())
    }

    fn data_path(&self) -> PathBuf {
        self.path.with_extension("data")
    }

    fn layer(
        &self,
        geometry: Geometry,
        access: Access,
        chain: &mut Chain,
    ) -> Result<Layer<HostFile>, OpenFailure> {
        let map = match HostFile::open(self.path, access) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && access == Access::Write => {
                self.create(geometry)?;
                HostFile::open(self.path, access)
            }
            other => other,
        };
        let map = map.map_err(|error| self.failed(error))?;
        chain.add(self.path, &map)?;
        // Held until the disk is closed. Whoever reads a layer shares it with other readers.
        if !map.lock(access).map_err(|error| self.failed(error))? {
            return Err(OpenFailure::InUse(self.path.to_owned()));
        }
        self.check(geometry, &map)?;
        let data_path = self.data_path();
        let data = HostFile::open(&data_path, access)
            .map_err(|error| OpenFailure::Layer(data_path.clone(), error))?;
        chain.add(&data_path, &data)?;
        Layer::open(geometry, map, data).map_err(|failure| match failure {
            LoadFailure::Io(error) => self.failed(error),
            LoadFailure::Damaged(damage) => OpenFailure::Damaged(self.path.to_owned(), damage),
        })
    }

    /// That the layer is over what it is to be over.
    fn check(&self, geometry: Geometry, map: &HostFile) -> Result<(), OpenFailure> {
        let length = map.length().map_err(|error| self.failed(error))?;
        let mut head = vec![0; length.min(CLUSTER) as usize];
        map.read(0, &mut head).map_err(|error| self.failed(error))?;
        let header = Header::parse(&head)
            .map_err(|damage| OpenFailure::Damaged(self.path.to_owned(), damage))?;
        let below = self.below.as_os_str().as_bytes();
        if header.below != below || header.below_is_raw != self.below_is_raw {
            return Err(OpenFailure::OtherBelow {
                layer: self.path.to_owned(),
                found: String::from_utf8_lossy(&header.below).escape_debug().to_string(),
                wanted: self.below.to_owned(),
            });
        }
        if header.size != geometry.size() {
            return Err(OpenFailure::OtherSize {
                layer: self.path.to_owned(),
                below: self.image.to_owned(),
                found: header.size,
                wanted: geometry.size(),
            });
        }
        Ok(())
    }

    /// Makes the layer's files: its map appears under its name when all of it is there for good.
    fn create(&self, geometry: Geometry) -> Result<(), OpenFailure> {
        let below = self.below.as_os_str().as_bytes();
        if below.len() > MAX_NAME {
            return Err(OpenFailure::LongName(self.below.to_owned()));
        }
        let data_path = self.data_path();
        let failed = |error| OpenFailure::Create(self.path.to_owned(), error);
        let data = HostFile::create(&data_path).map_err(failed)?;
        // A first start that was cut short leaves it empty.
        if data.next_data(0).map_err(failed)?.is_some() {
            return Err(OpenFailure::Orphan(data_path, self.path.to_owned()));
        }
        let header = Header {
            size: geometry.size(),
            below: below.to_vec(),
            below_is_raw: self.below_is_raw,
            // Seen from the map's own directory.
            data: data_path.file_name().unwrap_or_default().as_bytes().to_vec(),
        };
        let staged = self.path.with_extension("new");
        self.write(geometry, &header, &staged, data).map_err(failed)
    }

    fn write(
        &self,
        geometry: Geometry,
        header: &Header,
        staged: &Path,
        data: HostFile,
    ) -> io::Result<()> {
        fs::ftruncate(&data.0, geometry.size())?;
        let map = HostFile::create(staged)?;
        fs::ftruncate(&map.0, 0)?;
        fs::ftruncate(&map.0, geometry.map_length())?;
        Layer::create(geometry, header, map, data)?;
        fs::rename(staged, self.path)?;
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        let directory = fs::open(
            directory,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(fs::fsync(&directory)?)
    }
}

impl HostFile {
    fn open(path: &Path, access: Access) -> io::Result<HostFile> {
        let access = if access == Access::Write { OFlags::RDWR } else { OFlags::RDONLY };
        // Not waiting for the other end of what turns out to be a pipe.
        let flags = access | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(HostFile(fs::open(path, flags, Mode::empty())?))
    }

    fn create(path: &Path) -> io::Result<HostFile> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(HostFile(fs::open(path, flags, Mode::RUSR | Mode::WUSR)?))
    }

    /// False if somebody else has it.
    fn lock(&self, access: Access) -> io::Result<bool> {
        let kind = match access {
            Access::Read => FlockOperation::NonBlockingLockShared,
            Access::Write => FlockOperation::NonBlockingLockExclusive,
        };
        match fs::flock(&self.0, kind) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Store for HostFile {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            let place = offset + done as u64;
            match retry_on_intr(|| rustix::io::pread(&self.0, &mut buffer[done..], place))? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => done += count,
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let place = offset + done as u64;
            match retry_on_intr(|| rustix::io::pwrite(&self.0, &bytes[done..], place))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => done += count,
            }
        }
        Ok(())
    }

    fn release(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(retry_on_intr(|| fs::fallocate(&self.0, flags, offset, length))?)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::fdatasync(&self.0))?)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        match fs::seek(&self.0, SeekFrom::Data(offset)) {
            Ok(found) => Ok(Some(found)),
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn length(&self) -> io::Result<u64> {
        Ok(u64::try_from(fs::fstat(&self.0)?.st_size).unwrap_or(0))
    }
}
