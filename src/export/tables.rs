//! Tables of figures, written from the summary once both passes are done.

use std::collections::HashMap;

use super::ExportError;
use super::cells::Value;
use super::columns::{self, Column, Field};
use super::folder::{Folder, Table};
use super::rows::Shown;
use crate::assess::report::groups::Cell;
use crate::assess::report::{Split, Summary, ThreeWays};

/// Share of a base in percent, to one decimal; nothing of nothing is nothing.
pub fn percent(count: u64, base: u64) -> String {
    if base == 0 {
        return "0.0".to_owned();
    }
    // Tenths of a percent, rounded half up, in whole numbers: the same on every machine.
    let tenths = (u128::from(count) * 2_000 + u128::from(base)) / (u128::from(base) * 2);
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn split_values(split: &Split) -> [Value; 5] {
    [split.supporting, split.mixed, split.unclear, split.against, split.not_judged].map(Value::Whole)
}

/// `theme_summary.csv`.
pub fn theme_summary(folder: &mut Folder, consultation: &str, summary: &Summary) -> Result<(), ExportError> {
    let mut table = Table::new(folder.file("theme_summary.csv")?, columns::names(columns::THEME_SUMMARY))?;
    for theme in &summary.themes {
        let mut row: Vec<Value> = vec![
            consultation.into(),
            theme.id.as_str().into(),
            theme.label.clone().into(),
            theme.ways.all.into(),
            theme.respondents.into(),
            summary.included.into(),
            Value::Text(percent(theme.ways.all, summary.included)),
        ];
        row.extend(split_values(&theme.split));
        row.extend([theme.ways.distinct.into(), theme.ways.without_campaigns.into(), theme.to_check.into()]);
        table.row(&row)?;
    }
    let rest: [(&str, &str, &ThreeWays); 3] = [
        ("OTHER", "Substantive, fits no theme", &summary.other),
        ("NONE", "Too short to code", &summary.none),
        ("NOT_JUDGED", "Language not supported", &summary.themes_not_judged),
    ];
    for (key, label, ways) in rest.iter().filter(|_| !summary.themes.is_empty()) {
        let mut row: Vec<Value> = vec![
            consultation.into(),
            (*key).into(),
            (*label).into(),
            ways.all.into(),
            Value::Empty,
            summary.included.into(),
            Value::Text(percent(ways.all, summary.included)),
        ];
        row.extend([const { Value::Empty }; 5]);
        row.extend([ways.distinct.into(), ways.without_campaigns.into(), Value::Empty]);
        table.row(&row)?;
    }
    table.finish(folder)
}

/// `crosstab.csv`, if a group was declared that can be tabulated.
pub fn crosstab(folder: &mut Folder, consultation: &str, summary: &Summary) -> Result<(), ExportError> {
    if summary.themes.is_empty() || summary.groups.iter().all(|group| group.rows.is_empty()) {
        return Ok(());
    }
    let mut table = Table::new(folder.file("crosstab.csv")?, columns::names(columns::CROSSTAB))?;
    let shown = |cell: Cell| match cell {
        Cell::Count(count) => Value::Whole(count),
        Cell::Withheld => "[c]".into(),
    };
    for group in &summary.groups {
        for row in &group.rows {
            for (theme, cell) in summary.themes.iter().zip(&row.themes) {
                let share = match (row.base, *cell) {
                    (Cell::Count(base), Cell::Count(count)) => percent(count, base),
                    _ => "[c]".to_owned(),
                };
                table.row(&[
                    consultation.into(),
                    group.name.clone().into(),
                    row.value.clone().into(),
                    theme.id.as_str().into(),
                    shown(row.base),
                    shown(*cell),
                    share.into(),
                    Value::Flag(*cell == Cell::Withheld),
                ])?;
            }
        }
    }
    table.finish(folder)
}

/// `campaigns.csv`, if there is one.
pub fn campaigns(folder: &mut Folder, summary: &Summary, shown: &HashMap<i64, Shown>) -> Result<(), ExportError> {
    if summary.campaigns.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(folder.file("campaigns.csv")?, columns::names(columns::CAMPAIGNS))?;
    for campaign in &summary.campaigns {
        let template = shown.get(&campaign.template);
        let themes = summary
            .themes
            .iter()
            .zip(&campaign.themes)
            .filter(|(_, count)| **count > 0)
            .map(|(theme, count)| format!("{} ({count})", theme.id))
            .collect::<Vec<_>>();
        let mut row: Vec<Value> = vec![
            campaign.id.clone().into(),
            campaign.sharing.key().into(),
            Value::maybe(template.map(|shown| shown.response_id.clone())),
            Value::maybe(template.map(|shown| shown.text_redacted.clone())),
            campaign.comments.into(),
            campaign.respondents.into(),
            campaign.with_additions.into(),
            Value::maybe(campaign.first_seen.map(|day| day.to_string())),
            Value::maybe(campaign.last_seen.map(|day| day.to_string())),
        ];
        row.extend(split_values(&campaign.split));
        row.push(themes.join("; ").into());
        table.row(&row)?;
    }
    table.finish(folder)
}

/// `data_dictionary.csv`: every column of every table that may be there.
pub fn data_dictionary(folder: &mut Folder, summary: &Summary, fields: &[Field]) -> Result<(), ExportError> {
    let mut table = Table::new(folder.file("data_dictionary.csv")?, columns::names(columns::DICTIONARY))?;
    for field in fields {
        let row: [String; 5] = match field {
            Field::Fixed(name) => {
                let Some(column) = columns::RESPONSES.iter().find(|column| column.0 == *name) else { continue };
                [column.0, column.1, column.2, column.3, column.4].map(str::to_owned)
            }
            Field::Group(declared, column) => {
                [column, &format!("Declared group \"{declared}\"; may be empty"), "text", "", ""].map(str::to_owned)
            }
            Field::Theme(at, column) => {
                let theme = &summary.themes[*at];
                let meaning = format!("1 where the comment raises {}: {}", theme.label, theme.definition);
                [column, &meaning, "0 or 1", "0; 1; empty where the language is not supported", "1"].map(str::to_owned)
            }
        };
        let mut values = vec![Value::from("responses")];
        values.extend(row.map(Value::Text));
        table.row(&values)?;
    }
    let others: [(&str, &[Column]); 9] = [
        ("tags", columns::TAGS),
        ("theme_summary", columns::THEME_SUMMARY),
        ("exclusions", columns::EXCLUSIONS),
        ("campaigns", columns::CAMPAIGNS),
        ("crosstab", columns::CROSSTAB),
        ("restricted/disclosures", columns::DISCLOSURES),
        ("restricted/key", columns::KEY),
        ("restricted/excluded_texts", columns::EXCLUDED_TEXTS),
        ("restricted/failed_rows", columns::FAILED_ROWS),
    ];
    for (name, described) in others {
        for column in described {
            table.row(&[name, column.0, column.1, column.2, column.3, column.4].map(Value::from))?;
        }
    }
    table.finish(folder)
}
