//! `rtt`: TCP round trips of one byte, each measured by itself.

use alloc::vec::Vec;
use core::cell::Cell;
use core::net::{IpAddr, SocketAddr};

use super::{Arguments, Context, Micros, Usage, place};
use crate::net::{TcpStream, Windows};

/// How long one round trip may take, microseconds.
const LIMIT_US: u64 = 5_000_000;

/// Most round trips of one run.
const MAX_COUNT: usize = 1_000_000;

struct Options {
    to: SocketAddr,
    count: usize,
    warmup: usize,
    json: bool,
    raw: bool,
}

impl Options {
    fn parse(context: &Context) -> Result<Options, Usage> {
        let mut arguments = Arguments::of(context);
        let (mut host, mut port): (Option<IpAddr>, _) = (None, None);
        let (mut count, mut warmup, mut json, mut raw) = (1000, 100, false, false);
        while let Some(argument) = arguments.next() {
            match argument {
                "-n" => count = arguments.value()?,
                "-w" => warmup = arguments.value()?,
                "--json" => json = true,
                "--raw" => raw = true,
                text if host.is_none() => place(&mut host, text)?,
                text => place(&mut port, text)?,
            }
        }
        let (Some(host), Some(port)) = (host, port) else { return Err(Usage) };
        if count == 0 || count > MAX_COUNT || warmup > MAX_COUNT {
            return Err(Usage);
        }
        Ok(Options { to: SocketAddr::new(host, port), count, warmup, json, raw })
    }
}

pub(super) async fn rtt(context: &Context) -> Result<u8, Usage> {
    let options = Options::parse(context)?;
    let Some(net) = context.net().await else { return Ok(1) };
    let stream = match net.connect(options.to, Windows::PLAIN).await {
        Ok(stream) => stream,
        Err(why) => {
            context.complain(format_args!("{why}"), options.to).await;
            return Ok(1);
        }
    };
    let mut samples: Vec<u64> = Vec::with_capacity(options.count);
    let (system, done) = (&context.system, Cell::new(0));
    let progress_us = Cell::new(system.timers.now_us());
    // One timer for all round trips: setting one for each would be measured.
    let trips = async {
        for round in 0..options.warmup + options.count {
            let start_ns = system.cpu.now_ns();
            if !round_trip(&stream).await {
                return false;
            }
            let end_ns = system.cpu.now_ns();
            if round >= options.warmup {
                samples.push(end_ns - start_ns);
            }
            progress_us.set(end_ns / 1000);
            done.set(round + 1);
        }
        true
    };
    let outcome = system.timers.while_moving(LIMIT_US, &progress_us, trips).await;
    if outcome != Some(true) {
        let why = if outcome.is_none() { "no answer within 5 s" } else { "the connection ended" };
        let what = format_args!("{why}, after {} round trips", done.get());
        context.complain(what, options.to).await;
        return Ok(1);
    }
    stream.close();
    report(context, &options, samples).await;
    Ok(0)
}

/// One byte there and back; false if the connection ended.
async fn round_trip(stream: &TcpStream) -> bool {
    let mut byte = [0];
    stream.write_all(b"x").await.is_ok() && stream.read(&mut byte).await == Ok(1)
}

async fn report(context: &Context, options: &Options, mut samples: Vec<u64>) {
    let output = &context.output;
    if options.raw {
        for ns in &samples {
            output.print(format_args!("{}\n", Micros(*ns))).await;
        }
        return;
    }
    samples.sort_unstable();
    let count = samples.len();
    let at = |index: usize| Micros(samples[index]);
    let [p50, p90, p99] = [50, 90, 99].map(|percent| at(percent_index(count, percent)));
    let (min, max) = (at(0), at(count - 1));
    if options.json {
        let line = format_args!(
            "{{\"count\":{count},\"min_us\":{min},\"p50_us\":{p50},\"p90_us\":{p90},\
             \"p99_us\":{p99},\"max_us\":{max}}}\n"
        );
        output.print(line).await;
    } else {
        let line = format_args!(
            "{count} round trips: min {min} p50 {p50} p90 {p90} p99 {p99} max {max} us\n"
        );
        output.print(line).await;
    }
}

/// Where a percentile lies among `count` sorted samples (nearest rank).
fn percent_index(count: usize, percent: usize) -> usize {
    (count * percent).div_ceil(100).max(1) - 1
}

#[cfg(test)]
mod tests {
    use super::percent_index;

    #[test]
    fn percentiles_are_nearest_ranks() {
        assert_eq!([50, 90, 99].map(|percent| percent_index(100, percent)), [49, 89, 98]);
        assert_eq!([50, 99].map(|percent| percent_index(1, percent)), [0, 0]);
        assert_eq!([50, 99].map(|percent| percent_index(3, percent)), [1, 2]);
    }
}
