//! Traces of requests for an OpenTelemetry collector, where the program is built with the feature `otlp`.
//!
//! A span is made when its request is over, from what was measured anyway, so where no collector is named a request costs a comparison, and
//! where one is the stages are copied and the route is looked up once its answer is made. What is kept: a share of all, every failure of ours and every slow request; where the caller has begun a trace
//! (`traceparent`), what the caller decided. Spans name routes, never what was asked for: no id of a person or an item leaves by this way.

use std::time::Duration;

use serde::Deserialize;

use super::TelemetryError;

/// Where traces go.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceSettings {
    /// Where the collector takes traces, OTLP over HTTP; empty = nowhere.
    pub endpoint: String,
    /// Share of requests that are kept, 0 to 1.
    pub sample: f64,
}

impl TraceSettings {
    /// What is wrong: the setting, and what was expected.
    pub(crate) fn problem(&self) -> Option<(&'static str, String, &'static str)> {
        let endpoint = |expected| Some(("traces.endpoint", self.endpoint.clone(), expected));
        match () {
            () if !(0.0..=1.0).contains(&self.sample) => {
                Some(("traces.sample", self.sample.to_string(), "a share, 0 to 1"))
            }
            () if self.endpoint.is_empty() => None,
            () if !cfg!(feature = "otlp") => {
                endpoint("nothing: this program was built without traces; build it with `--features otlp`")
            }
            () if !self.endpoint.starts_with("http://") => endpoint(
                "an address such as http://127.0.0.1:4318/v1/traces: of a collector beside this server, without TLS",
            ),
            () => None,
        }
    }
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self { endpoint: String::new(), sample: 0.01 }
    }
}

/// A request that is over.
#[derive(Debug)]
pub struct Finished<'a> {
    /// Its method.
    pub method: &'a str,
    /// The pattern of its address.
    pub route: &'a str,
    /// The status of its answer.
    pub status: u16,
    /// How long it took.
    pub elapsed: Duration,
    /// Whether that was long.
    pub is_slow: bool,
    /// The header `traceparent`.
    pub parent: Option<&'a str>,
    /// Its parts one after the other, as far as they were timed, in microseconds.
    pub stages_us: &'a [(&'static str, f64)],
}

/// What sends traces; nothing does where no collector is named.
#[derive(Debug)]
pub struct Traces(Option<export::Exporter>);

impl Traces {
    /// Starts the thread that sends, if a collector is named.
    ///
    /// # Errors
    /// [`TelemetryError::Traces`] if it cannot be set up.
    pub fn start(settings: &TraceSettings) -> Result<Self, TelemetryError> {
        let exporter = (!settings.endpoint.is_empty()).then(|| export::Exporter::start(settings)).transpose()?;
        Ok(Self(exporter))
    }

    /// Whether any are sent.
    #[must_use]
    pub fn are_on(&self) -> bool {
        self.0.is_some()
    }

    /// Sends a request that is over, if it is one to be kept. Waits for nothing: where the collector is too slow, it is dropped.
    pub fn finished(&self, request: &Finished<'_>) {
        if let Some(exporter) = &self.0 {
            exporter.finished(request);
        }
    }

    /// Sends what is waiting, for a few seconds at most.
    pub fn stop(&self) {
        if let Some(exporter) = &self.0 {
            exporter.stop();
        }
    }
}

#[cfg(not(feature = "otlp"))]
mod export {
    use super::{Finished, TelemetryError, TraceSettings};

    /// There is none in this build.
    #[derive(Debug)]
    pub(super) enum Exporter {}

    impl Exporter {
        pub(super) fn start(_: &TraceSettings) -> Result<Self, TelemetryError> {
            Err(TelemetryError::Traces("this program was built without traces".to_owned()))
        }

        pub(super) fn finished(&self, _: &Finished<'_>) {
            match *self {}
        }

        pub(super) fn stop(&self) {
            match *self {}
        }
    }
}

#[cfg(feature = "otlp")]
mod export {
    use std::hash::{BuildHasher, RandomState};
    use std::pin::Pin;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, SystemTime};

    use opentelemetry::trace::{
        Span, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
        TracerProvider,
    };
    use opentelemetry::{Context, KeyValue};
    use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
    use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};

    use super::{Finished, TelemetryError, TraceSettings};
    use crate::telemetry::is_failure;

    /// How long the collector may take.
    const TIMEOUT: Duration = Duration::from_secs(5);
    /// Bytes of its answer that are read.
    const ANSWER_BYTES_MAX: u64 = 64 << 10;

    #[derive(Debug)]
    pub(super) struct Exporter {
        provider: SdkTracerProvider,
        tracer: SdkTracer,
        sample: f64,
        random: RandomState,
        next: AtomicU64,
    }

    impl Exporter {
        pub(super) fn start(settings: &TraceSettings) -> Result<Self, TelemetryError> {
            let agent = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build();
            let exporter = SpanExporter::builder()
                .with_http()
                .with_http_client(Client(agent.into()))
                .with_endpoint(&settings.endpoint)
                .with_protocol(Protocol::HttpBinary)
                .with_timeout(TIMEOUT)
                .build()
                .map_err(|error| TelemetryError::Traces(error.to_string()))?;
            let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
            // What is kept is decided here, when all is known of a request; so whatever is made is sent.
            let provider = SdkTracerProvider::builder()
                .with_sampler(Sampler::AlwaysOn)
                .with_resource(Resource::builder().with_service_name("kindred").with_attribute(version).build())
                .with_batch_exporter(exporter)
                .build();
            let tracer = provider.tracer("kindred");
            Ok(Self { provider, tracer, sample: settings.sample, random: RandomState::new(), next: AtomicU64::new(0) })
        }

        pub(super) fn finished(&self, request: &Finished<'_>) {
            let parent = request.parent.and_then(parent);
            let failed = request.status >= 500;
            let keep = match &parent {
                Some(parent) => parent.is_sampled(),
                None => is_failure(request.status) || request.is_slow || self.draws(),
            };
            if !keep {
                return;
            }
            let end = SystemTime::now();
            let start = end.checked_sub(request.elapsed).unwrap_or(end);
            let context = parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
            let mut span = self
                .tracer
                .span_builder(format!("{} {}", request.method, request.route))
                .with_kind(SpanKind::Server)
                .with_start_time(start)
                .with_attributes([
                    KeyValue::new("http.request.method", request.method.to_owned()),
                    KeyValue::new("http.route", request.route.to_owned()),
                    KeyValue::new("http.response.status_code", i64::from(request.status)),
                ])
                .start_with_context(&self.tracer, &context);
            if failed {
                span.set_status(Status::error(""));
            }
            let inside = Context::new().with_remote_span_context(span.span_context().clone());
            let mut at = start;
            for (name, us) in request.stages_us {
                let until = at + Duration::from_secs_f64(us.max(0.0) / 1e6);
                let stage = self.tracer.span_builder(*name).with_start_time(at);
                stage.start_with_context(&self.tracer, &inside).end_with_timestamp(until);
                at = until;
            }
            span.end_with_timestamp(end);
        }

        /// Whether chance keeps this one.
        fn draws(&self) -> bool {
            let drawn = self.random.hash_one(self.next.fetch_add(1, Ordering::Relaxed));
            (drawn as f64) < self.sample * 2.0_f64.powi(64)
        }

        pub(super) fn stop(&self) {
            if let Err(error) = self.provider.shutdown_with_timeout(TIMEOUT) {
                tracing::warn!(%error, "the last traces were not sent");
            }
        }
    }

    /// The caller's trace, from a header as W3C Trace Context has it: version, trace, span, flags.
    fn parent(header: &str) -> Option<SpanContext> {
        let mut parts = header.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_lower_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let lengths = [version, trace, span, flags].map(str::len) == [2, 32, 16, 2];
        let known = version != "ff" && (version != "00" || parts.next().is_none());
        if !lengths || !known || ![version, trace, span, flags].into_iter().all(is_lower_hex) {
            return None;
        }
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
        let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
        let context = SpanContext::new(trace, span, flags, true, TraceState::default());
        context.is_valid().then_some(context)
    }

    /// Sends what the exporter made. It has a thread of its own, which may wait.
    #[derive(Debug)]
    struct Client(ureq::Agent);

    impl HttpClient for Client {
        fn send_bytes<'s, 'a>(
            &'s self,
            request: Request<Bytes>,
        ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>
        where
            's: 'a,
            Self: 'a,
        {
            let answer = self.send(request);
            match &answer {
                Ok(answer) if !answer.status().is_success() => {
                    tracing::warn!(status = answer.status().as_u16(), "the collector refuses traces; they are dropped");
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the collector is not reached; traces are dropped"),
            }
            Box::pin(std::future::ready(answer))
        }
    }

    impl Client {
        fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
            let (head, mut body) = self.0.run(request.map(|body| body.to_vec()))?.into_parts();
            let body = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
            Ok(Response::from_parts(head, body.into()))
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_callers_trace_is_taken_as_the_standard_says() {
            let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            let taken = parent(good).unwrap();
            assert!(taken.is_sampled() && taken.is_remote());
            assert_eq!(taken.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
            assert!(!parent(&good.replace("-01", "-00")).unwrap().is_sampled());
            assert!(parent(&good.replace("00-0af", "01-0af").replace("-01", "-01-later")).is_some(), "a later version");
            for wrong in [
                "",
                "00",
                "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
                "00-00000000000000000000000000000000-b7ad6b7169203331-01",
                "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0é",
            ] {
                assert!(parent(wrong).is_none(), "{wrong}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_say_what_is_wrong() {
        let settings = |endpoint: &str, sample| TraceSettings { endpoint: endpoint.to_owned(), sample };
        assert_eq!(TraceSettings::default().problem(), None);
        let problem = |endpoint, sample| settings(endpoint, sample).problem().map(|(key, _, _)| key);
        assert_eq!(problem("", 1.5), Some("traces.sample"));
        assert_eq!(problem("", f64::NAN), Some("traces.sample"));
        assert_eq!(problem("https://collector/v1/traces", 0.1), Some("traces.endpoint"));
        let usable = problem("http://127.0.0.1:4318/v1/traces", 0.1);
        assert_eq!(usable.is_none(), cfg!(feature = "otlp"));
    }

    #[cfg(feature = "otlp")]
    mod with_a_collector {
        use std::io::{Read, Write};
        use std::net::{SocketAddr, TcpListener};
        use std::sync::mpsc::{Receiver, channel};

        use super::super::*;

        /// A collector that takes one request, and what it took.
        fn collector() -> (SocketAddr, Receiver<Vec<u8>>) {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let (sender, receiver) = channel();
            std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut taken, mut chunk) = (Vec::new(), [0; 4096]);
                // The name of the last span ends the part that is looked at.
                while !taken.windows(11).any(|window| window == b"GET /failed") {
                    let n = stream.read(&mut chunk).unwrap();
                    assert!(n > 0, "all of it comes");
                    taken.extend_from_slice(&chunk[..n]);
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                sender.send(taken).unwrap();
            });
            (address, receiver)
        }

        #[test]
        fn a_request_goes_to_the_collector_with_its_stages_when_it_is_over() {
            let (address, taken) = collector();
            let settings = TraceSettings { endpoint: format!("http://{address}/v1/traces"), sample: 0.0 };
            let traces = Traces::start(&settings).unwrap();
            assert!(traces.are_on());
            let request = Finished {
                method: "POST",
                route: "/v1/recommendations",
                status: 200,
                elapsed: Duration::from_millis(3),
                is_slow: false,
                parent: None,
                stages_us: &[("search", 900.0), ("rank", 100.0)],
            };
            traces.finished(&request);
            let unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
            traces.finished(&Finished { route: "/not/kept", is_slow: true, parent: Some(unsampled), ..request });
            traces.finished(&Finished { route: "/refused", status: 503, stages_us: &[], ..request });
            traces.finished(&Finished { route: "/slow", is_slow: true, ..request });
            traces.finished(&Finished { method: "GET", route: "/failed", status: 500, stages_us: &[], ..request });
            traces.stop();
            let sent = taken.recv().unwrap();
            let has = |text: &str| sent.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(has("POST /v1/traces HTTP/1.1"));
            assert!(["kindred", "POST /slow", "search", "rank", "GET /failed", "http.route"].into_iter().all(has));
            assert!(!has("/v1/recommendations") && !has("/not/kept") && !has("/refused"));
        }
    }
}
