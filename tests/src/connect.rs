//! A small HTTP proxy that only tunnels: for tests of `HTTPS_PROXY`.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// A running proxy; its threads end with the test's process.
pub struct Tunnel {
    address: SocketAddr,
    lines: Receiver<String>,
}

impl Tunnel {
    /// Starts one on a free port.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind the tunnel");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (seen, lines) = channel();
        drop(std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = seen.clone();
                drop(std::thread::spawn(move || tunnel(&stream, &seen)));
            }
        }));
        Self { address, lines }
    }

    /// `http://127.0.0.1:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The first line of the next request, such as `CONNECT 127.0.0.1:443 HTTP/1.1`.
    #[track_caller]
    pub fn next_line(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(20)).expect("a request to the tunnel")
    }

    /// Whether nobody asked for a tunnel since the last line that was taken.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.lines.try_recv().is_err()
    }
}

fn tunnel(client: &TcpStream, seen: &Sender<String>) -> io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
    // The test may have ended.
    let _ = seen.send(first).is_ok();
    let server = TcpStream::connect(target)?;
    { client }.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    drop(std::thread::spawn(move || {
        let copied = io::copy(&mut from, &mut to);
        // The other side may be gone.
        let _ = to.shutdown(Shutdown::Write).is_ok();
        copied
    }));
    io::copy(&mut { &server }, &mut { client })?;
    client.shutdown(Shutdown::Write)
}
