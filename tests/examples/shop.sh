#!/bin/sh
# A visit to a shop, with curl: from a stranger's list to an erasure with its receipt.
#
#   kindred demo                      # in one terminal; or another server without keys whose items have prices
#   sh tests/examples/shop.sh         # in another; KINDRED_URL=http://host:port for a server elsewhere
#
# Stops at the first answer that is not what it should be. What it adds to the server it removes again.
set -eu
url=${KINDRED_URL:-http://127.0.0.1:8080}
# Names of this run, so that it can run again.
visit="example-$(date +%s)-$$"

say() { printf '\n== %s\n' "$1"; }
ask() { curl -fsS --noproxy '*' -X "$1" "$url$2" -H 'content-type: application/json' ${3+-d "$3"}; }
recommend() { ask POST /v1/recommendations "$1"; }
# The ids of a list, one a line; not for lists with reasons, which name other items too.
ids() { grep -o '"item_id":"[^"]*"' | cut -d'"' -f4; }
expect() {
    printf '%s\n' "$1" | grep -q -- "$2" && return
    printf 'expected %s in:\n%s\n' "$2" "$1" >&2
    exit 1
}
expect_not() {
    printf '%s\n' "$1" | grep -qx -- "$2" || return 0
    printf 'did not expect %s in:\n%s\n' "$2" "$1" >&2
    exit 1
}

say "a stranger sees what is popular"
first=$(recommend '{"limit": 8}')
expect "$first" '"fallback":"newcomer"'
printf '%s\n' "$first" | ids
liked=$(printf '%s\n' "$first" | ids | sed -n 3p)
other=$(printf '%s\n' "$first" | ids | sed -n 5p)

say "they look at $liked; the very next list is made for them"
kept=$(ask POST /v1/interactions "{\"session_id\": \"$visit\", \"item_id\": \"$liked\", \"kind\": \"view\", \"interaction_id\": \"$visit-1\"}")
expect "$kept" '"accepted":1'
home=$(recommend "{\"session_id\": \"$visit\", \"limit\": 8}")
expect "$home" '"fallback":null'
printf '%s\n' "$home" | ids
expect_not "$(printf '%s\n' "$home" | ids)" "$liked"

say "why, part by part; the parts add up to the score"
recommend "{\"session_id\": \"$visit\", \"limit\": 1, \"explain\": true}" | cut -c1-600

say "a product page: what resembles it; a cart: what goes with it"
ask GET "/v1/items/$liked/similar?limit=4" | grep -o '"items":.*' | ids
printf -- '--\n'
recommend "{\"scenario\": \"cart\", \"session_id\": \"$visit\", \"item_ids\": [\"$liked\", \"$other\"], \"limit\": 4}" | ids

say "narrowed: at most 30, and not the one that was just offered"
narrow=$(recommend "{\"session_id\": \"$visit\", \"limit\": 5, \"exclude\": [\"$other\"], \"with_items\": true,
    \"filter\": {\"must\": [{\"key\": \"price\", \"range\": {\"lte\": 30}}]}}")
printf '%s\n' "$narrow" | ids
expect_not "$(printf '%s\n' "$narrow" | ids)" "$other"

say "a new product is there at once, its price is that of the last change, and what is hidden is nowhere"
only="{\"session_id\": \"$visit\", \"with_items\": true, \"filter\": {\"has_id\": [\"$visit\"]}}"
ask PUT "/v1/items/$visit" '{"title": "A new product", "price": 19.5, "available": true}' >/dev/null
expect "$(recommend "$only")" '"price":19.5'
ask PATCH "/v1/items/$visit" '{"price": 12.25}' >/dev/null
expect "$(recommend "$only")" '"price":12.25'
ask PATCH "/v1/items/$visit" '{"hidden": true}' >/dev/null
expect "$(recommend "$only")" '"items":\[\]'
ask DELETE "/v1/items/$visit" >/dev/null
echo "as it should be"

say "they sign in: what the session did is theirs"
ask POST "/v1/users/$visit/merge" "{\"session_id\": \"$visit\"}" >/dev/null
ask POST /v1/interactions "{\"user_id\": \"$visit\", \"item_id\": \"$other\", \"kind\": \"purchase\"}" >/dev/null
mine=$(ask GET "/v1/users/$visit/interactions")
expect "$mine" "\"item_id\":\"$liked\""
expect "$mine" "\"item_id\":\"$other\""
printf '%s\n' "$mine" | ids

say "they want to be forgotten: gone, with a receipt"
receipt=$(ask DELETE "/v1/users/$visit/data")
printf '%s\n' "$receipt"
expect "$receipt" '"interactions":2'
expect "$(recommend "{\"user_id\": \"$visit\", \"session_id\": \"$visit\"}")" '"fallback":"newcomer"'
