//! `ping`, `echo` and `fetch`.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::future::{Future, poll_fn};
use core::net::IpAddr;
use core::pin::{Pin, pin};

use super::{Arguments, Context, Micros, Usage, place};
use crate::http::{Response, Url};
use crate::net::{Net, TcpStream, Windows};

/// How long an echo request may take, microseconds.
const PING_US: u64 = 1_000_000;

/// How long a server may be silent, microseconds.
const FETCH_US: u64 = 10_000_000;

/// Bytes taken from a connection at once.
const PIECE: usize = 32 * 1024;

pub(super) async fn ping(context: &Context) -> Result<u8, Usage> {
    let mut arguments = Arguments::of(context);
    let (mut host, mut count, mut interval_ms): (Option<IpAddr>, u16, u64) = (None, 4, 1000);
    while let Some(argument) = arguments.next() {
        match argument {
            "-c" => count = arguments.value()?,
            "-i" => interval_ms = arguments.value()?,
            text => place(&mut host, text)?,
        }
    }
    let host = host.filter(|_| count > 0 && interval_ms <= 3_600_000).ok_or(Usage)?;
    let Some(net) = context.net().await else { return Ok(1) };
    let (ident, mut answered) = (net.echo_ident(), 0);
    for seq in 1..=count {
        let begun_us = context.system.timers.now_us();
        let start = context.system.cpu.now_ns();
        match net.ping(host, ident, seq, PING_US).await {
            Ok(()) => {
                let ns = context.system.cpu.now_ns() - start;
                let line = format_args!("{host}: seq {seq} time {} us\n", Micros(ns));
                context.output.print(line).await;
                answered += 1;
            }
            Err(why) => context.output.print(format_args!("{host}: seq {seq} {why}\n")).await,
        }
        if seq < count {
            context.system.timers.until(begun_us + interval_ms * 1000).await;
        }
    }
    context.output.print(format_args!("{answered} of {count} answered\n")).await;
    if answered == 0 {
        context.complain(format_args!("not reachable from this space"), host).await;
        return Ok(1);
    }
    Ok(0)
}

pub(super) async fn echo(context: &Context) -> Result<u8, Usage> {
    let mut arguments = Arguments::of(context);
    let (mut port, mut once) = (None, false);
    while let Some(argument) = arguments.next() {
        match argument {
            "-1" => once = true,
            text => place(&mut port, text)?,
        }
    }
    let port: u16 = port.filter(|port| *port != 0).ok_or(Usage)?;
    let Some(net) = context.net().await else { return Ok(1) };
    let Ok(mut listener) = net.listen(port, Windows::PLAIN) else {
        context.complain(format_args!("somebody listens there already"), port).await;
        return Ok(1);
    };
    context.listening(net, port).await;
    if once {
        let stream = listener.accept().await;
        drop(listener);
        send_back(stream).await;
        return Ok(0);
    }
    let mut serving: Vec<Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
    loop {
        // One task polls all: the number of peers is small.
        let mut next = pin!(listener.accept());
        let stream = poll_fn(|cx| {
            serving.retain_mut(|peer| peer.as_mut().poll(cx).is_pending());
            next.as_mut().poll(cx)
        })
        .await;
        serving.push(Box::pin(send_back(stream)));
    }
}

/// Sends back what a peer sends, until it ends.
async fn send_back(stream: TcpStream) {
    let mut buffer = alloc::vec![0; PIECE];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    stream.close();
}

pub(super) async fn fetch(context: &Context) -> Result<u8, Usage> {
    let mut arguments = Arguments::of(context);
    let (mut url, mut target) = (None, None);
    while let Some(argument) = arguments.next() {
        match argument {
            "-o" => target = Some(arguments.next().ok_or(Usage)?),
            text if url.is_none() && !text.starts_with('-') => url = Some(text),
            _ => return Err(Usage),
        }
    }
    let text = url.ok_or(Usage)?;
    let Some(url) = Url::parse(text) else {
        let why =
            format_args!("not of the form http://ADDRESS[:PORT]/PATH, the address in numbers");
        context.complain(why, text).await;
        return Ok(2);
    };
    let Some(net) = context.net().await else { return Ok(1) };
    match get(context, net, &url, target).await {
        Ok(()) => Ok(0),
        Err(why) => {
            context.complain(format_args!("{why}"), text).await;
            Ok(1)
        }
    }
}

/// Gets `url` into the file `target`, or to standard output.
async fn get(
    context: &Context,
    net: &Rc<Net>,
    url: &Url,
    target: Option<&str>,
) -> Result<(), alloc::string::String> {
    use alloc::string::ToString;
    let stream = net.connect(url.server, Windows::RECEIVE).await.map_err(|why| why.to_string())?;
    let request = url.request();
    stream.write_all(request.as_bytes()).await.map_err(|lost| lost.to_string())?;
    let files = &context.system.files;
    let mut response = Response::default();
    let (mut file, mut offset, mut buffer) = (None, 0, alloc::vec![0; PIECE]);
    let named = |why: crate::files::Failed| alloc::format!("{}: {why}", target.unwrap_or_default());
    loop {
        let read = context.system.timers.within(FETCH_US, stream.read(&mut buffer)).await;
        let read = read.ok_or("the server is silent")?;
        let count = read.map_err(|lost| lost.to_string())?;
        let mut body = Vec::new();
        let done = match count {
            0 => response.end().map(|()| true),
            _ => response.feed(&buffer[..count], &mut body),
        };
        let done = done.map_err(|wrong| wrong.to_string())?;
        if let Some(target) = target.filter(|_| file.is_none() && (done || !body.is_empty())) {
            // Only now: an answer that is no file must not empty one.
            file = Some(files.create(&context.directory, target).await.map_err(named)?);
        }
        match &file {
            Some(file) => file.write(offset, &body).await.map_err(named)?,
            None => context.output.write(&body).await,
        }
        offset += body.len() as u64;
        if done {
            break;
        }
    }
    stream.close();
    match file {
        Some(file) => file.close().await.map_err(named),
        None => Ok(()),
    }
}
