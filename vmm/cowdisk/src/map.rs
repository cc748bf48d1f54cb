//! What the map says of each cluster, in memory, and which of it the file does not say yet.

use std::collections::BTreeSet;
use std::io;

use crate::format::{CLUSTER, Cluster, Damage, ENTRIES, Geometry, TABLES};
use crate::{SECTOR, Store};

/// Entries of one sector of the map: what a power cut leaves either old or new.
const SECTOR_ENTRIES: u64 = SECTOR / 8;

/// Most sectors written at once.
const MOST_AT_ONCE: u64 = CLUSTER / SECTOR;

/// Why a map cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadFailure {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Damaged(#[from] Damage),
}

/// The state of every cluster of a disk.
#[derive(Debug)]
pub(crate) struct Map {
    geometry: Geometry,
    /// A table in which everything is inherited takes no memory.
    tables: Vec<Option<Box<[Cluster]>>>,
    /// The sectors of the tables that differ from the file, by number.
    changed: BTreeSet<u64>,
}

impl Map {
    /// The map of a layer in which everything is inherited.
    pub(crate) fn new(geometry: Geometry) -> Map {
        let tables = vec![None; geometry.tables() as usize];
        Map { geometry, tables, changed: BTreeSet::new() }
    }

    /// Reads every entry, and believes none that cannot be.
    pub(crate) fn load(geometry: Geometry, file: &impl Store) -> Result<Map, LoadFailure> {
        let mut map = Map::new(geometry);
        let mut bytes = vec![0; CLUSTER as usize];
        let mut table = 0;
        while table < geometry.tables() {
            // Most tables were never written: they are holes.
            let Some(next) = file.next_data(TABLES + table * CLUSTER)? else { break };
            table = table.max((next.max(TABLES) - TABLES) / CLUSTER);
            if table >= geometry.tables() {
                break;
            }
            let place = TABLES + table * CLUSTER;
            file.read(place, &mut bytes)?;
            for (at, entry) in (0..).zip(bytes.chunks_exact(8)) {
                let entry = u64::from_be_bytes(entry.try_into().expect("chunks of eight bytes"));
                if entry == 0 {
                    continue;
                }
                let cluster = table * ENTRIES + at;
                let state = Some(cluster)
                    .filter(|cluster| *cluster < geometry.clusters())
                    .and_then(|cluster| Cluster::decode(entry, cluster))
                    .ok_or(Damage::Wrong("an entry", place + at * 8))?;
                map.put(cluster, state);
            }
            table += 1;
        }
        Ok(map)
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The state of a cluster of the disk.
    pub(crate) fn get(&self, cluster: u64) -> Cluster {
        let table = &self.tables[(cluster / ENTRIES) as usize];
        table.as_ref().map_or(Cluster::Inherited, |table| table[(cluster % ENTRIES) as usize])
    }

    /// Changes the state of a cluster of the disk; the file says so after [`Map::write`].
    pub(crate) fn set(&mut self, cluster: u64, state: Cluster) {
        if self.get(cluster) != state {
            self.put(cluster, state);
            self.changed.insert(cluster / SECTOR_ENTRIES);
        }
    }

    fn put(&mut self, cluster: u64, state: Cluster) {
        let table = &mut self.tables[(cluster / ENTRIES) as usize];
        let table = table.get_or_insert_with(|| vec![Cluster::Inherited; ENTRIES as usize].into());
        table[(cluster % ENTRIES) as usize] = state;
    }

    /// How many sectors the file does not have yet.
    pub(crate) fn changed(&self) -> usize {
        self.changed.len()
    }

    /// Writes what has changed. It stays so until [`Map::written`]: a part of
    /// it in the file harms nobody, and is written again.
    pub(crate) fn write(&self, file: &mut impl Store) -> io::Result<()> {
        let mut sectors = self.changed.iter().copied().peekable();
        let mut bytes = Vec::new();
        while let Some(first) = sectors.next() {
            let mut end = first + 1;
            while end - first < MOST_AT_ONCE && sectors.next_if_eq(&end).is_some() {
                end += 1;
            }
            bytes.clear();
            for cluster in first * SECTOR_ENTRIES..end * SECTOR_ENTRIES {
                // The last table has entries beyond the disk: these are never set.
                bytes.extend(self.get(cluster).encode(cluster).to_be_bytes());
            }
            file.write(TABLES + first * SECTOR, &bytes)?;
        }
        Ok(())
    }

    /// The file has, for good, what [`Map::write`] wrote.
    pub(crate) fn written(&mut self) {
        self.changed.clear();
    }
}
