//! The part of qcow2 a layer is written in (QEMU's docs/interop/qcow2.txt, version 3): an
//! external data file, in which each cluster lies where it lies on the disk, and a map
//! whose tables are all there from the start.
//!
//! So nothing is ever allocated, moved or counted: a layer changes by entries of the last
//! tables, each of which has three values it can have, and the rest of the map is one constant.

use std::ops::Range;

use crate::Store;

/// Bytes that are mapped as one.
pub const CLUSTER: u64 = 1 << CLUSTER_BITS;

/// Largest disk, bytes: what one cluster of the first table leads to.
pub const MAX_SIZE: u64 = ENTRIES * ENTRIES * CLUSTER;

/// Longest name of what is below (the format's own limit).
pub(crate) const MAX_NAME: usize = 1023;

/// Entries of one table.
pub(crate) const ENTRIES: u64 = CLUSTER / 8;

/// Where the map's parts are: the places `qemu-img create` gives them.
const REFCOUNT_TABLE: u64 = CLUSTER;
const REFCOUNT_BLOCK: u64 = 2 * CLUSTER;
const FIRST_TABLE: u64 = 3 * CLUSTER;
/// The first of the tables whose entries are clusters of the disk.
pub(crate) const TABLES: u64 = 4 * CLUSTER;

const CLUSTER_BITS: u32 = 16;
const MAGIC: u32 = 0x5146_49fb;
const VERSION: u32 = 3;
const HEADER: u32 = 104;
/// Incompatible feature: the data are in another file.
const EXTERNAL_DATA: u64 = 1 << 2;
/// Extensions of the header.
const END: u32 = 0;
const FORMAT_BELOW: u32 = 0xe279_2aca;
const DATA_FILE: u32 = 0x4441_5441;

/// The cluster is referred to once: it may be written in place.
const COPIED: u64 = 1 << 63;
/// The cluster reads as zeros.
const ZERO: u64 = 1;

/// Why a file is not a layer of this crate's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It does not begin as one.
    #[error("it is no qcow2 file")]
    NotQcow2,
    /// It is one that this crate would not have written.
    #[error("it is a qcow2 file with {0}, which no layer has")]
    Foreign(&'static str),
    /// It ends too early.
    #[error("it is cut off")]
    Short,
    /// A byte is not what it can only be.
    #[error("{0} is wrong at byte {1}")]
    Wrong(&'static str, u64),
}

/// What the map says of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cluster {
    /// It is what is below.
    #[default]
    Inherited,
    /// It is zeros.
    Zero,
    /// It is in the layer's data.
    Own,
}

impl Cluster {
    /// The entry of cluster `index`.
    pub(crate) fn encode(self, index: u64) -> u64 {
        match self {
            Cluster::Inherited => 0,
            Cluster::Zero => ZERO,
            Cluster::Own => COPIED | (index * CLUSTER),
        }
    }

    /// What the entry of cluster `index` says; `None`: nothing it can say.
    pub(crate) fn decode(entry: u64, index: u64) -> Option<Cluster> {
        let own = Cluster::Own.encode(index);
        match entry {
            0 => Some(Cluster::Inherited),
            // QEMU writes both: zeros with and without a place that is kept for them.
            _ if entry == ZERO || entry == own | ZERO => Some(Cluster::Zero),
            _ => (entry == own).then_some(Cluster::Own),
        }
    }
}

/// A size a disk can have, and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    size: u64,
}

/// A part of a range that lies in one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) cluster: u64,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// It is all of the cluster that is on the disk.
    pub(crate) whole: bool,
}

impl Geometry {
    /// `None` if no disk has so many bytes.
    pub(crate) fn new(size: u64) -> Option<Geometry> {
        let fits = size != 0 && size.is_multiple_of(crate::SECTOR) && size <= MAX_SIZE;
        fits.then_some(Geometry { size })
    }

    pub(crate) fn size(self) -> u64 {
        self.size
    }

    pub(crate) fn clusters(self) -> u64 {
        self.size.div_ceil(CLUSTER)
    }

    pub(crate) fn tables(self) -> u64 {
        self.clusters().div_ceil(ENTRIES)
    }

    /// Bytes of the map.
    pub(crate) fn map_length(self) -> u64 {
        TABLES + self.tables() * CLUSTER
    }

    /// The bytes of a cluster that are on the disk.
    pub(crate) fn extent(self, cluster: u64) -> Range<u64> {
        let start = cluster * CLUSTER;
        start..self.size.min(start + CLUSTER)
    }

    /// Whether all of the range is on the disk.
    pub(crate) fn contains(self, offset: u64, length: u64) -> bool {
        offset.checked_add(length).is_some_and(|end| end <= self.size)
    }

    /// The first piece of a range that is on the disk and not empty.
    pub(crate) fn piece(self, offset: u64, length: u64) -> Piece {
        let cluster = offset / CLUSTER;
        let extent = self.extent(cluster);
        let length = length.min(extent.end - offset);
        let whole = length == extent.end - extent.start;
        Piece { cluster, offset, length, whole }
    }

    /// What the map holds between its header and its tables.
    fn constants(self) -> Vec<(u64, &'static str, Vec<u8>)> {
        // The first table needs no more than the format asks for: entries beyond it are zero.
        let words = |words: &mut dyn Iterator<Item = u64>| {
            let mut bytes: Vec<u8> = words.flat_map(u64::to_be_bytes).collect();
            bytes.resize(CLUSTER as usize, 0);
            bytes
        };
        let places = (0..self.tables()).map(|table| COPIED | (TABLES + table * CLUSTER));
        let mut counts = [0, 1].repeat((self.map_length() / CLUSTER) as usize);
        counts.resize(CLUSTER as usize, 0);
        vec![
            (REFCOUNT_TABLE, "its refcount table", words(&mut [REFCOUNT_BLOCK].into_iter())),
            (REFCOUNT_BLOCK, "a refcount", counts),
            (FIRST_TABLE, "its first table", words(&mut places.into_iter())),
        ]
    }
}

/// What a layer says about itself and what is below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) size: u64,
    /// The name of what is below: another layer, or the image.
    pub(crate) below: Vec<u8>,
    /// Whether that is the image: else it is a layer.
    pub(crate) below_is_raw: bool,
    /// The name of the data file. QEMU's to follow, not ours.
    pub(crate) data: Vec<u8>,
}

impl Header {
    /// Writes the whole map of a layer in which everything is inherited; the file has its
    /// length and is all zeros.
    pub(crate) fn create(&self, geometry: Geometry, map: &mut impl Store) -> std::io::Result<()> {
        for (place, _, bytes) in geometry.constants() {
            map.write(place, &bytes)?;
        }
        map.write(0, &self.encode(geometry))
    }

    fn encode(&self, geometry: Geometry) -> Vec<u8> {
        let format: &[u8] = if self.below_is_raw { b"raw" } else { b"qcow2" };
        let mut extensions = Vec::new();
        for (kind, bytes) in [(FORMAT_BELOW, format), (DATA_FILE, &self.data), (END, b"")] {
            extensions.extend(kind.to_be_bytes());
            extensions.extend((bytes.len() as u32).to_be_bytes());
            extensions.extend(bytes);
            extensions.resize(extensions.len().next_multiple_of(8), 0);
        }
        let below_at = u64::from(HEADER) + extensions.len() as u64;
        let mut out = Vec::new();
        let word = |out: &mut Vec<u8>, value: u32| out.extend(value.to_be_bytes());
        let double = |out: &mut Vec<u8>, value: u64| out.extend(value.to_be_bytes());
        word(&mut out, MAGIC);
        word(&mut out, VERSION);
        double(&mut out, below_at);
        word(&mut out, self.below.len() as u32);
        word(&mut out, CLUSTER_BITS);
        double(&mut out, self.size);
        word(&mut out, 0); // no encryption
        word(&mut out, geometry.tables() as u32);
        double(&mut out, FIRST_TABLE);
        double(&mut out, REFCOUNT_TABLE);
        word(&mut out, 1);
        word(&mut out, 0); // no snapshots
        double(&mut out, 0);
        double(&mut out, EXTERNAL_DATA);
        double(&mut out, 0);
        double(&mut out, 0);
        word(&mut out, 4); // refcounts of 16 bits
        word(&mut out, HEADER);
        out.extend(extensions);
        out.extend(&self.below);
        out
    }

    /// Reads the header of a map.
    pub(crate) fn parse(cluster: &[u8]) -> Result<Header, Damage> {
        let fields = Fields(cluster);
        if fields.word(0)? != MAGIC {
            return Err(Damage::NotQcow2);
        }
        let fixed = [
            (4, VERSION, "another version"),
            (20, CLUSTER_BITS, "clusters of another size"),
            (32, 0, "encryption"),
            (56, 1, "refcounts elsewhere"),
            (60, 0, "snapshots"),
            (96, 4, "refcounts of another width"),
        ];
        for (at, value, what) in fixed {
            if fields.word(at)? != value {
                return Err(Damage::Foreign(what));
            }
        }
        let fixed = [
            (40, FIRST_TABLE, "its tables elsewhere"),
            (48, REFCOUNT_TABLE, "refcounts elsewhere"),
            (72, EXTERNAL_DATA, "other features"),
            (80, 0, "other features"),
            (88, 0, "other features"),
        ];
        for (at, value, what) in fixed {
            if fields.double(at)? != value {
                return Err(Damage::Foreign(what));
            }
        }
        let size = fields.double(24)?;
        let geometry = Geometry::new(size).ok_or(Damage::Wrong("the size", 24))?;
        if u64::from(fields.word(36)?) != geometry.tables() {
            return Err(Damage::Wrong("the number of tables", 36));
        }
        let below = fields.name(fields.double(8)?, fields.word(16)?)?.to_vec();
        let mut header = Header { size, below, below_is_raw: false, data: Vec::new() };
        let mut at = u64::from(fields.word(100)?);
        let mut format = None;
        loop {
            let (kind, length) = (fields.word(at)?, fields.word(at + 4)?);
            let bytes = fields.bytes(at + 8, length.into())?;
            match kind {
                END => break,
                FORMAT_BELOW => format = Some(bytes),
                DATA_FILE => header.data = bytes.to_vec(),
                // QEMU's list of feature names, and whatever else changes nothing.
                _ => {}
            }
            at += 8 + u64::from(length).next_multiple_of(8);
        }
        header.below_is_raw = match format {
            Some(b"raw") => true,
            Some(b"qcow2") => false,
            _ => return Err(Damage::Foreign("no format of what is below")),
        };
        Ok(header)
    }

    /// Checks what lies between header and tables, which never changes.
    pub(crate) fn check_constants(
        geometry: Geometry,
        map: &impl Store,
    ) -> std::io::Result<Result<(), Damage>> {
        let mut found = vec![0; CLUSTER as usize];
        for (place, what, bytes) in geometry.constants() {
            map.read(place, &mut found)?;
            if let Some(at) = found.iter().zip(&bytes).position(|(found, byte)| found != byte) {
                return Ok(Err(Damage::Wrong(what, place + at as u64)));
            }
        }
        Ok(Ok(()))
    }
}

/// Big-endian fields of the header's cluster, none of them beyond it.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&self, at: u64, length: u64) -> Result<&'a [u8], Damage> {
        let range = usize::try_from(at).ok().zip(usize::try_from(length).ok());
        range
            .and_then(|(at, length)| self.0.get(at..at.checked_add(length)?))
            .ok_or(Damage::Wrong("the header", at.min(CLUSTER)))
    }

    fn word(&self, at: u64) -> Result<u32, Damage> {
        let bytes = self.bytes(at, 4)?;
        Ok(u32::from_be_bytes(bytes.try_into().expect("four bytes were asked for")))
    }

    fn double(&self, at: u64) -> Result<u64, Damage> {
        Ok(u64::from(self.word(at)?) << 32 | u64::from(self.word(at + 4)?))
    }

    fn name(&self, at: u64, length: u32) -> Result<&'a [u8], Damage> {
        if at == 0 || length == 0 {
            return Err(Damage::Foreign("nothing below it"));
        }
        if length as usize > MAX_NAME {
            return Err(Damage::Wrong("the name of what is below", 16));
        }
        self.bytes(at, length.into())
    }
}
