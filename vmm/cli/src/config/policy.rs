//! `[[overlay.policy]]`: what becomes of packets no SA is for, or that belong to another.

use serde::Deserialize;
use toml::Spanned;

use switch::overlay::{Action, Policy};

use super::overlay::Frame;
use super::traffic::RawTraffic;
use super::word::Word;
use super::{Mistake, Source, at};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPolicy {
    action: Spanned<String>,
    sa: Option<Spanned<usize>>,
    remote: Option<Spanned<Vec<Spanned<String>>>>,
    protocol: Option<Spanned<Word>>,
    local_ports: Option<Spanned<Word>>,
    remote_ports: Option<Spanned<Word>>,
}

impl RawPolicy {
    /// The policy; `pairs` is how many pairs of SAs there are.
    pub(super) fn convert(
        self,
        source: &Source<'_>,
        frame: &Frame,
        pairs: usize,
    ) -> Result<Policy, Mistake> {
        let action = match (self.action.get_ref().as_str(), &self.sa) {
            ("discard", None) => Action::Discard,
            ("discard", Some(sa)) => {
                let what = "contradicts action \"discard\"; remove one of the two";
                return Err(at(source, sa, what));
            }
            ("protect", Some(sa)) if *sa.get_ref() < pairs => Action::Protect(*sa.get_ref()),
            ("protect", Some(sa)) => {
                let what = format!(
                    "there is no pair of SAs {}; there are {pairs}, and the first is 0",
                    sa.get_ref()
                );
                return Err(at(source, sa, what));
            }
            ("protect", None) => {
                let what = "\"protect\" needs to know by which SAs; add sa = 0 for the first pair";
                return Err(at(source, &self.action, what));
            }
            (other, _) => {
                let what = format!("{other:?} is no action; use \"discard\" or \"protect\"");
                return Err(at(source, &self.action, what));
            }
        };
        let traffic = RawTraffic {
            remote: self.remote,
            protocol: self.protocol,
            local_ports: self.local_ports,
            remote_ports: self.remote_ports,
        };
        Ok(Policy { traffic: traffic.convert(source, frame)?, action })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_local_binding_takes_policies_by_protocol_and_port() {
        let text = "[overlay]\nlocal = \"192.0.2.10\"\npeer = \"192.0.2.101\"\n\
                    encapsulation = \"local\"\n[overlay.manual]\nin.spi = 0x5001\n\
                    out.spi = 0x5002\n[[overlay.policy]]\naction = \"discard\"\n\
                    protocol = \"udp\"\nlocal_ports = \"8000-8100\"\n";
        let policies = Config::parse("red.toml", "red", text).unwrap().overlay.policies;
        let [Policy { traffic, action: Action::Discard }] = &policies[..] else {
            panic!("{policies:?}")
        };
        assert_eq!((traffic.protocol, traffic.local_ports), (Some(17), Some([8000, 8100])));
        let remote = text.to_owned() + "remote = [\"192.0.2.101\"]\n";
        let mistake = Config::parse("red.toml", "red", &remote).unwrap_err().to_string();
        assert!(mistake.contains("transport mode, which reaches the peer alone"), "{mistake}");
    }
}
