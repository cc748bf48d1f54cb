//! The security policy database of one space (RFC 4301 4.4.1): discard is the default.

use std::net::IpAddr;

use crate::selector::Match;
use crate::{Discard, Flow, Ports, Selector};

/// What a policy does with the packets it is for. There is no bypass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action<A> {
    /// They go through the SAs that `A` names, in both directions.
    Protect(A),
    /// They go nowhere.
    Discard,
}

/// One entry of an SPD; it holds for both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy<A> {
    /// Which packets it is for.
    pub selector: Selector,
    /// What is done with them.
    pub action: Action<A>,
}

/// From this many policies on, looking up what was decided before is faster than searching.
const REMEMBERED_FROM: usize = 2;

/// Flows whose decision is remembered; a power of two.
const REMEMBERED: usize = 256;

/// The policies of one space; `A` names a pair of SAs, in the caller's terms.
///
/// The most specific match decides: the fewest remote addresses, then the
/// fewest local addresses, then a named protocol, then the fewest remote and
/// local ports; between equals the one added first. What was decided for the
/// flows seen last is remembered, so that many policies cost no more than few.
#[derive(Clone, Debug)]
pub struct Spd<A> {
    /// Most specific first, so that the first match is the best one.
    policies: Vec<Policy<A>>,
    /// How many packets each of `policies` decided about.
    hits: Vec<u64>,
    /// Decisions of `policies` as they are, each at the place of its flow: which of
    /// them matched, if one did. Empty if there are few policies.
    remembered: Vec<Option<(Flow, Option<usize>)>>,
}

impl<A> Default for Spd<A> {
    fn default() -> Self {
        Spd { policies: Vec::new(), hits: Vec::new(), remembered: Vec::new() }
    }
}

impl<A: Copy + PartialEq> Spd<A> {
    /// An SPD without policies: it discards everything.
    pub fn new() -> Spd<A> {
        Spd::default()
    }

    /// Adds a policy after all that are at least as specific.
    pub fn add(&mut self, policy: Policy<A>) {
        let rank = rank(&policy.selector);
        let at = self.policies.partition_point(|other| self::rank(&other.selector) <= rank);
        self.policies.insert(at, policy);
        self.hits.insert(at, 0);
        self.forget();
    }

    /// Removes every policy that protects by `sa`.
    pub fn remove(&mut self, sa: A) {
        let mut stay = self.policies.iter().map(|policy| policy.action != Action::Protect(sa));
        self.hits.retain(|_| stay.next().unwrap_or(true));
        self.policies.retain(|policy| policy.action != Action::Protect(sa));
        self.forget();
    }

    /// Forgets all decisions: the policies have changed.
    fn forget(&mut self) {
        self.remembered.clear();
        if self.policies.len() >= REMEMBERED_FROM {
            self.remembered.resize(REMEMBERED, None);
        }
    }

    /// The policies, the one that is looked at first first.
    pub fn policies(&self) -> &[Policy<A>] {
        &self.policies
    }

    /// How many packets of either direction each of [`Spd::policies`] decided about.
    pub fn hits(&self) -> &[u64] {
        &self.hits
    }

    /// What the best match does with a packet of `flow`; it is counted.
    ///
    /// A later fragment is discarded where a policy asks for its ports: it must
    /// not take another way than the fragment that shows them (RFC 4301 7).
    #[inline]
    pub fn best(&mut self, flow: &Flow) -> Action<A> {
        let found = match self.remembered.is_empty() {
            true => search(&self.policies, flow),
            false => match &mut self.remembered[place(flow)] {
                Some((remembered, found)) if remembered == flow => *found,
                place => {
                    let found = search(&self.policies, flow);
                    *place = Some((*flow, found));
                    found
                }
            },
        };
        let Some(index) = found else { return Action::Discard };
        self.hits[index] += 1;
        self.policies[index].action
    }

    /// Checks a packet that was opened by an SA of the pair `sa`, which is for the
    /// packets of any of `selectors`: both they and the SPD's best match must want
    /// it (RFC 4301 5.2 step 4).
    ///
    /// # Errors
    /// [`Discard::ForeignSelector`] or [`Discard::Policy`].
    #[inline]
    pub fn admit(&mut self, flow: &Flow, selectors: &[Selector], sa: A) -> Result<(), Discard> {
        if !selectors.iter().any(|selector| selector.matches(flow) == Match::Yes) {
            return Err(Discard::ForeignSelector);
        }
        match self.best(flow) {
            Action::Protect(best) if best == sa => Ok(()),
            Action::Protect(_) | Action::Discard => Err(Discard::Policy),
        }
    }
}

/// The first match; none if it would take ports to know it.
fn search<A>(policies: &[Policy<A>], flow: &Flow) -> Option<usize> {
    for (index, policy) in policies.iter().enumerate() {
        match policy.selector.matches(flow) {
            Match::Yes => return Some(index),
            Match::No => {}
            Match::Unknown => return None,
        }
    }
    None
}

/// Where the decision for a flow is remembered. A guest that makes flows meet in one
/// place makes its own searches, no more.
fn place(flow: &Flow) -> usize {
    // An odd number without pattern: the golden ratio in 64 bits.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64 ^ address.to_bits() as u64,
    };
    let ports = match flow.ports {
        Ports::Known { local, remote } => u64::from(local) << 16 | u64::from(remote),
        Ports::Absent => 1 << 32,
        Ports::Hidden => 1 << 33,
    };
    let ports = ports | u64::from(flow.protocol) << 40;
    let hash = (address(flow.local).wrapping_mul(SPREAD) ^ address(flow.remote))
        .wrapping_mul(SPREAD)
        .wrapping_add(ports)
        .wrapping_mul(SPREAD);
    // The upper bits depend on all of the input.
    (hash >> (64 - REMEMBERED.ilog2())) as usize
}

/// Lower is more specific.
fn rank(selector: &Selector) -> (u128, u128, bool, u16, u16) {
    (
        selector.remote.span(),
        selector.local.span(),
        selector.protocol.is_none(),
        selector.remote_ports.span(),
        selector.local_ports.span(),
    )
}

#[cfg(test)]
mod tests;
