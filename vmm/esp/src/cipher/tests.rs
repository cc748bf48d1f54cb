//! The vectors of RFC 3602 4 and NIST SP 800-38A F.2.

use super::*;
use crate::vectors::hex;

fn assert_both_ways<E: Encryption, D: Decryption>(
    key: &[u8],
    iv: &[u8],
    plain: &[u8],
    sealed: &[u8],
) {
    let iv = iv.try_into().unwrap();
    let mut data = plain.to_vec();
    E::new(key).encrypt(&iv, &mut data);
    assert_eq!(data, sealed);
    D::new(key).decrypt(&iv, &mut data);
    assert_eq!(data, plain);
}

#[test]
fn aes_cbc_agrees_with_rfc_3602() {
    let vectors = [
        (
            "06a9214036b8a15b512e03d534120006",
            "3dafba429d9eb430b422da802c9fac41",
            b"Single block msg".to_vec(),
            "e353779c1079aeb82708942dbe77181a",
        ),
        (
            "c286696d887c9aa0611bbb3e2025a45a",
            "562e17996d093d28ddb3ba695a2e6f58",
            (0..0x20).collect(),
            "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1",
        ),
        (
            "6c3ea0477630ce21a2ce334aa746c2cd",
            "c782dc4c098c66cbd9cd27d825682c81",
            b"This is a 48-byte message (exactly 3 AES blocks)".to_vec(),
            "d0a02b3836451753d493665d33f0e8862dea54cdb293abc7506939276772f8d5
             021c19216bad525c8579695d83ba2684",
        ),
        (
            "56e47a38c5598974bc46903dba290349",
            "8ce82eefbea0da3c44699ed7db51b7d9",
            (0xa0..0xe0).collect(),
            "c30e32ffedc0774e6aff6af0869f71aa0f3af07a9a31a9c684db207eb0ef8e4e
             35907aa632c3ffdf868bb7b29d3d46ad83ce9f9a102ee99d49a53e87f4c3da55",
        ),
    ];
    for (key, iv, plain, sealed) in vectors {
        let (key, iv, sealed) = (hex(key), hex(iv), hex(sealed));
        assert_both_ways::<Aes128Enc, Aes128Dec>(&key, &iv, &plain, &sealed);
    }
}

/// The plaintext and the IV of all of F.2, the first two blocks.
const PLAIN: &str = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51";
const IV: &str = "000102030405060708090a0b0c0d0e0f";

#[test]
fn aes_192_cbc_agrees_with_nist_sp_800_38a() {
    // F.2.3 and F.2.4.
    let key = hex("8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b");
    let sealed = hex("4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a");
    assert_both_ways::<Aes192Enc, Aes192Dec>(&key, &hex(IV), &hex(PLAIN), &sealed);
}

#[test]
fn aes_256_cbc_agrees_with_nist_sp_800_38a() {
    // F.2.5 and F.2.6.
    let key = hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
    let sealed = hex("f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d");
    assert_both_ways::<Aes256Enc, Aes256Dec>(&key, &hex(IV), &hex(PLAIN), &sealed);
}
