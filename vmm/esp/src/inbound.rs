//! Inbound SAs: packets are checked and opened (RFC 4303 3.4).

use crate::keys::Keys;
use crate::lifetime::Usage;
use crate::outbound::TRAILER;
use crate::replay::ReplayWindow;
use crate::transform::{HEADER, Open, opening};
use crate::{Age, Discard, Discards, Lifetime, Parameters, Spi, Suite, WindowSize};

/// Next header of a packet that is padding as a whole (RFC 4303 2.6).
const NO_NEXT_HEADER: u8 = 59;

/// An SA for packets from the peer.
pub struct InboundSa {
    spi: Spi,
    suite: Suite,
    esn: bool,
    window: ReplayWindow,
    usage: Usage,
    transform: Box<dyn Open>,
    discards: Discards,
}

/// What an authentic packet carried.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// The protocol of the payload; 4 or 41 in tunnel mode.
    pub next_header: u8,
    /// The payload, in the buffer the packet was in.
    pub payload: &'a mut [u8],
    /// Whether its sequence number is the highest so far: where it came from is
    /// where the peer is now. An older packet may have been held back by somebody
    /// who sends it from elsewhere.
    pub is_newest: bool,
}

impl InboundSa {
    /// An SA that has received nothing.
    pub fn new(spi: Spi, keys: Keys, parameters: Parameters) -> InboundSa {
        let Parameters { esn, window, lifetime, born_s } = parameters;
        InboundSa {
            spi,
            suite: keys.suite(),
            esn,
            window: ReplayWindow::new(window),
            usage: Usage::new(lifetime, born_s),
            transform: opening(&keys),
            discards: Discards::default(),
        }
    }

    /// Our SPI.
    pub fn spi(&self) -> Spi {
        self.spi
    }

    /// How the peer protects its packets.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Whether sequence numbers have 64 bits.
    pub fn esn(&self) -> bool {
        self.esn
    }

    /// Packets opened so far.
    pub fn packets(&self) -> u64 {
        self.usage.packets()
    }

    /// Payload bytes opened so far.
    pub fn bytes(&self) -> u64 {
        self.usage.bytes()
    }

    /// The highest sequence number accepted, 0 before the first.
    pub fn top(&self) -> u64 {
        self.window.top()
    }

    /// How many packets may overtake one another.
    pub fn window(&self) -> WindowSize {
        self.window.size()
    }

    /// How many of the sequence numbers in the window were accepted: fewer than
    /// [`InboundSa::window`] and [`InboundSa::top`] if packets were lost.
    pub fn accepted(&self) -> u16 {
        self.window.accepted()
    }

    /// How long the SA may be used.
    pub fn lifetime(&self) -> Lifetime {
        self.usage.lifetime()
    }

    /// How far it has come, as of the packets so far and the last [`InboundSa::tick`].
    pub fn age(&self) -> Age {
        self.usage.age()
    }

    /// When it was made, seconds.
    pub fn born_s(&self) -> u64 {
        self.usage.born_s()
    }

    /// When [`InboundSa::tick`] will have something new to say, if ever.
    pub fn due_s(&self) -> Option<u64> {
        self.usage.due_s()
    }

    /// Tells the SA the time, in seconds of the clock of [`Parameters::born_s`].
    /// Too early, nothing happens.
    pub fn tick(&mut self, now_s: u64) -> Age {
        self.usage.tick(now_s)
    }

    /// Packets with this SPI that were discarded.
    pub fn discards(&self) -> &Discards {
        &self.discards
    }

    /// Counts a packet that was opened but then discarded, by policy for example.
    pub fn count(&mut self, reason: Discard) {
        self.discards.count(reason);
    }

    /// Opens an ESP packet, SPI to ICV, in place.
    ///
    /// The buffer must be private to the caller. The window moves only for
    /// authentic packets. Whether the payload is welcome is not asked here: see
    /// [`crate::Spd::admit`].
    ///
    /// # Errors
    /// Why the packet is discarded; it is counted already.
    pub fn open<'a>(&mut self, packet: &'a mut [u8]) -> Result<Opened<'a>, Discard> {
        self.try_open(packet).inspect_err(|reason| self.discards.count(*reason))
    }

    fn try_open<'a>(&mut self, packet: &'a mut [u8]) -> Result<Opened<'a>, Discard> {
        let [s0, s1, s2, s3, n0, n1, n2, n3] =
            *packet.first_chunk::<HEADER>().ok_or(Discard::Truncated)?;
        if [s0, s1, s2, s3] != self.spi.to_be_bytes() {
            return Err(Discard::ForeignSpi);
        }
        let start = HEADER + self.suite.iv_len();
        let end = packet.len().checked_sub(self.suite.icv_len()).ok_or(Discard::Truncated)?;
        let sealed_len = end.checked_sub(start).ok_or(Discard::Truncated)?;
        // Blocks start after the IV, and 4-byte alignment counts from the header: the same.
        if sealed_len < TRAILER || !sealed_len.is_multiple_of(self.suite.alignment()) {
            return Err(Discard::Truncated);
        }
        if self.usage.is_over() {
            return Err(Discard::Expired);
        }

        let low = u32::from_be_bytes([n0, n1, n2, n3]);
        let seq = if self.esn { self.window.extend(low)? } else { low.into() };
        let high = self.esn.then_some((seq >> 32) as u32);
        let fresh = self.window.check(seq)?;
        if !self.transform.open(high, packet) {
            return Err(Discard::Forged);
        }
        let is_newest = fresh.accept();

        let (next_header, payload) = unpadded(&mut packet[start..end])?;
        self.usage.add(payload.len()).map_err(|_| Discard::Expired)?;
        Ok(Opened { next_header, payload, is_newest })
    }
}

/// Takes trailer and padding off decrypted bytes.
fn unpadded(plain: &mut [u8]) -> Result<(u8, &mut [u8]), Discard> {
    let (rest, &mut [pad_len, next_header]) =
        plain.split_last_chunk_mut::<TRAILER>().ok_or(Discard::Truncated)?;
    let len = rest.len().checked_sub(pad_len.into()).ok_or(Discard::BadPadding)?;
    let (payload, padding) = rest.split_at_mut(len);
    // Only the peer could have made it: how long this takes tells strangers nothing.
    if padding.iter().zip(1..=u8::MAX).any(|(found, expected)| *found != expected) {
        return Err(Discard::BadPadding);
    }
    if next_header == NO_NEXT_HEADER {
        return Err(Discard::Dummy);
    }
    Ok((next_header, payload))
}

#[cfg(test)]
mod tests;
