//! Themes by declared group, with small numbers withheld.
//!
//! The tables are written for publication, so a cell that is withheld must not
//! follow from the cells that are shown and the totals that stand elsewhere on
//! the page. Zeros are withheld like other small numbers: "nobody in this group
//! said so" tells something about everybody in it.

use std::collections::BTreeMap;

/// Counts under this are withheld.
pub const THRESHOLD: u64 = 10;
/// A group with more values than this is a list and no breakdown; it is not tabulated.
pub const MOST_VALUES: usize = 60;
/// Declared groups that are tabulated, by order of first appearance of the name in the alphabet.
pub const MOST_GROUPS: usize = 40;
/// The row for comments that do not state the group.
pub const NOT_STATED: &str = "Not stated";

/// One figure of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Shown.
    Count(u64),
    /// Too small, or it would tell one that is.
    Withheld,
}

/// One value of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRow {
    /// As declared, or [`NOT_STATED`].
    pub value: String,
    /// Included comments of this group.
    pub base: Cell,
    /// Of these, comments that raise each theme, in the order of the codebook.
    pub themes: Vec<Cell>,
}

/// One declared group against the themes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupTable {
    /// The group's name as declared.
    pub name: String,
    /// By value; "Not stated" last.
    pub rows: Vec<GroupRow>,
    /// `true` where the group has too many values to be one; it then has no rows.
    pub too_many_values: bool,
}

#[derive(Clone, Default)]
struct Tally {
    base: u64,
    themes: Vec<u64>,
}

#[derive(Default)]
struct Group {
    values: BTreeMap<String, Tally>,
    overflow: bool,
}

/// Counts groups comment by comment.
#[derive(Default)]
pub struct GroupCounts {
    groups: BTreeMap<String, Group>,
}

impl GroupCounts {
    /// Adds one included comment.
    pub fn add(&mut self, declared: &BTreeMap<String, String>, themes: &[usize], theme_count: usize) {
        for (name, value) in declared {
            let value = value.trim();
            if value.is_empty() || (!self.groups.contains_key(name) && self.groups.len() >= MOST_GROUPS) {
                continue;
            }
            let group = self.groups.entry(name.clone()).or_default();
            if group.overflow {
                continue;
            }
            if !group.values.contains_key(value) && group.values.len() >= MOST_VALUES {
                group.overflow = true;
                group.values.clear();
                continue;
            }
            let tally = group.values.entry(value.to_owned()).or_default();
            tally.base += 1;
            tally.themes.resize(theme_count, 0);
            for theme in themes {
                tally.themes[*theme] += 1;
            }
        }
    }

    /// Names of the declared groups.
    pub fn names(&self) -> Vec<String> {
        self.groups.keys().cloned().collect()
    }

    /// The tables, given the figures over all included comments.
    pub fn finish(self, included: u64, totals: &[u64]) -> Vec<GroupTable> {
        self.groups
            .into_iter()
            .map(|(name, group)| {
                if group.overflow {
                    return GroupTable { name, rows: Vec::new(), too_many_values: true };
                }
                let mut rows: Vec<(String, Tally)> = group.values.into_iter().collect();
                let stated: u64 = rows.iter().map(|(_, tally)| tally.base).sum();
                if stated < included {
                    let themes = totals
                        .iter()
                        .enumerate()
                        .map(|(theme, total)| total - rows.iter().map(|(_, tally)| tally.themes[theme]).sum::<u64>())
                        .collect();
                    rows.push((NOT_STATED.to_owned(), Tally { base: included - stated, themes }));
                }
                GroupTable { name, rows: shown(rows, totals.len()), too_many_values: false }
            })
            .collect()
    }
}

fn shown(rows: Vec<(String, Tally)>, theme_count: usize) -> Vec<GroupRow> {
    let bases: Vec<u64> = rows.iter().map(|(_, tally)| tally.base).collect();
    let hidden_rows = withheld(&bases, &vec![false; bases.len()]);
    let hidden_cells: Vec<Vec<bool>> = (0..theme_count)
        .map(|theme| {
            let counts: Vec<u64> = rows.iter().map(|(_, tally)| tally.themes[theme]).collect();
            withheld(&counts, &hidden_rows)
        })
        .collect();
    let cell = |hidden: bool, count: u64| if hidden { Cell::Withheld } else { Cell::Count(count) };
    rows.into_iter()
        .enumerate()
        .map(|(at, (value, tally))| GroupRow {
            value,
            base: cell(hidden_rows[at], tally.base),
            themes: tally
                .themes
                .iter()
                .enumerate()
                .map(|(theme, count)| cell(hidden_cells[theme][at], *count))
                .collect(),
        })
        .collect()
}

/// Which of `counts` must not be shown, given that their sum is public: all under
/// the threshold, those already hidden, and then the smallest others until at
/// least two are hidden and together reach the threshold.
fn withheld(counts: &[u64], already: &[bool]) -> Vec<bool> {
    let mut hidden: Vec<bool> =
        counts.iter().zip(already).map(|(count, already)| *already || *count < THRESHOLD).collect();
    if !hidden.contains(&true) {
        return hidden;
    }
    loop {
        let number = hidden.iter().filter(|hidden| **hidden).count();
        let sum: u64 = counts.iter().zip(&hidden).filter(|(_, hidden)| **hidden).map(|(count, _)| count).sum();
        if number >= 2 && sum >= THRESHOLD {
            return hidden;
        }
        let next = (0..counts.len()).filter(|at| !hidden[*at]).min_by_key(|at| counts[*at]);
        match next {
            Some(at) => hidden[at] = true,
            None => return hidden,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn groups(value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("age band".to_owned(), value.to_owned())])
    }

    #[test]
    fn a_small_cell_takes_a_second_one_with_it() {
        assert_eq!(withheld(&[40, 3, 25], &[false; 3]), [false, true, true]);
        assert_eq!(withheld(&[40, 30], &[false; 2]), [false, false]);
        assert_eq!(withheld(&[40, 0, 2, 15], &[false; 4]), [false, true, true, true], "0 and 2 tell both");
        assert_eq!(withheld(&[4], &[false]), [true]);
    }

    #[test]
    fn not_stated_is_a_row_and_blank_values_belong_to_it() {
        let mut counts = GroupCounts::default();
        for _ in 0..20 {
            counts.add(&groups("11 to 15"), &[0], 1);
            counts.add(&groups("16 to 18"), &[], 1);
            counts.add(&groups("  "), &[0], 1);
        }
        let tables = counts.finish(70, &[40]);
        let rows = &tables[0].rows;
        assert_eq!(rows.iter().map(|row| row.value.as_str()).collect::<Vec<_>>(), ["11 to 15", "16 to 18", NOT_STATED]);
        assert_eq!(rows[2].base, Cell::Count(30));
        // 20, 0 and 20: the zero is hidden and one more with it.
        assert_eq!(rows.iter().filter(|row| row.themes[0] == Cell::Withheld).count(), 2);
    }

    #[test]
    fn a_free_text_column_is_no_breakdown() {
        let mut counts = GroupCounts::default();
        for number in 0..100 {
            counts.add(&groups(&number.to_string()), &[], 1);
        }
        let tables = counts.finish(100, &[0]);
        assert!(tables[0].too_many_values && tables[0].rows.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_withheld_does_not_follow_from_what_is_shown(counts in prop::collection::vec(0u64..60, 1..12)) {
            let hidden = withheld(&counts, &vec![false; counts.len()]);
            for (count, hidden) in counts.iter().zip(&hidden) {
                prop_assert!(*hidden || *count >= THRESHOLD);
            }
            let number = hidden.iter().filter(|hidden| **hidden).count();
            let sum: u64 = counts.iter().zip(&hidden).filter(|(_, hidden)| **hidden).map(|(count, _)| count).sum();
            prop_assert!(number == 0 || number == counts.len() || (number >= 2 && sum >= THRESHOLD));
        }
    }
}
