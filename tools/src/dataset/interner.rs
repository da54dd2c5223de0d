//! Texts to dense numbers: users and items while a log is read.

use std::collections::HashMap;

/// Each text once, numbered in the order of first appearance.
///
/// Costs about 60 bytes a text beside the text itself. The hash is the standard one, which no log can be made to degrade.
#[derive(Debug, Default)]
pub struct Interner {
    numbers: HashMap<Box<str>, u32>,
    /// Logs are often sorted by user: the text asked for last is likely to be asked for next.
    last: String,
    last_number: u32,
}

impl Interner {
    /// The number of a text, a new one if it is new. None when all 2³² − 1 numbers are taken.
    pub fn number(&mut self, text: &str) -> Option<u32> {
        if !text.is_empty() && self.last == text {
            return Some(self.last_number);
        }
        let number = match self.numbers.get(text) {
            Some(number) => *number,
            None => {
                let number = u32::try_from(self.numbers.len()).ok().filter(|number| *number < u32::MAX)?;
                self.numbers.insert(text.into(), number);
                number
            }
        };
        self.last.clear();
        self.last.push_str(text);
        self.last_number = number;
        Some(number)
    }

    /// The texts, by number.
    pub fn into_texts(self) -> Vec<Box<str>> {
        let mut texts: Vec<(u32, Box<str>)> = self.numbers.into_iter().map(|(text, number)| (number, text)).collect();
        texts.sort_unstable_by_key(|(number, _)| *number);
        texts.into_iter().map(|(_, text)| text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_lead_back() {
        let mut interner = Interner::default();
        let numbers: Vec<_> =
            ["b", "a", "b", "b", "c", "a"].iter().map(|text| interner.number(text).unwrap()).collect();
        assert_eq!(numbers, [0, 1, 0, 0, 2, 1]);
        let texts: Vec<String> = interner.into_texts().into_iter().map(String::from).collect();
        assert_eq!(texts, ["b", "a", "c"]);
    }
}
