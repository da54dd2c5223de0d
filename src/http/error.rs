//! Every error as it goes over the wire: `application/problem+json` (RFC 9457) with a stable `code` and the mend.
//!
//! The only place with status codes: 4xx is the caller's mistake, 503 is overload or not ready, 507 is no room, 500 is ours. Programs branch on
//! `code`; the texts may change.

mod code;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use kindred_index::{FilterError, SearchError};
use serde::Serialize;
use utoipa::ToSchema;

pub(crate) use self::code::Code;
use crate::filter::FilterSyntaxError;
use crate::limits;
use crate::live_catalog::ChangeError;
use crate::nearest::NearestError;
use crate::people::PeopleError;
use crate::people::links::LinkError;
use crate::recommend::RecommendError;
use crate::reload::ReloadError;
use crate::store::StoreError;
use crate::telemetry::chain;

/// Seconds in Retry-After while no artifact is loaded.
const NOT_READY_RETRY_SECONDS: u32 = 5;

/// The body of every error answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ProblemBody<'a> {
    /// `urn:kindred:problem:` and the code.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The code as a short sentence; the same for every occurrence.
    #[schema(value_type = String)]
    pub(crate) title: &'a str,
    /// The HTTP status.
    pub(crate) status: u16,
    /// A stable name to branch on.
    #[schema(value_type = String, example = "unknown_kind")]
    pub(crate) code: &'a str,
    /// What happened this time.
    #[schema(value_type = String)]
    pub(crate) detail: &'a str,
    /// What to do about it.
    #[schema(value_type = String)]
    pub(crate) remedy: &'a str,
}

/// An error on its way to the caller.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
    remedy: String,
    retry_after: Option<u32>,
    allow: Option<&'static str>,
}

impl Problem {
    /// A problem with its detail and its remedy.
    pub(crate) fn new(code: Code, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), remedy: remedy.into(), retry_after: None, allow: None }
    }

    /// A field whose value may not be.
    pub(crate) fn invalid(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Code::InvalidRequest, detail, remedy)
    }

    /// The same, at a place in what was sent.
    pub(crate) fn at(self, place: &str) -> Self {
        Self { detail: format!("{place}: {}", self.detail), ..self }
    }

    /// More of something than is allowed.
    pub(crate) fn limit(what: &str, found: usize, most: usize) -> Self {
        Self::new(
            Code::LimitExceeded,
            format!("{what}: {found}, at most {most} are allowed"),
            format!("send at most {most} of them"),
        )
    }

    /// No artifact is loaded.
    pub(crate) fn not_ready() -> Self {
        let problem = Self::new(
            Code::NotReady,
            "no artifact has been published yet, or the published one was refused",
            "run `kindred build`; the server takes what it publishes without a restart. The server's log says why one was refused",
        );
        Self { retry_after: Some(NOT_READY_RETRY_SECONDS), ..problem }
    }

    /// The server has been told to stop.
    pub(crate) fn stopping() -> Self {
        Self::new(Code::NotReady, "the server is stopping", "send requests to another server")
    }

    /// Too many requests in progress.
    pub(crate) fn overloaded(most: usize, retry_after: u32) -> Self {
        let problem = Self::new(
            Code::Overloaded,
            format!("{most} requests are in progress, which is the most that are taken"),
            format!("send the request again after {retry_after} s, or raise http.max_in_flight"),
        );
        Self { retry_after: Some(retry_after), ..problem }
    }

    /// A request that has waited for a worker as long as any may.
    pub(crate) fn too_many(retry_after: u32) -> Self {
        let problem = Self::new(
            Code::Overloaded,
            "more requests come than can be answered in time",
            "send the request again after the seconds in Retry-After, or add workers or servers",
        );
        Self { retry_after: Some(retry_after), ..problem }
    }

    /// A key that has used up its rate.
    pub(crate) fn too_fast(seconds: u32) -> Self {
        let problem = Self::new(
            Code::RateLimited,
            "the key has used up its rate of requests",
            format!(
                "send the request again after {seconds} s; the operator sets rates by security.requests_per_second or rate=N"
            ),
        );
        Self { retry_after: Some(seconds), ..problem }
    }

    /// The stable name of its code.
    pub(crate) fn code_name(&self) -> &'static str {
        self.code.name()
    }

    /// Its code and its title, which say nothing of this one time.
    pub(crate) fn in_short(&self) -> String {
        let (_, code, title) = self.code.parts();
        format!("{code}: {title}")
    }

    /// An item that is not in the loaded artifact.
    pub(crate) fn item_not_found(id: &str) -> Self {
        Self::new(
            Code::ItemNotFound,
            format!("item {id:?} is not in the catalogue"),
            "check the id; PUT /v1/items/{id} adds an item, and so does the next `kindred build`",
        )
    }

    /// A change of the catalogue that was not made.
    pub(crate) fn change(error: &ChangeError, retry_after: u32) -> Self {
        let again = "nothing of this request is in force: send it again; if a failing disk kept it all the same, it is in force after the next start";
        match error {
            ChangeError::Store(error @ StoreError::TooLarge { .. }) => Self::store(error, retry_after),
            ChangeError::Store(error) => Self { remedy: again.to_owned(), ..Self::store(error, retry_after) },
            // No time mends that, so none is named.
            ChangeError::TooMany { .. } | ChangeError::TooLarge { .. } => {
                let remedy = "export the catalogue (GET /v1/items), build with it, then send this again";
                Self::new(Code::CatalogFull, error.to_string(), remedy)
            }
            ChangeError::TooManyFields { .. } => {
                let remedy = "use fewer names of attributes; one that no item has any more counts until the next build";
                Self::new(Code::LimitExceeded, error.to_string(), remedy)
            }
            ChangeError::Entry(_) => Self::new(Code::Internal, error.to_string(), again),
        }
    }

    /// A failed read or change of what is kept; `retry_after` for those that may pass by themselves.
    pub(crate) fn store(error: &StoreError, retry_after: u32) -> Self {
        if error.is_overload() {
            let problem =
                Self::new(Code::HistoryBusy, error.to_string(), format!("send it again after {retry_after} s"));
            return Self { retry_after: Some(retry_after), ..problem };
        }
        let code = match error {
            StoreError::TooLarge { .. } => {
                return Self::new(Code::LimitExceeded, error.to_string(), "send less in one request");
            }
            // No time mends that, so none is named.
            StoreError::NotKept => {
                let remedy = "ask a server that has history.store = \"embedded\"";
                return Self::new(Code::HistoryFailed, error.to_string(), remedy);
            }
            StoreError::Full { .. } => Code::StoreFull,
            _ => Code::HistoryFailed,
        };
        let problem = Self::new(
            code,
            error.to_string(),
            "ask again once the store is mended, it goes on by itself; interactions with an interaction_id are safe to send again",
        );
        Self { retry_after: Some(retry_after), ..problem }
    }

    /// What cannot be done with a person.
    pub(crate) fn people(error: &PeopleError, retry_after: u32) -> Self {
        match error {
            PeopleError::Store(error) => Self::store(error, retry_after),
            // No time mends that, so none is named.
            PeopleError::Link(error @ LinkError::Full) => {
                let remedy = "erase sessions that are over: DELETE /v1/sessions/{id}/data";
                Self::new(Code::MergesFull, error.to_string(), remedy)
            }
            PeopleError::Link(error) => {
                Self::new(Code::MergeConflict, error.to_string(), "GET /v1/users/{id} shows what is merged into a user")
            }
            PeopleError::Profile(error) => {
                Self::invalid(error.to_string(), "see /openapi.json for the fields of a user and their bounds")
            }
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.code.name(), self.detail, self.remedy)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.code.parts().0
    }

    fn error_response(&self) -> HttpResponse {
        let (status, code, title) = self.code.parts();
        let body = ProblemBody {
            kind: format!("urn:kindred:problem:{code}"),
            title,
            status: status.as_u16(),
            code,
            detail: &self.detail,
            remedy: &self.remedy,
        };
        let mut response = HttpResponse::build(status).json(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == Code::Unauthorized {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(methods) = self.allow {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
        }
        response
    }
}

impl From<RecommendError> for Problem {
    fn from(error: RecommendError) -> Self {
        let see = "see /openapi.json for the fields of this route and their bounds";
        match error {
            RecommendError::Filter(error) => Self::from(error),
            RecommendError::Search(error) => Self::from(error),
            RecommendError::TooManyExcluded { .. } | RecommendError::TooManyToScore { .. } => {
                Self::new(Code::LimitExceeded, error.to_string(), see)
            }
            other => Self::invalid(other.to_string(), see),
        }
    }
}

impl From<FilterSyntaxError> for Problem {
    fn from(error: FilterSyntaxError) -> Self {
        match error {
            FilterSyntaxError::Shape { path, what, remedy } => {
                Self::new(Code::InvalidFilter, format!("{path} {what}"), remedy)
            }
            FilterSyntaxError::TooMany { found } => {
                Self::limit("filter conditions", found, limits::FILTER_CONDITIONS_MAX)
            }
        }
    }
}

impl From<FilterError> for Problem {
    fn from(error: FilterError) -> Self {
        let remedy = match error {
            FilterError::UnknownField { .. } => "use attributes that the catalogue had when the artifact was built",
            _ => "see /openapi.json for the conditions of a filter, and GET /v1/items/{id} for the values of an item",
        };
        Self::new(Code::InvalidFilter, chain(&error), remedy)
    }
}

impl From<SearchError> for Problem {
    fn from(error: SearchError) -> Self {
        Self::invalid(chain(&error), "send another query; GET /v1/model tells the model's dimensions")
    }
}

impl From<NearestError> for Problem {
    fn from(error: NearestError) -> Self {
        match error {
            NearestError::Filter(error) => Self::from(error),
            NearestError::Search(error) => Self::from(error),
        }
    }
}

impl From<ReloadError> for Problem {
    fn from(error: ReloadError) -> Self {
        match error {
            ReloadError::Refused { .. } => Self::new(
                Code::ArtifactRefused,
                error.to_string(),
                "the artifact that was live stays live; run `kindred verify` on the refused one, build and publish again",
            ),
            ReloadError::Busy { .. } | ReloadError::Stopping => {
                let problem = Self::new(Code::Overloaded, error.to_string(), "try again later");
                Self { retry_after: Some(1), ..problem }
            }
        }
    }
}

/// An answer that says nothing but yes.
pub(crate) fn no_content() -> HttpResponse {
    HttpResponse::new(StatusCode::NO_CONTENT)
}

/// The answer to an address that does not exist.
pub(crate) async fn not_found(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let detail = format!("nothing at {}", shown(request.path()));
    Err(Problem::new(Code::NotFound, detail, "GET /openapi.json lists the addresses of the API"))
}

/// The answer to a method that an address does not take.
pub(crate) fn method_not_allowed(request: &HttpRequest, allow: &'static str) -> Problem {
    let detail = format!("{} does not take {}", shown(request.path()), shown(request.method().as_str()));
    Problem { allow: Some(allow), ..Problem::new(Code::MethodNotAllowed, detail, format!("it takes {allow}")) }
}

/// A caller's text, short enough to be sent back.
pub(crate) fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    if text.chars().count() <= CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(CHARS_MAX).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_changes_are_no_mistake_of_the_request() {
        let problem = Problem::change(&ChangeError::TooMany { found: 200_001 }, 1);
        assert_eq!((problem.status_code().as_u16(), problem.code_name()), (507, "catalog_full"));
        assert!(problem.detail.contains("200001") && problem.remedy.contains("build"), "{problem}");
        assert!(problem.error_response().headers().get(RETRY_AFTER).is_none(), "to wait does not help");
    }

    #[test]
    fn the_place_of_what_is_too_much_is_in_the_detail_alone() {
        let problem = Problem::limit("items[3]: categories", 300, 256);
        assert!(problem.detail.contains("items[3]: categories: 300"), "{problem}");
        assert_eq!(problem.remedy, "send at most 256 of them");
    }

    #[test]
    fn too_many_merges_are_no_conflict_of_two() {
        let problem = |error: LinkError| Problem::people(&error.into(), 1);
        let full = problem(LinkError::Full);
        assert_eq!((full.status_code().as_u16(), full.code_name()), (507, "merges_full"));
        assert!(full.remedy.contains("DELETE /v1/sessions/{id}/data"), "{full}");
        assert!(full.error_response().headers().get(RETRY_AFTER).is_none(), "to wait does not help");
        assert_eq!(problem(LinkError::Taken).code_name(), "merge_conflict");
    }

    #[test]
    fn a_change_that_is_too_large_is_not_to_be_sent_again_as_it_is() {
        let error = StoreError::TooLarge { table: "items", what: "document", found: 2, limit: 1 };
        let problem = Problem::change(&ChangeError::Store(error), 1);
        assert_eq!((problem.status_code().as_u16(), problem.code_name()), (400, "limit_exceeded"));
        assert!(problem.remedy.contains("less") && !problem.remedy.contains("again"), "{problem}");
    }
}
