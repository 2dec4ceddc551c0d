//! Records of CSV: the header says what the columns hold.

use std::io::BufRead;

use serde_json::{Map, Value};

use crate::cli::import::cells::{Cells, UNCLOSED};
use crate::cli::import::lines::Lines;
use crate::cli::import::{
    BadRecord, ImportError, RECORD_MAX_BYTES, Record, Row, columns, not_utf8, row, shortened, too_long,
};
use crate::units::counted;

/// What a column of the CSV fills.
pub enum Column {
    Field(String),
    Label(String),
}

pub fn header<R: Row>(lines: &mut Lines<impl BufRead>) -> Result<Vec<Column>, ImportError> {
    let first = lines.next_filled()?.ok_or(ImportError::NoHeader)?;
    let mut cells = Cells::default();
    let whole = if first.too_long { Err("the line is too long") } else { cells.feed(&first.bytes) };
    match whole {
        Err(reason) => return Err(ImportError::HeaderQuotes(reason)),
        Ok(false) => return Err(ImportError::HeaderQuotes(UNCLOSED)),
        Ok(true) => {}
    }
    let names: Vec<String> = cells
        .done
        .into_iter()
        .map(|cell| String::from_utf8(cell).map(|name| name.trim().to_owned()))
        .collect::<Result<_, _>>()
        .map_err(|_| ImportError::HeaderNotUtf8)?;
    if let Some(column) = R::NEEDED.iter().find(|needed| !names.iter().any(|name| name == *needed))
        && names.iter().all(|name| self::column::<R>(name).is_some())
    {
        if let [whole] = names.as_slice()
            && let Some((_, separator)) =
                [(';', "semicolons"), ('\t', "tabs")].into_iter().find(|(c, _)| whole.contains(*c))
        {
            return Err(ImportError::OtherSeparator { column, separator });
        }
        return Err(ImportError::ColumnMissing { column, needed: R::NEEDED.join(" and ") });
    }
    if let Some(at) = names.iter().position(String::is_empty) {
        return Err(ImportError::UnnamedColumn { number: at + 1 });
    }
    if let Some(twice) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        return Err(ImportError::ColumnTwice { column: twice.1.clone() });
    }
    let unknown = |name: &str| ImportError::UnknownColumn { column: shortened(name), known: columns::<R>() };
    names.into_iter().map(|name| column::<R>(&name).ok_or_else(|| unknown(&name))).collect()
}

fn column<R: Row>(name: &str) -> Option<Column> {
    let is_field = |name: &str| R::FIELDS.iter().any(|(field, _)| *field == name);
    match name.strip_prefix("label.") {
        Some(key) if !key.is_empty() && is_field("labels") => Some(Column::Label(key.to_owned())),
        _ => (is_field(name) || R::ANY_COLUMN && !name.is_empty()).then(|| Column::Field(name.to_owned())),
    }
}

/// Joins lines while a quote is open. Where the quotes do not work out, the fault is its first line's: that one is refused,
/// and the lines after it are read again by themselves.
pub fn csv_record<R: Row>(
    lines: &mut Lines<impl BufRead>,
    columns: &[Column],
) -> Result<Option<Record<R>>, ImportError> {
    let Some(first) = lines.next_filled()? else { return Ok(None) };
    let number = first.number;
    if first.too_long {
        return Ok(Some(Record { first_line: number, last_line: number, row: Err(too_long()), raw: Vec::new() }));
    }
    let mut cells = Cells::default();
    let mut raw_bytes = first.bytes.len();
    let mut fed = cells.feed(&first.bytes);
    let mut joined = vec![first];
    while fed == Ok(false) {
        let Some(line) = lines.next()? else { break };
        raw_bytes += line.bytes.len();
        let too_long = line.too_long || raw_bytes > RECORD_MAX_BYTES;
        fed = if too_long { Err(UNCLOSED) } else { cells.feed(&line.bytes) };
        joined.push(line);
    }
    if fed == Ok(true) {
        let last_line = joined.last().map_or(number, |line| line.number);
        let row = csv_row(cells.done, columns);
        let raw = joined.into_iter().flat_map(|line| line.bytes).collect();
        return Ok(Some(Record { first_line: number, last_line, row, raw }));
    }
    let reason = fed.err().unwrap_or(UNCLOSED);
    lines.hand_back(joined.split_off(1));
    let raw = joined.into_iter().flat_map(|line| line.bytes).collect();
    Ok(Some(Record { first_line: number, last_line: number, row: Err(BadRecord::new("line", reason)), raw }))
}

fn csv_row<R: Row>(cells: Vec<Vec<u8>>, columns: &[Column]) -> Result<R, BadRecord> {
    if cells.len() != columns.len() {
        let found = counted(cells.len(), "column", "columns");
        let reason = format!("has {found}, the header has {}: put quotes around commas", columns.len());
        return Err(BadRecord::new("line", reason));
    }
    let mut fields = Map::new();
    let mut labels = Map::new();
    for (cell, column) in cells.into_iter().zip(columns) {
        let name = match column {
            Column::Field(name) => name.as_str(),
            Column::Label(_) => "labels",
        };
        let text = String::from_utf8(cell).map_err(|_| not_utf8(name))?;
        match column {
            _ if text.is_empty() => {}
            Column::Label(key) => drop(labels.insert(key.clone(), Value::String(text))),
            Column::Field(name) if R::ANY_COLUMN => {
                drop(fields.insert(name.clone(), Value::String(text.trim().to_owned())))
            }
            Column::Field(name) => drop(fields.insert(name.clone(), typed(name, text))),
        }
    }
    match fields.get_mut("labels") {
        Some(Value::Object(given)) => given.extend(labels),
        // Whatever else stands there is refused below.
        Some(_) => {}
        None if labels.is_empty() => {}
        None => drop(fields.insert("labels".to_owned(), Value::Object(labels))),
    }
    row(fields)
}

/// The cell as JSON would have it; what cannot be read stays text and is refused with the field's own sentence.
fn typed(field: &str, text: String) -> Value {
    let read = match field {
        "body" | "name" => return Value::String(text),
        "priority" | "max_attempts" => text.trim().parse::<i64>().ok().map(Value::from),
        "labels" => serde_json::from_str(&text).ok(),
        "attachments" if text.trim_start().starts_with('[') => serde_json::from_str(&text).ok(),
        "attachments" => {
            let ids = text.split(';').map(str::trim).filter(|id| !id.is_empty());
            Some(ids.map(|id| Value::String(id.to_owned())).collect())
        }
        _ => Some(Value::String(text.trim().to_owned())),
    };
    read.unwrap_or(Value::String(text))
}
