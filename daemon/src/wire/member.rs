//! The governed members of a dialect's request: those that a decision, a splice or a price looks at. Each may stand once.
//!
//! Owns what tells them apart. Must not: read a byte.

use super::json::Scanner;
use super::request::{Malformed, Reader};
use super::text::Text;

/// A list of members: their names in JSON, and their numbers.
pub(super) trait Named: Copy {
    /// The governed member of a name.
    fn of(name: &str) -> Option<Self>;

    /// Its number among them, below 64.
    fn number(self) -> u32;
}

/// How a dialect reads its members.
pub(super) trait Member: Named {
    /// Names that decide nothing and cost nothing extra: they pass, also under `strict`. Sorted.
    const KNOWN: &'static [&'static str];

    /// Reads its value, which the scanner is at.
    fn read(self, reader: &mut Reader, key: &Text<'_>, scanner: &mut Scanner<'_>) -> Result<(), Malformed>;

    /// Checks what can be told at the end only.
    fn finish(reader: &mut Reader) -> Result<(), Malformed>;
}

/// Makes the enum `Field` of a dialect from its list.
macro_rules! members {
    ($($name:literal => $member:ident,)+) => {
        /// Governed members.
        #[derive(Clone, Copy, PartialEq, Eq)]
        enum Field {
            $($member,)+
        }

        impl $crate::wire::member::Named for Field {
            fn of(name: &str) -> Option<Field> {
                match name {
                    $($name => Some(Field::$member),)+
                    _ => None,
                }
            }

            fn number(self) -> u32 {
                self as u32
            }
        }
    };
}

pub(super) use members;
