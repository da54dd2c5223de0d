//! TLS by rustls, with ring's arithmetic: certificates that can be replaced while connections are open, and clients' certificates if asked for.
//!
//! A new connection takes the certificate that is in force when it begins; open ones go on with theirs. TLS 1.2 and 1.3, with rustls' own
//! choice of suites. The only module that names rustls.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, RootCertStore, ServerConfig};

use crate::keys::{Hash, Seen, sha256};
use crate::limits;
use crate::settings::TlsSettings;

/// What a listener needs to speak TLS.
pub type Listener = ServerConfig;

/// Why TLS cannot be spoken. Messages never hold what stands in a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}; give a PEM file in {setting}")]
    Unreadable {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} cannot be used: {reason}; {setting} is a PEM file")]
    Unusable {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The certificate in force.
pub struct Certificates {
    settings: TlsSettings,
    current: RwLock<Arc<CertifiedKey>>,
    /// The files that were read last, good or bad.
    seen: Mutex<Seen>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificates({})", self.settings.certificate.display())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Reads the files and makes what a listener needs, with a handle that replaces the certificate.
///
/// # Errors
/// [`TlsError`] naming the setting and the file.
pub fn listener(settings: &TlsSettings) -> Result<(Listener, Arc<Certificates>), TlsError> {
    let files = Files::read(settings)?;
    let certificates = Arc::new(Certificates {
        settings: settings.clone(),
        current: RwLock::new(Arc::new(files.certified(settings)?)),
        seen: Mutex::new(Seen::in_force(files.hash())),
    });
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| unusable("tls.certificate", &settings.certificate, &error))?;
    let builder = match settings.client_authorities.as_os_str().is_empty() {
        true => builder.with_no_client_auth(),
        false => {
            let path = &settings.client_authorities;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(path)?), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| unusable(AUTHORITIES, path, &error))?)
        }
    };
    let resolver: Arc<dyn ResolvesServerCert> = certificates.clone();
    Ok((builder.with_cert_resolver(resolver), certificates))
}

impl Certificates {
    /// Reads the files again if they have changed; whether the certificate was replaced.
    ///
    /// # Errors
    /// The files cannot be used; the certificate in force stays in force. Bad files are an error once, and not at every look unless one insists.
    pub fn refresh(&self, insist: bool) -> Result<bool, TlsError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let files = Files::read(&self.settings);
        if !seen.is_news(files.as_ref().ok().map(Files::hash), insist) {
            return Ok(false);
        }
        let certified = files?.certified(&self.settings)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified);
        seen.took_effect();
        Ok(true)
    }

    /// When the certificate in force ends, in milliseconds since 1970; none where that cannot be read. Those that it was signed by may end before it:
    /// clients find other ways to what they trust.
    #[must_use]
    pub fn ends_ms(&self) -> Option<i64> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        i64::try_from(end(current.cert.first()?)?).ok()?.checked_mul(1_000)
    }
}

const CERTIFICATE: &str = "tls.certificate";
const PRIVATE_KEY: &str = "tls.private_key";
const AUTHORITIES: &str = "tls.client_authorities";

/// The bytes of the two files.
struct Files {
    certificate: Vec<u8>,
    private_key: Vec<u8>,
}

impl Files {
    fn read(settings: &TlsSettings) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: read(CERTIFICATE, &settings.certificate)?,
            private_key: read(PRIVATE_KEY, &settings.private_key)?,
        })
    }

    fn hash(&self) -> Hash {
        sha256([sha256(&self.certificate), sha256(&self.private_key)].concat().as_slice())
    }

    fn certified(&self, settings: &TlsSettings) -> Result<CertifiedKey, TlsError> {
        let chain = chain(CERTIFICATE, &settings.certificate, &self.certificate)?;
        let fail = |error: &dyn std::fmt::Display| unusable(PRIVATE_KEY, &settings.private_key, error);
        let key = PrivateKeyDer::from_pem_slice(&self.private_key).map_err(|error| fail(&error))?;
        let provider = rustls::crypto::ring::default_provider();
        // Fails also where the key is not the certificate's.
        CertifiedKey::from_der(chain, key, &provider).map_err(|error| fail(&error))
    }
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let fail = |source| TlsError::Unreadable { setting, path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(fail)?.len() > limits::PEM_BYTES_MAX {
        return Err(fail(std::io::Error::other(format!("it is larger than {} bytes", limits::PEM_BYTES_MAX))));
    }
    std::fs::read(path).map_err(fail)
}

fn chain(setting: &'static str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| unusable(setting, path, &error))?;
    if chain.is_empty() { Err(unusable(setting, path, &"it holds no certificate")) } else { Ok(chain) }
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for authority in chain(AUTHORITIES, path, &read(AUTHORITIES, path)?)? {
        store.add(authority).map_err(|error| unusable(AUTHORITIES, path, &error))?;
    }
    Ok(store)
}

/// When a certificate ends, in seconds since 1970. Asked of rustls: at the end of all time each has expired, and the refusal says since when.
fn end(certificate: &CertificateDer<'_>) -> Option<u64> {
    let certificate = ParsedCertificate::try_from(certificate).ok()?;
    let at_last = UnixTime::since_unix_epoch(Duration::MAX);
    let roots = RootCertStore::empty();
    match verify_server_cert_signed_by_trust_anchor(&certificate, &roots, &[], at_last, &[]) {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => Some(not_after.as_secs()),
        _ => None,
    }
}

fn unusable(setting: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::Unusable { setting, path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timestamp::parse_rfc3339;

    /// A certificate signed by itself, and its key.
    fn write(directory: &Path, name: &str) -> TlsSettings {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let settings = TlsSettings {
            certificate: directory.join("certificate.pem"),
            private_key: directory.join("key.pem"),
            client_authorities: PathBuf::new(),
        };
        std::fs::write(&settings.certificate, made.cert.pem()).unwrap();
        std::fs::write(&settings.private_key, made.signing_key.serialize_pem()).unwrap();
        settings
    }

    #[test]
    fn a_certificate_is_replaced_and_bad_files_change_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let settings = write(directory.path(), "one.example");
        let (_, certificates) = listener(&settings).unwrap();
        let leaf = || certificates.current.read().unwrap().cert[0].to_vec();
        let first = leaf();
        assert!(!certificates.refresh(false).unwrap());
        write(directory.path(), "two.example");
        assert!(certificates.refresh(false).unwrap());
        let second = leaf();
        assert_ne!(first, second);
        // Half a rotation: the new certificate with the old key.
        let other = tempfile::tempdir().unwrap();
        let new = write(other.path(), "three.example");
        std::fs::copy(&new.certificate, &settings.certificate).unwrap();
        let error = certificates.refresh(false).unwrap_err().to_string();
        assert!(error.contains("tls.private_key"), "{error}");
        assert!(!certificates.refresh(false).unwrap(), "said once");
        assert!(certificates.refresh(true).is_err(), "and to whoever asks");
        assert_eq!(leaf(), second);
        std::fs::copy(&new.private_key, &settings.private_key).unwrap();
        assert!(certificates.refresh(false).unwrap(), "and taken when it is whole");
    }

    #[test]
    fn the_end_of_a_certificate_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let settings = write(directory.path(), "one.example");
        let (_, certificates) = listener(&settings).unwrap();
        // As the crate has it that makes them.
        assert_eq!(certificates.ends_ms(), parse_rfc3339("4096-01-01T00:00:00Z"));
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["one.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2020, 2, 29);
        std::fs::write(&settings.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&settings.private_key, key.serialize_pem()).unwrap();
        assert!(certificates.refresh(false).unwrap());
        assert_eq!(certificates.ends_ms(), parse_rfc3339("2020-02-29T00:00:00Z"));
    }

    #[test]
    fn files_that_are_not_pem_are_named_and_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let settings = write(directory.path(), "one.example");
        for (path, setting) in [(&settings.private_key, PRIVATE_KEY), (&settings.certificate, CERTIFICATE)] {
            std::fs::write(path, "a secret of the operator's").unwrap();
            let error = listener(&settings).unwrap_err().to_string();
            assert!(error.contains(setting) && !error.contains("secret"), "{error}");
        }
        std::fs::remove_file(&settings.certificate).unwrap();
        assert!(listener(&settings).unwrap_err().to_string().contains("cannot read"));
        let settings = write(directory.path(), "one.example");
        assert!(!format!("{:?}", listener(&settings).unwrap().1).contains("PRIVATE"));
        let mutual = TlsSettings { client_authorities: settings.certificate.clone(), ..settings };
        assert!(listener(&mutual).is_ok());
    }
}
