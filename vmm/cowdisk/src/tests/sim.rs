//! Files in memory: an operation can fail half done, and what was not synced can be lost.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use crate::format::{Geometry, Header};
use crate::layer::Layer;
use crate::map::LoadFailure;
use crate::{Disk, SECTOR, Store};

/// What happens at a step; steps are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Nothing,
    /// From this step on nothing happens any more.
    PowerOff(usize),
    /// This one fails, half done.
    Fail(usize),
}

enum Change {
    Write(Vec<u8>),
    Release(u64),
}

struct State {
    files: Vec<Vec<u8>>,
    /// What is there for good, and what was done since, in order.
    durable: Vec<Vec<u8>>,
    since: Vec<(usize, u64, Change)>,
    plan: Plan,
    steps: usize,
}

/// The files of one disk: the image, then map and data of each layer, the lowest first.
#[derive(Clone)]
pub(super) struct Files(Rc<RefCell<State>>);

/// One of them.
pub(super) struct File {
    files: Files,
    index: usize,
}

fn apply(bytes: &mut [u8], offset: u64, change: &Change) {
    let at = offset as usize;
    match change {
        Change::Write(new) => bytes[at..at + new.len()].copy_from_slice(new),
        Change::Release(length) => bytes[at..at + *length as usize].fill(0),
    }
}

impl Files {
    pub(super) fn new(files: Vec<Vec<u8>>) -> Files {
        let durable = files.clone();
        let state = State { files, durable, since: Vec::new(), plan: Plan::Nothing, steps: 0 };
        Files(Rc::new(RefCell::new(state)))
    }

    pub(super) fn plan(&self, plan: Plan) {
        let state = &mut *self.0.borrow_mut();
        (state.plan, state.steps) = (plan, 0);
    }

    pub(super) fn steps(&self) -> usize {
        self.0.borrow().steps
    }

    pub(super) fn bytes(&self, index: usize) -> Vec<u8> {
        self.0.borrow().files[index].clone()
    }

    /// As the files are if the process alone ends.
    pub(super) fn as_they_are(&self) -> Files {
        Files::new(self.0.borrow().files.clone())
    }

    /// As they are after a power cut: of what was not synced, any sectors.
    pub(super) fn after_power_cut(&self, mut kept: impl FnMut() -> bool) -> Files {
        let state = self.0.borrow();
        let mut files = state.durable.clone();
        for (index, offset, change) in &state.since {
            let end = offset
                + match change {
                    Change::Write(bytes) => bytes.len() as u64,
                    Change::Release(length) => *length,
                };
            let mut start = *offset;
            while start < end {
                let stop = (start / SECTOR * SECTOR + SECTOR).min(end);
                let part = match change {
                    Change::Write(bytes) => Change::Write(
                        bytes[(start - offset) as usize..(stop - offset) as usize].to_vec(),
                    ),
                    Change::Release(_) => Change::Release(stop - start),
                };
                if kept() {
                    apply(&mut files[*index], start, &part);
                }
                start = stop;
            }
        }
        Files::new(files)
    }

    pub(super) fn file(&self, index: usize) -> File {
        File { files: self.clone(), index }
    }

    /// The disk with `layers` layers, the topmost writable.
    pub(super) fn open(&self, layers: usize) -> Result<Disk<File>, LoadFailure> {
        let size = self.0.borrow().files[0].len() as u64;
        let geometry = Geometry::new(size).unwrap();
        let layer = |at: usize| Layer::open(geometry, self.file(1 + 2 * at), self.file(2 + 2 * at));
        let layers = (0..layers).map(layer).collect::<Result<_, _>>()?;
        Ok(Disk::new(geometry, self.file(0), layers, true))
    }
}

/// An image with `layers` new layers over it.
pub(super) fn new_disk(image: &[u8], layers: usize) -> (Files, Disk<File>) {
    let geometry = Geometry::new(image.len() as u64).unwrap();
    let mut files = vec![image.to_vec()];
    for _ in 0..layers {
        files.push(vec![0; geometry.map_length() as usize]);
        files.push(vec![0; image.len()]);
    }
    let files = Files::new(files);
    for at in 0..layers {
        let header = header(geometry.size());
        let (map, data) = (files.file(1 + 2 * at), files.file(2 + 2 * at));
        Layer::create(geometry, &header, map, data).unwrap();
    }
    let disk = files.open(layers).unwrap();
    (files, disk)
}

pub(super) fn header(size: u64) -> Header {
    Header { size, below: b"/image".to_vec(), below_is_raw: true, data: b"0.data".to_vec() }
}

impl File {
    /// What becomes of a change: how much of `length` is done, and how it is answered.
    fn step(&self, length: u64) -> (u64, io::Result<()>) {
        let state = &mut *self.files.0.borrow_mut();
        let step = state.steps;
        state.steps += 1;
        let refused = || Err(io::ErrorKind::StorageFull.into());
        match state.plan {
            Plan::PowerOff(from) if step >= from => (0, refused()),
            Plan::Fail(at) if step == at => (length / 2 / SECTOR * SECTOR, refused()),
            _ => (length, Ok(())),
        }
    }

    fn change(&self, offset: u64, change: Change) {
        let state = &mut *self.files.0.borrow_mut();
        apply(&mut state.files[self.index], offset, &change);
        state.since.push((self.index, offset, change));
    }
}

impl Store for File {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.step(0).1?;
        let state = self.files.0.borrow();
        let bytes = state.files[self.index].get(offset as usize..offset as usize + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        assert!(self.index != 0, "the image is never written");
        let (done, answer) = self.step(bytes.len() as u64);
        self.change(offset, Change::Write(bytes[..done as usize].to_vec()));
        answer
    }

    fn release(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let (done, answer) = self.step(length);
        self.change(offset, Change::Release(done));
        answer
    }

    fn sync(&mut self) -> io::Result<()> {
        self.step(0).1?;
        let state = &mut *self.files.0.borrow_mut();
        for (index, offset, change) in state.since.extract_if(.., |change| change.0 == self.index) {
            apply(&mut state.durable[index], offset, &change);
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        let state = self.files.0.borrow();
        let rest = &state.files[self.index][offset as usize..];
        Ok(rest.iter().position(|byte| *byte != 0).map(|at| offset + at as u64))
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.files.0.borrow().files[self.index].len() as u64)
    }
}
