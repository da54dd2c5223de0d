//! One kept-alive connection that never blocks, and the little of HTTP/1.1 that our own server's answers need.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest answer taken, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One connection with at most one request on its way.
pub struct Connection<'a> {
    address: SocketAddr,
    stream: TcpStream,
    /// What is still to be written of the request.
    unsent: &'a [u8],
    received: Vec<u8>,
    head: Option<Head>,
    busy: bool,
}

/// The first part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Bytes before the body.
    pub head_bytes: usize,
    /// Bytes of the body.
    pub body_bytes: usize,
    /// Whether the server closes the connection after it.
    pub close: bool,
}

impl<'a> Connection<'a> {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there, or takes too long to.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = connect(address)?;
        Ok(Self { address, stream, unsent: &[], received: Vec::with_capacity(READ_BYTES), head: None, busy: false })
    }

    /// Whether an answer is still to come.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Begins a request; [`Connection::poll`] brings it on its way and gets the answer. Where the server has closed the connection since the last
    /// one, as it does with those that are idle for long, it is opened anew first. Whether that had to be, which may wait.
    pub fn begin(&mut self, request: &'a [u8]) -> bool {
        let is_over = self.head.is_some_and(|head| head.close) || self.is_closed();
        if is_over {
            // Where nobody answers, the request fails on what is left of the old connection.
            let _ = self.reopen();
        }
        self.unsent = request;
        self.received.clear();
        self.head = None;
        self.busy = true;
        is_over
    }

    /// Sends and receives what can be without waiting. The status, once the answer is complete.
    ///
    /// # Errors
    /// The connection broke or the answer makes no sense. The request is then over; [`Connection::reopen`] before the next.
    pub fn poll(&mut self) -> io::Result<Option<u16>> {
        let outcome = self.poll_inner();
        match &outcome {
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => self.busy = false,
        }
        outcome
    }

    fn poll_inner(&mut self) -> io::Result<Option<u16>> {
        while !self.unsent.is_empty() {
            match self.stream.write(self.unsent) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => self.unsent = self.unsent.get(n..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut chunk = [0; READ_BYTES];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.received.extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if self.head.is_none() {
                self.head = parse_head(&self.received)?;
            }
            if let Some(head) = self.head
                && self.received.len() >= head.head_bytes + head.body_bytes
            {
                return Ok(Some(head.status));
            }
        }
    }

    /// Whether the server has ended the connection, between two requests: then there is nothing to read while it is open.
    fn is_closed(&self) -> bool {
        !matches!(self.stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Connects anew, after an error.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn reopen(&mut self) -> io::Result<()> {
        self.stream = connect(self.address)?;
        self.unsent = &[];
        Ok(())
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Reads status, length and connection header, once all of the head is there.
///
/// # Errors
/// It is not an HTTP/1.1 answer with a stated length. Our server states it on every answer; a proxy before it may not.
pub fn parse_head(received: &[u8]) -> io::Result<Option<Head>> {
    let wrong = |text: &str| Err(io::Error::new(ErrorKind::InvalidData, text));
    let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if received.len() > READ_BYTES { wrong("the head of the answer does not end") } else { Ok(None) };
    };
    let head = received.get(..end).unwrap_or_default();
    let Ok(head) = std::str::from_utf8(head) else { return wrong("the head of the answer is not text") };
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let Some(status) = status else { return wrong("the answer is not HTTP/1.1") };
    let (mut length, mut close) = (None, false);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            close = value.trim().eq_ignore_ascii_case("close");
        }
    }
    match length {
        Some(body_bytes) if body_bytes <= ANSWER_BYTES_MAX => {
            Ok(Some(Head { status, head_bytes: end + 4, body_bytes, close }))
        }
        _ => wrong("the answer does not state its length"),
    }
}

/// The environment variable that holds the API key with which commands speak to a server: not an argument, since those are seen by all.
pub const API_KEY: &str = "KINDRED_API_KEY";

/// The header with the key of [`API_KEY`], as a whole line; nothing where there is no key.
fn key_line() -> String {
    let given = std::env::var(API_KEY).unwrap_or_default();
    // Who takes it from a file may take the end of its line too.
    let key = given.trim();
    // What no header may hold is no key, and would end the header.
    let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    if is_key { format!("api-key: {key}\r\n") } else { String::new() }
}

/// An id as a part of a path: all bytes but the plainest are written as `%XX`.
pub fn in_path(id: &str) -> String {
    let mut path = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

/// A request as it goes over the wire, with a JSON body, and with the key of [`API_KEY`] where there is one. `headers` are whole lines, each ending
/// in a line break.
pub fn request(method: &str, path: &str, host: &str, headers: &str, body: &str) -> Vec<u8> {
    let key = key_line();
    let content = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{key}{headers}{content}content-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// One request over a connection of its own, waiting for the answer: for the questions before and after a measurement.
///
/// # Errors
/// The connection broke, the answer makes no sense, or it took longer than `patience`.
pub fn call(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    patience: Duration,
) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(&request(method, path, &address.to_string(), "", body))?;
    let mut received = Vec::new();
    let mut chunk = [0; READ_BYTES];
    loop {
        if let Some(head) = parse_head(&received)?
            && let Some(body) = received.get(head.head_bytes..head.head_bytes + head.body_bytes)
        {
            return Ok((head.status, String::from_utf8_lossy(body).into_owned()));
        }
        let n = stream.read(&mut chunk)?;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(chunk.get(..n).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn a_connection_that_was_closed_while_it_was_idle_is_opened_anew() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Ends each connection after one answer, once announced and once not, as it does with one that is idle for long.
        let server = thread::spawn(move || {
            for header in ["connection: close\r\n", "", ""] {
                let (mut stream, _) = listener.accept().unwrap();
                assert!(stream.read(&mut [0; READ_BYTES]).unwrap() > 0);
                let answer = format!("HTTP/1.1 200 OK\r\n{header}content-length: 2\r\n\r\nok");
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let mut connection = Connection::open(address).unwrap();
        for at in 0..3 {
            assert_eq!(connection.begin(b"GET /readyz HTTP/1.1\r\n\r\n"), at > 0);
            let status = loop {
                if let Some(status) = connection.poll().unwrap() {
                    break status;
                }
            };
            assert_eq!(status, 200);
            while !connection.is_closed() {
                thread::yield_now();
            }
        }
        server.join().unwrap();
    }

    #[test]
    fn a_head_is_read_when_it_is_complete() {
        let head = b"HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\nconnection: close\r\n\r\n{";
        assert_eq!(parse_head(head.get(..30).unwrap()).unwrap(), None);
        let expected = Head { status: 404, head_bytes: head.len() - 1, body_bytes: 12, close: true };
        assert_eq!(parse_head(head).unwrap(), Some(expected));
    }

    #[test]
    fn what_is_not_our_servers_answer_is_refused() {
        assert!(parse_head(b"SSH-2.0-OpenSSH\r\n\r\n").is_err());
        assert!(parse_head(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(parse_head(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n").is_err());
        assert!(parse_head(&vec![b'x'; READ_BYTES + 1]).is_err());
    }

    #[test]
    fn an_id_survives_a_path() {
        assert_eq!(in_path("a/b ü"), "a%2Fb%20%C3%BC");
    }

    #[test]
    fn a_request_states_its_length() {
        let text = String::from_utf8(request("POST", "/v1/score", "h:1", "", "{}")).unwrap();
        assert!(
            text.starts_with("POST /v1/score HTTP/1.1\r\nhost: h:1\r\n")
                && text.ends_with("content-length: 2\r\n\r\n{}")
        );
    }
}
