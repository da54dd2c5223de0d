//! What fields may hold, from the limits that are checked when a request is read.

use kindred_index::EF_SEARCH_MAX;
use serde_json::Value;
use utoipa::openapi::{OpenApi, RefOr, Schema};
use utoipa::{Modify, Number};

use crate::http::context::UTC_OFFSET_MINUTES_MAX;
use crate::http::error::Code;
use crate::limits;

/// Adds the bounds of fields to their descriptions, and to that of an error the codes there are.
pub(super) struct Bounds;

/// What a field may hold.
#[derive(Clone, Copy)]
enum Bound {
    /// A number from the first to the second.
    Number(isize, isize),
    /// At most so many.
    Entries(usize),
    /// Text of one byte to so many. A character takes at least one.
    Text(usize),
}

const LIST: Bound = Bound::Number(1, limits::ANSWER_ITEMS_MAX as isize);
const BREADTH: Bound = Bound::Number(1, EF_SEARCH_MAX as isize);
const OFFSET: Bound = Bound::Number(-(UTC_OFFSET_MINUTES_MAX as isize), UTC_OFFSET_MINUTES_MAX as isize);
const ID: Bound = Bound::Text(limits::KEY_BYTES_MAX);
const KIND: Bound = Bound::Text(limits::KIND_BYTES_MAX);
const LABEL: Bound = Bound::Text(limits::CONTEXT_BYTES_MAX);
const HISTORY: Bound = Bound::Entries(limits::HISTORY_MAX);
const ITEMS: Bound = Bound::Entries(limits::SCORE_ITEMS_MAX);
const EXAMPLES: Bound = Bound::Entries(limits::SEARCH_EXAMPLES_MAX);

/// The bodies of requests, their fields, and what these may hold.
const BOUNDS: [(&str, &str, Bound); 37] = [
    ("RecommendationsRequest", "user_id", ID),
    ("RecommendationsRequest", "session_id", ID),
    ("RecommendationsRequest", "interactions", HISTORY),
    ("RecommendationsRequest", "item_ids", ITEMS),
    ("RecommendationsRequest", "utc_offset_minutes", OFFSET),
    ("RecommendationsRequest", "limit", LIST),
    ("RecommendationsRequest", "exclude", Bound::Entries(limits::EXCLUDE_MAX)),
    ("RecommendationsRequest", "ef_search", BREADTH),
    ("RecentDto", "interaction_id", ID),
    ("RecentDto", "item_id", ID),
    ("RecentDto", "kind", KIND),
    ("ScoreRequest", "item_ids", ITEMS),
    ("ScoreRequest", "user_id", ID),
    ("ScoreRequest", "session_id", ID),
    ("ScoreRequest", "interactions", HISTORY),
    ("ScoreRequest", "utc_offset_minutes", OFFSET),
    ("SearchRequest", "positive", EXAMPLES),
    ("SearchRequest", "negative", EXAMPLES),
    ("SearchRequest", "k", LIST),
    ("SearchRequest", "ef_search", BREADTH),
    ("WeightedExample", "item_id", ID),
    ("InteractionDto", "interaction_id", ID),
    ("InteractionDto", "user_id", ID),
    ("InteractionDto", "session_id", ID),
    ("InteractionDto", "item_id", ID),
    ("InteractionDto", "kind", KIND),
    ("MergeRequest", "session_id", ID),
    ("MergeRequest", "user_id", ID),
    ("ProfileDto", "labels", Bound::Entries(limits::LABELS_MAX)),
    ("ProfileDto", "follows", Bound::Entries(limits::FOLLOWS_MAX)),
    ("ProfileDto", "country", LABEL),
    ("ProfileDto", "device", LABEL),
    ("ProfilePatch", "labels", Bound::Entries(limits::LABELS_MAX)),
    ("ProfilePatch", "follows", Bound::Entries(limits::FOLLOWS_MAX)),
    ("ProfilePatch", "country", LABEL),
    ("ProfilePatch", "device", LABEL),
    ("InteractionBatch", "interactions", Bound::Entries(limits::BATCH_INTERACTIONS_MAX)),
];

impl Modify for Bounds {
    fn modify(&self, description: &mut OpenApi) {
        let mut field = |schema: &str, name: &str, with: &dyn Fn(&mut Schema)| {
            let found = description.components.as_mut().and_then(|components| components.schemas.get_mut(schema));
            if let Some(RefOr::T(Schema::Object(object))) = found
                && let Some(RefOr::T(field)) = object.properties.get_mut(name)
            {
                with(field);
            }
        };
        for (schema, name, bound) in BOUNDS {
            field(schema, name, &|field| bound.add_to(field));
        }
        let codes: Vec<Value> = Code::ALL.into_iter().map(|code| code.name().into()).collect();
        field("ProblemBody", "code", &|field| {
            if let Schema::Object(field) = field {
                field.enum_values = Some(codes.clone());
            }
        });
    }
}

impl Bound {
    fn add_to(self, field: &mut Schema) {
        match (self, field) {
            (Self::Number(least, most), Schema::Object(field)) => {
                (field.minimum, field.maximum) = (Some(Number::Int(least)), Some(Number::Int(most)));
            }
            (Self::Text(most), Schema::Object(field)) => {
                (field.min_length, field.max_length) = (Some(1), Some(most));
            }
            (Self::Entries(most), Schema::Array(field)) => field.max_items = Some(most),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_is_told() {
        let description: Value = serde_json::from_str(&super::super::text().unwrap()).unwrap();
        let schemas = &description["components"]["schemas"];
        for (schema, name, bound) in BOUNDS {
            let field = &schemas[schema]["properties"][name];
            let told = match bound {
                Bound::Number(least, most) => field["minimum"] == least && field["maximum"] == most,
                Bound::Text(most) => field["minLength"] == 1 && field["maxLength"] == most,
                Bound::Entries(most) => field["maxItems"] == most,
            };
            assert!(told, "{schema}.{name}: {field}");
        }
        let codes = schemas["ProblemBody"]["properties"]["code"]["enum"].as_array().unwrap();
        assert!(codes.len() == Code::ALL.len() && codes.contains(&"store_full".into()), "{codes:?}");
    }
}
