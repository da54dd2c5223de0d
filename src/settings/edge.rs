//! Settings of the edge: who may call, on which addresses, over TLS or not, and what gives way under load.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::SettingsError;

/// Who may call.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecuritySettings {
    /// File of API keys; empty = none.
    pub keys: PathBuf,
    /// Whether addresses of the network are listened on without keys.
    pub allow_without_keys: bool,
    /// Milliseconds between two looks at the keys file and the certificates, 0 = only on SIGHUP.
    pub reload_ms: u64,
    /// Requests per second of one key, 0 = as many as come.
    pub requests_per_second: u32,
    /// Requests of one key that may come at once.
    pub burst: u32,
    /// Origins whose pages may call; empty = none.
    pub cors_origins: Vec<String>,
    /// Names by which the server may be asked without keys, besides addresses and localhost; empty = none where it is asked from its own machine, any elsewhere.
    pub hosts: Vec<String>,
}

/// The certificate; empty paths = plain HTTP.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// PEM file with the certificate and those that it was signed by.
    pub certificate: PathBuf,
    /// PEM file with its private key.
    pub private_key: PathBuf,
    /// PEM file with the authorities whose clients may connect; empty = every client.
    pub client_authorities: PathBuf,
}

/// Where the operator's routes are.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminSettings {
    /// Whether they have an address of their own.
    pub separate: bool,
    /// Their address.
    pub host: String,
    /// Their TCP port, 0 = chosen by the system.
    pub port: u16,
    /// File that each of their requests is written to; empty = the log alone.
    pub audit_log: PathBuf,
}

/// What gives way when requests wait for a worker all the time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverloadSettings {
    /// Whether waiting is measured at all.
    pub enabled: bool,
    /// The wait that is aimed at where there is more to do than can be done, in microseconds.
    pub target_wait_us: u64,
}

impl SecuritySettings {
    pub(super) fn validate(&self) -> Result<(), SettingsError> {
        in_range("security.reload_ms", self.reload_ms, 0, 3_600_000)?;
        in_range("security.requests_per_second", u64::from(self.requests_per_second), 0, 1_000_000)?;
        in_range("security.burst", u64::from(self.burst), 1, 1_000_000)?;
        for origin in &self.cors_origins {
            let (usual, rest) = match origin.split_once("://") {
                Some(("https", rest)) => (":443", rest),
                Some(("http", rest)) => (":80", rest),
                _ => ("", ""),
            };
            if rest.is_empty() || rest.contains(['/', '*', ' ']) || !origin.is_ascii() {
                return Err(out_of_range("security.cors_origins", origin, "origins such as \"https://shop.example\""));
            }
            if let Some(as_sent) = origin.strip_suffix(usual) {
                let expected = format!("\"{as_sent}\", as browsers send it: the usual port of a scheme is left out");
                return Err(out_of_range("security.cors_origins", origin, &expected));
            }
        }
        for host in &self.hosts {
            if host.is_empty() || host.contains(['/', '*', ' ', ':']) || !host.is_ascii() {
                return Err(out_of_range("security.hosts", host, "names without a port, such as \"shop.example\""));
            }
        }
        Ok(())
    }
}

impl TlsSettings {
    /// Whether TLS is spoken.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.certificate.as_os_str().is_empty()
    }

    pub(super) fn validate(&self) -> Result<(), SettingsError> {
        let given = |path: &PathBuf| !path.as_os_str().is_empty();
        if given(&self.certificate) != given(&self.private_key) {
            return Err(out_of_range(
                "tls",
                "one of two files",
                "both tls.certificate and tls.private_key, or neither",
            ));
        }
        if given(&self.client_authorities) && !self.is_on() {
            let expected = "tls.certificate and tls.private_key beside it";
            return Err(out_of_range(
                "tls.client_authorities",
                &self.client_authorities.display().to_string(),
                expected,
            ));
        }
        Ok(())
    }
}

impl OverloadSettings {
    /// The wait that is aimed at; none if nothing gives way.
    pub(crate) fn wait_target(&self) -> Option<Duration> {
        self.enabled.then_some(Duration::from_micros(self.target_wait_us))
    }

    pub(super) fn validate(&self) -> Result<(), SettingsError> {
        in_range("overload.target_wait_us", self.target_wait_us, 100, 10_000_000)
    }
}

impl Default for SecuritySettings {
    fn default() -> Self {
        Self {
            keys: PathBuf::new(),
            allow_without_keys: false,
            reload_ms: 1000,
            requests_per_second: 0,
            burst: 100,
            cors_origins: Vec::new(),
            hosts: Vec::new(),
        }
    }
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self { certificate: PathBuf::new(), private_key: PathBuf::new(), client_authorities: PathBuf::new() }
    }
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self { separate: false, host: "127.0.0.1".to_owned(), port: 8081, audit_log: PathBuf::new() }
    }
}

impl Default for OverloadSettings {
    fn default() -> Self {
        Self { enabled: true, target_wait_us: 2_000 }
    }
}

/// An error unless `found` is in a range.
pub(super) fn in_range(key: &str, found: u64, low: u64, high: u64) -> Result<(), SettingsError> {
    if (low..=high).contains(&found) {
        return Ok(());
    }
    Err(out_of_range(key, &found.to_string(), &format!("{low} to {high}")))
}

pub(super) fn out_of_range(key: &str, found: &str, expected: &str) -> SettingsError {
    SettingsError::OutOfRange { key: key.to_owned(), found: found.to_owned(), expected: expected.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_has_bounds_and_tls_needs_both_files() {
        let overload = OverloadSettings { target_wait_us: 1, ..OverloadSettings::default() };
        assert!(overload.validate().unwrap_err().to_string().contains("overload.target_wait_us = 1"));
        let tls = TlsSettings { certificate: "a.pem".into(), ..TlsSettings::default() };
        assert!(tls.validate().unwrap_err().to_string().contains("tls.private_key"));
        let tls = TlsSettings { client_authorities: "a.pem".into(), ..TlsSettings::default() };
        assert!(tls.validate().unwrap_err().to_string().contains("tls.client_authorities"));
    }

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        for (origin, good) in [
            ("https://a.example", true),
            ("http://b:8080", true),
            ("http://b:443", true),
            ("https://[::1]:8443", true),
            ("https://a.example:443", false),
            ("http://[::1]:80", false),
            ("*", false),
            ("https://a.example/", false),
            ("a", false),
        ] {
            let settings = SecuritySettings { cors_origins: vec![origin.to_owned()], ..SecuritySettings::default() };
            assert_eq!(settings.validate().is_ok(), good, "{origin}");
        }
        let cors_origins = vec!["https://a.example:443".to_owned()];
        let settings = SecuritySettings { cors_origins, ..SecuritySettings::default() };
        let error = settings.validate().unwrap_err().to_string();
        assert!(error.contains("expected \"https://a.example\""), "{error}");
    }
}
