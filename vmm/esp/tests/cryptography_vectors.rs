//! The AEADs against the vectors of `cryptography-vectors` (PyPI): NIST's CAVP for
//! AES-GCM, OpenSSL's for ChaCha20-Poly1305.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::{env, fs};

use esp::Aead;
use esp::aead::AeadKey;
use libtest_mimic::{Arguments, Completion, Trial};

/// A file of vectors, and how many in it have a nonce of 96 bits and a tag of 128.
struct File {
    path: &'static str,
    aead: Aead,
    at_least: usize,
}

const FILES: [File; 5] = [
    File { path: "AES/GCM/gcmEncryptExtIV128.rsp", aead: Aead::AesGcm128, at_least: 375 },
    File { path: "AES/GCM/gcmEncryptExtIV256.rsp", aead: Aead::AesGcm256, at_least: 375 },
    File { path: "AES/GCM/gcmDecrypt128.rsp", aead: Aead::AesGcm128, at_least: 375 },
    File { path: "AES/GCM/gcmDecrypt256.rsp", aead: Aead::AesGcm256, at_least: 375 },
    File { path: "ChaCha20Poly1305/openssl.txt", aead: Aead::ChaCha20Poly1305, at_least: 5 },
];

/// Where the vectors are, looked for by the first test that runs.
type Place = Arc<OnceLock<Result<PathBuf, String>>>;

fn main() {
    let arguments = Arguments::from_args();
    let place = Place::default();
    let trials = FILES.map(|file| {
        let place = Arc::clone(&place);
        Trial::ignorable_test(format!("seals and opens as {}", file.path), move || {
            match place.get_or_init(vectors) {
                Ok(place) => {
                    check(place, &file);
                    Ok(Completion::Completed)
                }
                Err(missing) => Ok(Completion::ignored_with(missing)),
            }
        })
    });
    libtest_mimic::run(&arguments, trials.into()).exit();
}

/// The folder of the ciphers' vectors, as Python says: the interpreter whose path
/// is in `PORTSPACE_PYTHON`, else `python3`.
///
/// # Errors
/// Why there is none, in words for whoever runs the tests.
fn vectors() -> Result<PathBuf, String> {
    let python: OsString = match env::var_os("PORTSPACE_PYTHON") {
        Some(path) => std::path::absolute(&path).map_err(|error| error.to_string())?.into(),
        None => "python3".into(),
    };
    let answer = Command::new(&python)
        .args(["-c", "import cryptography_vectors as v; print(v.__path__[0])"])
        .current_dir("/")
        .stdin(Stdio::null())
        .output();
    let missing = match answer {
        Ok(output) if output.status.success() => {
            let path = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
            return Ok(PathBuf::from(path).join("ciphers"));
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).lines().last().map(String::from),
        Err(error) => Some(error.to_string()),
    };
    Err(format!(
        "{} has no cryptography_vectors ({}): pip install cryptography-vectors, \
         or name an interpreter in PORTSPACE_PYTHON",
        python.display(),
        missing.unwrap_or_default()
    ))
}

fn check(place: &Path, file: &File) {
    let text = fs::read_to_string(place.join(file.path)).expect("the package has the file");
    let text = text.replace('\r', "");
    let mut checked = 0;
    for vector in text.split("\n\n").map(Vector::parse) {
        let (Some(key), Some(nonce)) = (vector.bytes("key"), vector.bytes("iv")) else { continue };
        let Some(tag) = vector.bytes("tag").filter(|tag| tag.len() == 16) else { continue };
        let Some((salt, iv)) = nonce.split_first_chunk::<4>() else { continue };
        let Ok(iv) = iv.try_into() else { continue };
        let key = AeadKey::new(file.aead, &[&key[..], salt].concat());
        let aad = vector.bytes("aad").unwrap_or_default();
        let sealed = vector.bytes("ct").or(vector.bytes("ciphertext")).unwrap_or_default();

        let mut data = [&sealed[..], &tag].concat();
        let opened = key.open(iv, &aad, &mut data).map(|plain| plain.to_vec());
        if vector.fails {
            assert_eq!(opened, None, "{vector:?}");
        } else {
            let plain = vector.bytes("pt").or(vector.bytes("plaintext")).unwrap_or_default();
            assert_eq!(opened.as_ref(), Some(&plain), "{vector:?}");
            let mut data = plain;
            let icv = key.seal(iv, &aad, &mut data);
            assert_eq!((data, &icv[..]), (sealed, &tag[..]), "{vector:?}");
        }
        checked += 1;
    }
    assert!(checked >= file.at_least, "{checked} vectors in {}", file.path);
}

/// Lines of `name = digits`, and whether it is said that they do not open.
#[derive(Debug)]
struct Vector<'a> {
    values: HashMap<String, &'a str>,
    fails: bool,
}

impl Vector<'_> {
    fn parse(text: &str) -> Vector<'_> {
        let fields = text.lines().filter_map(|line| line.split_once('='));
        let values = fields.map(|(name, value)| (name.trim().to_lowercase(), value.trim()));
        Vector {
            values: values.collect(),
            fails: text.lines().any(|line| line == "FAIL" || line.starts_with("Result")),
        }
    }

    fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let digits = self.values.get(name)?.as_bytes();
        let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
        digits.chunks(2).map(|pair| Some(value(pair[0])? << 4 | value(*pair.get(1)?)?)).collect()
    }
}
