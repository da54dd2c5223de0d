use super::*;

fn rules() -> RowRules {
    let kind_weights = [("view", 1.0), ("cart", 3.0), ("rating", 1.0), ("ignored", 0.0)];
    let kind_weights = kind_weights.into_iter().map(|(kind, weight)| (kind.to_owned(), weight)).collect();
    RowRules { kind_weights, default_kind: None, min_rating: None }
}

fn row<'a>(user: &'a str, item: &'a str, time: &'a str, kind: &'a str, value: &'a str) -> Row<'a> {
    Row {
        user: user.as_bytes(),
        item: item.as_bytes(),
        time: RowTime::Text(time.as_bytes()),
        kind: kind.as_bytes(),
        value: value.as_bytes(),
        rating: b"",
    }
}

#[test]
fn rows_are_taken_filled_or_counted() {
    let mut log = Log::default();
    log.begin("log.csv".to_owned(), Mapping { kind: Some(3), value: Some(4), ..Mapping::default() });
    let long = "x".repeat(257);
    let rows = [
        row("u", "a", "10", "view", "2"),
        row("u", "b", "", "add-to-cart", ""),
        row("v", "a", "30", "", "1"),
        row("", "a", "1", "view", "1"),
        row(&long, "a", "1", "view", "1"),
        row("u", "a", "soon", "view", "1"),
        row("u", "a", "1", "view", "many"),
        row("u", "a", "1", "stare", "1"),
        row("u", "a", "1", "ignored", "1"),
    ];
    for (at, row) in rows.iter().enumerate() {
        log.push(at as u64 + 2, row, &rules()).unwrap();
    }
    log.push(11, &Row { user: b"\xff", item: b"a", ..Row::default() }, &rules()).unwrap();
    assert_eq!((log.user.clone(), log.item.clone()), (vec![0, 0, 1], vec![0, 1, 0]));
    assert_eq!((log.kind.clone(), log.weight.clone()), (vec![0, 1, 0], vec![2.0, 3.0, 1.0]));
    assert_eq!(log.settle_times(None), [Some(TimeUnit::Seconds)]);
    assert_eq!(log.time, [10_000, 10_000, 30_000]);
    let counts = &log.counts;
    assert_eq!((counts.rows, counts.n_bad(), counts.weightless), (10, 5, 1));
    assert_eq!((counts.filled_time, counts.filled_kind, counts.filled_value), (1, 1, 1));
    assert_eq!(counts.unknown_kinds, BTreeMap::from([("stare".to_owned(), 1)]));
    let soon = &counts.bad_examples[2];
    assert_eq!((soon.line, soon.found.as_str()), (7, "soon"));
}

#[test]
fn a_kind_with_a_weight_of_its_own_is_not_taken_for_another() {
    let mut rules = rules();
    rules.kind_weights.insert("click".to_owned(), 2.0);
    let mut log = Log::default();
    for kind in ["click", "Click", "Clicks"] {
        log.push(1, &row("u", "a", "1", kind, ""), &rules).unwrap();
    }
    assert_eq!((log.kinds.join(" "), log.weight.clone()), ("click view".to_owned(), vec![2.0, 2.0, 1.0]));
}

#[test]
fn nobody_and_nothing_are_no_user_and_no_item() {
    let mut log = Log::default();
    for (user, item) in [("", "a"), ("  ", "a"), ("u", ""), ("NA", "NULL")] {
        log.push(1, &row(user, item, "1", "", ""), &rules()).unwrap();
    }
    assert_eq!((log.len(), log.counts.bad["no user"], log.counts.bad["no item"]), (1, 2, 1));
}

#[test]
fn spaces_that_a_reader_has_left_are_a_part_of_the_name() {
    let mut log = Log::default();
    log.push(1, &row(" u", "a ", "1", "", ""), &rules()).unwrap();
    let texts = [log.users, log.items].map(|names| names.into_texts().concat());
    assert_eq!(texts, [" u", "a "]);
}

#[test]
fn a_rating_below_the_least_is_no_interaction() {
    let mut log = Log::default();
    log.begin("r".to_owned(), Mapping { rating: Some(2), ..Mapping::default() });
    let rules = RowRules { min_rating: Some(4.0), ..rules() };
    for rating in ["5", "4.0", "3.5", ""] {
        let row = Row { user: b"u", item: b"a", rating: rating.as_bytes(), ..Row::default() };
        log.push(1, &row, &rules).unwrap();
    }
    assert_eq!((log.len(), log.counts.below_min_rating), (2, 2));
    assert_eq!((log.kinds.clone(), log.weight.clone()), (vec!["rating".to_owned()], vec![1.0, 1.0]));
}

#[test]
fn a_rating_that_nobody_asks_for_costs_no_row() {
    let words = Row { user: b"u", item: b"a", rating: b"5 stars", ..Row::default() };
    for (min_rating, taken) in [(None, 1), (Some(4.0), 0)] {
        let mut log = Log::default();
        log.push(1, &words, &RowRules { min_rating, ..rules() }).unwrap();
        assert_eq!((log.len(), log.counts.n_bad()), (taken, 1 - taken as u64), "{min_rating:?}");
    }
}

#[test]
fn what_programs_write_for_nothing_is_nothing() {
    for nothing in ["", " ", "NULL", "None", "nan", "NaT", "<NA>", "NA", "N/A", "n/a", "#N/A", "\\N"] {
        assert!(is_missing(nothing.as_bytes()), "{nothing}");
    }
    assert!(!is_missing(b"Nan") && !is_missing(b"0"));
}

#[test]
fn one_odd_number_does_not_decide_the_unit() {
    let mut log = Log::default();
    for time in ["1508194801000", "9223372036854775807", "1508194802000", "2017-10-16"] {
        log.push(1, &row("u", "a", time, "", ""), &rules()).unwrap();
    }
    assert_eq!(log.settle_times(None), [Some(TimeUnit::Milliseconds)]);
    assert_eq!(log.time, [1_508_194_801_000, 1_508_194_802_000, 1_508_112_000_000]);
    assert_eq!(log.counts.n_bad(), 1);
}

#[test]
fn the_numbers_of_each_file_are_in_its_own_unit() {
    let mut log = Log::default();
    let files = [("ms", vec!["1508194801000", "1508194802000"]), ("none", vec![]), ("s", vec!["1508194803", ""])];
    for (file, times) in files {
        log.begin(file.to_owned(), Mapping::default());
        for time in times {
            log.push(1, &row("u", "a", time, "", ""), &rules()).unwrap();
        }
    }
    assert_eq!(log.settle_times(None), [Some(TimeUnit::Milliseconds), None, Some(TimeUnit::Seconds)]);
    assert_eq!(log.time, [1_508_194_801_000, 1_508_194_802_000, 1_508_194_803_000, 1_508_194_803_000]);
}

#[test]
fn without_any_time_the_place_in_the_log_is_the_time() {
    let mut log = Log::default();
    for item in ["a", "b", "c"] {
        log.push(1, &row("u", item, "", "", ""), &rules()).unwrap();
    }
    assert_eq!(log.settle_times(None), [None]);
    assert_eq!((log.time.clone(), log.counts.filled_time), (vec![0, 1_000, 2_000], 3));
    let mut log = Log::default();
    for time in ["", "", "7"] {
        log.push(1, &row("u", "a", time, "", ""), &rules()).unwrap();
    }
    log.settle_times(None);
    assert_eq!(log.time, [7_000, 7_000, 7_000]);
}

#[test]
fn dates_of_digits_are_read_as_dates_where_most_numbers_are_some() {
    let mut log = Log::default();
    let files = [
        ("dates", vec!["20171016", "20171017.0", "20171399"]),
        ("seconds", vec!["5000000", "20171016", "60000000"]),
        ("moments", vec!["20171016102030", "20171016102031"]),
    ];
    for (file, times) in files {
        log.begin(file.to_owned(), Mapping::default());
        for time in times {
            log.push(1, &row("u", "a", time, "", ""), &rules()).unwrap();
        }
    }
    let units = [TimeUnit::Dates, TimeUnit::Seconds, TimeUnit::Dates].map(Some);
    assert_eq!(log.settle_times(None), units);
    let (of_dates, of_moments) = ([1_508_112_000_000, 1_508_198_400_000], [1_508_149_230_000, 1_508_149_231_000]);
    assert_eq!((&log.time[..2], &log.time[5..]), (&of_dates[..], &of_moments[..]));
    assert_eq!(log.time[2..5], [5_000_000_000, 20_171_016_000, 60_000_000_000]);
    assert_eq!((log.counts.n_bad(), log.counts.odd_times), (1, 1));
}

#[test]
fn a_number_in_another_unit_than_the_others_is_told() {
    let read = |unit| {
        let mut log = Log::default();
        for time in ["1508194801000", "1508194802", "1508194803000", ""] {
            log.push(1, &row("u", "a", time, "", ""), &rules()).unwrap();
        }
        log.settle_times(unit);
        (log.time.clone(), log.counts.odd_times)
    };
    let times = vec![1_508_194_801_000, 1_508_194_802, 1_508_194_803_000, 1_508_194_803_000];
    assert_eq!(read(None), (times.clone(), 1));
    assert_eq!(read(Some(TimeUnit::Milliseconds)), (times, 0), "whoever names the unit knows it");
}

fn settled(times: &[RowTime<'_>], unit: Option<TimeUnit>) -> (Vec<i64>, u64) {
    let mut log = Log::default();
    for time in times {
        log.push(1, &Row { time: *time, ..row("u", "a", "", "", "") }, &rules()).unwrap();
    }
    log.settle_times(unit);
    (log.time.clone(), log.counts.n_bad())
}

#[test]
fn a_time_that_is_none_gets_in_nowhere() {
    let (missing, seven) = (RowTime::Missing, RowTime::Text(b"7"));
    let never = RowTime::Text(b"9223372036854775807");
    let settled = |times: &[RowTime<'_>]| settled(times, Some(TimeUnit::Seconds));
    assert_eq!(settled(&[never, missing, seven]), (vec![7_000, 7_000], 1));
    assert_eq!(settled(&[missing, never, seven]), (vec![7_000, 7_000], 1));
    assert_eq!(settled(&[seven, RowTime::Millis(i64::MAX), missing]), (vec![7_000, 7_000], 1));
    assert_eq!(settled(&[missing, never]), (vec![], 2));
}

#[test]
fn numbers_that_are_not_whole_are_in_the_unit_of_the_others() {
    let times = [RowTime::Text(b"5000.5"), RowTime::Text(b"6000")];
    assert_eq!(settled(&times, Some(TimeUnit::Milliseconds)), (vec![5_000, 6_000], 0));
    assert_eq!(settled(&times, None), (vec![5_000_500, 6_000_000], 0));
    let like_dates = [RowTime::Text(b"20171016.5"), RowTime::Text(b"20171017.25")];
    assert_eq!(settled(&like_dates, None), (vec![20_171_016_500, 20_171_017_250], 0), "a date has no fraction");
}
