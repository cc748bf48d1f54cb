//! The vectors of RFC 3602 4 and NIST SP 800-38A F.2.

use zeroize::Zeroizing;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn keys(cipher: Cipher, cipher_key: &[u8]) -> Keys {
    let zeroizing = |key: &[u8]| Zeroizing::new(key.to_vec());
    Keys::new(cipher, zeroizing(cipher_key), Zeroizing::new(vec![0; 32])).unwrap()
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
        let keys = keys(Cipher::AesCbc128, &hex(key));
        let iv = hex(iv).try_into().unwrap();
        let mut data = plain.clone();
        Encryption::new(&keys).encrypt(&iv, &mut data);
        assert_eq!(data, hex(sealed));
        Decryption::new(&keys).decrypt(&iv, &mut data);
        assert_eq!(data, plain);
    }
}

#[test]
fn aes_256_cbc_agrees_with_nist_sp_800_38a() {
    // F.2.5, the first two blocks.
    let key = hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
    let plain = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
    let sealed = hex("f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d");
    let keys = keys(Cipher::AesCbc256, &key);
    let iv = std::array::from_fn(|at| at as u8);
    let mut data = plain.clone();
    Encryption::new(&keys).encrypt(&iv, &mut data);
    assert_eq!(data, sealed);
    Decryption::new(&keys).decrypt(&iv, &mut data);
    assert_eq!(data, plain);
}
