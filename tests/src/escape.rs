//! A tool that wants out: each attempt tries one way to reach what a confined process must not reach, and says what it got.
//!
//! The table is shared by the program that makes the attempts (`escape NAME TARGETS`) and by the test that judges them. Attempts are bounded:
//! what succeeds harms nothing but the victims of the test.

mod call;
mod files;
mod kernel;
mod network;
mod processes;
pub mod resources;

use std::io;
use std::path::PathBuf;

use aex_proto::sandbox::Part;
use serde::{Deserialize, Serialize};

/// What there is to reach, made by the test.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Targets {
    /// The user's home; `secret`, `.bashrc`, `.profile` and `doomed` lie in it, and the socket `unix`.
    pub home: PathBuf,
    /// The daemon's home.
    pub aex_home: PathBuf,
    /// The daemon's socket.
    pub socket: PathBuf,
    /// The attempt's own folder.
    pub own: PathBuf,
    /// The folder of the attacking program.
    pub programs: PathBuf,
    /// A listener on 127.0.0.1.
    pub tcp: u16,
    /// A listener on ::1; 0: this machine has none.
    pub tcp6: u16,
    /// A UDP socket on 127.0.0.1.
    pub udp: u16,
    /// The daemon's proxy on 127.0.0.1.
    pub proxy: u16,
    /// The name of an abstract Unix socket.
    pub name: String,
    /// A process of the same user.
    pub victim: i32,
    /// Where the victim keeps SECRET.
    pub address: usize,
    /// A descriptor of the victim's.
    pub descriptor: i32,
    /// The daemon.
    pub daemon: i32,
    /// A segment of shared memory.
    pub shared: i32,
    /// A file in /dev/shm.
    pub shm_file: PathBuf,
}

/// What stands in every file and memory that must not be read.
pub const SECRET: &str = "canary-7f3a9c";

/// Whether an attempt succeeds when nothing confines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Free {
    /// It does: so the attempt is a real one.
    Reaches,
    /// It depends on user and kernel.
    Depends,
    /// It never does: the stage closes it at every level.
    Never,
}

/// One way out. It answers what it got, or why it did not.
pub struct Attempt {
    /// Its name.
    pub name: &'static str,
    /// Where it is reported when it is open.
    pub part: Part,
    /// What it does without confinement.
    pub free: Free,
    run: fn(&Targets) -> io::Result<String>,
}

impl Attempt {
    const fn new(name: &'static str, part: Part, free: Free, run: fn(&Targets) -> io::Result<String>) -> Self {
        Self { name, part, free, run }
    }
}

/// All of them.
pub fn attempts() -> impl Iterator<Item = &'static Attempt> {
    [files::ATTEMPTS, processes::ATTEMPTS, network::ATTEMPTS, kernel::ATTEMPTS, resources::ATTEMPTS].into_iter().flatten()
}

/// Makes one attempt, and says how it went: a line that begins with REACHED or BLOCKED.
#[must_use]
pub fn made(name: &str, targets: &Targets) -> String {
    match attempts().find(|attempt| attempt.name == name).map(|attempt| (attempt.run)(targets)) {
        Some(Ok(got)) => format!("REACHED {got}"),
        Some(Err(fault)) => format!("BLOCKED {fault}"),
        None => "UNKNOWN".to_owned(),
    }
}

/// Holds a secret in memory and a descriptor, says where, and waits to be attacked, or for the end of its input.
///
/// # Errors
/// When its input or output breaks.
pub fn victim(out: &mut impl io::Write, input: &mut impl io::Read) -> io::Result<()> {
    let secret = Box::new(SECRET.as_bytes().to_owned());
    // Where the Yama module lets only ancestors trace, everybody may trace this one: 0x59616d61 is PR_SET_PTRACER.
    call::numbers(nix::libc::SYS_prctl, [0x5961_6d61, -1]).ok();
    let file = std::fs::File::open("/proc/self/cmdline")?;
    writeln!(out, "{} {}", secret.as_ptr().addr(), std::os::fd::AsRawFd::as_raw_fd(&file))?;
    out.flush()?;
    input.read_to_end(&mut Vec::new())?;
    drop((secret, file));
    Ok(())
}

/// A segment of shared memory of this user.
///
/// # Errors
/// When the kernel refuses it.
pub fn segment() -> io::Result<i32> {
    let id = call::numbers(nix::libc::SYS_shmget, [0, 4_096, 0o1600])?;
    i32::try_from(id).map_err(io::Error::other)
}

/// Removes it.
///
/// # Errors
/// When it is gone.
pub fn remove_segment(id: i32) -> io::Result<()> {
    call::numbers(nix::libc::SYS_shmctl, [id.into(), nix::libc::IPC_RMID.into(), 0]).map(drop)
}

fn found(text: impl AsRef<[u8]>) -> io::Result<String> {
    let text = text.as_ref();
    let holds = text.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
    if holds { Ok("the secret".to_owned()) } else { Err(io::Error::other(format!("{} bytes without the secret", text.len()))) }
}

fn blocked(why: &str) -> io::Error {
    io::Error::other(why.to_owned())
}
