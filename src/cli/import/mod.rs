//! Reading rows from a file, CSV or JSON lines, in batches of bounded size: a bad record is named and costs no other.

mod cells;
mod csv;
mod lines;

#[cfg(test)]
mod tests;

use std::io::{self, BufRead};

use serde_json::{Map, Value};

use crate::cli::import::csv::{Column, csv_record, header};
use crate::cli::import::lines::Lines;

/// The longest record, in bytes.
pub const RECORD_MAX_BYTES: usize = 1 << 20;
/// A batch ends at so many records, or at so many bytes.
pub const BATCH_MAX_RECORDS: usize = 1_000;
const BATCH_MAX_BYTES: u64 = 4 << 20;

/// What a record of a file becomes.
pub trait Row: Sized + Send + 'static {
    /// Its fields, and what each may hold. Where `labels` is one of them, columns `label.KEY` fill it too.
    const FIELDS: &'static [(&'static str, &'static str)];
    /// Those that must be given.
    const NEEDED: &'static [&'static str];
    /// Whether columns of other names are fields too, as texts.
    const ANY_COLUMN: bool = false;

    /// Reads it from these fields, of which none is unknown or null and none that is needed is missing.
    /// Errors: which field is wrong, and how, without what it holds.
    fn of(fields: Value) -> Result<Self, BadRecord>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Csv,
    Jsonl,
}

/// One record of the file; a quoted body may make it span lines.
#[derive(Debug)]
pub struct Record<R> {
    pub first_line: u64,
    pub last_line: u64,
    pub row: Result<R, BadRecord>,
    /// The record as it stands in the file.
    pub raw: Vec<u8>,
}

/// Which field is wrong, and how; what it holds stays out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    pub field: String,
    pub reason: String,
}

/// Neighbouring records, and how many bytes of the file are read with them.
#[derive(Debug)]
pub struct Batch<R> {
    pub records: Vec<Record<R>>,
    pub bytes_read: u64,
}

impl<R> Default for Batch<R> {
    fn default() -> Batch<R> {
        Batch { records: Vec::new(), bytes_read: 0 }
    }
}

impl BadRecord {
    /// `reason` does not say what the field holds.
    pub fn new(field: &str, reason: impl Into<String>) -> BadRecord {
        BadRecord { field: field.to_owned(), reason: reason.into() }
    }
}

/// Why the file as a whole cannot be read, or not further.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("the file is empty: its first line must name the columns, such as phone")]
    NoHeader,
    #[error("line 1: the file is not UTF-8: save it as UTF-8")]
    HeaderNotUtf8,
    #[error("line 1: {0}")]
    HeaderQuotes(&'static str),
    #[error("line 1: the column `{column}` is unknown; the columns are {known}; a comma separates them")]
    UnknownColumn { column: String, known: String },
    #[error("line 1: column {number} has no name: write one, or take it out (a comma at the end begins one more)")]
    UnnamedColumn { number: usize },
    #[error(
        "line 1: the column `{column}` is missing, and the line is one column: write commas between columns, not {separator}"
    )]
    OtherSeparator { column: &'static str, separator: &'static str },
    #[error("line 1: the column `{column}` stands there twice")]
    ColumnTwice { column: String },
    #[error("line 1: the column `{column}` is missing: {needed} cannot be left out")]
    ColumnMissing { column: &'static str, needed: String },
    #[error("reading the file after line {line}: {source}")]
    Read { line: u64, source: io::Error },
}

/// Reads all records that begin after line `skip_lines` and hands them over in batches, until `take` wants no more.
/// Errors: the file has no usable header, or cannot be read to its end; the records before that are handed over first.
pub fn read<R: Row>(
    source: impl BufRead,
    format: Format,
    skip_lines: u64,
    mut take: impl FnMut(Batch<R>) -> bool,
) -> Result<(), ImportError> {
    let mut lines = Lines::of(source);
    let columns = match format {
        Format::Csv => Some(header::<R>(&mut lines)?),
        Format::Jsonl => None,
    };
    let mut batch = Batch::default();
    let mut batch_began_at = 0;
    loop {
        let record = match &columns {
            Some(columns) => csv_record(&mut lines, columns),
            None => json_record(&mut lines),
        };
        let end = match record {
            Ok(Some(record)) if record.first_line <= skip_lines => continue,
            Ok(Some(record)) => {
                batch.records.push(record);
                None
            }
            Ok(None) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        };
        batch.bytes_read = lines.bytes_read;
        let full = batch.records.len() >= BATCH_MAX_RECORDS || lines.bytes_read - batch_began_at >= BATCH_MAX_BYTES;
        if (full || end.is_some()) && !batch.records.is_empty() {
            batch_began_at = lines.bytes_read;
            if !take(std::mem::take(&mut batch)) {
                return Ok(());
            }
        }
        if let Some(end) = end {
            return end;
        }
    }
}

/// The fields that the columns of a CSV fill, in their order.
/// Errors: the file has no usable header.
pub fn columns_of<R: Row>(source: impl BufRead) -> Result<Vec<String>, ImportError> {
    let columns = header::<R>(&mut Lines::of(source))?;
    Ok(columns.into_iter().map(|(Column::Field(name) | Column::Label(name))| name).collect())
}

fn json_record<R: Row>(lines: &mut Lines<impl BufRead>) -> Result<Option<Record<R>>, ImportError> {
    let Some(line) = lines.next_filled()? else { return Ok(None) };
    let row = if line.too_long { Err(too_long()) } else { json_row(&line.bytes) };
    Ok(Some(Record { first_line: line.number, last_line: line.number, row, raw: line.bytes }))
}

fn json_row<R: Row>(line: &[u8]) -> Result<R, BadRecord> {
    let text = std::str::from_utf8(line).map_err(|_| not_utf8("line"))?;
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => row(fields),
        Ok(_) => Err(BadRecord::new(
            "line",
            "is not a JSON object: write one a line, such as {\"phone\":\"+15550142200\", …}",
        )),
        Err(error) => Err(BadRecord::new("line", format!("is not JSON from column {} on", error.column()))),
    }
}

/// The row of these fields; a field that is null is one that is not given.
fn row<R: Row>(mut fields: Map<String, Value>) -> Result<R, BadRecord> {
    fields.retain(|_, value| !value.is_null());
    let is_unknown = |key: &&String| !R::ANY_COLUMN && !R::FIELDS.iter().any(|(field, _)| field == key);
    if let Some(unknown) = fields.keys().find(is_unknown) {
        let reason = format!("has the unknown field `{}`; the fields are {}", shortened(unknown), columns::<R>());
        return Err(BadRecord::new("line", reason));
    }
    if let Some(missing) = R::NEEDED.iter().find(|needed| !fields.contains_key(**needed)) {
        return Err(BadRecord::new(
            missing,
            format!("{missing} is missing: every line needs {}", R::NEEDED.join(" and ")),
        ));
    }
    R::of(Value::Object(fields))
}

fn too_long() -> BadRecord {
    BadRecord::new("line", format!("is longer than {RECORD_MAX_BYTES} bytes"))
}

fn not_utf8(field: &str) -> BadRecord {
    BadRecord::new(field, format!("{field} is not UTF-8: save the file as UTF-8"))
}

fn columns<R: Row>() -> String {
    let names: Vec<&str> = R::FIELDS.iter().map(|(field, _)| *field).collect();
    let labels = if names.contains(&"labels") { ", label.KEY" } else { "" };
    format!("{}{labels}", names.join(", "))
}

fn shortened(name: &str) -> String {
    name.chars().take(40).collect()
}
