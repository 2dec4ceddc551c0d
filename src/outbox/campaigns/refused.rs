//! What may be told of a query that the database refused: what it says of the query itself, and never what stood in a row. Its words
//! go into logs and into the firing's row, which viewers may read.

use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

use crate::database;

/// Classes whose messages quote nothing of a row: cardinality, rights and state of the transaction, conflicts, resources, locks, limits.
const OF_NO_ROW: [&str; 7] = ["21", "25", "28", "40", "53", "55", "57"];
/// Classes whose messages are about the text of the query, as long as none of its rows is read: what a row holds may be taken for a
/// name or for syntax as well, by `::regclass` or `to_tsquery`.
const OF_THE_TEXT: [&str; 4] = ["0A", "3F", "42", "54"];
/// A right that is missing names the table or the function, whenever that is noticed.
const NO_RIGHT: &str = "42501";

/// The words for a query that was refused before any of its rows was read.
pub fn planned(error: &sqlx::Error) -> String {
    told(error, is_of_the_query)
}

/// What the database proposes for a query that was refused before any of its rows was read, where its own words are told.
pub fn hint(error: &sqlx::Error) -> Option<String> {
    let sqlx::Error::Database(refused) = error else { return None };
    let refused = refused.try_downcast_ref::<PgDatabaseError>()?;
    Some(refused.hint()?.to_owned()).filter(|_| is_told(error, is_of_the_query))
}

/// At which character of the statement a query was refused, from 0.
pub fn place(error: &sqlx::Error) -> Option<usize> {
    let sqlx::Error::Database(refused) = error else { return None };
    match refused.try_downcast_ref::<PgDatabaseError>()?.position()? {
        PgErrorPosition::Original(character) => character.checked_sub(1),
        PgErrorPosition::Internal { .. } => None,
    }
}

/// Whether it says nothing of the query: a lock that somebody holds, a limit of time, a connection that broke.
pub fn passes_by(error: &sqlx::Error) -> bool {
    let Some(refused) = error.as_database_error() else { return true };
    refused.code().is_some_and(|code| ["08", "53", "55", "57"].contains(&code.get(..2).unwrap_or_default()))
}

fn is_of_the_query(class: &str) -> bool {
    OF_NO_ROW.contains(&class) || OF_THE_TEXT.contains(&class)
}

/// The words for a query that was refused while its rows were read.
pub fn read(error: &sqlx::Error) -> String {
    told(error, |class| OF_NO_ROW.contains(&class))
}

fn told(error: &sqlx::Error, is_harmless: impl Fn(&str) -> bool) -> String {
    let sqlx::Error::Database(refused) = error else { return database::describe(error) };
    if is_told(error, is_harmless) {
        return refused.message().to_owned();
    }
    let code = refused.code().unwrap_or_default();
    let meaning = if is_raised(error) { "a function that it calls raised an exception" } else { meaning(&code) };
    format!("{code}: {meaning} (what the database said may quote a row: run the query by hand to see it)")
}

/// Whether the database's own words quote nothing of a row.
fn is_told(error: &sqlx::Error, is_harmless: impl Fn(&str) -> bool) -> bool {
    let code = error.as_database_error().and_then(|refused| refused.code()).unwrap_or_default();
    !is_raised(error) && (code == NO_RIGHT || code.get(..2).is_some_and(is_harmless))
}

/// Whatever code a function gives to what it raises, the words are its own.
fn is_raised(error: &sqlx::Error) -> bool {
    let refused = error.as_database_error().and_then(|refused| refused.try_downcast_ref::<PgDatabaseError>());
    refused.and_then(PgDatabaseError::routine) == Some("exec_stmt_raise")
}

fn meaning(code: &str) -> &'static str {
    match code {
        "22P02" | "22P03" => "a value does not fit the type it is cast to",
        "22003" => "a number is too large for its type",
        "22007" | "22008" => "a value is no date or time",
        "22012" => "something is divided by zero",
        _ => match code.get(..2) {
            Some("22") => "a value does not fit what is made of it",
            Some("23") => "a value breaks a constraint",
            Some("42") => {
                "a value is taken for a name or for syntax, and is none, or a function that it calls is wrong"
            }
            Some("P0") => "a function that it calls raised an exception",
            _ => "it failed while its rows were read",
        },
    }
}
