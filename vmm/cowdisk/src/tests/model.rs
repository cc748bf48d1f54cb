//! A disk against the obvious one: a vector of bytes.

use bolero::TypeGenerator;

use super::sim::new_disk;
use crate::format::Cluster;
use crate::layer::Space;
use crate::{CLUSTER, MAX_LAYERS, SECTOR};

/// Five clusters and a part of one.
const SIZE: u64 = 5 * CLUSTER + 3 * SECTOR;

#[derive(Clone, Copy, Debug, TypeGenerator)]
enum Do {
    Read,
    Write(u8),
    Zero,
    Discard,
    Flush,
    Reopen,
}

#[derive(Clone, Debug, TypeGenerator)]
struct Order {
    what: Do,
    offset: u32,
    length: u32,
    aligned: bool,
}

impl Order {
    /// A range on the disk.
    fn range(&self) -> (u64, u64) {
        let unit = if self.aligned { CLUSTER } else { 1 };
        let offset = u64::from(self.offset) % SIZE / unit * unit;
        let length = (u64::from(self.length) % (3 * CLUSTER)).next_multiple_of(unit);
        (offset, length.min(SIZE - offset))
    }
}

fn image() -> Vec<u8> {
    (0..SIZE).map(|at| (at / 7 + at / CLUSTER) as u8 | 1).collect()
}

#[test]
fn a_disk_is_what_was_written_to_it_over_what_is_below() {
    let image = image();
    bolero::check!().with_type::<(Vec<Order>, bool)>().for_each(|(orders, stacked)| {
        let layers = if *stacked { 2 } else { 1 };
        let (files, mut disk) = new_disk(&image, layers);
        let mut model = image.clone();
        for (at, order) in orders.iter().enumerate() {
            let (offset, length) = order.range();
            let range = offset as usize..(offset + length) as usize;
            match order.what {
                Do::Read => {
                    let mut found = vec![0xa5; length as usize];
                    disk.read(offset, &mut found).unwrap();
                    assert!(found == model[range], "order {at}");
                }
                Do::Write(byte) => {
                    let bytes: Vec<u8> = (0..length).map(|at| byte ^ (at / 3) as u8).collect();
                    disk.write(offset, &bytes).unwrap();
                    model[range].copy_from_slice(&bytes);
                }
                Do::Zero | Do::Discard => {
                    let discard = matches!(order.what, Do::Discard);
                    let space = if discard { Space::GiveBack } else { Space::Keep };
                    disk.zero(offset, length, space).unwrap();
                    model[range].fill(0);
                }
                Do::Flush => disk.flush().unwrap(),
                Do::Reopen => {
                    disk.flush().unwrap();
                    drop(disk);
                    disk = files.open(layers).unwrap();
                }
            }
        }
        let mut found = vec![0; SIZE as usize];
        disk.read(0, &mut found).unwrap();
        assert!(found == model);
        disk.flush().unwrap();
        files.as_they_are().open(layers).unwrap().read(0, &mut found).unwrap();
        assert!(found == model, "reopened");
        assert!(files.bytes(0) == image, "the image is as it was");
        if layers == 2 {
            let untouched = new_disk(&image, 2).0;
            assert!(files.bytes(1) == untouched.bytes(1), "and so is the layer below");
        }
    });
}

#[test]
fn each_layer_hides_what_is_below_it_with_bytes_or_with_zeros() {
    let image = image();
    let (files, mut disk) = new_disk(&image, 1);
    disk.write(0, &[1; 2 * CLUSTER as usize]).unwrap();
    disk.zero(3 * CLUSTER, CLUSTER, Space::GiveBack).unwrap();
    disk.flush().unwrap();
    let mut all: Vec<_> = (0..3).map(|index| files.bytes(index)).collect();
    let (upper, _) = new_disk(&image, 1);
    all.extend([upper.bytes(1), upper.bytes(2)]);
    let files = super::sim::Files::new(all);
    let mut disk = files.open(2).unwrap();
    disk.zero(0, CLUSTER, Space::GiveBack).unwrap();
    disk.write(3 * CLUSTER + 5, b"over zeros").unwrap();
    let byte = |disk: &crate::Disk<_>, offset| {
        let mut byte = [0];
        disk.read(offset, &mut byte).unwrap();
        byte[0]
    };
    assert_eq!(byte(&disk, 0), 0, "the upper's zeros");
    assert_eq!(byte(&disk, CLUSTER), 1, "the lower's bytes");
    assert_eq!(byte(&disk, 2 * CLUSTER), image[2 * CLUSTER as usize], "the image's");
    assert_eq!(byte(&disk, 3 * CLUSTER), 0, "the lower's zeros");
    assert_eq!(byte(&disk, 3 * CLUSTER + 5), b'o', "the upper's bytes");
}

#[test]
fn as_many_layers_as_there_may_be_are_seen_through() {
    let image = image();
    let (_, mut disk) = new_disk(&image, MAX_LAYERS);
    disk.write(CLUSTER, b"top").unwrap();
    let mut found = vec![0; SIZE as usize];
    disk.read(0, &mut found).unwrap();
    let mut model = image;
    model[CLUSTER as usize..CLUSTER as usize + 3].copy_from_slice(b"top");
    assert!(found == model);
}

#[test]
fn what_is_not_on_the_disk_is_neither_read_nor_written() {
    let (files, mut disk) = new_disk(&image(), 1);
    let before = files.bytes(2);
    for (offset, length) in [(SIZE, 1), (SIZE - 1, 2), (u64::MAX, 1), (u64::MAX - 1, 4)] {
        let mut bytes = vec![0; length];
        assert!(disk.read(offset, &mut bytes).is_err());
        assert!(disk.write(offset, &bytes).is_err());
        assert!(disk.zero(offset, length as u64, Space::GiveBack).is_err());
    }
    assert!(disk.zero(1, u64::MAX, Space::GiveBack).is_err());
    assert!(disk.read(SIZE, &mut []).is_ok());
    assert!(files.bytes(2) == before);
}

#[test]
fn a_discarded_cluster_gives_its_space_back_and_a_zeroed_one_keeps_it() {
    let (files, mut disk) = new_disk(&image(), 1);
    disk.write(0, &[7; 4 * CLUSTER as usize]).unwrap();
    disk.zero(CLUSTER, 2 * CLUSTER, Space::GiveBack).unwrap();
    disk.zero(3 * CLUSTER, CLUSTER, Space::Keep).unwrap();
    disk.flush().unwrap();
    let map = files.bytes(1);
    let state = |cluster: usize| {
        let at = crate::format::TABLES as usize + 8 * cluster;
        let entry = u64::from_be_bytes(map[at..at + 8].try_into().unwrap());
        Cluster::decode(entry, cluster as u64).unwrap()
    };
    assert_eq!(
        [0, 1, 2, 3, 4].map(state),
        [Cluster::Own, Cluster::Zero, Cluster::Zero, Cluster::Own, Cluster::Inherited]
    );
    assert!(files.bytes(2)[CLUSTER as usize..4 * CLUSTER as usize].iter().all(|b| *b == 0));
}
