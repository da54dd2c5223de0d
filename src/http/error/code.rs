//! The stable codes of errors: programs branch on them.

use actix_web::http::StatusCode;

/// The stable codes. Each has one status and one title.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "parts() says what each is")]
pub(crate) enum Code {
    InvalidJson,
    InvalidRequest,
    InvalidFilter,
    UnknownKind,
    UnknownScenario,
    LimitExceeded,
    BodyTooLarge,
    UnsupportedMediaType,
    ItemNotFound,
    UserNotFound,
    RecommendationNotFound,
    GenerationGone,
    MergeConflict,
    NotFound,
    MethodNotAllowed,
    Unauthorized,
    Forbidden,
    RateLimited,
    BodyTimeout,
    ArtifactRefused,
    NotReady,
    Overloaded,
    HistoryBusy,
    HistoryFailed,
    StoreFull,
    CatalogFull,
    MergesFull,
    Internal,
}

impl Code {
    /// Every code, in their order.
    pub(crate) const ALL: [Self; 28] = [
        Self::InvalidJson,
        Self::InvalidRequest,
        Self::InvalidFilter,
        Self::UnknownKind,
        Self::UnknownScenario,
        Self::LimitExceeded,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::ItemNotFound,
        Self::UserNotFound,
        Self::RecommendationNotFound,
        Self::GenerationGone,
        Self::MergeConflict,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Unauthorized,
        Self::Forbidden,
        Self::RateLimited,
        Self::BodyTimeout,
        Self::ArtifactRefused,
        Self::NotReady,
        Self::Overloaded,
        Self::HistoryBusy,
        Self::HistoryFailed,
        Self::StoreFull,
        Self::CatalogFull,
        Self::MergesFull,
        Self::Internal,
    ];

    /// Its stable name.
    pub(crate) fn name(self) -> &'static str {
        self.parts().1
    }

    /// Its status, its name and its title.
    pub(super) fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::InvalidJson => {
                (StatusCode::BAD_REQUEST, "invalid_json", "the body is not the JSON that this route takes")
            }
            Self::InvalidRequest => {
                (StatusCode::BAD_REQUEST, "invalid_request", "a field has a value that it may not have")
            }
            Self::InvalidFilter => (StatusCode::BAD_REQUEST, "invalid_filter", "the filter cannot be used"),
            Self::UnknownKind => (StatusCode::BAD_REQUEST, "unknown_kind", "the kind of interaction is not known"),
            Self::UnknownScenario => (StatusCode::BAD_REQUEST, "unknown_scenario", "the scenario is not known"),
            Self::LimitExceeded => {
                (StatusCode::BAD_REQUEST, "limit_exceeded", "more was asked or sent than is allowed")
            }
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the body is too large"),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "this route takes JSON")
            }
            Self::ItemNotFound => (StatusCode::NOT_FOUND, "item_not_found", "the item is not in the catalogue"),
            Self::UserNotFound => (StatusCode::NOT_FOUND, "user_not_found", "nothing was set about the user"),
            Self::RecommendationNotFound => {
                (StatusCode::NOT_FOUND, "recommendation_not_found", "the recommendation is not in the log")
            }
            Self::GenerationGone => (StatusCode::GONE, "generation_gone", "the artifact is no longer kept"),
            Self::MergeConflict => (StatusCode::CONFLICT, "merge_conflict", "the merge contradicts another one"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", "there is nothing at this address"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this address does not take this method")
            }
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "this needs an API key"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "this caller may not do this"),
            Self::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "rate_limited", "this key calls too often"),
            Self::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "body_timeout", "the body did not come in time"),
            Self::ArtifactRefused => {
                (StatusCode::UNPROCESSABLE_ENTITY, "artifact_refused", "the published artifact was refused")
            }
            Self::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "not_ready", "no artifact is loaded"),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "too many requests are in progress"),
            Self::HistoryBusy => {
                (StatusCode::SERVICE_UNAVAILABLE, "history_busy", "the history store has too much to do")
            }
            Self::HistoryFailed => {
                (StatusCode::SERVICE_UNAVAILABLE, "history_failed", "the store cannot do what was asked")
            }
            Self::StoreFull => (StatusCode::INSUFFICIENT_STORAGE, "store_full", "the store's disk is full"),
            Self::CatalogFull => {
                (StatusCode::INSUFFICIENT_STORAGE, "catalog_full", "no more items may change before the next build")
            }
            Self::MergesFull => {
                (StatusCode::INSUFFICIENT_STORAGE, "merges_full", "no more users and sessions can be merged")
            }
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server made a mistake"),
        }
    }
}

// The last of them is the last in the list.
const _: () = assert!(Code::ALL.len() == Code::Internal as usize + 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_listed_once_in_its_place() {
        for (at, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, at, "{}", code.name());
        }
        let names: std::collections::BTreeSet<&str> = Code::ALL.map(Code::name).into_iter().collect();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
