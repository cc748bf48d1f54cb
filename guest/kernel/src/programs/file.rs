//! `cat`, `ls`, `sha256` and `write`.

use alloc::rc::Rc;
use alloc::vec::Vec;

use fuse::record::{TYPE_DIRECTORY, TYPE_REGULAR, TYPE_SYMLINK};
use sha2::{Digest, Sha256};

use super::{Context, Descriptor, Usage};
use crate::files::{Failed, OpenFile};

pub(super) async fn cat(context: &Context) -> Result<u8, Usage> {
    if context.arguments.is_empty() {
        loop {
            let bytes = context.input.read().await;
            if bytes.is_empty() {
                return Ok(0);
            }
            context.output.write(&bytes).await;
        }
    }
    let mut status = 0;
    for path in &context.arguments {
        if let Err(why) = cat_file(context, path).await {
            context.complain(format_args!("{why}"), path).await;
            status = 1;
        }
    }
    Ok(status)
}

async fn cat_file(context: &Context, path: &str) -> Result<(), Failed> {
    let mut file = Reader::open(context, path).await?;
    while let Some(bytes) = file.next().await? {
        context.output.write(bytes).await;
    }
    file.close().await
}

pub(super) async fn sha256(context: &Context) -> Result<u8, Usage> {
    if context.arguments.is_empty() {
        let mut sum = Sha256::new();
        loop {
            let bytes = context.input.read().await;
            if bytes.is_empty() {
                show(context, sum, "-").await;
                return Ok(0);
            }
            sum.update(&bytes);
        }
    }
    let mut status = 0;
    for path in &context.arguments {
        match sum_file(context, path).await {
            Ok(sum) => show(context, sum, path).await,
            Err(why) => {
                context.complain(format_args!("{why}"), path).await;
                status = 1;
            }
        }
    }
    Ok(status)
}

async fn sum_file(context: &Context, path: &str) -> Result<Sha256, Failed> {
    let mut sum = Sha256::new();
    let mut file = Reader::open(context, path).await?;
    while let Some(bytes) = file.next().await? {
        sum.update(bytes);
    }
    file.close().await?;
    Ok(sum)
}

async fn show(context: &Context, sum: Sha256, name: &str) {
    context.output.print(format_args!("{}  {name}\n", hex(sum))).await;
}

/// The digest's digits.
pub(super) fn hex(sum: Sha256) -> alloc::string::String {
    let digest = sum.finalize();
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

pub(super) async fn ls(context: &Context) -> Result<u8, Usage> {
    let (mut long, mut path) = (false, None);
    for argument in &context.arguments {
        match &argument[..] {
            "-l" => long = true,
            text => super::place(&mut path, text)?,
        }
    }
    let path = path.unwrap_or_else(|| alloc::string::String::from("."));
    match list(context, &path, long).await {
        Ok(()) => Ok(0),
        Err(why) => {
            context.complain(format_args!("{why}"), &path).await;
            Ok(1)
        }
    }
}

async fn list(context: &Context, path: &str, long: bool) -> Result<(), Failed> {
    let files = &context.system.files;
    for name in files.list(&context.directory, path).await? {
        if !long {
            context.output.print(format_args!("{name}\n")).await;
            continue;
        }
        let whole = alloc::format!("{path}/{name}");
        // A name removed since it was listed is left out.
        let Ok(attr) = files.attr(&context.directory, &whole).await else { continue };
        let kind = match attr.file_type() {
            TYPE_DIRECTORY => 'd',
            TYPE_REGULAR => '-',
            TYPE_SYMLINK => 'l',
            _ => '?',
        };
        let (mode, size) = (attr.mode & 0o7777, attr.size);
        context.output.print(format_args!("{kind}{mode:04o} {size:>12} {name}\n")).await;
    }
    Ok(())
}

pub(super) async fn write(context: &Context) -> Result<u8, Usage> {
    let [path] = &context.arguments[..] else { return Err(Usage) };
    match write_file(context, path).await {
        Ok(()) => Ok(0),
        Err(why) => {
            context.complain(format_args!("{why}"), path).await;
            Ok(1)
        }
    }
}

async fn write_file(context: &Context, path: &str) -> Result<(), Failed> {
    if let Some(open) = context.descriptor(path) {
        open.may_write()?;
        loop {
            let bytes = context.input.read().await;
            if bytes.is_empty() {
                return Ok(());
            }
            open.write(&bytes).await?;
        }
    }
    let file = context.system.files.create(&context.directory, path).await?;
    let mut offset = 0;
    loop {
        let bytes = context.input.read().await;
        if bytes.is_empty() {
            return file.close().await;
        }
        file.write(offset, &bytes).await?;
        offset += bytes.len() as u64;
    }
}

/// A file read piece by piece: from its beginning, or where a descriptor goes on.
struct Reader<'a> {
    file: Rc<OpenFile>,
    offset: u64,
    piece: Vec<u8>,
    descriptor: Option<&'a Descriptor>,
}

impl Reader<'_> {
    async fn open<'a>(context: &'a Context, path: &str) -> Result<Reader<'a>, Failed> {
        if let Some(open) = context.descriptor(path) {
            open.may_read()?;
            let (file, offset) = (open.file.clone(), open.offset.get());
            return Ok(Reader { file, offset, piece: Vec::new(), descriptor: Some(open) });
        }
        let file = Rc::new(context.system.files.open(&context.directory, path).await?);
        Ok(Reader { file, offset: 0, piece: Vec::new(), descriptor: None })
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<&[u8]>, Failed> {
        self.piece.clear();
        let count = self.file.read(self.offset, &mut self.piece).await?;
        self.offset += count as u64;
        if let Some(open) = self.descriptor {
            open.offset.set(self.offset);
        }
        Ok((count > 0).then_some(&self.piece[..]))
    }

    /// Closes what it opened.
    async fn close(self) -> Result<(), Failed> {
        match Rc::into_inner(self.file) {
            Some(file) => file.close().await,
            None => Ok(()),
        }
    }
}
