//! The known word that somebody may have meant.

use alloc::vec::Vec;

/// The one of `known` that `word` differs from by the fewest inserted, removed or replaced bytes, if that
/// is at most a third of it.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer than anything that anybody could have meant.
    if word.len() > 100 {
        return None;
    }
    known
        .into_iter()
        .map(|known| (distance(word.as_bytes(), known.as_bytes()), known))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= word.len().div_ceil(3))
        .map(|(_, known)| known)
}

/// Levenshtein's distance, one row of his table at a time.
fn distance(one: &[u8], other: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, a) in one.iter().enumerate() {
        let mut diagonal = index;
        row[0] = index + 1;
        for (column, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_must_be_changed() {
        for (one, other, expected) in [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(distance(one.as_bytes(), other.as_bytes()), expected, "{one} {other}");
            assert_eq!(distance(other.as_bytes(), one.as_bytes()), expected, "{other} {one}");
        }
    }

    #[test]
    fn names_only_what_is_near() {
        let known = ["etc.transient", "root.transient", "deployment"];
        assert_eq!(nearest("etc.transiant", known), Some("etc.transient"));
        assert_eq!(nearest("deploymnt", known), Some("deployment"));
        assert_eq!(nearest("nothing-like-it", known), None);
        assert_eq!(nearest(&"x".repeat(101), known), None);
    }
}
