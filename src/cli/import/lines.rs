//! The lines of a file: none is held that is too long, and some can be read again.

use std::collections::VecDeque;
use std::io::{self, BufRead};

use crate::cli::import::{ImportError, RECORD_MAX_BYTES};

/// Some programs begin a file with it; it is no part of the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A line with its end-of-line characters. One that is too long is empty here.
pub struct Line {
    pub number: u64,
    pub bytes: Vec<u8>,
    pub too_long: bool,
}

/// The lines of the file, of which some may be handed back to be read again.
pub struct Lines<R> {
    source: R,
    again: VecDeque<Line>,
    read: u64,
    pub bytes_read: u64,
}

impl<R: BufRead> Lines<R> {
    pub fn of(source: R) -> Lines<R> {
        Lines { source, again: VecDeque::new(), read: 0, bytes_read: 0 }
    }

    pub fn next(&mut self) -> Result<Option<Line>, ImportError> {
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
    pub fn next_filled(&mut self) -> Result<Option<Line>, ImportError> {
        loop {
            match self.next()? {
                Some(line) if !line.too_long && line.bytes.trim_ascii().is_empty() => {}
                line => return Ok(line),
            }
        }
    }

    pub fn hand_back(&mut self, lines: Vec<Line>) {
        for line in lines.into_iter().rev() {
            self.again.push_front(line);
        }
    }
}
