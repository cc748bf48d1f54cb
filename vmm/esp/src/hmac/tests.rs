//! The vectors of RFC 4868 2.7.2 and RFC 4231 4, and an implementation nobody here wrote.

use ring::digest::{Algorithm, SHA256, SHA384, SHA512, digest};

use super::*;
use crate::vectors::hex;

fn icv<H: Hash<BLOCK>, const BLOCK: usize>(key: &[u8], message: &[u8]) -> Vec<u8> {
    let icv = Hmac::<H, BLOCK>::new(key).begin().finish(message, &[]);
    icv[..Hmac::<H, BLOCK>::ICV_LEN].to_vec()
}

/// Three of the messages of both documents; keys are as long as the ICV twice.
fn check_rfc_4868<H: Hash<BLOCK>, const BLOCK: usize>(last_key: &[u8], icvs: [&str; 4]) {
    let len = H::DIGEST_LEN;
    let jefe = b"Jefe".repeat(len / 4);
    let vectors: [(&[u8], &[u8]); 4] = [
        (&vec![0x0b; len], b"Hi There"),
        (&jefe, b"what do ya want for nothing?"),
        (&vec![0xaa; len], &[0xdd; 50]),
        (last_key, &[0xcd; 50]),
    ];
    for ((key, message), expected) in vectors.into_iter().zip(icvs) {
        assert_eq!(icv::<H, BLOCK>(key, message), hex(expected));
        assert!(Hmac::<H, BLOCK>::new(key).is_authentic(message, &[], &hex(expected)));
    }
}

#[test]
fn icvs_agree_with_rfc_4868() {
    let counted: Vec<u8> = (1..=64).collect();
    check_rfc_4868::<Sha256, 64>(
        &counted[..32],
        [
            "198a607eb44bfbc69903a0f1cf2bbdc5",
            "167f928588c5cc2eef8e3093caa0e87c",
            "cdcb1220d1ecccea91e53aba3092f962",
            "372efcf9b40b35c2115b1346903d2ef4",
        ],
    );
    check_rfc_4868::<Sha384, 128>(
        &[&counted[..32], &counted[9..25]].concat(),
        [
            "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973",
            "2c7353974f1842fd66d53c452ca42122b28c0b594cfb184d",
            "809f439be00274321d4a538652164b53554a508184a0c316",
            "5b540085c6e6358096532b2493609ed1cb298f774f87bb5c",
        ],
    );
    check_rfc_4868::<Sha512, 128>(
        &counted,
        [
            "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8",
            "cb370917ae8a7ce28cfd1d8f4705d6141c173b2a9362c15df235dfb251b15454",
            "2ee7acd783624ca9398710f3ee05ae41b9f9b0510c87e49e586cc9bf961733d8",
            "5e6688e5a3daec826ca32eaea224eff5e700628947470e13ad01302561bab108",
        ],
    );
}

/// Its cases 1, 4 and 6: keys shorter than a block, and one longer, which is hashed (RFC 2104 3).
fn check_rfc_4231<H: Hash<BLOCK>, const BLOCK: usize>(sha2: &'static Algorithm, icvs: [&str; 3]) {
    let counted: Vec<u8> = (1..=25).collect();
    let long = digest(sha2, &[0xaa; 131]);
    let vectors: [(&[u8], &[u8]); 3] = [
        (&[0x0b; 20], b"Hi There"),
        (&counted, &[0xcd; 50]),
        (long.as_ref(), b"Test Using Larger Than Block-Size Key - Hash Key First"),
    ];
    for ((key, message), expected) in vectors.into_iter().zip(icvs) {
        assert_eq!(icv::<H, BLOCK>(key, message), hex(expected));
    }
}

#[test]
fn icvs_agree_with_rfc_4231() {
    check_rfc_4231::<Sha256, 64>(
        &SHA256,
        [
            "b0344c61d8db38535ca8afceaf0bf12b",
            "82558a389a443c0ea4cc819899f2083a",
            "60e431591ee0b67f0d8a26aacbf5b77f",
        ],
    );
    check_rfc_4231::<Sha384, 128>(
        &SHA384,
        [
            "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec6",
            "3e8a69b7783c25851933ab6290af6ca77a9981480850009c",
            "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f",
        ],
    );
    check_rfc_4231::<Sha512, 128>(
        &SHA512,
        [
            "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde",
            "b0ba465637458c6990e5a8c5f61d4af7e576d97ff94b872de76f8050361ee3db",
            "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352",
        ],
    );
}

/// All lengths around three blocks, in pieces and at once, the last four bytes apart.
fn compare_with_ring<H: Hash<BLOCK>, const BLOCK: usize>(theirs: ring::hmac::Algorithm) {
    let key = vec![9; H::DIGEST_LEN];
    let ours = Hmac::<H, BLOCK>::new(&key);
    let theirs = ring::hmac::Key::new(theirs, &key);
    let message: Vec<u8> = (0..3 * BLOCK + 10).map(|at| (at * 7) as u8).collect();
    for len in 0..message.len() {
        let expected = ring::hmac::sign(&theirs, &message[..len]);
        for suffix_len in [0, 4.min(len)] {
            let (message, suffix) = message[..len].split_at(len - suffix_len);
            let mut begun = ours.begin();
            for ready in (0..message.len()).step_by(1 + len % 90) {
                begun.advance(message, ready);
            }
            for icv in [ours.begin().finish(message, suffix), begun.finish(message, suffix)] {
                let icv_len = Hmac::<H, BLOCK>::ICV_LEN;
                assert_eq!(icv[..icv_len], expected.as_ref()[..icv_len], "{len} bytes");
            }
        }
    }
}

#[test]
fn icvs_of_every_length_agree_with_ring_however_the_message_arrives() {
    compare_with_ring::<Sha256, 64>(ring::hmac::HMAC_SHA256);
    compare_with_ring::<Sha384, 128>(ring::hmac::HMAC_SHA384);
    compare_with_ring::<Sha512, 128>(ring::hmac::HMAC_SHA512);
}

#[test]
fn an_icv_with_any_one_bit_changed_is_not_authentic() {
    let hmac = Hmac::<Sha512, 128>::new(&[1; 64]);
    let icv = icv::<Sha512, 128>(&[1; 64], b"packet");
    for bit in 0..icv.len() * 8 {
        let mut changed = icv.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!hmac.is_authentic(b"packet", &[], &changed));
    }
    assert!(!hmac.is_authentic(b"packet", &[], &icv[1..]));
}
