# A morning at a news site, as a notebook in plain Python: run it whole, or cell by cell where "# %%" begins one.
#
#     kindred serve --config config/presets/news.toml      # in one terminal, without keys, over an artifact of yours whose items have categories
#     python3 tests/examples/news.py                       # in another; KINDRED_URL=http://host:port for a server elsewhere
#
# Needs Python 3 and nothing else. Stops at the first answer that is not what it should be, and removes what it has added.

# %% A client: one function
import json
import os
import time
import urllib.request

URL = os.environ.get("KINDRED_URL", "http://127.0.0.1:8080")
# Names of this run, so that it can run again.
RUN = f"news-{time.time_ns():x}"
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, {"content-type": "application/json"}, method=method)
    with opener.open(request, timeout=30) as answer:
        return json.load(answer)


def recommend(**question):
    return ask("POST", "/v1/recommendations", question)


def ids(answer):
    return [item["item_id"] for item in answer["items"]]


# %% What is served, and what the front page shows to a stranger
model = ask("GET", "/v1/model")
front = recommend(limit=10, with_items=True)
print(f"{model['items']} articles of generation {model['generation']}")
for item in front["items"][:5]:
    print(f"  {item['score']:.3f}  {item['source']:<9} {item['item'].get('title', item['item_id'])}")
assert front["fallback"] == "newcomer"
section = front["items"][0]["item"]["categories"][0]

# %% The newsroom publishes: articles are in the lists at once, without a new model
now = time.time_ns() // 1_000_000
fresh = [
    {"id": f"{RUN}-{n}", "title": f"Breaking, part {n}", "categories": [section], "attributes": {"published_at": now - n * 60_000}}
    for n in range(3)
]
print(ask("POST", "/v1/items/batch", fresh))
assert ask("GET", f"/v1/items/{RUN}-0")["title"] == "Breaking, part 0"

# %% Readers come and read what is new
for reader in range(6):
    events = [
        {"session_id": f"{RUN}-r{reader}", "item_id": article["id"], "kind": "view", "context": {"device": "mobile"}}
        for article in fresh[: 1 + reader % 3]
    ]
    kept = ask("POST", "/v1/interactions", {"interactions": events})
    assert kept["accepted"] == len(events), kept

# %% Within seconds it is what is read just now: counted by people, never below a handful of them
for _ in range(600):
    trending = ids(recommend(scenario="trending", limit=5, context={"device": "mobile"}))
    if fresh[0]["id"] in trending:
        break
    time.sleep(0.1)
print("trending:", trending)
assert fresh[0]["id"] in trending

# %% A reader's own list follows what they read, leaves that out, and says why
reader = f"{RUN}-r0"
mine = recommend(session_id=reader, limit=10, explain=True)
assert fresh[0]["id"] not in ids(mine), "what was read is not shown again"
for item in mine["items"]:
    reasons = item["reasons"]
    parts = [reasons[name] for name in ("popularity", "trending", "followed", "exploration", "diversity")]
    parts += [one["share"] for name in ("because", "context", "boosts") for one in reasons[name]]
    assert abs(sum(parts) - item["score"]) < 1e-6, item
print("for the reader:", ids(mine)[:5], "because of", mine["items"][0]["reasons"]["because"][0]["item_id"])

# %% They scroll on and on: nothing comes twice
seen, cursor = [], None
for _ in range(4):
    page = recommend(scenario="next_page", session_id=reader, limit=8, cursor=cursor)
    seen += ids(page)
    cursor = page["next_cursor"]
    if cursor is None:
        break
assert len(seen) == len(set(seen)), "an article came twice"
print(len(seen), "articles in pages, each once")

# %% What they are not interested in does not come back
unwanted = ids(recommend(session_id=reader, limit=1))[0]
ask("POST", "/v1/interactions", {"session_id": reader, "item_id": unwanted, "kind": "not_interested"})
assert unwanted not in ids(recommend(session_id=reader, limit=50))

# %% A retraction is in the very next answer; and the readers of this example are forgotten
ask("POST", "/v1/items/batch", [{"op": "delete", "id": article["id"]} for article in fresh])
assert fresh[1]["id"] not in ids(recommend(scenario="trending", limit=50))
for number in range(6):
    receipt = ask("DELETE", f"/v1/sessions/{RUN}-r{number}/data")
    assert receipt["removed"]["interactions"] >= 1
print("done")
