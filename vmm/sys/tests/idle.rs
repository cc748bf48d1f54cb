//! What this process demands of idle cores, as the kernel sums it up: ignored, with the reason,
//! where it is refused.

use libtest_mimic::{Arguments, Failed, Trial};
use sys::idle::Latency;

fn main() {
    let arguments = Arguments::from_args();
    let refused = Latency::open().err();
    if let Some(reason) = &refused {
        eprintln!("ignoring what demands something of cores: {reason}");
    }
    let name = "a_demand_holds_until_it_is_taken_back";
    let trial = Trial::test(name, a_demand_holds_until_it_is_taken_back);
    libtest_mimic::run(&arguments, vec![trial.with_ignored_flag(refused.is_some())]).exit();
}

fn a_demand_holds_until_it_is_taken_back() -> Result<(), Failed> {
    let latency = Latency::open()?;
    let before = demanded()?;
    latency.demand(Some(0))?;
    assert_eq!(demanded()?, 0);
    latency.demand(None)?;
    assert_eq!(demanded()?, before);
    latency.demand(Some(0))?;
    drop(latency);
    assert_eq!(demanded()?, before);
    Ok(())
}

/// The strictest demand of all processes, microseconds.
fn demanded() -> Result<i32, Failed> {
    let bytes = std::fs::read("/dev/cpu_dma_latency")?;
    let value = bytes.first_chunk().ok_or("the kernel says a number of four bytes")?;
    Ok(i32::from_ne_bytes(*value))
}
