//! What the kinds of events have in common: from the table of `event.rs`, a type for each and [`Event`](super::Event) for any. Those behind the
//! semicolon have a type already.

macro_rules! events {
    (
        $($(#[$doc:meta])* $name:ident $kind:literal { $($(#[$fdoc:meta])* $field:ident: $ty:ty,)* })*
        ; $($(#[$odoc:meta])* $other:ident $okind:literal,)*
    ) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub struct $name { $($(#[$fdoc])* pub $field: $ty,)* }
            impl From<$name> for Event {
                fn from(event: $name) -> Event {
                    Event::$name(Box::new(event))
                }
            }
        )*
        $(impl From<$other> for Event {
            fn from(event: $other) -> Event {
                Event::$other(Box::new(event))
            }
        })*
        /// Any event.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Event { $($(#[$doc])* $name(Box<$name>),)* $($(#[$odoc])* $other(Box<$other>),)* }
        impl Event {
            /// Its kind, as the chain covers it.
            #[must_use]
            pub const fn kind(&self) -> &'static str {
                match self { $(Event::$name(_) => $kind,)* $(Event::$other(_) => $okind,)* }
            }

            /// Its canonical body.
            #[must_use]
            pub fn body(&self) -> String {
                match self { $(Event::$name(event) => crate::canon::text(event.as_ref()),)* $(Event::$other(event) => crate::canon::text(event.as_ref()),)* }
            }

            /// Writes its canonical body behind what is there already.
            pub fn write_body(&self, out: &mut Vec<u8>) {
                match self { $(Event::$name(event) => crate::canon::write(event.as_ref(), out),)* $(Event::$other(event) => crate::canon::write(event.as_ref(), out),)* }
            }

            /// Whether a text is its canonical body.
            #[must_use]
            pub fn is_body(&self, text: &str) -> bool {
                match self {
                    $(Event::$name(event) => crate::canon::is_text_of(event.as_ref(), text),)*
                    $(Event::$other(event) => crate::canon::is_text_of(event.as_ref(), text),)*
                }
            }

            /// Reads an event back.
            ///
            /// # Errors
            /// When the kind is not known or the body does not fit it.
            pub fn parse(kind: &str, body: &str) -> Result<Event, String> {
                match kind {
                    $($kind => serde_json::from_str::<$name>(body).map(Event::from).map_err(|fault| format!("{kind}: {fault}")),)*
                    $($okind => serde_json::from_str::<$other>(body).map(Event::from).map_err(|fault| format!("{kind}: {fault}")),)*
                    _ => Err(format!("`{kind}` is not a kind of event that this version knows")),
                }
            }

            /// Every kind.
            pub const KINDS: &'static [&'static str] = &[$($kind,)* $($okind,)*];
        }
    };
}

pub(super) use events;
