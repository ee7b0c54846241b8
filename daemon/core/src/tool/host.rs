//! The host of a URL, where every program would connect to the same one.
//!
//! Programs differ in what they make of odd URLs (the WHATWG standard takes `http:\\a@b` for something, RFC 3986 for nothing), so what is
//! not plain is refused: a scheme of the web, `://`, a name of letters, digits, `-`, `_` and dots, a dotted IPv4 or a bracketed IPv6 address,
//! perhaps a port.

use crate::policy::glob;
// Addresses alone: nothing of `core` opens a socket.
use core::net::{Ipv4Addr, Ipv6Addr};

/// Schemes whose host is where a program connects to, and their ports.
const SCHEMES: [(&str, u16); 4] = [("http", 80), ("https", 443), ("ws", 80), ("wss", 443)];
/// Longest name of a host (RFC 1035).
const MAX_HOST: usize = 253;

/// Why the host of a URL is not known for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Odd {
    /// Tabs and line ends are dropped by some programs.
    #[error("white space or control characters")]
    Blank,
    /// Some programs take a backslash for a slash.
    #[error("a backslash before its path")]
    Backslash,
    /// Not one of the web's, or not followed by `://`.
    #[error("not http://, https://, ws:// or wss://")]
    Scheme,
    /// A name or password before the host.
    #[error("a user name before its host")]
    User,
    /// Neither a name in ASCII nor an address in its usual form.
    #[error("a host that is not a plain name or address")]
    Host,
    /// Not a port.
    #[error("a port that is none")]
    Port,
}

/// Where a URL leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlHost {
    /// In lower case, without a dot at its end; an IPv6 address in brackets, in its shortest form.
    pub host: String,
    /// The port, stated or the scheme's.
    pub port: u16,
}

impl UrlHost {
    /// Reads a URL.
    ///
    /// # Errors
    /// What makes its host uncertain.
    pub fn of(url: &str) -> Result<UrlHost, Odd> {
        if url.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
            return Err(Odd::Blank);
        }
        let (scheme, rest) = url.split_once("://").ok_or(Odd::Scheme)?;
        let usual = SCHEMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(scheme)).map(|(_, port)| *port).ok_or(Odd::Scheme)?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('\\') {
            return Err(Odd::Backslash);
        }
        if authority.contains('@') {
            return Err(Odd::User);
        }
        let (host, port) = split_port(authority).ok_or(Odd::Host)?;
        let port = port.map_or(Ok(usual), |text| parse_port(text).ok_or(Odd::Port))?;
        Ok(UrlHost { host: plain(host).ok_or(Odd::Host)?, port })
    }
}

/// The host and what stands behind its colon.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if authority.starts_with('[') {
        let (inner, behind) = authority.split_once(']')?;
        let host = authority.get(..inner.len().checked_add(1)?)?;
        return match behind {
            "" => Some((host, None)),
            _ => Some((host, Some(behind.strip_prefix(':')?))),
        };
    }
    Some(authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))))
}

fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten().filter(|port| *port != 0)
}

/// The one form of a host.
fn plain(host: &str) -> Option<String> {
    if let Some(inner) = host.strip_prefix('[') {
        let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        // Such an address is an IPv4 one in disguise.
        return address.to_ipv4().is_none_or(|_| address.is_loopback()).then(|| format!("[{address}]"));
    }
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if host.len() > MAX_HOST || !host.split('.').all(is_label) {
        return None;
    }
    // The WHATWG standard reads a host whose last label is a number as an IPv4 address: 0x7f.1 and 2130706433 are 127.0.0.1.
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_hex = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let is_number = is_hex || last.bytes().all(|byte| byte.is_ascii_digit());
    (!is_number || host.parse::<Ipv4Addr>().is_ok()).then_some(host)
}

/// A host in a rule: a name or an address, perhaps with `*` and `?`; behind a colon a port, without which every port is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    host: String,
    port: Option<u16>,
    /// Of digits, dots and stars: a name such as `10.example.com` is not meant.
    addresses_only: bool,
}

impl HostPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<HostPattern, String> {
        let wrong = || {
            format!("`{text}` is no host such as example.com, *.example.com, 127.0.0.1:8080 or [::1]; other alphabets are written as xn--")
        };
        let (host, port) = split_port(text).ok_or_else(wrong)?;
        let port = port.map(|port| parse_port(port).ok_or_else(wrong)).transpose()?;
        let is_pattern = host.contains(['*', '?']);
        let host = if is_pattern { pattern(host) } else { plain(host) }.ok_or_else(wrong)?;
        let addresses_only = is_pattern
            && host.bytes().any(|byte| byte.is_ascii_digit())
            && !host.contains(|letter: char| letter.is_ascii_alphabetic() || matches!(letter, '-' | '_' | '['));
        Ok(HostPattern { host, port, addresses_only })
    }

    /// Whether a URL leads there.
    #[must_use]
    pub fn fits(&self, url: &UrlHost) -> bool {
        self.port.is_none_or(|port| port == url.port)
            && (!self.addresses_only || url.host.parse::<Ipv4Addr>().is_ok())
            && glob::fits(&self.host, &url.host)
    }
}

fn pattern(host: &str) -> Option<String> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | '*' | '?');
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let fits = match address {
        Some(inner) => inner.chars().all(|letter| letter.is_ascii_hexdigit() || matches!(letter, ':' | '*' | '?')),
        None => host.chars().all(is_letter) && !host.contains(".."),
    };
    fits.then_some(host)
}
