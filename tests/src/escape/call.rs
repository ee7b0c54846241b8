//! System calls by number: what an attacker does, and no library offers.

#![expect(unsafe_code, reason = "attacks are system calls that no library makes")]

use std::io;

use nix::libc;

/// An argument of a call.
pub(super) enum Arg<'a> {
    /// A number, or a null pointer.
    Number(i64),
    /// Memory that the kernel may read and write.
    Memory(&'a mut [u8]),
}

/// Makes a call.
pub(super) fn call<const N: usize>(number: libc::c_long, args: [Arg<'_>; N]) -> io::Result<libc::c_long> {
    let mut words = [0_i64; 6];
    for (word, arg) in words.iter_mut().zip(args) {
        *word = match arg {
            Arg::Number(number) => number,
            Arg::Memory(memory) => memory.as_mut_ptr().expose_provenance().cast_signed() as i64,
        };
    }
    // SAFETY: the attempts pass memory of the size that the call reads or writes, or numbers of calls that touch no memory of this process;
    // it holds nothing but the attempt, and ends after it.
    let result = unsafe { libc::syscall(number, words[0], words[1], words[2], words[3], words[4], words[5]) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Numbers only.
pub(super) fn numbers<const N: usize>(number: libc::c_long, args: [i64; N]) -> io::Result<libc::c_long> {
    call(number, args.map(Arg::Number))
}

/// Forks; the child calls what it is given, and ends.
pub(super) fn child(body: impl FnOnce() -> i32) -> io::Result<nix::unistd::Pid> {
    // SAFETY: this process has one thread.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(child),
        // SAFETY: ends the process at once.
        nix::unistd::ForkResult::Child => unsafe { libc::_exit(body()) },
    }
}
