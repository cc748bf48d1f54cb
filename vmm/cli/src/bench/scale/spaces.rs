//! Round trips of one busy space while others run beside it.

use monitor::control::{Request, Status, ask};

use super::memory::{pss_kib, switch_kib};
use super::{Growing, Plan, measure_sizes};
use ::switch::overlay::DEFAULT_PORT;

use crate::bench::ways::{SPACE, end, start_personal, stop, up};
use crate::failure::{Outcome, While};
use crate::lab::network::Keys;
use crate::lab::{Lab, Peer};
use crate::progress::Progress;
use crate::report::{Figures, Spaces, Spread, to_thousandths};

/// The SPIs of the busy space, and of the first beside it.
const SPI: u32 = 0x4000;
const FIRST_SPI: u32 = 0x10_0000;

/// Spaces beside the busy one.
struct Running<'a> {
    lab: &'a Lab,
    plan: &'a Plan,
    names: Vec<String>,
    /// What was seen at each step.
    seen: Vec<Seen>,
}

/// A switch and a space that was added last.
#[derive(Clone, Copy, Default)]
struct Seen {
    switch_kib: u64,
    vm_pss_kib: u64,
    guest_kib: u64,
    ready_ms: f64,
}

/// Measures every size.
pub(super) fn measure(lab: &Lab, plan: &Plan, progress: &Progress) -> Outcome<Vec<Spaces>> {
    progress.step("starting the busy space");
    let far = start_personal(lab, plan.suite, SPI)?;
    let seen = vec![Seen::default(); plan.spaces.len()];
    let mut running = Running { lab, plan, names: Vec::new(), seen };
    let what = (&plan.spaces[..], "running spaces");
    let taken = measure_sizes(lab, plan, what, &mut running, progress)?;
    running.shrink_to(0)?;
    stop(lab, SPACE)?;
    drop(far);
    let rows = plan.spaces.iter().zip(&taken).zip(&running.seen);
    let rows = rows.map(|((&spaces, rounds), seen)| Spaces {
        spaces: spaces.into(),
        rtt: Figures::of(rounds),
        growth: Spread::of_medians(rounds, &taken[0]),
        switch_kib: seen.switch_kib,
        vm_pss_kib: seen.vm_pss_kib,
        guest_kib: seen.guest_kib,
        ready_ms: seen.ready_ms,
    });
    Ok(rows.collect())
}

impl Running<'_> {
    fn shrink_to(&mut self, count: u32) -> Outcome<()> {
        while self.names.len() > count as usize
            && let Some(name) = self.names.pop()
        {
            stop(self.lab, &name)?;
        }
        Ok(())
    }

    fn start(&mut self) -> Outcome<()> {
        let number = self.names.len();
        let name = format!("idle-{number}");
        let keys = Keys::fresh(self.plan.suite, FIRST_SPI + 2 * number as u32)?;
        let file = self.lab.a.directory.join(format!("{name}.toml"));
        let ends = [&self.lab.a, self.lab.peer(Peer::B)].map(|host| end(host, DEFAULT_PORT));
        up(self.lab, &keys.write_near(&file, ends[0], ends[1], None)?)?;
        self.names.push(name);
        Ok(())
    }

    /// The space that was added last; the busy one if there is no other.
    fn look(&self) -> Outcome<Seen> {
        let name = self.names.last().map_or(SPACE, String::as_str);
        let socket = self.lab.a.directory.join(format!("run/spaces/{name}/vm.sock"));
        let status: Status = ask(&socket, &Request::Status {})
            .or_fail(|| format!("space {name} does not answer"))?;
        let ready_ns = status.ready_ns.unwrap_or(status.started_ns) - status.started_ns;
        Ok(Seen {
            switch_kib: switch_kib(self.lab)?,
            vm_pss_kib: pss_kib(status.pid)?,
            guest_kib: status.guest_kib,
            ready_ms: to_thousandths(ready_ns as f64 / 1e6),
        })
    }
}

impl Growing for Running<'_> {
    fn grow(&mut self, step: usize) -> Outcome<()> {
        while self.names.len() + 1 < self.plan.spaces[step] as usize {
            self.start()?;
        }
        self.seen[step] = self.look()?;
        Ok(())
    }

    fn shrink(&mut self, step: usize) -> Outcome<()> {
        let below = step.checked_sub(1).map_or(1, |step| self.plan.spaces[step]);
        self.shrink_to(below - 1)
    }
}
