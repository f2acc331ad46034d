//! What sqlx's macros would write: structs read from rows, and schemas out of files.
//!
//! Those macros compile both databases, one of them written in C, a second time for the compiler's own use: a fifth of
//! a clean build. This is all that is needed of them.

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// Reads a struct from a row of either database, each field from the column of its name; `..field` is another such
/// struct, from columns of the same row.
macro_rules! from_row {
    ($struct:ty { $($column:ident),+ $(, ..$inner:ident)? }) => {
        impl<'r, R: sqlx::Row> sqlx::FromRow<'r, R> for $struct
        where
            for<'name> &'name str: sqlx::ColumnIndex<R>,
            i64: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
            bool: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
            String: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
            Vec<u8>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
        {
            fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
                Ok(Self {
                    $($column: row.try_get(stringify!($column))?,)+
                    $($inner: sqlx::FromRow::from_row(row)?,)?
                })
            }
        }
    };
}
pub(crate) use from_row;

/// The steps of a schema, from the folder `$folder` under `migrations`, in the order of their names.
macro_rules! migrations {
    ($folder:literal: $($file:literal),+ $(,)?) => {
        crate::sql::migrator(&[
            $(($file, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/", $folder, "/", $file, ".sql"))),)+
        ])
    };
}
pub(crate) use migrations;

/// The steps with their numbers and descriptions as sqlx takes them from names: `0001_first`.
pub(crate) fn migrator(steps: &[(&'static str, &'static str)]) -> Migrator {
    let steps = steps.iter().map(|(name, sql)| {
        let (number, description) = name.split_once('_').unwrap_or((name, ""));
        // The test beside the folders sees that each has a number of its own.
        let number = number.parse().unwrap_or_default();
        Migration::new(number, description.replace('_', " ").into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(steps.collect())
}

/// The version that a schema has after its last step.
pub(crate) fn last_version(migrator: &Migrator) -> i64 {
    migrator.iter().map(|migration| migration.version).max().unwrap_or(0)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use sqlx::migrate::Migrator;

    /// Every file of the folder is a step, under the number and text that it has there.
    pub fn holds_all_of(migrator: &Migrator, folder: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder);
        let files: BTreeSet<(i64, String)> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| {
                let path = file.unwrap().path();
                let number = path.file_name().unwrap().to_str().unwrap().split('_').next().unwrap().parse().unwrap();
                (number, std::fs::read_to_string(path).unwrap())
            })
            .collect();
        let steps = migrator.iter().map(|step| (step.version, step.sql.as_str().to_owned())).collect();
        assert_eq!(files, steps);
    }
}
