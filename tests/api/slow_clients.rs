//! Clients that take their time, or send without end: each is cut off, and the server goes on.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use kindred::settings::Settings;
use kindred::testing::Fixture;
use serde_json::json;

use crate::support::{PATIENCE, Server, raw};

fn server(change: impl FnOnce(&mut Settings)) -> Server {
    Server::with(&Fixture::shop(), change)
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads until the server closes; what it said.
fn until_closed(stream: &mut TcpStream) -> String {
    let (mut said, mut part) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(read) => said.extend(&part[..read]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("the server does not close: {error}"),
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn a_head_that_does_not_end_is_cut_off() {
    let server = server(|settings| settings.http.client_request_timeout_ms = 1500);
    let mut stream = connect(&server);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-slow: ").unwrap();
    let said = until_closed(&mut stream);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn a_body_that_does_not_come_is_answered_408() {
    let server = server(|settings| settings.http.client_body_timeout_ms = 200);
    let head = "POST /v1/recommendations HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    for begun in ["content-length: 100\r\n\r\n{", "transfer-encoding: chunked\r\n\r\n1\r\n{\r\n"] {
        let mut stream = connect(&server);
        stream.write_all(format!("{head}{begun}").as_bytes()).unwrap();
        let said = until_closed(&mut stream);
        assert!(said.starts_with("HTTP/1.1 408") && said.contains("body_timeout"), "{said}");
    }
    assert_eq!(server.metric("kindred_in_flight"), 0.0, "none of them was admitted");
    assert_eq!(server.post("/v1/recommendations", json!({})).status, 200);
}

#[test]
fn a_body_that_does_not_end_is_cut_off_at_its_bound() {
    let server = server(|_| ());
    let mut stream = connect(&server);
    stream
        .write_all(b"POST /v1/interactions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        .unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let began = Instant::now();
    // The server reads on for a second, so that its answer is not lost with the connection; then it closes.
    while stream.write_all(chunk.as_bytes()).is_ok() {
        assert!(began.elapsed() < PATIENCE, "the body is still taken");
    }
    assert_eq!(server.get("/healthz").status, 200);
    let request = "POST /v1/interactions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n{";
    assert!(
        raw(server.port, request.as_bytes()).starts_with("HTTP/1.1 413"),
        "a length that is said is not waited for"
    );
}

#[test]
fn a_body_that_nobody_asked_for_is_not_read_for_ever() {
    let server = server(|_| ());
    for line in [
        "GET /healthz",
        "GET /v1/model",
        "POST /nowhere",
        "DELETE /v1/search",
        "POST /v1/interactions",
        "PUT /v1/items/a",
    ] {
        let mut stream = connect(&server);
        stream
            .write_all(
                format!("{line} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
                    .as_bytes(),
            )
            .unwrap();
        let said = until_closed(&mut stream);
        assert!(said.starts_with("HTTP/1.1 "), "{line}: {said}");
        assert!(said.contains("connection: close"), "{line}: {said}");
    }
    // One that ends leaves the connection as it was.
    let mut stream = connect(&server);
    let request = "POST /v1/recommendations HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n\
        1\r\n{\r\n1\r\n}\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    assert_eq!(until_closed(&mut stream).matches("HTTP/1.1 200").count(), 2);
}

#[test]
fn huge_heads_are_refused() {
    let server = server(|_| ());
    let huge = "a".repeat(200_000);
    let many: String = (0..500).map(|number| format!("x-{number}: a\r\n")).collect();
    for request in [
        format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-huge: {huge}\r\n\r\n"),
        format!("GET /{huge} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{many}\r\n"),
    ] {
        let mut stream = connect(&server);
        // The server may close before it has read all.
        let _ = stream.write_all(request.as_bytes());
        let said = until_closed(&mut stream);
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
    }
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn an_idle_connection_is_closed() {
    let server = server(|settings| settings.http.keep_alive_seconds = 1);
    let mut stream = connect(&server);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let said = until_closed(&mut stream);
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_client_that_takes_no_answer_is_cut_off() {
    let server = server(|settings| settings.http.client_write_timeout_ms = 300);
    let mut stream = connect(&server);
    stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    let request = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(64);
    let began = Instant::now();
    // Asks and never reads. Writing goes on until the server does not read any more, and fails once it has cut the connection.
    loop {
        assert!(began.elapsed() < PATIENCE, "the connection is still there");
        match stream.write_all(request.as_bytes()) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if let Ok(Some(_)) = stream.take_error() {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn connections_without_end_do_not_keep_others_out() {
    let server = server(|settings| {
        settings.http.workers = 1;
        settings.http.client_request_timeout_ms = 1500;
        settings.http.max_connections_per_worker = 8;
    });
    let silent: Vec<TcpStream> = (0..32).map(|_| connect(&server)).collect();
    assert_eq!(server.get("/healthz").status, 200, "once the silent ones have had their time");
    drop(silent);
}

#[test]
fn a_second_head_that_does_not_end_keeps_nobody_out() {
    let server = server(|settings| {
        settings.http.workers = 1;
        settings.http.max_connections_per_worker = 8;
    });
    let asked = |_| {
        let mut stream = connect(&server);
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        stream
    };
    // Each has its answer, begins another request and leaves it at that.
    let held: Vec<TcpStream> = (0..7)
        .map(asked)
        .map(|mut stream| {
            let (mut said, mut part) = (Vec::new(), [0; 4096]);
            while !said.ends_with(b"ok\n") {
                let read = stream.read(&mut part).unwrap();
                assert!(read > 0, "{}", String::from_utf8_lossy(&said));
                said.extend(&part[..read]);
            }
            stream.write_all(b"G").unwrap();
            stream
        })
        .collect();
    let said = until_closed(&mut asked(7));
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("connection: close"), "{said}");
    assert_eq!(server.get("/healthz").status, 200, "there is a place for those who come");
    drop(held);
    let began = Instant::now();
    while raw(server.port, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").contains("connection: close") {
        assert!(began.elapsed() < PATIENCE, "the places that are free again are not given");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn connections_wait_in_the_kernel_for_a_place() {
    let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
    if !allowed.is_ok_and(|allowed| allowed.trim().parse::<u32>().is_ok_and(|allowed| allowed >= 1024)) {
        return eprintln!("SKIPPED: the system lets fewer connections wait (net.core.somaxconn)");
    }
    let server = server(|settings| {
        settings.http.workers = 1;
        settings.http.max_connections_per_worker = 1;
    });
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], server.port));
    // One that finds no room is tried again after a second.
    let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(900)).unwrap();
    let waiting: Vec<TcpStream> = (0..200).map(connect).collect();
    drop(waiting);
}
