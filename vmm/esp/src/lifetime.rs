//! How long an SA may be used (RFC 4301 4.4.2.1): packets, bytes, seconds.

/// What an SA may do before a limit is reached; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Packets sealed or opened.
    pub packets: Option<u64>,
    /// Payload bytes sealed or opened.
    pub bytes: Option<u64>,
    /// Seconds since the SA was made.
    pub seconds: Option<u64>,
}

/// The limits of an SA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
    /// Reached: the SA should be replaced; it goes on working.
    pub soft: Limits,
    /// Reached: the SA seals and opens nothing more.
    pub hard: Limits,
}

/// How far an SA has come in its [`Lifetime`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Age {
    /// No limit is reached.
    Fresh,
    /// A soft limit is reached: time for a new SA.
    SoftExpired,
    /// A hard limit is reached: nothing is sealed or opened.
    HardExpired,
}

impl Age {
    /// As tables and counters name it: `fresh`, `soft_expired`, `hard_expired`.
    pub const fn name(self) -> &'static str {
        match self {
            Age::Fresh => "fresh",
            Age::SoftExpired => "soft_expired",
            Age::HardExpired => "hard_expired",
        }
    }
}

/// A packet would pass a hard limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expired;

/// What an SA has used of its lifetime.
pub(crate) struct Usage {
    packets: u64,
    bytes: u64,
    /// The least age the SA has, whatever it has used: time and refused packets raise it.
    reached: Age,
    soft: Bounds,
    hard: Bounds,
    born_s: u64,
}

/// [`Limits`] in half the space; no limit is one that is never reached.
#[derive(Clone, Copy)]
struct Bounds {
    packets: u64,
    bytes: u64,
    seconds: u64,
}

impl Bounds {
    const NONE: u64 = u64::MAX;

    fn new(limits: Limits) -> Bounds {
        let bound = |limit: Option<u64>| limit.unwrap_or(Bounds::NONE);
        Bounds {
            packets: bound(limits.packets),
            bytes: bound(limits.bytes),
            seconds: bound(limits.seconds),
        }
    }

    fn limits(self) -> Limits {
        let limit = |bound: u64| (bound != Bounds::NONE).then_some(bound);
        Limits {
            packets: limit(self.packets),
            bytes: limit(self.bytes),
            seconds: limit(self.seconds),
        }
    }
}

impl Usage {
    pub(crate) fn new(lifetime: Lifetime, born_s: u64) -> Usage {
        let mut usage = Usage {
            packets: 0,
            bytes: 0,
            reached: Age::Fresh,
            soft: Bounds::new(lifetime.soft),
            hard: Bounds::new(lifetime.hard),
            born_s,
        };
        usage.tick(born_s);
        usage
    }

    /// Counts a packet with a payload of `bytes`, unless it would pass a hard
    /// limit; the SA is expired from then on.
    #[inline]
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), Expired> {
        let bytes = self.bytes.saturating_add(bytes as u64);
        if self.is_over() || bytes > self.hard.bytes {
            self.reached = Age::HardExpired;
            return Err(Expired);
        }
        self.packets += 1;
        self.bytes = bytes;
        Ok(())
    }

    /// Whether no packet is let through any more.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.reached == Age::HardExpired
            || self.packets >= self.hard.packets
            || self.bytes >= self.hard.bytes
    }

    /// Time passes; it may stand still but is not turned back.
    pub(crate) fn tick(&mut self, now_s: u64) -> Age {
        let seconds = now_s.saturating_sub(self.born_s);
        if seconds >= self.hard.seconds {
            self.reached = Age::HardExpired;
        } else if seconds >= self.soft.seconds {
            self.reached = self.reached.max(Age::SoftExpired);
        }
        self.age()
    }

    /// When [`Usage::tick`] will next have something to say.
    pub(crate) fn due_s(&self) -> Option<u64> {
        let seconds = match self.reached {
            Age::Fresh => self.soft.seconds.min(self.hard.seconds),
            Age::SoftExpired => self.hard.seconds,
            Age::HardExpired => Bounds::NONE,
        };
        (seconds != Bounds::NONE).then(|| self.born_s.saturating_add(seconds))
    }

    pub(crate) fn age(&self) -> Age {
        if self.is_over() {
            Age::HardExpired
        } else if self.packets >= self.soft.packets || self.bytes >= self.soft.bytes {
            self.reached.max(Age::SoftExpired)
        } else {
            self.reached
        }
    }

    pub(crate) fn packets(&self) -> u64 {
        self.packets
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn born_s(&self) -> u64 {
        self.born_s
    }

    pub(crate) fn lifetime(&self) -> Lifetime {
        Lifetime { soft: self.soft.limits(), hard: self.hard.limits() }
    }
}

#[cfg(test)]
mod tests;
