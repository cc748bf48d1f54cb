//! The vectors of RFC 4868 2.7.2 and an implementation nobody here wrote.

use super::*;

#[test]
fn icvs_agree_with_rfc_4868() {
    let counted = std::array::from_fn(|at| at as u8 + 1);
    let vectors: [(&[u8; 32], &[u8], u128); 4] = [
        (&[0x0b; 32], b"Hi There", 0x198a607eb44bfbc69903a0f1cf2bbdc5),
        (
            b"JefeJefeJefeJefeJefeJefeJefeJefe",
            b"what do ya want for nothing?",
            0x167f928588c5cc2eef8e3093caa0e87c,
        ),
        (&[0xaa; 32], &[0xdd; 50], 0xcdcb1220d1ecccea91e53aba3092f962),
        (&counted, &[0xcd; 50], 0x372efcf9b40b35c2115b1346903d2ef4),
    ];
    for (key, message, icv) in vectors {
        assert_eq!(Hmac::new(key).icv(message), icv.to_be_bytes());
        assert!(Hmac::new(key).is_authentic(message, &icv.to_be_bytes()));
    }
}

#[test]
fn icvs_of_every_length_agree_with_ring_however_the_message_arrives() {
    let ours = Hmac::new(&[9; 32]);
    let theirs = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[9; 32]);
    let message: Vec<u8> = (0..400).map(|at| (at * 7) as u8).collect();
    for len in 0..message.len() {
        let message = &message[..len];
        let expected = ring::hmac::sign(&theirs, message);
        let mut begun = ours.begin();
        for ready in (0..len).step_by(1 + len % 90) {
            begun.advance(message, ready);
        }
        for icv in [ours.icv(message), begun.finish(message)] {
            assert_eq!(icv, expected.as_ref()[..ICV_LEN], "{len} bytes");
        }
    }
}

#[test]
fn an_icv_with_any_one_bit_changed_is_not_authentic() {
    let hmac = Hmac::new(&[1; 32]);
    let icv = hmac.icv(b"packet");
    for bit in 0..ICV_LEN * 8 {
        let mut changed = icv;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!hmac.is_authentic(b"packet", &changed));
    }
}
