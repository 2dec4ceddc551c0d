//! YAML as a tree whose values know where they stand, and JSON that is stored as another. Only what a campaign needs, and everything with a bound: anchors, aliases
//! and tags are refused, so that a small file cannot stand for a large tree.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use crate::campaign::file::finding::Finding;

/// The largest file, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;
/// The most values and keys of a file.
const MAX_NODES: usize = 20_000;
/// How deep lists and mappings may stand in each other.
const MAX_DEPTH: usize = 32;

/// A value and where it begins; both from 1, columns in characters. One that is left out stands where its key does.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub line: usize,
    pub column: usize,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// As it is written.
    Number(String),
    Text(Text),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A text, and how its bytes lie in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    pub text: String,
    lies: Lies,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Lies {
    /// Line by line, each indented alike.
    Block,
    /// On one line as it is, so many characters after the beginning of the value.
    After(usize),
    /// Otherwise: folded, or with escapes.
    Somehow,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    pub name: String,
    pub line: usize,
    pub column: usize,
}

/// A value and the way to it, e.g. `steps[2].send.body`.
#[derive(Debug, Clone)]
pub struct Place<'n> {
    pub path: String,
    pub node: &'n Node,
}

impl<'n> Place<'n> {
    pub fn root(node: &'n Node) -> Place<'n> {
        Place { path: String::new(), node }
    }

    pub fn key(&self, name: &str, node: &'n Node) -> Place<'n> {
        let dot = if self.path.is_empty() { "" } else { "." };
        Place { path: format!("{}{dot}{name}", self.path), node }
    }

    pub fn item(&self, index: usize, node: &'n Node) -> Place<'n> {
        Place { path: format!("{}[{index}]", self.path), node }
    }
}

impl Node {
    /// A definition that is stored as a tree: there all values stand at 1:1, since nobody has written it.
    pub fn of(stored: &serde_json::Value) -> Node {
        use serde_json::Value as Json;
        let key = |name: &String| Key { name: name.clone(), line: 1, column: 1 };
        let value = match stored {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => Value::Number(number.to_string()),
            Json::String(text) => Value::Text(Text { text: text.clone(), lies: Lies::Somehow }),
            Json::Array(items) => Value::List(items.iter().map(Node::of).collect()),
            Json::Object(entries) => {
                Value::Map(entries.iter().map(|(name, value)| (key(name), Node::of(value))).collect())
            }
        };
        Node { line: 1, column: 1, value }
    }

    /// The value of a key, where this is a mapping that has it.
    pub fn get(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The value that a path such as `steps[2].send.body` leads to; where it leads nowhere, the last value on the way.
    pub fn follow(&self, path: &str) -> &Node {
        let mut node = self;
        for part in path.split(['.', '[']).filter(|part| !part.is_empty()) {
            let next = match (part.strip_suffix(']').and_then(|index| index.parse::<usize>().ok()), &node.value) {
                (Some(index), Value::List(items)) => items.get(index),
                (None, Value::Map(_)) => node.get(part),
                _ => None,
            };
            let Some(next) = next else { return node };
            node = next;
        }
        node
    }

    /// Line and column of a byte of a text; where the text begins if it does not lie in the file as it is.
    pub fn position_of(&self, offset: usize) -> (usize, usize) {
        let Value::Text(text) = &self.value else { return (self.line, self.column) };
        let before = text.text.get(..offset).unwrap_or_default();
        match text.lies {
            Lies::Block => {
                let last = before.rsplit('\n').next().unwrap_or_default();
                (self.line + before.matches('\n').count(), self.column + last.chars().count())
            }
            Lies::After(quote) => (self.line, self.column + quote + before.chars().count()),
            Lies::Somehow => (self.line, self.column),
        }
    }
}

/// Reads a file of one YAML document, and finds texts that a comment cuts short by accident.
/// Errors: the first thing that is no YAML, or none that is read here.
pub fn parse(source: &str) -> Result<(Node, Vec<Finding>), Box<Finding>> {
    if source.len() > MAX_BYTES {
        let hint = format!("write at most {} KiB; lists of people belong into a CSV file or a query", MAX_BYTES / 1024);
        return Err(wrong(1, 1, "the file is too large", hint));
    }
    let source = source.trim_start_matches('\u{feff}');
    let mut tree = Tree { lines: source.lines().collect(), open: Vec::new(), root: None, nodes: 0, cut: Vec::new() };
    for event in Parser::new_from_str(source) {
        let (event, span) = event.map_err(|error| no_yaml(&error, source))?;
        tree.take(event, span)?;
    }
    let root = tree.root.ok_or_else(|| wrong(1, 1, "the file is empty", "write a campaign, beginning with `name:`"));
    Ok((root?, tree.cut))
}

/// What is open around the next value.
struct Open {
    node: Node,
    /// Of a mapping: the key whose value comes next.
    key: Option<Key>,
}

struct Tree<'s> {
    lines: Vec<&'s str>,
    open: Vec<Open>,
    root: Option<Node>,
    nodes: usize,
    /// Texts that a comment cuts short.
    cut: Vec<Finding>,
}

impl Tree<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Box<Finding>> {
        let (line, column) = (span.start.line(), span.start.col() + 1);
        if let Event::Scalar(_, _, anchor, tag) = &event {
            refuse_references(*anchor, tag.is_some(), line, column)?;
        }
        match event {
            Event::Scalar(text, style, ..) => self.scalar(&text, style, span),
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) if anchor > 0 || tag.is_some() => {
                refuse_references(anchor, tag.is_some(), line, column)
            }
            Event::SequenceStart(..) => self.begin(Node { line, column, value: Value::List(Vec::new()) }),
            Event::MappingStart(..) => self.begin(Node { line, column, value: Value::Map(Vec::new()) }),
            Event::SequenceEnd | Event::MappingEnd => {
                let closed = self.open.pop().expect("the parser closes what it opened");
                self.put(closed.node)
            }
            Event::Alias(_) => refuse_references(1, false, line, column),
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(wrong(line, column, "a second document begins here", "write one campaign a file, without `---`"))
            }
            Event::DocumentStart(_) | Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => {
                Ok(())
            }
        }
    }

    fn begin(&mut self, node: Node) -> Result<(), Box<Finding>> {
        if let Some(Open { node: Node { value: Value::Map(_), .. }, key: None }) = self.open.last() {
            return Err(wrong(
                node.line,
                node.column,
                "a key is a word, not a list or a mapping",
                "put a text that begins with { or [ in quotes, such as \"{{ first_name }}, hello\"",
            ));
        }
        if self.open.len() >= MAX_DEPTH {
            let hint = format!("write at most {MAX_DEPTH} levels");
            return Err(wrong(node.line, node.column, "lists and mappings stand too deep in each other", hint));
        }
        self.open.push(Open { node, key: None });
        Ok(())
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, span: Span) -> Result<(), Box<Finding>> {
        let (line, column) = (span.start.line(), span.start.col() + 1);
        self.count(line, column)?;
        if let Some(Open { node: Node { value: Value::Map(_), .. }, key: key @ None }) = self.open.last_mut() {
            *key = Some(Key { name: text.to_owned(), line, column });
            return Ok(());
        }
        let value = match style {
            ScalarStyle::Plain => plain(text),
            _ => None,
        };
        if style == ScalarStyle::Plain && value.is_none() {
            self.look_behind(span);
        }
        let lies = || lie(text, style, self.lines.get(line - 1).copied().unwrap_or_default(), column);
        let value = value.unwrap_or_else(|| Value::Text(Text { text: text.to_owned(), lies: lies() }));
        self.put(Node { line, column, value })
    }

    /// A comment has a blank behind its `#`; ` #4` and ` #{{ number }}` are hardly meant to be one.
    fn look_behind(&mut self, span: Span) {
        let (line, column) = (span.end.line(), span.end.col());
        let rest = self.lines.get(line - 1).copied().unwrap_or_default().chars().skip(column);
        let mut behind = rest.enumerate().skip_while(|(_, c)| matches!(c, ' ' | '\t'));
        let (Some((blanks @ 1.., '#')), Some((_, next))) = (behind.next(), behind.next()) else { return };
        if next.is_alphanumeric() || next == '{' {
            let hint = "put the text in quotes, or a blank behind the # of a comment";
            let message = "a comment begins here, and the text ends before it";
            self.cut.push(Finding::at(&self.path(), line, column + blanks + 1, message, hint));
        }
    }

    /// The way to the value that comes next.
    fn path(&self) -> String {
        self.open.iter().fold(String::new(), |path, open| match (&open.node.value, &open.key) {
            (Value::List(items), _) => format!("{path}[{}]", items.len()),
            (_, Some(key)) if path.is_empty() => key.name.clone(),
            (_, Some(key)) => format!("{path}.{}", key.name),
            _ => path,
        })
    }

    /// Hangs a finished value where it belongs.
    fn put(&mut self, mut node: Node) -> Result<(), Box<Finding>> {
        self.count(node.line, node.column)?;
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open { node: Node { value: Value::Map(entries), .. }, key }) => {
                let key = key.take().expect("a value follows its key");
                if node.value == Value::Null {
                    (node.line, node.column) = (key.line, key.column);
                }
                entries.push((key, node));
            }
            Some(Open { node: Node { value: Value::List(items), .. }, .. }) => items.push(node),
            Some(_) => unreachable!("only lists and mappings are opened"),
        }
        Ok(())
    }

    fn count(&mut self, line: usize, column: usize) -> Result<(), Box<Finding>> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(wrong(line, column, "the file has too many values", format!("write at most {MAX_NODES}")));
        }
        Ok(())
    }
}

/// What a text without quotes is by the core schema of YAML 1.2; none if it is a text.
fn plain(text: &str) -> Option<Value> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Some(Value::Null),
        "true" | "True" | "TRUE" => Some(Value::Bool(true)),
        "false" | "False" | "FALSE" => Some(Value::Bool(false)),
        _ => {
            let digits = text.trim_start_matches(['+', '-']);
            let number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && text.parse::<f64>().is_ok();
            number.then(|| Value::Number(text.to_owned()))
        }
    }
}

fn lie(text: &str, style: ScalarStyle, line: &str, column: usize) -> Lies {
    let quote = match style {
        ScalarStyle::Literal => return Lies::Block,
        ScalarStyle::Folded => return Lies::Somehow,
        ScalarStyle::Plain => 0,
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => 1,
    };
    let begins = line.char_indices().nth(column - 1 + quote).map_or("", |(byte, _)| &line[byte..]);
    if begins.starts_with(text) { Lies::After(quote) } else { Lies::Somehow }
}

fn refuse_references(anchor: usize, tagged: bool, line: usize, column: usize) -> Result<(), Box<Finding>> {
    if tagged {
        return Err(wrong(
            line,
            column,
            "tags such as !this have no meaning here",
            "put a text that begins with ! in quotes",
        ));
    }
    if anchor > 0 {
        let hint = "write the value out; put a text that begins with & or * in quotes";
        return Err(wrong(line, column, "anchors (&) and aliases (*) are not read here", hint));
    }
    Ok(())
}

/// What the parser says, and what is usually behind it.
fn no_yaml(error: &ScanError, source: &str) -> Box<Finding> {
    let said = error.info();
    let (line, column) = (error.marker().line(), error.marker().col() + 1);
    let written = source.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let hint = match () {
        () if said.contains("recursion") => "write fewer brackets in each other",
        () if said.contains("tab") => "indent with spaces",
        () if said.contains("unknown anchor") => "put a text that begins with * in quotes",
        () if written.contains(": {{") || written.contains("- {{") => {
            "put a text that begins with { in quotes, such as \"{{ first_name }}, hello\""
        }
        () if said.contains("mapping values") => {
            "indent it like its neighbours, or put a text that has a colon and a space in it in quotes"
        }
        () if said.contains("unexpected character") => "put the text in quotes",
        () if said.contains("quoted scalar") && said.contains("escape") => {
            "write \\\\ for a backslash, or use single quotes"
        }
        () if said.contains("quoted scalar") => {
            "close the quotes on the same line, or use | for a text of several lines"
        }
        () if said.contains("block collection") || said.contains("block mapping") => {
            "indent it like its neighbours, with spaces; a text with special characters goes in quotes"
        }
        () if written.contains(['[', ']', '{', '}']) || said.contains("flow") || said.contains("':'") => {
            "close every [ and { that is open"
        }
        () => "look at the indentation and the quotes here and in the line before",
    };
    wrong(line, column, format!("this is not YAML: {said}"), hint)
}

fn wrong(line: usize, column: usize, message: impl Into<String>, hint: impl Into<String>) -> Box<Finding> {
    Box::new(Finding { line, column, path: String::new(), message: message.into(), hint: hint.into() })
}
