//! Rows from wherever they lie.

use std::{fmt, io};

/// Rows of items, from wherever they lie: they are read one after the other, as often as they are needed, and need not be in memory.
pub trait RowSource<T = f32>: fmt::Debug + Sync {
    /// How many values all rows have together.
    fn n_values(&self) -> u64;

    /// Calls `visit` with each row in order, without padding; `dims` is the length of a row.
    ///
    /// # Errors
    /// Rows that cannot be read, or what `visit` returned.
    fn each(&self, dims: usize, visit: &mut dyn FnMut(&[T]) -> io::Result<()>) -> io::Result<()>;
}

impl<T> dyn RowSource<T> + '_ {
    /// The first thing that is found in a row, which is given with its ordinal. No row after it is read.
    ///
    /// # Errors
    /// Rows that cannot be read.
    pub fn find<X>(&self, dims: usize, mut look: impl FnMut(u32, &[T]) -> Option<X>) -> io::Result<Option<X>> {
        let (mut ordinal, mut found) = (0, None);
        let read = self.each(dims, &mut |row| {
            found = look(ordinal, row);
            ordinal += 1;
            // Any error ends the reading.
            if found.is_some() { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
        });
        if found.is_none() {
            read?;
        }
        Ok(found)
    }
}

/// n × dims values, row by row.
impl<T: fmt::Debug + Sync> RowSource<T> for Vec<T> {
    fn n_values(&self) -> u64 {
        self.len() as u64
    }

    fn each(&self, dims: usize, visit: &mut dyn FnMut(&[T]) -> io::Result<()>) -> io::Result<()> {
        self.chunks_exact(dims.max(1)).try_for_each(visit)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_first_row_that_is_looked_for_ends_the_reading() {
        let rows: &dyn RowSource<u8> = &vec![1, 2, 3, 4, 5, 6, 7];
        let mut looked = 0;
        let mut find = |wanted: u8| {
            looked = 0;
            let found = rows.find(2, |ordinal, row| {
                looked += 1;
                row.contains(&wanted).then_some(ordinal)
            });
            (found.unwrap(), looked)
        };
        assert_eq!(find(4), (Some(1), 2));
        assert_eq!(find(7), (None, 3), "half a row is none");
    }
}
