//! Small files of the daemon's own below its home: read whole or not at all, written whole or not at all, for its user alone.
//!
//! Must not: take a damaged file for an empty one.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// What a file holds; `None` when there is none.
///
/// # Errors
/// Why it cannot be used, with its path.
pub(super) fn read<T: DeserializeOwned>(path: &Path, limit: u64) -> Result<Option<T>, String> {
    let named = |why: String| format!("{}: {why}", path.display());
    let mut text = Vec::new();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(fault) if fault.kind() == ErrorKind::NotFound => return Ok(None),
        Err(fault) => return Err(named(fault.to_string())),
    };
    file.take(limit.saturating_add(1)).read_to_end(&mut text).map_err(|fault| named(fault.to_string()))?;
    if u64::try_from(text.len()).map_or(true, |length| length > limit) {
        return Err(named(format!("it is larger than {limit} bytes")));
    }
    serde_json::from_slice(&text).map(Some).map_err(|fault| named(format!("it is damaged: {fault}")))
}

/// Puts a text in a file's place. It is on the disk when this comes back.
///
/// # Errors
/// When it cannot be written; the old one stays.
pub(super) fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let fresh = path.with_extension("json.new");
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_whole_private_and_never_taken_for_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tools/x.json");
        assert_eq!(read::<Vec<u8>>(&path, 10), Ok(None));
        write(&path, &vec![1, 2]).unwrap();
        assert_eq!(read::<Vec<u8>>(&path, 10), Ok(Some(vec![1, 2])));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for damaged in ["", "[1", "{}", "[1,2,3,4,5,6,7,8,9]"] {
            fs::write(&path, damaged).unwrap();
            assert!(read::<Vec<u8>>(&path, 10).is_err(), "{damaged}");
        }
    }
}
