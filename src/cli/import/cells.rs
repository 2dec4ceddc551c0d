//! Cells out of lines of CSV.

pub const UNCLOSED: &str = "has a quote that is not closed: write a quote inside quotes twice";

/// RFC 4180, a byte at a time, across lines. A quote inside an unquoted cell is a quote and no more.
#[derive(Default)]
pub struct Cells {
    pub done: Vec<Vec<u8>>,
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
    pub fn feed(&mut self, line: &[u8]) -> Result<bool, &'static str> {
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
