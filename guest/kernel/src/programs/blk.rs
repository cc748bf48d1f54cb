//! `blk`: a disk's bytes.

use alloc::rc::Rc;
use alloc::vec::Vec;

use sha2::{Digest, Sha256};

use super::file::hex;
use super::{Arguments, Context, Usage};
use crate::disk::{Disk, Failed, MAX_IO};

/// What is done to a disk.
enum Order {
    Size,
    Flush,
    Write(u64),
    Read(u64, u64),
    Sum(u64, u64),
    Zero(u64, u64),
    Discard(u64, u64),
}

impl Order {
    fn of(context: &Context) -> Result<(usize, Order), Usage> {
        let mut arguments = Arguments::of(context);
        let mut number = 0;
        let mut word = arguments.next().ok_or(Usage)?;
        if word == "-d" {
            number = arguments.value()?;
            word = arguments.next().ok_or(Usage)?;
        }
        let order = match word {
            "size" => Order::Size,
            "flush" => Order::Flush,
            "write" => Order::Write(arguments.value()?),
            "read" => Order::Read(arguments.value()?, arguments.value()?),
            "sha256" => Order::Sum(arguments.value()?, arguments.value()?),
            "zero" => Order::Zero(arguments.value()?, arguments.value()?),
            "discard" => Order::Discard(arguments.value()?, arguments.value()?),
            _ => return Err(Usage),
        };
        if arguments.next().is_some() { Err(Usage) } else { Ok((number, order)) }
    }
}

pub(super) async fn blk(context: &Context) -> Result<u8, Usage> {
    let (number, order) = Order::of(context)?;
    let disk: Option<Rc<Disk>> = context.system.disks.borrow().get(number).cloned();
    let Some(disk) = disk else {
        context.complain(format_args!("this space has no such disk"), number).await;
        return Ok(1);
    };
    match carry_out(context, &disk, order).await {
        Ok(()) => Ok(0),
        Err(why) => {
            context.complain(format_args!("{why}"), format_args!("disk {number}")).await;
            Ok(1)
        }
    }
}

async fn carry_out(context: &Context, disk: &Disk, order: Order) -> Result<(), Failed> {
    match order {
        Order::Size => context.output.print(format_args!("{}\n", disk.size())).await,
        Order::Flush => disk.flush().await?,
        Order::Write(offset) => write(context, disk, offset).await?,
        Order::Zero(offset, length) => disk.zero(offset, length).await?,
        Order::Discard(offset, length) => disk.discard(offset, length).await?,
        Order::Read(offset, length) => {
            let mut pieces = Pieces { disk, offset, left: length, piece: Vec::new() };
            while let Some(bytes) = pieces.next().await? {
                context.output.write(bytes).await;
            }
        }
        Order::Sum(offset, length) => {
            let mut sum = Sha256::new();
            let mut pieces = Pieces { disk, offset, left: length, piece: Vec::new() };
            while let Some(bytes) = pieces.next().await? {
                sum.update(bytes);
            }
            context.output.print(format_args!("{}\n", hex(sum))).await;
        }
    }
    Ok(())
}

/// Writes standard input, which is whole sectors.
async fn write(context: &Context, disk: &Disk, mut offset: u64) -> Result<(), Failed> {
    let mut bytes = Vec::new();
    loop {
        let more = context.input.read().await;
        bytes.extend_from_slice(&more);
        while bytes.len() >= MAX_IO || (more.is_empty() && !bytes.is_empty()) {
            let count = bytes.len().min(MAX_IO);
            disk.write(offset, &bytes[..count]).await?;
            bytes.drain(..count);
            offset += count as u64;
        }
        if more.is_empty() {
            return Ok(());
        }
    }
}

/// A range read from its beginning, piece by piece.
struct Pieces<'a> {
    disk: &'a Disk,
    offset: u64,
    left: u64,
    piece: Vec<u8>,
}

impl Pieces<'_> {
    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<&[u8]>, Failed> {
        if self.left == 0 {
            return Ok(None);
        }
        let count = self.left.min(MAX_IO as u64);
        self.piece.clear();
        self.disk.read(self.offset, count as usize, &mut self.piece).await?;
        (self.offset, self.left) = (self.offset + count, self.left - count);
        Ok(Some(&self.piece))
    }
}

#[cfg(test)]
mod tests;
