//! Reading rows from a file, CSV or JSON lines, in batches of bounded size: a bad record is named and costs no other.

use std::collections::VecDeque;
use std::io::{self, BufRead};

use serde_json::{Map, Value};

/// The longest record, in bytes.
pub const RECORD_MAX_BYTES: usize = 1 << 20;
/// A batch ends at so many records, or at so many bytes.
pub const BATCH_MAX_RECORDS: usize = 1_000;
const BATCH_MAX_BYTES: u64 = 4 << 20;

/// Some programs begin a file with it; it is no part of the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

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
    let mut lines = Lines { source, again: VecDeque::new(), read: 0, bytes_read: 0 };
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

/// A line with its end-of-line characters. One that is too long is empty here.
struct Line {
    number: u64,
    bytes: Vec<u8>,
    too_long: bool,
}

/// The lines of the file, of which some may be handed back to be read again.
struct Lines<R> {
    source: R,
    again: VecDeque<Line>,
    read: u64,
    bytes_read: u64,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Result<Option<Line>, ImportError> {
        if let Some(line) = self.again.pop_front() {
            return Ok(Some(line));
        }
        let failed = |source| ImportError::Read { line: self.read, source };
        let mut bytes = Vec::new();
        let limit = RECORD_MAX_BYTES as u64 + 1;
        let mut length = io::Read::take(&mut self.source, limit).read_until(b'\n', &mut bytes).map_err(failed)?;
        if length == 0 {
            return Ok(None);
        }
        let too_long = bytes.len() > RECORD_MAX_BYTES;
        if too_long {
            if bytes.last() != Some(&b'\n') {
                length += self.source.skip_until(b'\n').map_err(failed)?;
            }
            bytes = Vec::new();
        }
        if self.read == 0 && bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        self.read += 1;
        self.bytes_read += length as u64;
        Ok(Some(Line { number: self.read, bytes, too_long }))
    }

    /// The next line that holds something.
    fn next_filled(&mut self) -> Result<Option<Line>, ImportError> {
        loop {
            match self.next()? {
                Some(line) if !line.too_long && line.bytes.trim_ascii().is_empty() => {}
                line => return Ok(line),
            }
        }
    }

    fn hand_back(&mut self, lines: Vec<Line>) {
        for line in lines.into_iter().rev() {
            self.again.push_front(line);
        }
    }
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

/// What a column of the CSV fills.
enum Column {
    Field(String),
    Label(String),
}

fn header<R: Row>(lines: &mut Lines<impl BufRead>) -> Result<Vec<Column>, ImportError> {
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
        return Err(ImportError::ColumnMissing { column, needed: R::NEEDED.join(" and ") });
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
fn csv_record<R: Row>(lines: &mut Lines<impl BufRead>, columns: &[Column]) -> Result<Option<Record<R>>, ImportError> {
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
        let reason = format!("has {} columns, the header has {}: put quotes around commas", cells.len(), columns.len());
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

const UNCLOSED: &str = "has a quote that is not closed: write a quote inside quotes twice";

/// RFC 4180, a byte at a time, across lines. A quote inside an unquoted cell is a quote and no more.
#[derive(Default)]
struct Cells {
    done: Vec<Vec<u8>>,
    cell: Vec<u8>,
    at: At,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Start,
    Plain,
    Quoted,
    AfterQuote,
}

impl Cells {
    /// Takes in a line and tells whether the record ends with it; it does not while a quote is open.
    fn feed(&mut self, line: &[u8]) -> Result<bool, &'static str> {
        let end = line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line)).len();
        for (index, &byte) in line.iter().enumerate() {
            let at_end_of_line = index >= end;
            self.at = match (self.at, byte) {
                (At::Quoted, b'"') => At::AfterQuote,
                (At::Quoted, _) => self.push(byte, At::Quoted),
                _ if at_end_of_line => break,
                (At::Start, b'"') => At::Quoted,
                (At::AfterQuote, b'"') => self.push(byte, At::Quoted),
                (_, b',') => self.end_cell(),
                (At::AfterQuote, _) => return Err("has text after a closing quote: write a quote inside quotes twice"),
                (At::Start | At::Plain, _) => self.push(byte, At::Plain),
            };
        }
        if self.at == At::Quoted {
            return Ok(false);
        }
        self.at = self.end_cell();
        Ok(true)
    }

    fn push(&mut self, byte: u8, then: At) -> At {
        self.cell.push(byte);
        then
    }

    fn end_cell(&mut self) -> At {
        self.done.push(std::mem::take(&mut self.cell));
        At::Start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NewJob;

    /// The line, then the body, or the field and the reason.
    type Read = (u64, Result<String, (String, String)>);

    fn read_all(format: Format, file: &[u8]) -> Vec<Read> {
        let mut all = Vec::new();
        let take = |batch: Batch<NewJob>| {
            all.extend(batch.records.into_iter().map(|record| {
                let job = record.row.map(|job| job.body).map_err(|bad| (bad.field, bad.reason));
                (record.first_line, job)
            }));
            true
        };
        read(file, format, 0, take).expect("readable");
        all
    }

    fn bodies(read: &[Read]) -> Vec<(u64, &str)> {
        read.iter().filter_map(|(line, job)| Some((*line, job.as_deref().ok()?))).collect()
    }

    fn reasons(read: &[Read]) -> Vec<(u64, &str, &str)> {
        read.iter()
            .filter_map(|(line, job)| {
                job.as_ref().err().map(|(field, reason)| (*line, field.as_str(), reason.as_str()))
            })
            .collect()
    }

    #[test]
    fn a_mark_crlf_and_quoted_newlines_are_understood() {
        let file = "\u{feff}phone,body\r\n+15550142200,\"Hi \"\"Ann\"\",\r\nthere\"\r\n\r\n+15550142201,5\" pipe\r\n+15550142202,last";
        let read = read_all(Format::Csv, file.as_bytes());
        assert_eq!(bodies(&read), [(2, "Hi \"Ann\",\r\nthere"), (5, "5\" pipe"), (6, "last")]);
    }

    #[test]
    fn a_mark_is_known_however_few_bytes_a_pipe_gives_at_once() {
        let file = "\u{feff}phone,body\n+15550142200,Hi\n";
        let mut batches = Vec::new();
        let a_byte_each = io::BufReader::with_capacity(1, file.as_bytes());
        read(a_byte_each, Format::Csv, 0, |batch: Batch<NewJob>| {
            batches.push(batch);
            true
        })
        .expect("readable");
        assert!(batches[0].records[0].row.is_ok());
    }

    #[test]
    fn a_bad_record_is_named_and_costs_no_other() {
        let long = "x".repeat(RECORD_MAX_BYTES);
        let file = format!(
            "phone,body,priority,due_at\n\
             +15550142200,ok,,\n\
             15550142299,no plus,,\n\
             +15550142200,ok,high,\n\
             +15550142200,a,b,,\n\
             +15550142200,{long},,\n\
             +15550142200,ok,1,tomorrow\n\
             +15550142200,,,\n\
             +15550142200,ok,1,2026-06-03T09:15:00Z\n"
        );
        let mut file = file.into_bytes();
        file.extend(b"+15550142200,caf\xe9,,\n+15550142200,end,,\n");
        let read = read_all(Format::Csv, &file);
        assert_eq!(bodies(&read), [(2, "ok"), (9, "ok"), (11, "end")]);
        let fields: Vec<(u64, &str)> = reasons(&read).into_iter().map(|(line, field, _)| (line, field)).collect();
        let expected =
            [(3, "phone"), (4, "priority"), (5, "line"), (6, "line"), (7, "due_at"), (8, "body"), (10, "body")];
        assert_eq!(fields, expected);
        for (_, _, reason) in reasons(&read) {
            assert!(
                !["15550142299", "no plus", "high", "tomorrow"].iter().any(|held| reason.contains(held)),
                "{reason}"
            );
        }
    }

    #[test]
    fn an_open_quote_costs_its_own_line_alone() {
        for (second, found) in [
            ("+15550142200,\"open", vec![(3, "b"), (4, "c")]),
            ("+15550142200,\"text\" after", vec![(3, "b"), (4, "c")]),
        ] {
            let file = format!("phone,body\n{second}\n+15550142201,b\n+15550142202,\"c\"\n");
            let read = read_all(Format::Csv, file.as_bytes());
            assert_eq!(bodies(&read), found);
            assert_eq!(reasons(&read).len(), 1);
            assert_eq!(reasons(&read)[0].0, 2);
        }
        let far = format!("phone,body\n+15550142200,\"open\n{}", "+15550142201,b\n".repeat(RECORD_MAX_BYTES / 8));
        let read = read_all(Format::Csv, far.as_bytes());
        assert_eq!((bodies(&read).len(), reasons(&read).len()), (RECORD_MAX_BYTES / 8, 1));
    }

    #[test]
    fn cells_become_the_fields_of_a_job() {
        let file = "phone,body,attachments,labels,label.city,max_attempts,name,due_at\n\
                    +15550142200,Hi,a; b,\"{\"\"n\"\": 1}\",Bonn,3,Ann,2026-06-03T11:15:00+02:00\n\
                    +15550142200,Hi,\"[\"\"a\"\", {\"\"id\"\": \"\"b\"\"}]\",,,,,\n";
        let mut jobs = Vec::new();
        let take = |batch: Batch<NewJob>| {
            jobs.extend(batch.records.into_iter().map(|record| record.row.expect("valid")));
            true
        };
        read(file.as_bytes(), Format::Csv, 0, take).expect("readable");
        let expected = [
            serde_json::json!({"phone": "+15550142200", "body": "Hi", "priority": 0, "attachments": ["a", "b"],
                "labels": {"n": 1, "city": "Bonn"}, "max_attempts": 3, "name": "Ann", "due_at": "2026-06-03T09:15:00Z"}),
            serde_json::json!({"phone": "+15550142200", "body": "Hi", "priority": 0, "attachments": ["a", {"id": "b"}]}),
        ];
        assert_eq!(
            jobs.iter().map(|job| serde_json::to_value(job).expect("serialisable")).collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn json_lines_are_read_with_the_same_rules() {
        let file = "{\"phone\":\"+15550142200\",\"body\":\"Hi\",\"name\":null}\r\n\n\
                    {\"phone\":\"+15550142200\",\"body\":\"Hi\"\n\
                    {\"phone\":\"+15550142200\",\"bdy\":\"Hi\"}\n\
                    [1]\n\
                    {\"phone\":\"+15550142200\",\"body\":7}\n\
                    {\"phone\":\"+15550142200\"}\n\
                    {\"phone\":\"+15550142200\",\"body\":\"Hi\",\"class\":\"news\"}\n\
                    {\"phone\":\"+15550142200\",\"body\":\"end\"}";
        let read = read_all(Format::Jsonl, file.as_bytes());
        assert_eq!(bodies(&read), [(1, "Hi"), (9, "end")]);
        let found = reasons(&read);
        assert_eq!(
            found.iter().map(|bad| (bad.0, bad.1)).collect::<Vec<_>>(),
            [(3, "line"), (4, "line"), (5, "line"), (6, "body"), (7, "body"), (8, "class")]
        );
        assert!(found[1].2.contains("`bdy`") && found[1].2.contains("dedupe_key"), "{}", found[1].2);
        assert_eq!((found[3].2, found[5].2), ("body is not text", "class is not transactional or marketing"));
    }

    #[test]
    fn a_header_that_is_not_ours_refuses_the_file() {
        let refusal =
            |file: &[u8]| read::<NewJob>(file, Format::Csv, 0, |_| panic!("nothing to take")).expect_err("refused");
        let unknown = refusal(b"phone,body,nmae\n+15550142200,Hi,Ann\n").to_string();
        assert!(
            unknown.contains("`nmae`") && unknown.contains("dedupe_key") && unknown.contains("label.KEY"),
            "{unknown}"
        );
        assert!(matches!(refusal(b"phone;body\n"), ImportError::UnknownColumn { .. }));
        assert!(matches!(refusal(b"phone,body,phone\n"), ImportError::ColumnTwice { .. }));
        assert!(matches!(refusal(b"phone,name\n"), ImportError::ColumnMissing { column: "body", .. }));
        assert!(matches!(refusal(b"\n\n"), ImportError::NoHeader));
        assert!(matches!(refusal(b"\xff\xfep\0h\0o\0"), ImportError::HeaderNotUtf8));
    }

    #[test]
    fn skipped_lines_and_small_batches() {
        let mut file = b"phone,body\n".to_vec();
        for _ in 0..2 * BATCH_MAX_RECORDS + 1 {
            file.extend(b"+15550142200,\"two\nlines\"\n");
        }
        let mut sizes = Vec::new();
        let mut first = 0;
        let take = |batch: Batch<NewJob>| {
            first = if first == 0 { batch.records[0].first_line } else { first };
            sizes.push(batch.records.len());
            true
        };
        read(&file[..], Format::Csv, 5, take).expect("readable");
        assert_eq!((first, sizes), (6, vec![BATCH_MAX_RECORDS, BATCH_MAX_RECORDS - 1]));
    }
}
