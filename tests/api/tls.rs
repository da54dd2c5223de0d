//! The server over TLS: a certificate that is replaced, and clients that must show theirs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use kindred::settings::Settings;
use kindred::testing::Fixture;
use kindred::timestamp::parse_rfc3339;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::{PATIENCE, Server};

/// An authority that signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// PEM of a certificate and its key.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn put(&self, directory: &Path, name: &str) {
        let (certificate, key) = self.sign(name);
        std::fs::write(directory.join("key.pem"), key).unwrap();
        std::fs::write(directory.join("certificate.pem"), certificate).unwrap();
    }
}

fn server(directory: &Path, change: impl FnOnce(&mut Settings)) -> Server {
    Server::with(&Fixture::shop(), |settings| {
        settings.tls.certificate = directory.join("certificate.pem");
        settings.tls.private_key = directory.join("key.pem");
        settings.security.reload_ms = 5;
        change(settings);
    })
}

/// Asks whether it is ready, as a client that trusts an authority and shows a certificate of its own, if it has one.
fn ask(server: &Server, trusted: &Authority, name: &str, own: Option<&(String, String)>) -> std::io::Result<String> {
    ask_for("/readyz", server, trusted, name, own)
}

fn ask_for(
    path: &str,
    server: &Server,
    trusted: &Authority,
    name: &str,
    own: Option<&(String, String)>,
) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.0.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
    };
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = TcpStream::connect(("127.0.0.1", server.port))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(connection, socket);
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

#[test]
fn a_certificate_is_replaced_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.put(directory.path(), "one.example");
    let server = server(directory.path(), |_| ());
    let said = ask(&server, &authority, "one.example", None).unwrap();
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    assert!(ask(&server, &Authority::new(), "one.example", None).is_err(), "another authority");
    authority.put(directory.path(), "two.example");
    let began = Instant::now();
    while ask(&server, &authority, "two.example", None).is_err() {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(ask(&server, &authority, "one.example", None).is_err(), "the old one is gone");
    let answer = crate::support::raw(server.port, b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(!answer.contains("200"), "nothing is said in plain: {answer}");
}

#[test]
fn the_end_of_the_certificate_is_among_the_metrics() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.put(directory.path(), "one.example");
    let server = server(directory.path(), |_| ());
    let said = ask_for("/metrics", &server, &authority, "one.example", None).unwrap();
    // The crate that makes certificates lets them end then.
    let end = parse_rfc3339("4096-01-01T00:00:00Z").unwrap() / 1_000;
    assert!(said.contains(&format!("\nkindred_certificate_expiry_timestamp_seconds {end}\n")), "{said}");
}

#[test]
fn clients_must_show_a_certificate_where_that_is_set() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, clients) = (Authority::new(), Authority::new());
    authority.put(directory.path(), "one.example");
    let roots = directory.path().join("clients.pem");
    std::fs::write(&roots, clients.0.pem()).unwrap();
    let server = server(directory.path(), |settings| settings.tls.client_authorities = roots);
    let (good, stranger) = (clients.sign("client"), authority.sign("client"));
    let said = ask(&server, &authority, "one.example", Some(&good)).unwrap();
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    assert!(ask(&server, &authority, "one.example", None).is_err(), "no certificate");
    assert!(ask(&server, &authority, "one.example", Some(&stranger)).is_err(), "of another authority");
}
