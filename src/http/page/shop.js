// The visitor: a session id kept by the browser, what was looked at, and the list that follows it.
"use strict";

const SESSION = "kindred-session";
const TRAIL = "kindred-trail";

function session() {
  let id = localStorage.getItem(SESSION);
  if (!id) {
    id = "web-" + Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
    localStorage.setItem(SESSION, id);
  }
  return id;
}

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.detail || value.title);
  return value;
}

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  if (text) made.textContent = text;
  return made;
}

// One of twelve colours, counted as the server counts.
function hue(category) {
  let sum = 0;
  for (const c of category) sum = (sum * 31 + c.codePointAt(0)) % 1000003;
  return sum % 12;
}

function picture(item, name) {
  if (item.image && /^(https?:\/\/|\/)/.test(item.image)) {
    const image = element("img", "picture");
    image.src = item.image;
    image.alt = "";
    image.loading = "lazy";
    return image;
  }
  const first = (item.categories || [])[0];
  const letter = (name.match(/[\p{L}\p{N}]/u) || [""])[0].toUpperCase();
  const tile = element("span", "picture tile hue-" + (first ? hue(first) : 0), letter);
  tile.setAttribute("aria-hidden", "true");
  return tile;
}

function card(found) {
  const item = found.item || {};
  const name = item.title || found.item_id;
  const link = element("a", "card");
  link.href = "/items/" + encodeURIComponent(found.item_id);
  link.append(picture(item, name), element("span", "name", name), element("span", "meta", (item.categories || []).join(" · ")));
  if (typeof item.price === "number") link.append(element("span", "price", item.price.toFixed(2)));
  return link;
}

async function refresh() {
  const list = document.getElementById("for-you");
  if (!list) return;
  const answer = await post("/v1/recommendations", { session_id: session(), scenario: "home", limit: 12, with_items: true });
  const cards = answer.items.map(card);
  list.replaceChildren(...(cards.length ? cards : [element("p", "meta", "Nothing to show at present.")]));
  const personal = answer.events_used > 0 && answer.fallback === null;
  document.getElementById("home-title").textContent = personal ? "For you, right now" : "Popular now";
  const hint = document.getElementById("home-hint");
  if (hint && personal) hint.textContent = answer.events_used === 1 ? "From what you did last." : "From the " + answer.events_used + " things you did last.";
  document.getElementById("took").textContent = " · answered in " + (answer.took_us / 1000).toFixed(2) + " ms";
}

function trail(name) {
  const names = JSON.parse(localStorage.getItem(TRAIL) || "[]").filter((other) => other !== name);
  if (name) names.unshift(name);
  localStorage.setItem(TRAIL, JSON.stringify(names.slice(0, 6)));
  document.getElementById("trail").textContent = names.length ? "You looked at " + names.slice(0, 6).join(", ") : "";
}

async function record(kind, itemId) {
  await post("/v1/interactions", {
    interaction_id: session() + "-" + Date.now() + "-" + kind,
    session_id: session(),
    item_id: itemId,
    kind: kind,
  });
}

async function start() {
  const item = document.body.dataset.item;
  document.getElementById("reset").addEventListener("click", () => {
    localStorage.removeItem(SESSION);
    localStorage.removeItem(TRAIL);
    location.href = "/";
  });
  const add = document.getElementById("add");
  if (add) {
    add.addEventListener("click", async () => {
      const status = document.getElementById("added");
      try {
        await record("cart", item);
        status.textContent = "In your cart. The list below has changed.";
        await refresh();
      } catch (error) {
        status.textContent = error.message;
      }
    });
  }
  // What does nothing without this script is hidden until it runs.
  for (const part of document.querySelectorAll("[hidden]")) part.hidden = false;
  trail(item ? document.querySelector("#product h1").textContent : "");
  // An event that was acknowledged is in the next answer, so the list is asked for after it; and all the same after one that was not.
  if (item) await record("view", item).catch((error) => console.error(error));
  await refresh();
}

start().catch((error) => console.error(error));
