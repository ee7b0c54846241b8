//! `sandbox` of a server in mcp.json: a level, or an object of what its processes may reach and use.

use super::super::report::{Field, Report, Section, Unknown, number};
use super::super::yaml::Value;
use super::{path, value, within};
use crate::tools::server::{Confinement, Level};
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Paths, and hosts, at most.
const MAX_GRANTS: usize = 256;
/// The longest name of a host (RFC 1035), with a port.
const MAX_HOST: usize = 253 + ":65535".len();
const LEVELS: [(&str, Level); 3] = [("none", Level::None), ("standard", Level::Standard), ("strict", Level::Strict)];
/// CPU time: up to a year.
const SECONDS: RangeInclusive<u64> = 1..=31_536_000;
/// Processes and open files that Linux can count.
const COUNT: RangeInclusive<u64> = 1..=4_194_304;
/// A limit that is taken away.
const UNLIMITED: &str = "unlimited";

pub(super) fn read(field: &Field<'_>, home: Option<&Path>, into: &mut Confinement, report: &mut Report) {
    if matches!(field.node.value, Value::Text(_)) {
        into.level = report.word(field, &LEVELS).unwrap_or(into.level);
        return;
    }
    let Value::Map(_) = field.node.value else {
        report.expected(field, "none, standard, strict, or an object with a level");
        return;
    };
    let Some(mut section) = report.section(field) else { return };
    let level = value(&mut section, "level", report).and_then(|field| report.word(&field, &LEVELS));
    into.level = level.unwrap_or(into.level);
    let require = value(&mut section, "require", report);
    into.require = require.as_ref().and_then(|field| report.word(field, &LEVELS));
    if let Some(field) = require.filter(|_| into.require.is_some_and(|require| require > into.level)) {
        report.refuse(field.line, format!("{}: is more than the level `{}` that is asked for", field.key, into.level.name()));
    }
    into.read = paths(&mut section, "read", home, report);
    into.write = paths(&mut section, "write", home, report);
    into.hosts = hosts(&mut section, report);
    let resources = &mut into.resources;
    let mut limit = |name, limit: &mut Option<u64>, read: &dyn Fn(&Field<'_>, &mut Report) -> Option<u64>| {
        let Some(field) = value(&mut section, name, report) else { return };
        let is_lifted = matches!(&field.node.value, Value::Text(text) if text == UNLIMITED);
        *limit = if is_lifted { None } else { read(&field, report) };
    };
    let size = |field: &Field<'_>, report: &mut Report| report.size(field);
    limit("memory", &mut resources.memory_bytes, &size);
    limit("file_size", &mut resources.file_bytes, &size);
    limit("cpu_seconds", &mut resources.cpu_seconds, &|field, report| within(field, &SECONDS, report));
    limit("processes", &mut resources.processes, &|field, report| within(field, &COUNT, report));
    limit("open_files", &mut resources.open_files, &|field, report| within(field, &COUNT, report));
    section.finish(Unknown::Refuse, report);
}

/// A list of texts, each with its place.
fn items<'a>(field: &Field<'a>, report: &mut Report) -> Vec<Field<'a>> {
    match &field.node.value {
        Value::List(items) if items.len() <= MAX_GRANTS => {
            items.iter().enumerate().map(|(at, node)| Field { key: format!("{}[{at}]", field.key), line: node.line, node }).collect()
        }
        _ => {
            report.expected(field, &format!("a list of at most {MAX_GRANTS} texts"));
            Vec::new()
        }
    }
}

fn paths(section: &mut Section<'_>, name: &'static str, home: Option<&Path>, report: &mut Report) -> Vec<PathBuf> {
    let field = value(section, name, report);
    let items = field.map(|field| items(&field, report)).unwrap_or_default();
    items.iter().filter_map(|item| path(item, home, report)).collect()
}

/// `HOST`, `HOST:PORT` or `[ADDRESS]:PORT`.
fn hosts(section: &mut Section<'_>, report: &mut Report) -> Vec<String> {
    let field = value(section, "hosts", report);
    let items = field.map(|field| items(&field, report)).unwrap_or_default();
    let mut hosts = Vec::new();
    for item in items {
        match number(item.node).filter(|text| is_host(text)) {
            Some(host) => hosts.push(host.to_ascii_lowercase()),
            None => report.expected(&item, "a host such as api.example.com or api.example.com:443"),
        }
    }
    hosts
}

fn is_host(text: &str) -> bool {
    let (is_name, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((address, port))) => (address.parse::<Ipv6Addr>().is_ok(), port),
        Some(None) => return false,
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            (!name.is_empty() && name.bytes().all(is_letter) && !name.starts_with(['.', '-']), port)
        }
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    is_name && text.len() <= MAX_HOST && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}
