//! The words inside `{{ … }}` and `{% … %}`, and which of them have no place in a message. Pure.

use crate::campaign::compared::{asked_alone, refuse_texts_as_numbers};
use crate::campaign::template::TemplateError;

/// What may stand in `{% … %}`.
const STATEMENTS: [&str; 4] = ["if", "elif", "else", "endif"];
/// What may stand after a `|`.
pub const FILTERS: [&str; 8] = ["capitalize", "float", "int", "lower", "round", "title", "trim", "upper"];
/// So many parts of one tag may be joined: whatever reads them goes a call deeper for each, on a stack of 2 MiB. Of brackets minijinja
/// itself takes no more than so many, of all others it takes any number.
pub const MOST_JOINED: usize = 500;
/// So many `{% elif %}` may be in a text, for the same reason.
pub const MOST_ELIFS: usize = 100;
/// What joins parts; so does a dot behind another one, as in `a.b.c`.
const JOINTS: [&str; 16] = ["%", "(", "*", "+", "-", "/", "[", "and", "else", "if", "is", "not", "or", "{", "|", "~"];
/// The inside of one `{{ … }}` or `{% … %}`, or a whole condition: bytes from `from` to `to` of the text.
pub struct Tag<'s> {
    /// It is a `{% … %}`.
    pub statement: bool,
    source: &'s str,
    from: usize,
    to: usize,
}

impl<'s> Tag<'s> {
    /// A condition, which is like the inside of a tag.
    pub fn whole(source: &'s str) -> Tag<'s> {
        Tag { statement: false, source, from: 0, to: source.len() }
    }

    /// Its words, texts in quotes and signs, with their places.
    fn tokens(&self) -> Vec<(usize, &'s str)> {
        let (mut tokens, mut at) = (Vec::new(), self.from);
        while let Some(c) = self.source[at..self.to].chars().next() {
            let rest = &self.source[at..self.to];
            let length = match c {
                '\'' | '"' => {
                    let length = quoted(rest);
                    tokens.push((at, &rest[..length]));
                    length
                }
                c if c.is_alphanumeric() || c == '_' => {
                    let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                    tokens.push((at, &rest[..length]));
                    length
                }
                c => {
                    if !c.is_whitespace() {
                        tokens.push((at, &rest[..c.len_utf8()]));
                    }
                    c.len_utf8()
                }
            };
            at += length;
        }
        tokens
    }

    /// Its tokens without the signs at its ends that take blanks away, and without the statement's name.
    fn expression<'t>(&self, tokens: &'t [(usize, &'s str)]) -> &'t [(usize, &'s str)] {
        let is_whole = (self.from, self.to) == (0, self.source.len());
        let is_sign = |(at, token): &(usize, &str), end| !is_whole && *at == end && matches!(*token, "-" | "+");
        let begin = usize::from(tokens.first().is_some_and(|first| is_sign(first, self.from)));
        let end = usize::from(tokens.last().is_some_and(|last| is_sign(last, self.to.saturating_sub(1))));
        tokens.get(begin + usize::from(self.statement)..tokens.len() - end).unwrap_or_default()
    }

    /// What is asked whether it is true and may be a text, as it is written there; of a whole condition and of an `if`, all of it is asked.
    pub fn asked_alone(&self) -> Vec<String> {
        let is_whole = (self.from, self.to) == (0, self.source.len());
        asked_alone(self.source, self.expression(&self.tokens()), is_whole || self.statement)
    }

    /// What stands in quotes in it, without them.
    pub fn texts(&self) -> Vec<&'s str> {
        let quotes = ['\'', '"'];
        let texts = self.tokens().into_iter().filter(|(_, token)| token.starts_with(quotes));
        texts.map(|(_, token)| token.trim_matches(quotes)).collect()
    }

    /// Where a word stands first.
    pub fn word(&self, name: &str) -> Option<usize> {
        self.tokens().into_iter().find(|(_, token)| *token == name).map(|(at, _)| at)
    }

    /// Where a word stands first that is no part of another, and whether something is compared with it.
    pub fn compared(&self, name: &str) -> Option<(usize, bool)> {
        let tokens = self.tokens();
        let token = |index: Option<usize>| index.and_then(|index| tokens.get(index)).map_or("", |(_, token)| *token);
        let index = (0..tokens.len()).find(|index| tokens[*index].1 == name && token(index.checked_sub(1)) != ".")?;
        let before = matches!(token(index.checked_sub(1)), "=" | "in" | "[" | ",");
        let behind = token(Some(index + 2)) == "=" && matches!(token(Some(index + 3)), "var" | "label");
        Some((tokens[index].0, before || behind))
    }
}

/// The length of a text in quotes, with them.
fn quoted(rest: &str) -> usize {
    let quote = rest.chars().next().unwrap_or('"');
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            c if c == quote && !escaped => return at + c.len_utf8(),
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `{{ … }}`
    Value,
    /// `{% … %}`
    Statement,
    /// `{# … #}`
    Comment,
}

/// A tag or a comment, as bytes of the text: all of it, and up to where its inside goes.
struct Braces {
    kind: Kind,
    begin: usize,
    to: usize,
    end: usize,
}

/// The tags and comments of a template. They end where minijinja ends them: tags not within brackets.
fn braces(source: &str) -> Vec<Braces> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(begin) = source[at..].find('{').map(|begin| at + begin) {
        let from = begin + 2;
        let (kind, to) = match source.as_bytes().get(begin + 1) {
            Some(b'{') => (Kind::Value, end_of_tag(source, from, "}}")),
            Some(b'%') => (Kind::Statement, end_of_tag(source, from, "%}")),
            Some(b'#') => (Kind::Comment, source[from..].find("#}").map_or(source.len(), |length| from + length)),
            _ => {
                at = begin + 1;
                continue;
            }
        };
        let end = (to + 2).min(source.len());
        found.push(Braces { kind, begin, to, end });
        at = end;
    }
    found
}

/// Where the inside of a tag ends that begins there.
fn end_of_tag(source: &str, from: usize, end: &str) -> usize {
    let (mut to, mut open) = (from, 0);
    while to < source.len() && (open != 0 || !source[to..].starts_with(end)) {
        let rest = &source[to..];
        let c = rest.chars().next().expect("it is not the end");
        open += match c {
            '(' | '[' | '{' => 1,
            ')' | ']' | '}' => -1,
            _ => 0,
        };
        to += if matches!(c, '\'' | '"') { quoted(rest) } else { c.len_utf8() };
    }
    to
}

/// The tags of a template; comments are none.
pub fn tags(source: &str) -> Vec<Tag<'_>> {
    let tags = braces(source).into_iter().filter(|braces| braces.kind != Kind::Comment);
    tags.map(|Braces { kind, begin, to, .. }| Tag { statement: kind == Kind::Statement, source, from: begin + 2, to })
        .collect()
}

/// What stands outside of the tags and comments, piece by piece.
pub fn outside(source: &str) -> Vec<&str> {
    let (mut pieces, mut at) = (Vec::new(), 0);
    for Braces { begin, end, .. } in braces(source) {
        pieces.push(&source[at..begin]);
        at = end;
    }
    pieces.push(&source[at..]);
    pieces
}

/// The template with a `+` in each statement and comment whose line has something else before it: the line break behind it stays then, and
/// minijinja takes away only those behind what stands alone on its line.
pub fn with_line_breaks(source: &str) -> String {
    const BREAKS: [char; 2] = ['\n', '\r'];
    let (mut written, mut written_to, mut at) = (String::with_capacity(source.len()), 0, 0);
    let mut is_alone = true;
    for Braces { kind, begin, to, end } in braces(source) {
        let before = &source[at..begin];
        let on_its_line = before.rsplit(BREAKS).next().unwrap_or(before);
        let begins_line = on_its_line.len() < before.len();
        is_alone = kind != Kind::Value && (is_alone || begins_line) && on_its_line.trim().is_empty();
        let is_said = source[begin + 2..to].ends_with(['-', '+']);
        written.push_str(&source[written_to..to]);
        if kind != Kind::Value && !is_alone && !is_said && source[end..].starts_with(BREAKS) {
            written.push_str(" +");
        }
        (written_to, at) = (to, end);
    }
    written.push_str(&source[written_to..]);
    written
}

/// Refuses tags in which so much stands in each other that reading them would need too much of the stack. They are looked at before
/// anything else reads them.
pub fn refuse_the_deep(tags: &[Tag<'_>]) -> Result<(), TemplateError> {
    let mut elifs = 0;
    for tag in tags {
        let tokens = tag.tokens();
        let is_dot = |index: usize| tokens[index].1 == ".";
        let is_joint = |index: &usize| {
            JOINTS.contains(&tokens[*index].1) || is_dot(*index) && index.checked_sub(2).is_some_and(is_dot)
        };
        if let Some(index) = (0..tokens.len()).filter(is_joint).nth(MOST_JOINED) {
            let hint = format!("join at most {MOST_JOINED}, and prepare the rest in the audience");
            let message = "too many parts are joined here".to_owned();
            return Err(TemplateError { offset: tokens[index].0, message, hint });
        }
        let statement = tokens.iter().find(|(_, token)| !matches!(*token, "-" | "+"));
        if let Some((at, _)) = statement.filter(|(_, token)| tag.statement && *token == "elif") {
            elifs += 1;
            if elifs > MOST_ELIFS {
                let hint = format!("write at most {MOST_ELIFS}, or prepare the text in the audience");
                return Err(TemplateError { offset: *at, message: "there are too many {% elif %}".to_owned(), hint });
            }
        }
    }
    Ok(())
}

/// Refuses what a text to one person does not need, and what this release does not know, here rather than when it is rendered.
pub fn refuse_the_rest(tags: &[Tag<'_>]) -> Result<(), TemplateError> {
    let wrong = |offset, message: String, hint: &str| Err(TemplateError { offset, message, hint: hint.to_owned() });
    for tag in tags {
        let tokens = tag.tokens();
        let mut words = tokens.iter().skip_while(|(_, token)| *token == "-" || *token == "+");
        if let Some((at, word)) = words.next().filter(|_| tag.statement)
            && !STATEMENTS.contains(word)
        {
            let hint = "write {{ variable }} or {% if … %} … {% endif %}; prepare anything else in the audience";
            return wrong(*at, format!("`{word}` has no place in a message"), hint);
        }
        let pairs = tokens.iter().zip(tokens.iter().skip(1).map(Some).chain([None]));
        for (index, ((at, token), next)) in pairs.enumerate() {
            let after = next.map_or("", |(_, token)| *token);
            let before = index.checked_sub(1).map_or("", |before| tokens[before].1);
            match *token {
                "|" if after == "default" || after == "d" => {
                    let hint = "write the default under `variables:`, such as first_name: { default: \"there\" }";
                    return wrong(*at, "a default is not given in the text".to_owned(), hint);
                }
                "|" if !FILTERS.contains(&after) => {
                    let hint = format!("known filters: {}", FILTERS.join(", "));
                    return wrong(next.map_or(*at, |(at, _)| *at), format!("the filter `{after}` is unknown"), &hint);
                }
                // It also repeats texts, to any length.
                "*" => {
                    let hint = "reckon in the audience, and write the variable alone";
                    return wrong(*at, "nothing is multiplied in a message".to_owned(), hint);
                }
                "is" if before != "." => {
                    let hint = "every variable is there when a text is made; compare it, such as plan == 'pro'";
                    return wrong(*at, "tests with `is` are unknown".to_owned(), hint);
                }
                "." if !before.chars().all(|c| c.is_ascii_digit()) && !matches!(before, "var" | "label") => {
                    return wrong(*at, format!("`{before}` has no parts"), "write the variable alone");
                }
                "(" if before.starts_with(|c: char| c.is_alphabetic())
                    && !matches!(before, "and" | "or" | "not" | "in" | "if" | "elif" | "else")
                    && !FILTERS.contains(&before) =>
                {
                    let hint = "write a variable; prepare its text in the audience";
                    return wrong(tokens[index - 1].0, format!("there is no function `{before}`"), hint);
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Refuses comparisons and sums that do not mean what they say.
pub fn refuse_the_misleading(tags: &[Tag<'_>]) -> Result<(), TemplateError> {
    tags.iter().try_for_each(|tag| refuse_texts_as_numbers(tag.source, tag.expression(&tag.tokens())))
}
