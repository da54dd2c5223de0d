//! One kept-alive connection that waits for each answer: for what has to happen in order.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::connection::{parse_head, request};

/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;

/// A connection to one server, opened anew when the server has closed it.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    patience: Duration,
    stream: Option<TcpStream>,
    received: Vec<u8>,
}

impl Client {
    /// A client that waits at most `patience` for an answer. Connects with the first request.
    pub fn new(address: SocketAddr, patience: Duration) -> Self {
        Self { address, patience, stream: None, received: Vec::with_capacity(READ_BYTES) }
    }

    /// Sends a request and takes the answer, which must be a success and JSON. `headers` are whole lines, each ending in a line break.
    ///
    /// # Errors
    /// The server cannot be reached or refuses; its words are in the message.
    pub fn json(&mut self, method: &str, path: &str, headers: &str, body: &Value) -> anyhow::Result<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = request(method, path, &self.address.to_string(), headers, &body);
        let fresh = self.stream.is_none();
        let answered = match self.exchange(&request) {
            // The server may close a connection that has been idle; a fresh one is tried once. Not where no answer came in time: the
            // server has what was sent, and would be told it twice.
            Err(error) if !fresh && !is_timeout(&error) => self.exchange(&request),
            other => other,
        };
        let (status, from) =
            answered.with_context(|| format!("asking {}: is a Kindred server running there?", self.address))?;
        let body = self.received.get(from..).unwrap_or_default();
        ensure!(
            (200..300).contains(&status),
            "{method} {path} answered {status}: {}",
            String::from_utf8_lossy(body).chars().take(400).collect::<String>()
        );
        serde_json::from_slice(body)
            .with_context(|| format!("{method} {path} did not answer JSON: is {} a Kindred server?", self.address))
    }

    /// The status, and where in `received` the body begins.
    fn exchange(&mut self, request: &[u8]) -> io::Result<(u16, usize)> {
        let outcome = self.try_exchange(request);
        if outcome.is_err() {
            self.stream = None;
        }
        outcome
    }

    fn try_exchange(&mut self, request: &[u8]) -> io::Result<(u16, usize)> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&self.address, self.patience)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(self.patience))?;
                stream.set_write_timeout(Some(self.patience))?;
                stream
            }
        };
        stream.write_all(request)?;
        self.received.clear();
        let mut chunk = [0; READ_BYTES];
        loop {
            let n = stream.read(&mut chunk)?;
            if n == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.received.extend_from_slice(chunk.get(..n).unwrap_or_default());
            if let Some(head) = parse_head(&self.received)?
                && self.received.len() >= head.head_bytes + head.body_bytes
            {
                if !head.close {
                    self.stream = Some(stream);
                }
                return Ok((head.status, head.head_bytes));
            }
        }
    }
}

/// Whether waiting took too long, which systems call by two names.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Takes a request, which comes in one piece, and answers it.
    fn answer(listener: &TcpListener) -> TcpStream {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; READ_BYTES]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        stream
    }

    fn tell(client: &mut Client) -> anyhow::Result<Value> {
        client.json("POST", "/v1/interactions", "", &serde_json::json!({"item_id": "a"}))
    }

    #[test]
    fn a_connection_that_was_closed_is_opened_anew() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Client::new(listener.local_addr().unwrap(), Duration::from_secs(10));
        let server = thread::spawn(move || {
            drop(answer(&listener));
            drop(answer(&listener));
        });
        tell(&mut client).unwrap();
        tell(&mut client).unwrap();
        server.join().unwrap();
    }

    #[test]
    fn what_was_not_answered_in_time_is_not_sent_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Client::new(listener.local_addr().unwrap(), Duration::from_secs(2));
        let server = thread::spawn(move || {
            let mut unanswered = Vec::new();
            answer(&listener).read_to_end(&mut unanswered).unwrap();
            (unanswered, listener)
        });
        tell(&mut client).unwrap();
        assert!(tell(&mut client).is_err());
        let (unanswered, listener) = server.join().unwrap();
        assert!(unanswered.starts_with(b"POST /v1/interactions"));
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "it was sent twice");
    }
}
