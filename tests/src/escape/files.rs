//! Files that were not granted: reading them, changing them, changing what is said of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use aex_proto::sandbox::Part::{Attributes, Files, Kernel};
use nix::fcntl::OFlag;
use nix::libc;

use super::Free::{Depends, Never, Reaches};
use super::call::{Arg, call};
use super::{Attempt, found};

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("read a file of the home", Files, Reaches, |t| found(fs::read(t.home.join("secret"))?)),
    Attempt::new("list the home", Files, Reaches, |t| listed(&t.home)),
    Attempt::new("list /home and /root", Files, Depends, |_| listed(Path::new("/root")).or_else(|_| listed(Path::new("/home")))),
    Attempt::new("read the ledger", Files, Reaches, |t| open(&t.aex_home.join("ledger.db"))),
    Attempt::new("read the daemon's .env", Files, Reaches, |t| found(fs::read(t.aex_home.join(".env"))?)),
    Attempt::new("list the daemon's home", Files, Reaches, |t| {
        let names = fs::read_dir(&t.aex_home)?.filter_map(Result::ok).any(|entry| entry.file_name() == "ledger.db");
        if names { Ok("its ledger".to_owned()) } else { Err(super::blocked("no ledger in it")) }
    }),
    Attempt::new("make a file in the daemon's home", Files, Reaches, |t| makes(&t.aex_home)),
    Attempt::new("read /etc/shadow", Files, Depends, |_| open(Path::new("/etc/shadow"))),
    Attempt::new("plant a line in .bashrc", Files, Reaches, |t| {
        OpenOptions::new().append(true).open(t.home.join(".bashrc"))?.write_all(b"true\n")?;
        Ok("written".to_owned())
    }),
    Attempt::new("make a file in the home", Files, Reaches, |t| makes(&t.home)),
    Attempt::new("make a file in /etc", Files, Depends, |_| nameless("/etc")),
    Attempt::new("make a file in /usr", Files, Depends, |_| nameless("/usr")),
    Attempt::new("make a file beside the program", Files, Depends, |t| makes(&t.programs)),
    Attempt::new("make a file in /var/tmp", Files, Reaches, |_| makes(Path::new("/var/tmp"))),
    Attempt::new("remove a file of the home", Files, Reaches, |t| {
        fs::remove_file(t.home.join("doomed"))?;
        Ok("removed".to_owned())
    }),
    Attempt::new("cut a file of the home short", Files, Reaches, |t| {
        nix::unistd::truncate(&t.home.join(".bashrc"), 0)?;
        Ok("cut".to_owned())
    }),
    Attempt::new("read through a link", Files, Reaches, |t| {
        let link = t.own.join("link");
        symlink(t.home.join("secret"), &link)?;
        found(fs::read(link)?)
    }),
    Attempt::new("read through a link to a folder", Files, Reaches, |t| {
        let link = t.own.join("link");
        symlink(&t.home, &link)?;
        found(fs::read(link.join("secret"))?)
    }),
    Attempt::new("make a hard link to a file", Files, Reaches, |t| {
        let link = t.own.join("hard");
        fs::hard_link(t.home.join("secret"), &link)?;
        found(fs::read(link)?)
    }),
    Attempt::new("rename a file over .profile", Files, Reaches, |t| {
        fs::write(t.own.join("evil"), "true\n")?;
        fs::rename(t.own.join("evil"), t.home.join(".profile"))?;
        Ok("renamed".to_owned())
    }),
    Attempt::new("rename a file of the home into the own folder", Files, Reaches, |t| {
        fs::rename(t.home.join("secret"), t.own.join("stolen"))?;
        found(fs::read(t.own.join("stolen"))?)
    }),
    Attempt::new("open by O_PATH, then anew", Files, Reaches, |t| {
        let path = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(t.home.join("secret"))?;
        found(fs::read(format!("/proc/self/fd/{}", path.as_raw_fd()))?)
    }),
    Attempt::new("climb by ..", Files, Reaches, |t| {
        let climbed =
            Path::new("../../../../../../../../../../..").join(t.home.join("secret").strip_prefix("/").map_err(io::Error::other)?);
        found(fs::read(climbed)?)
    }),
    Attempt::new("through the root of the first process", Files, Reaches, |t| {
        let secret = t.home.join("secret");
        let inner = secret.strip_prefix("/").map_err(io::Error::other)?;
        let roots = ["1".to_owned(), t.victim.to_string(), t.daemon.to_string()];
        let read = roots.iter().find_map(|pid| fs::read(Path::new("/proc").join(pid).join("root").join(inner)).ok());
        found(read.ok_or_else(|| super::blocked("no root of another process can be entered"))?)
    }),
    Attempt::new("write to the program itself", Files, Never, |t| {
        OpenOptions::new().write(true).open(t.programs.join("escape"))?;
        Ok("open for writing".to_owned())
    }),
    Attempt::new("read what others share in /dev/shm", Files, Reaches, |t| found(fs::read(&t.shm_file)?)),
    Attempt::new("open the machine's memory or disk", Files, Depends, |_| {
        let devices =
            ["/dev/mem", "/dev/kmsg", "/dev/kmem", "/dev/port", "/dev/sda", "/dev/vda", "/dev/nvme0n1", "/dev/console", "/dev/fuse"];
        devices.into_iter().find(|device| File::open(device).is_ok()).map(str::to_owned).ok_or_else(|| super::blocked("none opens"))
    }),
    Attempt::new("make a setuid program by a mode", Kernel, Reaches, |t| {
        let path = t.own.join("setuid");
        fs::copy("/bin/true", &path)?;
        let attempts = [0o4755, 0o2755].map(|mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)));
        attempts.into_iter().find_map(Result::ok).ok_or_else(|| super::blocked("no mode is taken"))?;
        special(&path)
    }),
    Attempt::new("make a setuid program as a new file", Kernel, Reaches, |t| {
        let making = |name: &str, flags: i32| {
            let path = t.own.join(name);
            OpenOptions::new().write(true).create_new(flags == 0).custom_flags(flags).mode(0o6755).open(if flags == 0 {
                &path
            } else {
                &t.own
            })
        };
        let made = making("new", 0).or_else(|_| making("", libc::O_TMPFILE))?;
        let path = format!("/proc/self/fd/{}", made.as_raw_fd());
        special(Path::new(&path))
    }),
    Attempt::new("make a setuid program by mknod and the newest chmod", Kernel, Depends, |t| {
        use nix::sys::stat::{Mode, SFlag, mknod};
        let path = t.own.join("node");
        let mode = Mode::S_IRWXU | Mode::S_ISUID;
        if mknod(&path, SFlag::S_IFREG, mode, 0).is_err() {
            File::create(&path)?;
            // fchmodat2(2), of Linux 6.6.
            let mut name = path.as_os_str().as_bytes().to_owned();
            name.push(0);
            let args = [Arg::Number(libc::AT_FDCWD.into()), Arg::Memory(&mut name), Arg::Number(0o4700), Arg::Number(0)];
            call(452, args)?;
        }
        special(&path)
    }),
    Attempt::new("make a setuid program by openat2", Kernel, Depends, |t| {
        let path = t.own.join("openat2");
        let how = nix::fcntl::OpenHow::new().flags(OFlag::O_CREAT | OFlag::O_WRONLY).mode(nix::sys::stat::Mode::from_bits_retain(0o4755));
        nix::fcntl::openat2(nix::fcntl::AT_FDCWD, &path, how)?;
        special(&path)
    }),
    Attempt::new("make a device", Files, Depends, |t| {
        use nix::sys::stat::{Mode, SFlag, makedev, mknod};
        let device = t.own.join("device");
        mknod(&device, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 11))?;
        File::open(&device)?;
        Ok("the kernel's log".to_owned())
    }),
    Attempt::new("open settings of the kernel for writing", Files, Depends, |_| {
        OpenOptions::new().write(true).open("/proc/sys/kernel/core_pattern")?;
        Ok("core_pattern".to_owned())
    }),
    Attempt::new("open sysrq-trigger for writing", Files, Depends, |_| {
        OpenOptions::new().write(true).open("/proc/sysrq-trigger")?;
        Ok("sysrq-trigger".to_owned())
    }),
    Attempt::new("leave the control group", Files, Depends, |_| {
        let groups = ["/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/unified/cgroup.procs", "/sys/fs/cgroup/memory/cgroup.procs"];
        let open = groups.into_iter().find(|file| OpenOptions::new().write(true).open(file).is_ok());
        open.map(str::to_owned).ok_or_else(|| super::blocked("none opens"))
    }),
    Attempt::new("change the mode of a file of the home", Attributes, Reaches, |t| {
        fs::set_permissions(t.home.join("secret"), fs::Permissions::from_mode(0o666))?;
        Ok("changed".to_owned())
    }),
    Attempt::new("change the times of a file of the home", Attributes, Reaches, |t| {
        let path = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(t.home.join("secret"))?;
        let zero = nix::sys::time::TimeSpec::new(0, 0);
        nix::sys::stat::utimensat(path, "", &zero, &zero, nix::sys::stat::UtimensatFlags::FollowSymlink).or_else(|_| {
            nix::sys::stat::utimensat(
                nix::fcntl::AT_FDCWD,
                &t.home.join("secret"),
                &zero,
                &zero,
                nix::sys::stat::UtimensatFlags::FollowSymlink,
            )
        })?;
        Ok("changed".to_owned())
    }),
];

fn listed(folder: &Path) -> io::Result<String> {
    let count = fs::read_dir(folder)?.count();
    if count == 0 { Err(super::blocked("it is empty")) } else { Ok(format!("{count} names of {}", folder.display())) }
}

fn open(path: &Path) -> io::Result<String> {
    let read = File::open(path)?.read_at(&mut [0; 16], 0)?;
    if read == 0 { Err(super::blocked("it is empty")) } else { Ok(format!("{read} bytes of {}", path.display())) }
}

/// Whether a file would run as another.
fn special(path: &Path) -> io::Result<String> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o6000;
    if mode == 0 { Err(super::blocked("its mode is a plain one")) } else { Ok(format!("{mode:o}")) }
}

fn makes(folder: &Path) -> io::Result<String> {
    let path = folder.join(".escape");
    OpenOptions::new().write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(format!("a file in {}", folder.display()))
}

/// A file without a name: it leaves nothing where it can be made.
fn nameless(folder: &str) -> io::Result<String> {
    OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(folder)?;
    Ok(format!("a file in {folder}"))
}
