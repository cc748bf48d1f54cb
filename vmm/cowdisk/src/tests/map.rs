//! Maps that are not what a map can be are found out when they are opened.

use super::sim::{Files, header, new_disk};
use crate::format::{CLUSTER, Damage, Geometry, Header, TABLES};
use crate::map::LoadFailure;
use crate::{MAX_SIZE, SECTOR};

const SIZE: u64 = 5 * CLUSTER + SECTOR;

fn damaged(change: impl Fn(&mut Vec<u8>)) -> Option<Damage> {
    let files = new_disk(&vec![1; SIZE as usize], 1).0;
    let mut map = files.bytes(1);
    change(&mut map);
    match Files::new(vec![files.bytes(0), map, files.bytes(2)]).open(1) {
        Ok(_) => None,
        Err(LoadFailure::Damaged(damage)) => Some(damage),
        Err(LoadFailure::Io(error)) => panic!("{error}"),
    }
}

fn with_entry(cluster: u64, entry: u64) -> Option<Damage> {
    damaged(|map| {
        let at = (TABLES + 8 * cluster) as usize;
        map[at..at + 8].copy_from_slice(&entry.to_be_bytes());
    })
}

#[test]
fn an_entry_has_four_values_and_no_other() {
    let own = (1 << 63) | (2 * CLUSTER);
    for good in [0, 1, own, own | 1] {
        assert_eq!(with_entry(2, good), None, "{good:#x}");
    }
    let wrong = Some(Damage::Wrong("an entry", TABLES + 16));
    for bad in [2, 2 * CLUSTER, own + CLUSTER, own + 512, own | 1 << 62, 1 << 62, u64::MAX] {
        assert_eq!(with_entry(2, bad), wrong, "{bad:#x}");
    }
    for beyond in [6, 7, 8191] {
        assert!(with_entry(beyond, 1).is_some(), "{beyond} is not on the disk");
    }
}

#[test]
fn no_byte_of_the_constant_parts_can_be_another() {
    for at in CLUSTER..TABLES {
        // Each byte would take minutes: all at the beginnings, then every so manyth.
        if at % CLUSTER < 64 || at % 1009 == 0 {
            let found = damaged(|map| map[at as usize] ^= 0x41);
            assert!(matches!(found, Some(Damage::Wrong(_, place)) if place == at), "{at}");
        }
    }
    assert_eq!(damaged(|map| map.truncate(map.len() - 1)), Some(Damage::Short));
}

#[test]
fn a_header_is_read_as_it_was_written_whatever_its_size() {
    for size in [512, CLUSTER, SIZE, 1 << 30, (1 << 30) + 512, MAX_SIZE] {
        let geometry = Geometry::new(size).unwrap();
        let below = vec![b'x'; 1023];
        for (below, below_is_raw) in [(b"/image".to_vec(), true), (below, false)] {
            let header = Header { below, below_is_raw, ..header(size) };
            let mut bytes = vec![0; CLUSTER as usize];
            struct Head<'a>(&'a mut Vec<u8>);
            impl crate::Store for Head<'_> {
                fn read(&self, _: u64, _: &mut [u8]) -> std::io::Result<()> {
                    unreachable!("it is only written")
                }
                fn write(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
                    if offset == 0 {
                        self.0[..bytes.len()].copy_from_slice(bytes);
                    }
                    Ok(())
                }
                fn release(&mut self, _: u64, _: u64) -> std::io::Result<()> {
                    Ok(())
                }
                fn sync(&mut self) -> std::io::Result<()> {
                    Ok(())
                }
                fn next_data(&self, _: u64) -> std::io::Result<Option<u64>> {
                    Ok(None)
                }
                fn length(&self) -> std::io::Result<u64> {
                    Ok(CLUSTER)
                }
            }
            header.create(geometry, &mut Head(&mut bytes)).unwrap();
            assert_eq!(Header::parse(&bytes), Ok(header));
        }
    }
}

#[test]
fn a_size_no_disk_has_is_refused() {
    for size in [0, 1, 511, 513, MAX_SIZE + 512, u64::MAX] {
        assert_eq!(Geometry::new(size), None, "{size}");
    }
}

#[test]
fn whatever_a_header_says_it_is_read_within_its_bounds() {
    let good = new_disk(&vec![1; SIZE as usize], 1).0.bytes(1);
    bolero::check!().with_type::<(Vec<(u16, u8)>, u16)>().for_each(|(changes, length)| {
        let mut bytes = good[..2048].to_vec();
        for (at, byte) in changes {
            bytes[usize::from(*at) % 2048 % 256] = *byte;
        }
        let _ = Header::parse(&bytes);
        bytes.truncate(usize::from(*length) % 2048);
        let _ = Header::parse(&bytes);
    });
}

#[test]
fn whatever_a_map_says_it_opens_or_is_refused() {
    let files = new_disk(&vec![1; SIZE as usize], 1).0;
    let [image, good, data] = [0, 1, 2].map(|index| files.bytes(index));
    bolero::check!().with_type::<Vec<(u8, u64)>>().for_each(|entries| {
        let mut map = good.clone();
        for (cluster, entry) in entries {
            let at = (TABLES + 8 * u64::from(*cluster)) as usize;
            map[at..at + 8].copy_from_slice(&entry.to_be_bytes());
        }
        if let Ok(disk) = Files::new(vec![image.clone(), map, data.clone()]).open(1) {
            disk.read(0, &mut vec![0; SIZE as usize]).unwrap();
        }
    });
}
