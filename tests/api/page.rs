//! The page at `/`: complete without its script, everything from the catalogue escaped.

use kindred::testing::Fixture;

use crate::support::Server;

#[test]
fn the_shop_shows_the_list_and_its_products() {
    let server = Server::with_shop();
    let home = server.get("/");
    assert_eq!((home.status, home.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(home.header("content-security-policy").contains("default-src 'none'"));
    assert_eq!(home.text().matches("class=\"card\"").count(), 12);
    assert!(home.text().contains("href=\"/metrics\""));
    let product = server.get("/items/item-4");
    assert_eq!(product.status, 200);
    assert!(product.text().contains("<h1>Item 4</h1>") && product.text().contains("Similar items"));
    assert_eq!(product.text().matches("class=\"card\"").count(), 24);
    for (path, kind) in
        [("/assets/shop.css", "text/css; charset=utf-8"), ("/assets/shop.js", "text/javascript; charset=utf-8")]
    {
        let asset = server.get(path);
        assert_eq!((asset.status, asset.header("content-type")), (200, kind));
        assert!(home.text().contains(path));
    }
}

#[test]
fn what_needs_the_script_is_hidden_until_it_runs() {
    let server = Server::with_shop();
    for (path, ids) in [("/", &["home-hint", "reset"][..]), ("/items/item-4", &["add", "reset"][..])] {
        let page = server.get(path);
        for id in ids {
            assert!(page.text().contains(&format!("id=\"{id}\" hidden")), "{path} {id}: {}", page.text());
        }
    }
    assert!(server.get("/assets/shop.js").text().contains("querySelectorAll(\"[hidden]\")"));
}

#[test]
fn a_list_without_items_says_so() {
    const NOTHING: &str = "Nothing to show at present.";
    let mut fixture = Fixture::shop();
    fixture.items.iter_mut().for_each(|item| item.hidden = true);
    let server = Server::with(&fixture, |_| ());
    let home = server.get("/");
    assert_eq!((home.status, home.text().matches("class=\"card\"").count()), (200, 0));
    assert!(home.text().contains(NOTHING), "{}", home.text());
    assert!(server.get("/assets/shop.js").text().contains(NOTHING), "the script says the same");
}

#[test]
fn an_evil_catalogue_stays_text() {
    let mut fixture = Fixture::shop();
    for item in &mut fixture.items {
        item.title = format!("</title><script>alert(1)</script>{}", item.title);
        item.description = "<img src=x onerror=alert(1)>".to_owned();
        item.categories = vec!["\"onmouseover=\"alert(1)".to_owned()];
        item.image = Some("javascript:alert(1)".to_owned());
    }
    fixture.items[4].id = "'\"><script>".to_owned();
    let server = Server::with(&fixture, |_| ());
    for path in ["/", "/items/%27%22%3E%3Cscript%3E", "/items/item-5"] {
        let page = server.get(path);
        assert_eq!(page.status, 200);
        let text = page.text();
        assert!(!text.contains("<script>") && !text.contains("<img") && !text.contains("javascript:alert"), "{text}");
        assert!(!text.contains("\"onmouseover"), "{text}");
    }
}

#[test]
fn an_unknown_product_and_an_empty_shop_have_pages() {
    let server = Server::with_shop();
    let missing = server.get("/items/nothing");
    assert_eq!((missing.status, missing.header("content-type")), (404, "text/html; charset=utf-8"));
    assert!(missing.text().contains("nothing") && missing.text().contains("href=\"/\""));
    let waiting = Server::empty().get("/");
    assert_eq!((waiting.status, waiting.header("refresh")), (200, "3"));
    assert!(waiting.text().contains("kindred demo"));
}
