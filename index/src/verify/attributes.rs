//! The attributes: tables in order, without gaps or overlaps, and sets and numbers that agree with each other.

use crate::allow::AllowSet;
use crate::attributes::{AttributeView, Field};
use crate::error::VerifyError;
use crate::format::{
    FIELD_NAME_BYTES_MAX, FieldEntry, POSTINGS_BITMAP, POSTINGS_LIST, Postings, TERM_BYTES_MAX, section,
};

/// How far the tables are used up. Each entry must start where the one before it ended, so that no byte is described twice and
/// the time that verifying takes is linear whatever the entries say.
#[derive(Default)]
struct Cursor {
    field: u64,
    terms: u64,
    numbers: u64,
    strings: u64,
    words: u64,
}

pub(super) fn verify(view: &AttributeView<'_>) -> Result<(), VerifyError> {
    let mut at = Cursor::default();
    let mut name_before = None;
    for (field, entry) in view.fields().zip(view.fields) {
        let name = text(view, &mut at.strings, entry.name_start, entry.name_len, FIELD_NAME_BYTES_MAX);
        let name = name.map_err(|problem| wrong(section::ATTRIBUTE_FIELDS, at.field, problem))?;
        let problem = field_problem(entry, name, name_before, &at);
        problem.map_or(Ok(()), |problem| Err(wrong(section::ATTRIBUTE_FIELDS, at.field, problem)))?;
        name_before = Some(name);
        let mut present = AllowSet::new_empty(view.n);
        terms(view, field, &mut at, &mut present)?;
        numbers(view, field, &mut at, &mut present)?;
        let mut declared = AllowSet::new_empty(view.n);
        postings(view, &entry.present, &mut at.words, &mut declared)
            .map_err(|problem| wrong(section::ATTRIBUTE_FIELDS, at.field, problem))?;
        if declared != present {
            let problem = "the items of the field are not those of its terms and numbers";
            return Err(wrong(section::ATTRIBUTE_FIELDS, at.field, problem));
        }
        at.field += 1;
    }
    let ends = [
        (section::ATTRIBUTE_TERMS, at.terms, view.terms.len()),
        (section::ATTRIBUTE_STRINGS, at.strings, view.strings.len()),
        (section::POSTINGS, at.words * 4, view.postings.len()),
        (section::NUMBER_VALUES, at.numbers, view.number_values.len()),
    ];
    match ends.into_iter().find(|(_, used, there)| *used != *there as u64) {
        Some((section, used, _)) => Err(wrong(section, used, "no field speaks of it and what follows")),
        None => Ok(()),
    }
}

fn wrong(section: u32, entry: u64, problem: &'static str) -> VerifyError {
    VerifyError::Attribute { section, entry, problem }
}

fn field_problem(entry: &FieldEntry, name: &str, before: Option<&str>, at: &Cursor) -> Option<&'static str> {
    if name.is_empty() {
        Some("the name is empty")
    } else if before.is_some_and(|before| before >= name) {
        Some("the names are not in order")
    } else if entry.zero != 0 {
        Some("the padding is not zero")
    } else if entry.terms_first != at.terms {
        Some("its terms do not follow those of the field before")
    } else if entry.numbers_first != at.numbers {
        Some("its numbers do not follow those of the field before")
    } else if entry.present.cardinality == 0 {
        Some("no item has it")
    } else {
        None
    }
}

fn terms(
    view: &AttributeView<'_>,
    field: Field<'_>,
    at: &mut Cursor,
    present: &mut AllowSet,
) -> Result<(), VerifyError> {
    let entries = field.term_entries();
    if entries.len() as u64 != field.n_terms() {
        return Err(wrong(section::ATTRIBUTE_FIELDS, at.field, "it has more terms than there are"));
    }
    let mut before = None;
    for entry in entries {
        let fail = |problem| wrong(section::ATTRIBUTE_TERMS, at.terms, problem);
        let value = text(view, &mut at.strings, entry.value_start, entry.value_len, TERM_BYTES_MAX).map_err(fail)?;
        if before.is_some_and(|before| before >= value) {
            return Err(fail("the values are not in order"));
        }
        if entry.zero != 0 {
            return Err(fail("the padding is not zero"));
        }
        if entry.items.cardinality == 0 {
            return Err(fail("no item has it"));
        }
        postings(view, &entry.items, &mut at.words, present).map_err(fail)?;
        before = Some(value);
        at.terms += 1;
    }
    Ok(())
}

fn numbers(
    view: &AttributeView<'_>,
    field: Field<'_>,
    at: &mut Cursor,
    present: &mut AllowSet,
) -> Result<(), VerifyError> {
    let (values, ordinals) = field.numbers();
    if values.len() as u64 != field.n_numbers() || ordinals.len() != values.len() {
        return Err(wrong(section::ATTRIBUTE_FIELDS, at.field, "it has more numbers than there are"));
    }
    let mut before: Option<(f64, u32)> = None;
    for (&value, &ordinal) in values.iter().zip(ordinals) {
        let fail = |section, problem| Err(wrong(section, at.numbers, problem));
        if !value.is_finite() || value.to_bits() == (-0.0_f64).to_bits() {
            return fail(section::NUMBER_VALUES, "the number is not finite, or is a negative zero");
        }
        if before.is_some_and(|(earlier, item)| earlier > value || (earlier == value && item >= ordinal)) {
            return fail(section::NUMBER_VALUES, "the numbers are not in order");
        }
        if ordinal >= view.n {
            return fail(section::NUMBER_ORDINALS, "there is no such item");
        }
        present.insert(ordinal);
        before = Some((value, ordinal));
        at.numbers += 1;
    }
    Ok(())
}

/// A piece of text that starts where the one before it ended.
fn text<'a>(
    view: &AttributeView<'a>,
    at: &mut u64,
    start: u64,
    len: u32,
    most: usize,
) -> Result<&'a str, &'static str> {
    if start != *at {
        return Err("its text does not follow the text before");
    }
    if len as usize > most {
        return Err("its text is too long");
    }
    let bytes = view.string(start, len).ok_or("its text ends behind the end")?;
    *at += u64::from(len);
    str::from_utf8(bytes).map_err(|_| "its text is not UTF-8")
}

/// A set of items that starts where the one before it ended; its items are added to `into`.
fn postings(view: &AttributeView<'_>, entry: &Postings, at: &mut u64, into: &mut AllowSet) -> Result<(), &'static str> {
    if entry.start != *at {
        return Err("its items do not follow the items before");
    }
    *at += match entry.encoding {
        POSTINGS_LIST => list(view, entry, into)?,
        POSTINGS_BITMAP => bitmap(view, entry, into)?,
        _ => return Err("its encoding is unknown"),
    };
    Ok(())
}

/// Checks a list and returns the words it takes.
fn list(view: &AttributeView<'_>, entry: &Postings, into: &mut AllowSet) -> Result<u64, &'static str> {
    let list = view.list(entry).ok_or("its list ends behind the end")?;
    let mut before = None;
    for &ordinal in list {
        if ordinal >= view.n {
            return Err("there is no such item in its list");
        }
        if before.is_some_and(|before| before >= ordinal) {
            return Err("its list is not in order");
        }
        before = Some(ordinal);
        into.insert(ordinal);
    }
    // The list is ascending and below n, so its length is too, and rounding it up cannot overflow.
    let padded = Postings { cardinality: entry.cardinality.next_multiple_of(2), ..*entry };
    let padding = view.list(&padded).ok_or("its list ends behind the end")?;
    match padding.get(list.len()) {
        Some(word) if *word != 0 => Err("the padding behind its list is not zero"),
        _ => Ok(u64::from(padded.cardinality)),
    }
}

/// Checks a bitmap and returns the words it takes.
fn bitmap(view: &AttributeView<'_>, entry: &Postings, into: &mut AllowSet) -> Result<u64, &'static str> {
    let words = view.bitmap(entry).ok_or("its bitmap ends behind the end")?;
    let bits: u64 = words.iter().map(|word| u64::from(word.count_ones())).sum();
    if bits != u64::from(entry.cardinality) {
        return Err("its bitmap has another number of items than it says");
    }
    let beyond = view.n % u64::BITS;
    if beyond != 0 && words.last().is_some_and(|last| last >> beyond != 0) {
        return Err("its bitmap has items that do not exist");
    }
    into.or_words(words);
    Ok(2 * words.len() as u64)
}
