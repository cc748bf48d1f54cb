//! `[overlay.manual]` and `[[overlay.sa]]`: pairs of SAs keyed by hand.

use serde::Deserialize;
use toml::Spanned;

use switch::overlay::{
    Bounds, Cipher, DEFAULT_WINDOW, Encapsulation, Integrity, Key, Lifetime, Mode, Sa, SaPair,
    Suite,
};

use super::keys::{cipher_named, integrity_named, key_of};
use super::overlay::Frame;
use super::raw::NO_SIZE;
use super::traffic::RawTraffic;
use super::word::Word;
use super::{Mistake, Source, at};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPair {
    cipher: Option<Spanned<String>>,
    auth: Option<Spanned<String>>,
    esn: Option<Spanned<bool>>,
    window: Option<Spanned<u16>>,
    lifetime: Option<Spanned<RawLifetime>>,
    remote: Option<Spanned<Vec<Spanned<String>>>>,
    protocol: Option<Spanned<Word>>,
    local_ports: Option<Spanned<Word>>,
    remote_ports: Option<Spanned<Word>>,
    r#in: RawSa,
    out: RawSa,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSa {
    spi: Spanned<u32>,
    cipher_key: Option<Spanned<String>>,
    auth_key: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLifetime {
    #[serde(default)]
    soft: RawBounds,
    #[serde(default)]
    hard: RawBounds,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBounds {
    packets: Option<Spanned<u64>>,
    bytes: Option<Spanned<Word>>,
    seconds: Option<Spanned<u64>>,
}

/// Where the numbers and keys are that no two SAs may share.
struct Places {
    spis: [std::ops::Range<usize>; 2],
    auth_keys: [Option<std::ops::Range<usize>>; 2],
}

impl RawPair {
    /// The pairs of a file, which has one of the two.
    pub(super) fn convert_all(
        manual: Option<Spanned<RawPair>>,
        listed: Vec<Spanned<RawPair>>,
        source: &Source<'_>,
        frame: &Frame,
    ) -> Result<Vec<SaPair>, Mistake> {
        let mut pairs: Vec<SaPair> = Vec::new();
        let named = listed.into_iter().map(|pair| (false, pair));
        for (is_manual, pair) in manual.into_iter().map(|pair| (true, pair)).chain(named) {
            let header = pair.span();
            let pair = pair.into_inner();
            let places = pair.places();
            let converted = pair.convert(source, frame, header, is_manual)?;
            unlike(&pairs, &converted, &places, source)?;
            pairs.push(converted);
        }
        Ok(pairs)
    }

    fn places(&self) -> Places {
        let key = |sa: &RawSa| sa.auth_key.as_ref().map(Spanned::span);
        Places {
            spis: [self.r#in.spi.span(), self.out.spi.span()],
            auth_keys: [key(&self.r#in), key(&self.out)],
        }
    }

    fn convert(
        self,
        source: &Source<'_>,
        frame: &Frame,
        header: std::ops::Range<usize>,
        is_manual: bool,
    ) -> Result<SaPair, Mistake> {
        self.fits_local(source, frame)?;
        let suite = self.suite(source, frame, &header)?;
        let window = match &self.window {
            None => DEFAULT_WINDOW,
            Some(window) => {
                let size = window_size(*window.get_ref());
                size.map_err(|what| at(source, window, what))?
            }
        };
        let esn = self.esn.is_some_and(Spanned::into_inner);
        let lifetime = match self.lifetime {
            None => Lifetime::default(),
            Some(lifetime) => {
                let span = lifetime.span();
                let lifetime = lifetime.into_inner().convert(source)?;
                lifetime_fits(&lifetime, esn)
                    .map_err(|what| source.mistake(Some(span), None, what))?;
                lifetime
            }
        };
        let inbound = self.r#in.convert(source, suite, frame)?;
        let outbound = self.out.convert(source, suite, frame)?;
        let traffic = RawTraffic {
            remote: self.remote,
            protocol: self.protocol,
            local_ports: self.local_ports,
            remote_ports: self.remote_ports,
        };
        if is_manual && let Some(span) = traffic.span() {
            let what = "contradicts [overlay.manual], which is for all of the overlay's packets; use [[overlay.sa]]";
            return Err(source.mistake(Some(span), None, what.to_owned()));
        }
        let mut traffic = traffic.convert(source, frame)?;
        if frame.mode == Mode::Tunnel && traffic.remote.is_empty() {
            traffic.remote.clone_from(&frame.remote);
            if traffic.remote.is_empty() {
                let what = "tunnel mode needs to know what is behind the peer; add remote = [\"10.0.0.0/8\"] to [overlay]";
                return Err(source.mistake(Some(header), None, what.to_owned()));
            }
        }
        Ok(SaPair { inbound, outbound, traffic, esn, window, lifetime })
    }

    /// What binds two spaces of this host is two numbers.
    fn fits_local(&self, source: &Source<'_>, frame: &Frame) -> Result<(), Mistake> {
        if frame.encapsulation != Encapsulation::Local {
            return Ok(());
        }
        let keys = [&self.r#in, &self.out].map(|sa| [&sa.cipher_key, &sa.auth_key]);
        let texts = keys.iter().flatten().copied().chain([&self.cipher, &self.auth]);
        let texts = texts.flatten().map(Spanned::span);
        let numbers = self.esn.as_ref().map(Spanned::span).into_iter();
        let numbers = numbers.chain(self.window.as_ref().map(Spanned::span));
        let numbers = numbers.chain(self.lifetime.as_ref().map(Spanned::span));
        if let Some(span) = texts.chain(numbers).min_by_key(|span| span.start) {
            let what = "contradicts encapsulation \"local\", whose packets do not leave this host: SPIs are enough; remove the field";
            return Err(source.mistake(Some(span), None, what.to_owned()));
        }
        if self.r#in.spi.get_ref() == self.out.spi.get_ref() {
            let what = "is the space's own SPI; name that of the other space's [overlay.manual.in]";
            return Err(at(source, &self.out.spi, what));
        }
        Ok(())
    }

    fn suite(
        &self,
        source: &Source<'_>,
        frame: &Frame,
        header: &std::ops::Range<usize>,
    ) -> Result<Suite, Mistake> {
        if frame.encapsulation == Encapsulation::Local {
            return Ok(Suite::Combined(Cipher::Null, Integrity::HmacSha256));
        }
        let Some(cipher) = &self.cipher else {
            let what = "missing field `cipher`; add the field".to_owned();
            return Err(source.mistake(Some(header.clone()), None, what));
        };
        let named = cipher_named(cipher.get_ref()).map_err(|what| at(source, cipher, what))?;
        let integrity = match &self.auth {
            None => Integrity::HmacSha256,
            Some(auth) => integrity_named(auth.get_ref()).map_err(|what| at(source, auth, what))?,
        };
        Ok(Suite::Combined(named, integrity))
    }
}

/// Refuses numbers and keys that are in use by another SA.
fn unlike(
    others: &[SaPair],
    pair: &SaPair,
    places: &Places,
    source: &Source<'_>,
) -> Result<(), Mistake> {
    let [inbound, outbound] = places.spis.clone();
    for (span, own, of) in [
        (inbound, pair.inbound.spi, others.iter().map(|o| o.inbound.spi).collect::<Vec<_>>()),
        (outbound, pair.outbound.spi, others.iter().map(|o| o.outbound.spi).collect()),
    ] {
        if of.contains(&own) {
            let what = "is the SPI of another SA of this direction; give each SA an SPI of its own";
            return Err(source.mistake(Some(span), None, what.to_owned()));
        }
    }
    // Reflected packets would be authentic.
    let [inbound, outbound] = &places.auth_keys;
    let used = |key: &Key| {
        let mut keys = others.iter().flat_map(|o| [&o.inbound.auth_key, &o.outbound.auth_key]);
        !key.is_empty() && keys.any(|other| other == key)
    };
    let twice = |of: &str| format!("is the key of {of} too; give each direction a key of its own");
    for (span, key) in [(inbound, &pair.inbound.auth_key), (outbound, &pair.outbound.auth_key)] {
        if used(key) {
            return Err(source.mistake(span.clone(), None, twice("another SA")));
        }
    }
    if !pair.inbound.auth_key.is_empty() && pair.inbound.auth_key == pair.outbound.auth_key {
        return Err(source.mistake(outbound.clone(), None, twice("the other direction")));
    }
    Ok(())
}

impl RawSa {
    fn convert(self, source: &Source<'_>, suite: Suite, frame: &Frame) -> Result<Sa, Mistake> {
        spi(*self.spi.get_ref()).map_err(|what| at(source, &self.spi, what))?;
        let Suite::Combined(cipher, integrity) = suite else {
            unreachable!("AEADs are refused by their names")
        };
        if frame.encapsulation == Encapsulation::Local {
            let (cipher_key, auth_key) = (Key::default(), Key::default());
            return Ok(Sa { spi: self.spi.into_inner(), suite, cipher_key, auth_key });
        }
        let cipher_key = match &self.cipher_key {
            Some(text) if cipher.key_len() == 0 && !text.get_ref().is_empty() => {
                let what = "contradicts cipher \"null\", which has no key; remove one of the two";
                return Err(at(source, text, what));
            }
            text => {
                self.key(source, text.as_ref(), "cipher_key", cipher.name(), cipher.key_len())?
            }
        };
        let text = self.auth_key.as_ref();
        let auth_key = self.key(source, text, "auth_key", integrity.name(), integrity.key_len())?;
        Ok(Sa { spi: self.spi.into_inner(), suite, cipher_key, auth_key })
    }

    fn key(
        &self,
        source: &Source<'_>,
        text: Option<&Spanned<String>>,
        field: &str,
        algorithm: &str,
        length: usize,
    ) -> Result<Key, Mistake> {
        match text {
            Some(text) => key_of(text.get_ref(), length).map_err(|what| at(source, text, what)),
            None if length == 0 => Ok(Key::default()),
            None => {
                let what = format!(
                    "is missing, and {algorithm} needs {length} bytes; add {field} with {} hex digits",
                    2 * length
                );
                let place = source.place(source.line(self.spi.span().start));
                let place = format!("{} {field}", place.trim_end_matches(" spi"));
                Err(source.mistake(Some(self.spi.span()), Some(&place), what))
            }
        }
    }
}

impl RawLifetime {
    fn convert(self, source: &Source<'_>) -> Result<Lifetime, Mistake> {
        Ok(Lifetime { soft: self.soft.convert(source)?, hard: self.hard.convert(source)? })
    }
}

impl RawBounds {
    fn convert(self, source: &Source<'_>) -> Result<Bounds, Mistake> {
        let nonzero = |number: Option<Spanned<u64>>| match number {
            Some(number) if *number.get_ref() == 0 => Err(at(source, &number, AT_ONCE)),
            number => Ok(number.map(Spanned::into_inner)),
        };
        let bytes = match self.bytes {
            None => None,
            Some(bytes) => match bytes.get_ref().size() {
                None => return Err(at(source, &bytes, NO_SIZE)),
                Some(0) => return Err(at(source, &bytes, AT_ONCE)),
                size => size,
            },
        };
        Ok(Bounds { packets: nonzero(self.packets)?, bytes, seconds: nonzero(self.seconds)? })
    }
}

const AT_ONCE: &str = "a lifetime of 0 is over at once; remove the number for no bound";

/// An SPI that an SA can have.
pub(super) fn spi(number: u32) -> Result<(), &'static str> {
    match number {
        0..256 => Err("SPIs below 256 are reserved (RFC 4303 2.1); use 0x100 or more"),
        _ => Ok(()),
    }
}

/// A size a replay window can have.
pub(super) fn window_size(packets: u16) -> Result<u16, String> {
    match packets {
        64..=4096 => Ok(packets),
        _ => Err(format!("a replay window of {packets} packets is not possible; use 64 to 4096")),
    }
}

/// Whether the bounds can be reached, and in the right order.
pub(super) fn lifetime_fits(lifetime: &Lifetime, esn: bool) -> Result<(), String> {
    let Lifetime { soft, hard } = lifetime;
    for (unit, soft, hard) in [
        ("packets", soft.packets, hard.packets),
        ("bytes", soft.bytes, hard.bytes),
        ("seconds", soft.seconds, hard.seconds),
    ] {
        if let (Some(soft), Some(hard)) = (soft, hard)
            && soft >= hard
        {
            return Err(format!(
                "the soft lifetime of {soft} {unit} does not end before the hard one of {hard}; make it shorter"
            ));
        }
    }
    let most = u64::from(u32::MAX);
    match soft.packets.into_iter().chain(hard.packets).find(|packets| *packets > most) {
        Some(packets) if !esn => Err(format!(
            "{packets} packets are more than an SA without ESN can number; use at most {most}, or esn = true"
        )),
        _ => Ok(()),
    }
}
