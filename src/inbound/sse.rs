//! Server-sent events, read piece by piece with bounded memory. Own code, since the known crates hold an event of any length.

/// The longest event, in bytes of its data; a longer one is passed over, and the list brings it.
const MAX_DATA: usize = 1024 * 1024;
/// A field's name and the colon come on top.
const MAX_LINE: usize = MAX_DATA + 64;

/// What a stream said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The data of an event, a JSON object by its looks.
    Data(String),
    /// `event: close`: the far end is about to hang up.
    Close,
    /// An event that was longer than it may be.
    TooLong,
}

/// Reads one connection. Lines may end in LF, CR or both, and pieces may end anywhere.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    after_cr: bool,
    begun: bool,
    event: Event,
}

/// The event that is being read.
#[derive(Debug, Default)]
struct Event {
    name: Vec<u8>,
    data: Vec<u8>,
    is_too_long: bool,
}

impl Parser {
    /// Takes in the next bytes, and returns the events that they complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Said> {
        let mut said = Vec::new();
        for &byte in bytes {
            let is_second_of_two = std::mem::replace(&mut self.after_cr, byte == b'\r') && byte == b'\n';
            match byte {
                b'\n' if is_second_of_two => {}
                b'\r' | b'\n' => said.extend(self.end_line()),
                _ if self.line.len() < MAX_LINE => self.line.push(byte),
                _ => self.event.is_too_long = true,
            }
        }
        said
    }

    fn end_line(&mut self) -> Option<Said> {
        let line = std::mem::take(&mut self.line);
        let mut line = line.as_slice();
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            return std::mem::take(&mut self.event).said();
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"data" => self.event.add(value),
            b"event" => self.event.name = value.to_vec(),
            // Comments are heartbeats; ids and retry times are not used here.
            _ => {}
        }
        None
    }
}

impl Event {
    fn add(&mut self, value: &[u8]) {
        if self.data.len() + value.len() >= MAX_DATA {
            self.is_too_long = true;
        }
        if self.is_too_long {
            self.data = Vec::new();
            return;
        }
        if !self.data.is_empty() {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
    }

    fn said(self) -> Option<Said> {
        match self.name.as_slice() {
            b"close" => Some(Said::Close),
            _ if self.is_too_long => Some(Said::TooLong),
            // Chert may name its events, or not (API contract 8, question 44); all are objects.
            _ if self.data.trim_ascii_start().starts_with(b"{") => {
                Some(Said::Data(String::from_utf8_lossy(&self.data).into_owned()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn data(text: &str) -> Said {
        Said::Data(text.to_owned())
    }

    #[test]
    fn events_comments_and_the_close_are_told_apart() {
        let stream = "\u{feff}: hi\n\ndata: {\"a\":1}\n\n: heartbeat\n\ndata:{\ndata: }\r\n\r\nid: 7\rretry: 1\r\revent: close\ndata: {}\n\n";
        assert_eq!(Parser::default().feed(stream.as_bytes()), [data("{\"a\":1}"), data("{\n}"), Said::Close]);
    }

    #[test]
    fn an_event_is_read_whatever_its_name_if_it_is_an_object() {
        let stream = "event: message.received\ndata: {}\n\nevent: ping\ndata: 1\n\nevent: ready\n\n";
        assert_eq!(Parser::default().feed(stream.as_bytes()), [data("{}")]);
    }

    #[test]
    fn an_event_that_is_too_long_is_passed_over_and_the_next_one_read() {
        for stream in [
            format!("data: {{{}\n\ndata: {{}}\n\n", "a".repeat(3 * MAX_DATA)),
            format!("{}\ndata: {{}}\n\n", "data: {aaa\n".repeat(MAX_DATA / 4)),
        ] {
            let mut parser = Parser::default();
            assert_eq!(parser.feed(stream.as_bytes()), [Said::TooLong, data("{}")]);
            assert!(parser.line.capacity() + parser.event.data.capacity() <= 4 * MAX_DATA);
        }
    }

    #[test]
    fn what_is_cut_off_is_not_told() {
        assert_eq!(Parser::default().feed(b"data: {\"a\":1}\n"), []);
    }

    proptest! {
        #[test]
        fn where_the_pieces_end_changes_nothing(
            lines in proptest::collection::vec("(data: ?[a-z{}]{0,9}|event: (close|x)|: [a-z]*|id|)(\n|\r|\r\n)", 0..20),
            size in 1usize..7,
        ) {
            let stream = lines.concat();
            let mut parser = Parser::default();
            let pieces: Vec<Said> = stream.as_bytes().chunks(size).flat_map(|piece| parser.feed(piece)).collect();
            prop_assert_eq!(pieces, Parser::default().feed(stream.as_bytes()));
        }
    }
}
