//! `tcp-send`, `tcp-receive`, `udp-send` and `udp-receive`: throughput, in the words of [`abi::flow`].

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::future::{Future, poll_fn};
use core::net::{IpAddr, SocketAddr};
use core::pin::{Pin, pin};

use abi::flow::{Datagram, END_EVERY_US, Kind, MOST_ENDS, TCP_ANSWER, Tally, UDP_HEADER};

use super::{Arguments, Context, Usage, place};
use crate::net::{Lost, Net, TcpStream, UdpSocket, Windows};

/// Bytes written at once.
const PIECE: usize = 64 * 1024;

/// Longest measurement, seconds.
const MOST_SECONDS: f64 = 3600.0;

/// How far ahead of its pace a sender of datagrams may be, nanoseconds: the machine turns
/// more often than that while it spins, and sleeps if there is longer to wait.
const AHEAD_NS: u64 = 200_000;

/// What a sender was told.
struct Options {
    to: SocketAddr,
    seconds: f64,
    bytes: u64,
    size: usize,
    bits_per_s: u64,
    json: bool,
}

impl Options {
    fn parse(context: &Context) -> Result<Options, Usage> {
        let mut arguments = Arguments::of(context);
        let (mut host, mut port): (Option<IpAddr>, Option<u16>) = (None, None);
        let (mut seconds, mut bytes, mut size, mut bits_per_s, mut json) =
            (None, None, 1200, 0, false);
        while let Some(argument) = arguments.next() {
            match argument {
                "-t" => seconds = Some(arguments.value()?),
                "-b" => bytes = Some(arguments.value()?),
                "-s" => size = arguments.value()?,
                "-r" => bits_per_s = arguments.value()?,
                "--json" => json = true,
                text if host.is_none() => place(&mut host, text)?,
                text => place(&mut port, text)?,
            }
        }
        let (Some(host), Some(port)) = (host, port) else { return Err(Usage) };
        let default = if bytes.is_some() { MOST_SECONDS } else { 2.0 };
        let seconds: f64 = seconds.unwrap_or(default);
        if !(0.0..=MOST_SECONDS).contains(&seconds) || size < UDP_HEADER || port == 0 {
            return Err(Usage);
        }
        let (to, bytes) = (SocketAddr::new(host, port), bytes.unwrap_or(u64::MAX));
        Ok(Options { to, seconds, bytes, size, bits_per_s, json })
    }
}

pub(super) async fn tcp_send(context: &Context) -> Result<u8, Usage> {
    let options = Options::parse(context)?;
    let Some(net) = context.net().await else { return Ok(1) };
    let stream = match net.connect(options.to, Windows::SEND).await {
        Ok(stream) => stream,
        Err(why) => {
            context.complain(format_args!("{why}"), options.to).await;
            return Ok(1);
        }
    };
    let start_ns = context.system.cpu.now_ns();
    let sent = stream_out(context, &stream, &options, start_ns).await;
    let Ok((sent, came)) = sent else {
        context.complain(format_args!("the connection was lost"), options.to).await;
        return Ok(1);
    };
    let ns = context.system.cpu.now_ns() - start_ns;
    stream.close();
    if came != Some(sent) {
        let came = came.unwrap_or(0);
        context.complain(format_args!("of {sent} bytes {came} came"), options.to).await;
        return Ok(1);
    }
    report(context, sent, ns, options.json).await;
    Ok(0)
}

/// Sends, ends, and hears how much came.
async fn stream_out(
    context: &Context,
    stream: &TcpStream,
    options: &Options,
    start_ns: u64,
) -> Result<(u64, Option<u64>), Lost> {
    let end_ns = start_ns + (options.seconds * 1e9) as u64;
    let piece: Vec<u8> = (0..PIECE).map(|at| at as u8).collect();
    let mut sent = 0;
    while sent < options.bytes && context.system.cpu.now_ns() < end_ns {
        let count = (options.bytes - sent).min(PIECE as u64) as usize;
        stream.write_all(&piece[..count]).await?;
        sent += count as u64;
    }
    stream.finish();
    let (mut answer, mut heard) = ([0; TCP_ANSWER], 0);
    while heard < TCP_ANSWER {
        match stream.read(&mut answer[heard..]).await? {
            0 => return Ok((sent, None)),
            count => heard += count,
        }
    }
    Ok((sent, Some(u64::from_le_bytes(answer))))
}

pub(super) async fn tcp_receive(context: &Context) -> Result<u8, Usage> {
    let options = Receive::parse(context)?;
    let port = options.port;
    let Some(net) = context.net().await else { return Ok(1) };
    let Ok(mut listener) = net.listen(port, Windows::RECEIVE) else {
        context.complain(format_args!("somebody listens there already"), port).await;
        return Ok(1);
    };
    options.announce(context, net).await;
    if options.once {
        let stream = listener.accept().await;
        drop(listener);
        return Ok(u8::from(!stream_in(context, stream, options.json).await));
    }
    let mut serving: Vec<Pin<Box<dyn Future<Output = bool> + '_>>> = Vec::new();
    loop {
        // One task polls all: the number of peers is small.
        let mut next = pin!(listener.accept());
        let stream = poll_fn(|cx| {
            serving.retain_mut(|peer| peer.as_mut().poll(cx).is_pending());
            next.as_mut().poll(cx)
        })
        .await;
        serving.push(Box::pin(stream_in(context, stream, options.json)));
    }
}

/// Takes what a peer sends to its end, and answers how much it was.
async fn stream_in(context: &Context, stream: TcpStream, json: bool) -> bool {
    let (mut came, mut start_ns) = (0, 0);
    loop {
        match stream.skip().await {
            Ok(0) => break,
            Ok(count) => {
                if came == 0 {
                    start_ns = context.system.cpu.now_ns();
                }
                came += count as u64;
            }
            Err(Lost) => {
                context.complain(format_args!("the connection was lost"), "tcp-receive").await;
                return false;
            }
        }
    }
    let ns = context.system.cpu.now_ns() - start_ns;
    if stream.write_all(&came.to_le_bytes()).await.is_err() {
        return false;
    }
    stream.close();
    report(context, came, if came > 0 { ns } else { 0 }, json).await;
    true
}

async fn report(context: &Context, bytes: u64, ns: u64, json: bool) {
    let (seconds, bits_per_s) = rate(bytes, ns);
    let output = &context.output;
    if json {
        let line = format_args!(
            "{{\"bytes\":{bytes},\"seconds\":{seconds:.6},\"bits_per_s\":{bits_per_s:.0}}}\n"
        );
        output.print(line).await;
    } else {
        let line =
            format_args!("{bytes} bytes in {seconds:.6} s: {:.1} Mbit/s\n", bits_per_s / 1e6);
        output.print(line).await;
    }
}

fn rate(bytes: u64, ns: u64) -> (f64, f64) {
    let seconds = ns as f64 / 1e9;
    (seconds, if ns == 0 { 0.0 } else { bytes as f64 * 8.0 / seconds })
}

pub(super) async fn udp_send(context: &Context) -> Result<u8, Usage> {
    let options = Options::parse(context)?;
    let Some(net) = context.net().await else { return Ok(1) };
    let Ok(socket) = net.udp(None, Windows::PLAIN) else {
        context.complain(format_args!("every port is taken"), "udp-send").await;
        return Ok(1);
    };
    let run = net.random() as u32;
    let start_ns = context.system.cpu.now_ns();
    let end_ns = start_ns + (options.seconds * 1e9) as u64;
    let mut sent: u64 = 0;
    let now_ns = loop {
        let now_ns = context.system.cpu.now_ns();
        if now_ns >= end_ns || sent.saturating_mul(options.size as u64) >= options.bytes {
            break now_ns;
        }
        if options.bits_per_s > 0 {
            let bits = u128::from(sent) * options.size as u128 * 8;
            let due_ns = start_ns + (bits * 1_000_000_000 / u128::from(options.bits_per_s)) as u64;
            if due_ns > now_ns + AHEAD_NS {
                context.system.timers.until((due_ns - AHEAD_NS) / 1000).await;
            }
        }
        let header = Datagram::data(run, sent).encode();
        let sending = socket.send(options.to, options.size, |bytes| {
            bytes[..UDP_HEADER].copy_from_slice(&header);
            bytes[UDP_HEADER..].fill(0x5a);
        });
        if let Err(why) = sending.await {
            context.complain(format_args!("{why}"), options.to).await;
            return Ok(1);
        }
        sent += 1;
    };
    let Some(report) = ask(context, &socket, options.to, Datagram::end(run, sent)).await else {
        context.complain(format_args!("no receiver answers there"), options.to).await;
        return Ok(1);
    };
    report_datagrams(context, &report, sent, now_ns - start_ns, options.json).await;
    Ok(0)
}

/// Asks the receiver for its report until it comes.
async fn ask(
    context: &Context,
    socket: &UdpSocket,
    to: SocketAddr,
    end: Datagram,
) -> Option<Datagram> {
    let header = end.encode();
    for _ in 0..MOST_ENDS {
        socket.send(to, UDP_HEADER, |bytes| bytes.copy_from_slice(&header)).await.ok()?;
        let report = async {
            loop {
                let heard = socket.receive(|bytes, from| (Datagram::parse(bytes), from)).await;
                if let (Some(said), from) = heard
                    && (said.kind, said.run, from) == (Kind::Report, end.run, to)
                {
                    return said;
                }
            }
        };
        if let Some(report) = context.system.timers.within(END_EVERY_US, report).await {
            return Some(report);
        }
    }
    None
}

async fn report_datagrams(context: &Context, report: &Datagram, sent: u64, ns: u64, json: bool) {
    let Datagram { bytes, number: came, late, .. } = *report;
    let (seconds, bits_per_s) = rate(bytes, ns);
    let lost = sent.saturating_sub(came);
    if json {
        let line = format_args!(
            "{{\"bytes\":{bytes},\"seconds\":{seconds:.6},\"bits_per_s\":{bits_per_s:.0},\
             \"packets\":{sent},\"received\":{came},\"lost\":{lost},\"late\":{late}}}\n"
        );
        context.output.print(line).await;
    } else {
        let line = format_args!(
            "{came} of {sent} datagrams, {late} late, {bytes} bytes in {seconds:.6} s: {:.1} Mbit/s\n",
            bits_per_s / 1e6
        );
        context.output.print(line).await;
    }
}

pub(super) async fn udp_receive(context: &Context) -> Result<u8, Usage> {
    let options = Receive::parse(context)?;
    let Some(net) = context.net().await else { return Ok(1) };
    let Ok(socket) = net.udp(Some(options.port), Windows::RECEIVE) else {
        context.complain(format_args!("somebody has that port already"), options.port).await;
        return Ok(1);
    };
    options.announce(context, net).await;
    let (mut tally, mut reported) = (Tally::default(), None);
    loop {
        let cpu = &context.system.cpu;
        let next = socket.receive(|bytes, from| {
            let now_us = cpu.now_ns() / 1000;
            let said = Datagram::parse(bytes);
            (said.and_then(|said| tally.take(&said, bytes.len(), now_us)), from)
        });
        let heard = match options.once && reported.is_some() {
            // The answer may have been lost: the sender asks again then.
            true => context.system.timers.within(2 * END_EVERY_US, next).await,
            false => Some(next.await),
        };
        let Some((answer, from)) = heard else { return Ok(0) };
        let Some(answer) = answer else { continue };
        let bytes = answer.encode();
        // A sender without an address to answer to asks in vain.
        let _ = socket.send(from, UDP_HEADER, |room| room.copy_from_slice(&bytes)).await;
        if reported != Some(answer.run) {
            reported = Some(answer.run);
            // How many were sent only the sender knows; it is told what came.
            let ns = answer.duration_us * 1000;
            report_datagrams(context, &answer, answer.number, ns, options.json).await;
        }
    }
}

/// What a receiver was told.
struct Receive {
    port: u16,
    once: bool,
    json: bool,
}

impl Receive {
    fn parse(context: &Context) -> Result<Receive, Usage> {
        let mut arguments = Arguments::of(context);
        let (mut port, mut once, mut json) = (None, false, false);
        while let Some(argument) = arguments.next() {
            match argument {
                "-1" => once = true,
                "--json" => json = true,
                text => place(&mut port, text)?,
            }
        }
        let port = port.filter(|port| *port != 0).ok_or(Usage)?;
        Ok(Receive { port, once, json })
    }

    /// Says where it waits; for programs only results are said.
    async fn announce(&self, context: &Context, net: &Rc<Net>) {
        if !self.json {
            context.listening(net, self.port).await;
        }
    }
}

#[cfg(test)]
mod tests;
