//! The security policy database of one space (RFC 4301 4.4.1): discard is the default.

use crate::selector::Match;
use crate::{Discard, Flow, Selector};

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

/// The policies of one space; `A` names a pair of SAs, in the caller's terms.
///
/// The most specific match decides: the fewest remote addresses, then the
/// fewest local addresses, then a named protocol, then the fewest remote and
/// local ports; between equals the one added first.
#[derive(Clone, Debug)]
pub struct Spd<A> {
    /// Most specific first, so that the first match is the best one.
    policies: Vec<Policy<A>>,
}

impl<A> Default for Spd<A> {
    fn default() -> Self {
        Spd { policies: Vec::new() }
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
    }

    /// Removes every policy that protects by `sa`.
    pub fn remove(&mut self, sa: A) {
        self.policies.retain(|policy| policy.action != Action::Protect(sa));
    }

    /// The policies, the one that is looked at first first.
    pub fn policies(&self) -> &[Policy<A>] {
        &self.policies
    }

    /// What the best match does with a packet of `flow`.
    ///
    /// A later fragment is discarded where a policy asks for its ports: it must
    /// not take another way than the fragment that shows them (RFC 4301 7).
    pub fn best(&self, flow: &Flow) -> Action<A> {
        for policy in &self.policies {
            match policy.selector.matches(flow) {
                Match::Yes => return policy.action,
                Match::No => {}
                Match::Unknown => return Action::Discard,
            }
        }
        Action::Discard
    }

    /// Checks a packet that was opened by an SA of the pair `sa`, whose selectors
    /// are `selector`: both they and the SPD's best match must want it
    /// (RFC 4301 5.2 step 4).
    ///
    /// # Errors
    /// [`Discard::ForeignSelector`] or [`Discard::Policy`].
    pub fn admit(&self, flow: &Flow, selector: &Selector, sa: A) -> Result<(), Discard> {
        if selector.matches(flow) != Match::Yes {
            return Err(Discard::ForeignSelector);
        }
        match self.best(flow) {
            Action::Protect(best) if best == sa => Ok(()),
            Action::Protect(_) | Action::Discard => Err(Discard::Policy),
        }
    }
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
