//! Paths of a guest, as a terminal may have them.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path inside, as it is shown: `.` for the root, and quoted as git does if it could be
/// mistaken for something else, or for an order to the terminal.
pub fn shown(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() {
        return ".".to_owned();
    }
    let plain = path.to_str().filter(|text| {
        !text.chars().any(|letter| letter.is_control() || matches!(letter, '"' | '\\'))
    });
    if let Some(text) = plain {
        return text.to_owned();
    }
    let mut quoted = "\"".to_owned();
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' | '\\' => quoted.extend(['\\', letter]),
                '\n' => quoted.push_str("\\n"),
                '\t' => quoted.push_str("\\t"),
                letter if letter.is_control() => {
                    let mut buffer = [0; 4];
                    quote(letter.encode_utf8(&mut buffer).as_bytes(), &mut quoted);
                }
                letter => quoted.push(letter),
            }
        }
        quote(chunk.invalid(), &mut quoted);
    }
    quoted.push('"');
    quoted
}

fn quote(bytes: &[u8], quoted: &mut String) {
    bytes.iter().for_each(|byte| quoted.push_str(&format!("\\{byte:03o}")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn names_that_are_no_plain_text_are_quoted() {
        let shown = |bytes: &[u8]| shown(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(shown(b""), ".");
        assert_eq!(shown("d/grün".as_bytes()), "d/grün");
        assert_eq!(shown(b"a\x1b[31m\n\"\xff"), r#""a\033[31m\n\"\377""#);
    }
}
