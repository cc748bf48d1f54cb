//! How long packets on the way to a peer may be (RFC 1191, RFC 8201).

/// The least MTU that is believed of a way over IPv4: every host takes datagrams of this length
/// (RFC 791 3.2). A smaller claim would only slow the space down.
const LEAST_V4: u16 = 576;

/// Every link of IPv6 has it (RFC 8200 5).
const LEAST_V6: u16 = 1280;

/// How long a smaller MTU is believed, nanoseconds (RFC 1191 6.3: ten minutes).
const BELIEVED_NS: u64 = 600_000_000_000;

/// What is known about the longest packet on a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// What this host's own device takes.
    device: u16,
    least: u16,
    /// What somebody on the way has said, and until when it is believed.
    told: Option<(u16, u64)>,
}

impl Path {
    pub(super) fn new(device: u16, is_v4: bool) -> Path {
        let least = if is_v4 { LEAST_V4 } else { LEAST_V6 };
        Path { device: device.max(least), least, told: None }
    }

    pub(super) fn mtu(&self) -> u16 {
        self.told.map_or(self.device, |(mtu, _)| mtu)
    }

    /// Whether a smaller MTU is believed for now.
    pub(super) fn is_told(&self) -> bool {
        self.told.is_some()
    }

    /// Believes that a packet of `mtu` bytes is the longest; true if that is news. It is never
    /// longer than what was known.
    pub(super) fn lower(&mut self, mtu: u32, now_ns: u64) -> bool {
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX).max(self.least);
        if mtu >= self.mtu() {
            return false;
        }
        self.told = Some((mtu, now_ns.saturating_add(BELIEVED_NS)));
        true
    }

    /// Forgets what was said too long ago; true if a longer packet may be tried.
    pub(super) fn forget(&mut self, now_ns: u64) -> bool {
        self.told.take_if(|(_, until_ns)| *until_ns <= now_ns).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_mtu_is_believed_for_ten_minutes_and_a_larger_one_never() {
        let mut path = Path::new(1500, true);
        assert!(!path.lower(1500, 0) && !path.lower(9000, 0));
        assert!(path.lower(1400, 5) && !path.lower(1450, 6));
        assert_eq!(path.mtu(), 1400);
        assert!(!path.forget(5 + BELIEVED_NS - 1) && path.forget(5 + BELIEVED_NS));
        assert_eq!(path.mtu(), 1500);
    }

    #[test]
    fn nobody_can_claim_less_than_every_host_takes() {
        for (is_v4, least) in [(true, 576), (false, 1280)] {
            let mut path = Path::new(1500, is_v4);
            assert!(path.lower(0, 0) && !path.lower(68, 1));
            assert_eq!(path.mtu(), least);
        }
    }
}
