//! `help` and `stat`.

use super::{Context, PROGRAMS, Usage};

pub(super) async fn help(context: &Context) -> Result<u8, Usage> {
    for (name, arguments, purpose) in PROGRAMS {
        let line = alloc::format!("{name} {arguments}");
        context.output.print(format_args!("{line:<67} {purpose}\n")).await;
    }
    Ok(0)
}

pub(super) async fn stat(context: &Context) -> Result<u8, Usage> {
    if !context.arguments.is_empty() {
        return Err(Usage);
    }
    let (system, counters) = (&context.system, &context.system.counters);
    for (name, value) in [
        ("up_us", system.cpu.now_ns() / 1000),
        ("turns", counters.turns.total()),
        ("spins_won", counters.spins_won.total()),
        ("spins_lost", counters.spins_lost.total()),
        ("sleeps", counters.sleeps.total()),
        ("notifies", counters.notifies.total()),
        ("refused", counters.refused.total()),
        ("runs", counters.runs.total()),
        ("heap_bytes", system.cpu.heap_used() as u64),
        ("image_bytes", system.image_bytes as u64),
    ] {
        context.output.print(format_args!("{name} {value}\n")).await;
    }
    Ok(0)
}
