//! Marked secrets, and the search for them in all that was written: as they are, and in the usual encodings.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use memchr::memmem;

const BASE64: [&[u8; 64]; 2] = [
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
];

/// Bytes that are shown before and behind what is found.
const AROUND: usize = 80;

/// A secret, and all the forms in which it would be one still.
#[derive(Clone, Debug)]
pub struct Mark {
    /// What it is, for the words of a failure.
    pub name: String,
    forms: Vec<(&'static str, Vec<u8>)>,
}

impl Mark {
    /// The mark of a secret, which is long enough to stand nowhere by chance.
    #[must_use]
    #[track_caller]
    pub fn new(name: &str, secret: &str) -> Self {
        assert!(secret.len() >= 16 && secret.is_ascii(), "{name}: too short to be looked for, or not ASCII");
        let bytes = secret.as_bytes();
        let each = |write: fn(&mut String, u8)| {
            let mut text = String::new();
            bytes.iter().for_each(|byte| write(&mut text, *byte));
            text.into_bytes()
        };
        let hex = |text: &mut String, byte: u8| write!(text, "{byte:02x}").expect("write to a string");
        // A string of JSON without the quotes around it.
        let quoted = |text: &str| {
            let text = serde_json::to_string(text).expect("JSON");
            text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).expect("quotes").to_owned()
        };
        let mut forms = vec![
            ("plain", bytes.to_vec()),
            ("hex", each(hex)),
            ("HEX", each(hex).to_ascii_uppercase()),
            ("percent", each(|text, byte| percent(text, byte, true))),
            ("percent, all", each(|text, byte| percent(text, byte, false))),
            ("JSON, \\u", each(|text, byte| write!(text, "\\u{byte:04x}").expect("write to a string"))),
            ("JSON", quoted(secret).into_bytes()),
            ("JSON in JSON", quoted(&quoted(secret)).into_bytes()),
            ("JSON, \\/", secret.replace('/', "\\/").into_bytes()),
            ("list of numbers", format!("{bytes:?}").trim_matches(['[', ']']).as_bytes().to_vec()),
            ("reversed", bytes.iter().rev().copied().collect()),
        ];
        for letters in BASE64 {
            // Wherever it stands in what was encoded.
            forms.extend((0..3).map(|skipped| ("base64", base64(&bytes[skipped..], letters))));
        }
        forms.dedup_by(|left, right| left.1 == right.1);
        Self { name: name.to_owned(), forms }
    }

    /// The form in which it stands in some bytes, if it does, and what stands around it.
    #[must_use]
    pub fn found(&self, bytes: &[u8]) -> Option<(&'static str, String)> {
        self.forms.iter().find_map(|(name, form)| {
            let at = memmem::find(bytes, form)?;
            let around = &bytes[at.saturating_sub(AROUND)..bytes.len().min(at + form.len() + AROUND)];
            Some((*name, String::from_utf8_lossy(around).into_owned()))
        })
    }
}

fn percent(text: &mut String, byte: u8, only_reserved: bool) {
    if only_reserved && (byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)) {
        text.push(char::from(byte));
    } else {
        write!(text, "%{byte:02X}").expect("write to a string");
    }
}

/// Whole groups of three bytes: what follows them changes none of their letters.
fn base64(bytes: &[u8], letters: &[u8; 64]) -> Vec<u8> {
    let (groups, _) = bytes.as_chunks::<3>();
    let letter = |bits: u32, at: u32| letters[usize::try_from(bits >> (18 - 6 * at) & 63).expect("six bits")];
    groups
        .iter()
        .flat_map(|[first, second, third]| {
            let bits = u32::from_be_bytes([0, *first, *second, *third]);
            (0..4).map(move |at| letter(bits, at))
        })
        .collect()
}

/// All files below a folder, links not followed.
#[must_use]
#[track_caller]
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|fault| panic!("read {}: {fault}", folder.display())) {
        let entry = entry.expect("an entry");
        let kind = entry.file_type().expect("its kind");
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "sk-canary/7+\"quote\"=9zQ";

    #[test]
    fn a_secret_is_found_in_each_of_its_forms() {
        let mark = Mark::new("key", SECRET);
        for (form, text) in [
            ("plain", format!("key {SECRET}.")),
            ("hex", "736b2d63616e6172792f372b2271756f7465223d397a51".to_owned()),
            ("HEX", "736B2D63616E6172792F372B2271756F7465223D397A51".to_owned()),
            ("percent", "a=sk-canary%2F7%2B%22quote%22%3D9zQ&b".to_owned()),
            ("JSON", r#"{"a":"sk-canary/7+\"quote\"=9zQ"}"#.to_owned()),
            ("JSON in JSON", r#"{"a":"{\"b\":\"sk-canary/7+\\\"quote\\\"=9zQ\"}"}"#.to_owned()),
            ("JSON, \\/", "sk-canary\\/7+\"quote\"=9zQ".to_owned()),
            ("list of numbers", format!("{:?}", format!("x{SECRET}y").as_bytes())),
            // `printf %s "$SECRET" | base64`, behind none, one and two letters.
            ("base64", "c2stY2FuYXJ5LzcrInF1b3RlIj05elE=".to_owned()),
            ("base64", "eHNrLWNhbmFyeS83KyJxdW90ZSI9OXpR".to_owned()),
            ("base64", "eHhzay1jYW5hcnkvNysicXVvdGUiPTl6UQ==".to_owned()),
        ] {
            assert_eq!(mark.found(text.as_bytes()).map(|(form, _)| form), Some(form), "{text}");
        }
        assert_eq!(mark.found(&[b'x'; 99]), None);
        assert_eq!(mark.found(&SECRET.as_bytes()[1..]), None, "a part is not the secret");
    }
}
