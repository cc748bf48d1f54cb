//! ARP (RFC 826): questions for IPv4 addresses.

use std::net::Ipv4Addr;

use super::{ARP, Answer, Mac, SWITCH};
use crate::addresses::Addresses;

/// Hardware type Ethernet, protocol IPv4, their lengths.
const START: [u8; 6] = [0, 1, 8, 0, 6, 4];
const BYTES: usize = 28;
const QUESTION: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];

/// Answers a question for any address but the space's own: a guest that probes whether
/// its address is free (RFC 5227) hears nothing.
pub(super) fn answer(question: &[u8], guest: Mac, own: Addresses) -> Option<Answer> {
    let question = question.first_chunk::<BYTES>()?;
    let own = own.v4()?;
    let sender = Ipv4Addr::from(*question[14..].first_chunk::<4>()?);
    let target = Ipv4Addr::from(*question[24..].first_chunk::<4>()?);
    let is_question = question[..6] == START && question[6..8] == QUESTION;
    let from_guest = question[8..14] == guest && (sender == own || sender.is_unspecified());
    let answerable = target != own && crate::addresses::is_host(target.into());
    if !is_question || !from_guest || !answerable {
        return None;
    }
    let (target, sender) = (target.octets(), sender.octets());
    Some(Answer::new(guest, ARP, &[&START, &REPLY, &SWITCH, &target, &guest, &sender]))
}
