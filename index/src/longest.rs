//! The longest rows side by side, for the inner product: what is long is near to many queries, and most of what is short to none.
//!
//! No product is larger than that of both lengths. So items are compared in the order of their lengths, the longest first, until those that
//! follow are too short for a place among the k nearest. Rows in a row come at the speed at which memory is read, several times as fast as
//! those that links lead to. The idea is that of LEMP (Teflioudi, Gemulla, Mykytiuk, SIGMOD 2015).

use crate::allow::AllowSet;
use crate::compare::ByCodes;
use crate::exact::kept_below;
use crate::filtered::cost;
use crate::metric::{BLOCK, CodeGroup, WOVEN};
use crate::search::{Plan, SearchParams, SearchStats, Searcher};
use crate::visited::Scratch;

/// After so many items, and then after an eighth as many as were compared so far, it is looked whether the rest is too short.
const STEP_LEAST: usize = 64;
/// By how much [`certainty`] is less than 1 at most.
const DOUBT_MOST: f32 = 0.45;
/// Up to this breadth it is.
const NARROWEST: f32 = 10.0;
/// From this breadth on it is 1.
const CERTAIN: f32 = 512.0;
/// After so many items, what was found tells how many more there are to compare with: of 200,000 generated ones 1.3 times too many, after half as
/// many items 1.7 times.
const TOLD: usize = 1_024;
/// What comparing with one of the longest costs, as [`cost`] has it.
const COMPARED: f32 = 0.05;
/// What a walk costs before it is where the query is.
const WAY_DOWN: f32 = 150.0;
/// With a filter that allows fewer items than this share of all, they are looked for otherwise: most of the longest would be compared for nothing.
const ALLOWED_LEAST: f32 = 0.25;
/// Not used for more hits than one of so many of the longest.
const HITS_MOST: usize = 4;

/// The longest items and copies of their codes, the longest first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LongestView<'a> {
    /// Which items they are.
    pub(crate) ordinals: &'a [u32],
    /// How long their rows are.
    pub(crate) lengths: &'a [f32],
    /// Their codes, woven in sixteens; places behind the last have the codes of zeros.
    pub(crate) codes: &'a [CodeGroup],
}

/// What cosine with the query an item has to have at least that is missed, as a share of the greatest there is. Rises with the breadth
/// that a search is asked for: 0.55 at 10, 0.87 at 64, 0.98 at 226, and from 512 on nothing is missed.
pub(crate) fn certainty(ef: f32) -> f32 {
    let doubt = (CERTAIN / ef.clamp(NARROWEST, CERTAIN)).ln() / (CERTAIN / NARROWEST).ln();
    1.0 - DOUBT_MOST * doubt * doubt
}

/// How many items to compare before looking whether the rest is too short, after so many.
pub(crate) fn step(compared: usize) -> usize {
    STEP_LEAST.max(compared / 8).next_multiple_of(WOVEN)
}

impl Searcher<'_, ByCodes<'_>> {
    /// Finds the k nearest among the longest, if the rest is too short to be among them and a walk is not expected to be faster; the hits
    /// are then in the scratch. Else says how many were compared for nothing.
    pub(crate) fn search_longest(
        &self,
        longest: LongestView<'_>,
        query_length: f32,
        params: &SearchParams,
        allow: Option<&AllowSet>,
        scratch: &mut Scratch,
    ) -> Result<SearchStats, u32> {
        let k = params.k;
        let share = allow.map_or(1.0, |allow| allow.cardinality() as f32 / self.graph.n.max(1) as f32);
        if share < ALLOWED_LEAST || k == 0 || k.saturating_mul(HITS_MOST) > longest.ordinals.len() {
            return Err(0);
        }
        let margin = kept_below(self.near);
        if !margin.is_finite() {
            // Codes say nothing of the query, so no rest is ever too short.
            return Err(0);
        }
        // A walk would be broader by as much.
        let ef = params.ef_search.max(k) as f32 / share;
        let (reach, walk) = (certainty(ef) * query_length, WAY_DOWN + ef * cost::BREADTH as f32);
        let ordinal = |place: u32| longest.ordinals.get(place as usize).copied().unwrap_or(u32::MAX);
        let (mut places, mut similarities) = ([0; BLOCK], [0.0; BLOCK]);
        let nearest = &mut scratch.nearest;
        nearest.begin(k, margin);
        let mut compared = 0;
        loop {
            if compared == longest.ordinals.len() {
                return Err(compared as u32);
            }
            let next = (compared + step(compared)).min(longest.ordinals.len());
            while compared < next {
                let count = BLOCK.min(next - compared);
                let whole = count.next_multiple_of(WOVEN);
                self.near.woven(longest.codes, compared / WOVEN, similarities.get_mut(..whole).unwrap_or_default());
                let (places, similarities) = (places.get_mut(..count), similarities.get(..count));
                let (places, similarities) = (places.unwrap_or_default(), similarities.unwrap_or_default());
                places.iter_mut().zip(compared as u32..).for_each(|(place, item)| *place = item);
                match allow {
                    None => nearest.offer(places, similarities, |_| true),
                    Some(allow) => nearest.offer(places, similarities, |place| allow.contains(ordinal(place))),
                }
                compared += count;
            }
            let Some(worst) = nearest.cut_to_worst() else { continue };
            // All of these are long enough, as far as it is known now.
            let enough = longest.lengths.partition_point(|length| reach * length + margin >= worst);
            // Of what is not among the longest it is only known that none is longer than the last.
            if enough <= compared && enough < longest.lengths.len() {
                break;
            }
            let left = enough.saturating_sub(compared) as f32 * COMPARED;
            if compared >= TOLD && left > walk {
                return Err(compared as u32);
            }
        }
        nearest.rename(ordinal);
        let mut stats = SearchStats { distances: compared as u32, hops: 0, plan: Plan::Longest };
        self.answer_scan(k, scratch, &mut stats);
        // In a file that was not verified, copies may be of items that are not there.
        scratch.hits.retain(|hit| hit.ordinal < self.graph.n);
        Ok(stats)
    }
}
