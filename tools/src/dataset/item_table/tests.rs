//! What becomes of the rows of a table.

use serde_json::json;

use super::*;

fn table(name: &str, bytes: &[u8]) -> Result<Table, PrepareError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    read(&path)
}

#[test]
fn columns_find_their_place_and_others_become_attributes() {
    let text = "item_id,name,category,price,in_stock,colour,size,code\n\
        a,\"Bear, brown\",toys;soft,9.5,no,brown,12.5,007\nb,,,cheap,,,true,\n,x,,,,,,\na,again,,,,,,\n";
    let table = table("items.csv", text.as_bytes()).unwrap();
    let a = &table.items["a"];
    assert_eq!((a.title.as_str(), a.price, a.available), ("Bear, brown", Some(9.5), false));
    assert_eq!(a.categories, ["toys", "soft"]);
    assert_eq!(json!(a.attributes), json!({"colour": "brown", "size": 12.5, "code": "007"}));
    assert_eq!(json!(table.items["b"].attributes), json!({"size": true}));
    let report = &table.report;
    assert_eq!((report.rows, report.bad, report.repeated, report.left_out), (4, 1, 1, 1));
    assert_eq!(report.bad_examples[0].line, 4);
}

#[test]
fn of_columns_that_share_a_name_the_first_with_something_in_it_counts() {
    let table = table("items.csv", b"id,title,id,title,price\na,A,,again,2\n,,b,B,3\n").unwrap();
    let titles = ["a", "b"].map(|id| table.items[id].title.as_str());
    assert_eq!((titles, table.report.bad), (["A", "B"], 0));
}

#[test]
fn spaces_about_cells_are_no_part_of_them() {
    let text = "id, title , colour, in_stock\na , A, red, f\nb,B,blue,1.0\n\u{a0}c,,,\n";
    let table = table("items.csv", text.as_bytes()).unwrap();
    assert!(table.items.contains_key("\u{a0}c"), "a space of another kind stays, as it does in a log");
    let a = &table.items["a"];
    assert_eq!((a.title.as_str(), a.available, json!(a.attributes)), ("A", false, json!({"colour": "red"})));
    assert!(table.items["b"].available && table.report.left_out == 0);
}

#[test]
fn a_row_that_is_longer_than_its_header_is_told() {
    let report = table("items.csv", b"id,title\na,Bear, brown\nb,B,\nc,C\n").unwrap().report;
    assert_eq!((report.rows, report.longer), (3, 1));
    assert!(report.text().contains("1 rows have more cells"), "{}", report.text());
}

#[test]
fn a_list_in_a_cell_is_a_list_of_categories() {
    for (cell, wanted) in [
        ("['Toys, Games', \"Children's\", 'a|b']", &["Toys, Games", "Children's", "a|b"][..]),
        (r#"["toys", "games"]"#, &["toys", "games"][..]),
        ("['toys' 'games']", &["toys", "games"][..]),
        ("[['toys', 'games'], ['new']]", &["toys", "games", "new"][..]),
        (r#"[["toys", null], ["games"]]"#, &["toys", "games"][..]),
        ("[]", &[][..]),
        ("toys; games|x", &["toys", "games", "x"][..]),
        ("[new]", &["[new]"][..]),
        ("[new]|[sale]", &["[new]", "[sale]"][..]),
        ("it's", &["it's"][..]),
        ("['cut off", &["['cut off"][..]),
    ] {
        assert_eq!(categories(cell.into()), wanted, "{cell}");
    }
}

#[test]
fn times_are_milliseconds_or_text_in_a_table_too() {
    let text =
        "id,expires_at,updated_at\na,2000000000500,2026-11-24T14:25:01Z\nb,soon,\nc,0,2026-11-24 14:25:01\nd,-1,\n";
    let table = table("items.csv", text.as_bytes()).unwrap();
    let a = &table.items["a"];
    let wanted = (Some(Timestamp(2_000_000_000_500)), Some(Timestamp(1_795_530_301_000)));
    assert_eq!((a.expires_at, a.updated_at), wanted);
    assert_eq!((table.items["b"].expires_at, table.report.left_out), (None, 3), "0 and -1 are no time");
    assert_eq!(table.items["c"].updated_at, wanted.1);
    assert!(table.report.text().contains("3 prices, truth values or times"), "{}", table.report.text());
}

#[test]
fn a_time_that_could_not_be_read_again_is_left_out_and_digits_of_a_date_are_one() {
    let text = "id,expires_at\na,9999-12-31T23:59:59-05:00\nb,99991231\nc,20300131\n";
    let table = table("items.csv", text.as_bytes()).unwrap();
    let found = ["a", "b", "c"].map(|id| table.items[id].expires_at);
    assert_eq!(found, [None, Some(Timestamp(253_402_214_400_000)), Some(Timestamp(1_896_048_000_000))]);
    assert_eq!(table.report.left_out, 1);
}

#[test]
fn a_column_of_attributes_that_is_no_object_is_an_attribute() {
    let csv = table("items.csv", b"id,attributes\na,red\nb,\n").unwrap();
    assert_eq!(json!(csv.items["a"].attributes), json!({"attributes": "red"}));
    assert!(csv.items["b"].attributes.is_empty());
}

#[test]
fn a_quote_that_is_never_closed_is_told() {
    let text = [b"id,title\na,A\nb,\"".to_vec(), vec![b'x'; 17 << 20]].concat();
    let error = table("items.csv", &text).unwrap_err().to_string();
    assert!(error.contains("line 3"), "{error}");
}

#[test]
fn json_entries_are_taken_as_they_are() {
    let entry = json!({"id": "a", "title": "A", "categories": ["x"], "price": 2, "attributes": {"n": [1]}, "m": "q"});
    let table = table("items.jsonl", format!("{entry}\n\n[]\n").as_bytes()).unwrap();
    let a = &table.items["a"];
    assert_eq!((a.categories.clone(), a.price), (vec!["x".to_owned()], Some(2.0)));
    assert_eq!(json!(a.attributes), json!({"n": [1], "m": "q"}));
    assert_eq!(table.report.bad, 1);
}

#[test]
fn spaces_about_an_id_of_json_are_a_part_of_it() {
    let text = "{\"id\": \" a\", \"title\": \"A\"}\n{\"id\": \"a\"}\n{\"id\": \"  \"}\n";
    let json = table("items.jsonl", text.as_bytes()).unwrap();
    assert_eq!((json.items[" a"].title.as_str(), json.items.len(), json.report.bad), ("A", 2, 1));
    let dat = table("movies.dat", b" 1 :: A (1995) ::Drama\n").unwrap();
    assert_eq!(dat.items["1"].title, "A (1995)", "about a separator they are none");
}

#[test]
fn a_table_is_joined_by_the_names_that_a_log_knows() {
    let songs = table("songs.csv", b"song_id,title\ns1,Blue\n").unwrap();
    assert_eq!(songs.items["s1"].title, "Blue");
    let both = table("items.jsonl", b"{\"song_id\": \"s1\", \"id\": \"a\"}\n").unwrap();
    assert!(both.items.contains_key("a"), "the likeliest first");
}

#[test]
fn a_text_may_come_as_a_list() {
    let entry = json!({"id": "a", "description": ["One.", "Two."], "image": ["1.png", "2.png"], "category": [null, 7]});
    let none = json!({"id": "b", "description": [], "image": []});
    let table = table("items.jsonl", format!("{entry}\n{none}\n").as_bytes()).unwrap();
    let [a, b] = ["a", "b"].map(|id| &table.items[id]);
    assert_eq!((a.description.as_str(), a.image.as_deref()), ("One. Two.", Some("1.png")));
    assert_eq!(a.categories, ["7"]);
    assert_eq!((b.description.as_str(), b.image.as_deref()), ("", None));
}

#[test]
fn an_exported_catalogue_comes_back_as_it_was() {
    let item = CatalogItem {
        title: "Bear".to_owned(),
        price: Some(9.5),
        hidden: true,
        expires_at: Some(Timestamp(2_000_000_000_500)),
        updated_at: Some(Timestamp(1_795_530_301_000)),
        attributes: [("shop".to_owned(), json!({"lat": 47.4, "lon": 8.5}))].into(),
        ..CatalogItem::new("bear")
    };
    let table = table("items.jsonl", item.to_json().unwrap().as_bytes()).unwrap();
    assert_eq!(table.items["bear"], item);
}

#[test]
fn movielens_tables_are_known_in_latin_1_too() {
    let dat = table("movies.dat", b"1::Caf\xe9 \"X\": 2 (1995)::Drama|War\n2::B::(no genres listed)\n").unwrap();
    let first = &dat.items["1"];
    assert_eq!((first.title.as_str(), first.attributes["year"].clone()), ("Café \"X\": 2 (1995)", json!(1995)));
    assert_eq!((dat.items["2"].categories.len(), dat.report.latin_1), (0, 1));
    let csv = table("x.csv", b"id,title,colour\n1,Caf\xe9,ros\xe9\n").unwrap();
    assert_eq!(csv.report.latin_1, 1, "lines are counted");
    let flags = "0|1|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0";
    let line = format!("7|Twelve \"Monkeys\" (1995)|01-Jan-1995||http://x|{flags}\n");
    let item = table("u.item", line.as_bytes()).unwrap();
    assert_eq!(item.items["7"].categories, ["Action", "Animation"]);
    assert_eq!(item.items["7"].title, "Twelve \"Monkeys\" (1995)");
}

#[test]
fn a_table_without_identifiers_says_what_it_has() {
    for (name, text) in [("x.csv", "colour,size\nred,1\n"), ("x.jsonl", "{\"size\": 1}\n{\"colour\": \"red\"}\n")] {
        let error = table(name, text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("colour, size") && error.contains("rename"), "{error}");
    }
    let without = table("x.jsonl", b"{\"id\": null}\n{}\n").unwrap().report;
    assert_eq!((without.rows, without.bad), (2, 2), "the column is there");
}

#[test]
fn a_join_keeps_every_item_in_the_order_of_keys() {
    let table = table("x.csv", b"id,title\nb,B\na,A\n").unwrap();
    let (items, numbers, report) = Table::join(table, vec!["b".into(), "c".into()]);
    let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
    assert_eq!((ids, numbers, report.without_entry), (vec!["a", "b", "c"], vec![1, 2], 1));
}

#[test]
fn whole_numbers_with_a_point_are_those_of_the_table() {
    let joined = |table_ids: &str, of_log: &[&str]| {
        let table = table("x.csv", format!("id,title\n{table_ids}").as_bytes()).unwrap();
        let (items, numbers, report) = Table::join(table, of_log.iter().map(|id| Box::from(*id)).collect());
        let ids: Vec<String> = items.into_iter().map(|item| item.id).collect();
        (ids.join(" "), numbers, report.with_point, report.without_entry)
    };
    assert_eq!(joined("17,A\n3,B\n", &["17.0", "5.0"]), ("17 3 5".to_owned(), vec![0, 2], 2, 1));
    for (table_ids, of_log, wanted) in [
        ("17,A\n", &["17.0", "x"][..], "17 17.0 x"),
        ("17,A\n", &["17.0", ".0"][..], ".0 17 17.0"),
        ("17,A\n5.0,B\n", &["17.0", "5.0"][..], "17 17.0 5.0"),
        ("18,A\n", &["17.0"][..], "17.0 18"),
    ] {
        let (ids, _, with_point, _) = joined(table_ids, of_log);
        assert_eq!((ids.as_str(), with_point), (wanted, 0));
    }
}
