//! The demo's last part: asks the server it has started, posts an event, asks again.

use std::fmt::Write;
use std::net::SocketAddr;

use anyhow::Context;
use serde::Serialize;
use serde_json::{Value, json};

use crate::calendar::Moment;
use crate::load::ask;
use crate::load::connection::in_path;

/// Items shown of each list.
const SHOWN: usize = 5;
/// How far down the popular list the item lies that the demo looks at: known well enough, but not on every list.
const VIEWED_PLACE: usize = 12;

/// What the server answered, before and after an event.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// Where it listens.
    pub url: String,
    /// The kind of interaction that was posted.
    pub kind: String,
    /// What a newcomer sees.
    pub before: Vec<Line>,
    /// What the visitor then looked at.
    pub viewed: Line,
    /// What the visitor sees after that.
    pub after: Vec<Line>,
    /// Milliseconds of the second answer, in the server.
    pub took_ms: f64,
}

/// An item.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Its id.
    pub id: String,
    /// Its title, or its id where it has none.
    pub title: String,
    /// Its categories.
    pub categories: Vec<String>,
}

/// Asks, posts, asks again, as a visitor who has never been there.
///
/// # Errors
/// The server does not answer as it should.
pub fn show(address: SocketAddr) -> anyhow::Result<Shown> {
    let model = ask::model(address)?;
    let kind = ask::kind(&model).to_owned();
    let session = format!("demo-{}", Moment::now().compact());
    let question = json!({"session_id": session, "limit": SHOWN, "with_items": true});
    let before = ask::json(address, "POST", "/v1/recommendations", &question).context("asking as a newcomer")?;
    let popular = ask::popular_items(address)?;
    let viewed = popular.get(VIEWED_PLACE.min(popular.len().saturating_sub(1))).context("the shop is empty")?;
    let entry = ask::json(address, "GET", &format!("/v1/items/{}", in_path(viewed)), &Value::Null)?;
    let event = json!({"session_id": session, "item_id": viewed, "kind": kind});
    ask::json(address, "POST", "/v1/interactions", &event).context("posting an event")?;
    let after = ask::json(address, "POST", "/v1/recommendations", &question).context("asking after the event")?;
    let took_us = after.get("took_us").and_then(Value::as_f64).unwrap_or(0.0);
    Ok(Shown {
        url: format!("http://{address}"),
        kind,
        before: lines(&before),
        viewed: line(viewed, &entry),
        after: lines(&after),
        took_ms: took_us / 1e3,
    })
}

fn lines(answer: &Value) -> Vec<Line> {
    let items = answer.get("items").and_then(Value::as_array).into_iter().flatten();
    let one = |item: &Value| {
        let id = item.get("item_id").and_then(Value::as_str)?;
        Some(line(id, item.get("item").unwrap_or(&Value::Null)))
    };
    items.filter_map(one).collect()
}

fn line(id: &str, entry: &Value) -> Line {
    let title = entry.get("title").and_then(Value::as_str).filter(|title| !title.is_empty()).unwrap_or(id);
    let categories = entry.get("categories").and_then(Value::as_array).into_iter().flatten();
    let categories = categories.filter_map(Value::as_str).map(str::to_owned).collect();
    Line { id: id.to_owned(), title: title.to_owned(), categories }
}

impl Shown {
    /// The demonstration as text, with the curl lines that repeat it.
    pub fn text(&self) -> String {
        let mut text = String::from("\nA newcomer sees what is popular:\n");
        list(&self.before, &mut text);
        let _ = writeln!(
            text,
            "After one {} of {}, the next answer is ({:.1} ms):",
            self.kind,
            self.viewed.text(),
            self.took_ms
        );
        list(&self.after, &mut text);
        let question = json!({"session_id": "me", "limit": SHOWN, "with_items": true});
        let event = json!({"session_id": "me", "item_id": self.viewed.id, "kind": self.kind});
        let _ = writeln!(text, "\nServing on {}: open it in a browser, or try (Ctrl-C stops it):\n", self.url);
        for (path, body) in [("recommendations", &question), ("interactions", &event), ("recommendations", &question)] {
            let _ = writeln!(
                text,
                "  curl -s {}/v1/{path} -H 'content-type: application/json' -d {}",
                self.url,
                quoted(&body.to_string())
            );
        }
        let _ = writeln!(
            text,
            "  curl -s {}",
            quoted(&format!(
                "{}/v1/items/{}/similar?limit={SHOWN}&with_items=true",
                self.url,
                in_path(&self.viewed.id)
            ))
        );
        text
    }
}

impl Line {
    fn text(&self) -> String {
        if self.categories.is_empty() {
            self.title.clone()
        } else {
            format!("{} ({})", self.title, self.categories.join(", "))
        }
    }
}

fn list(lines: &[Line], text: &mut String) {
    for line in lines {
        let _ = writeln!(text, "  {}", line.text());
    }
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_survives_a_shell() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn an_item_without_a_title_is_called_by_its_id() {
        let answer =
            json!({"items": [{"item_id": "7", "item": {"title": "", "categories": ["toys"]}}, {"item_id": "8"}]});
        let lines = lines(&answer);
        assert_eq!(lines.iter().map(Line::text).collect::<Vec<_>>(), ["7 (toys)", "8"]);
    }
}
