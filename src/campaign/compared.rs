//! Comparisons that do not mean what they say. What a file says of somebody is a text: beside a number, one of the two kinds is always the
//! greater, so that `orders >= 3` would be true of everybody; and of two texts "10" comes before "9", and their sum is "109". They are
//! refused. Pure.

use crate::campaign::template::{FACTS, TemplateError};

/// A word, a text in quotes or a sign of a tag, and where it begins.
type Token<'s> = (usize, &'s str);

/// Filters that make a number of a text, or refuse it; and those of them whose numbers may have decimals.
pub const TO_NUMBERS: [&str; 3] = ["float", "int", "round"];
const TO_DECIMALS: [&str; 2] = ["float", "round"];
/// Filters that say that something is meant as a text. Others leave it what it is.
const TO_WORDS: [&str; 4] = ["capitalize", "lower", "title", "upper"];
/// Words that are no variables.
pub const WORDS: [&str; 10] = ["and", "elif", "else", "false", "if", "in", "is", "none", "not", "or"];

/// Refuses the first comparison of a number with what may be a text, and of two by size that may be texts and look like numbers; and the
/// first sum of two such. The tokens are those of a tag that `refuse_the_deep` lets pass, since this reads as deep as they go.
pub fn refuse_texts_as_numbers(source: &str, tokens: &[Token<'_>]) -> Result<(), TemplateError> {
    let mut reader = Reader { source, tokens, at: 0, alone: Vec::new() };
    while reader.at < tokens.len() {
        let at = reader.at;
        reader.expression()?;
        // What is no expression, such as a bracket too many.
        reader.at = reader.at.max(at + 1);
    }
    Ok(())
}

/// Of a tag that was not refused, what is asked whether it is true and may be a text, which always is: as it is written there, such as
/// `var.vip`. `is_asked` says that all of it is a condition.
pub fn asked_alone(source: &str, tokens: &[Token<'_>], is_asked: bool) -> Vec<String> {
    let mut reader = Reader { source, tokens, at: 0, alone: Vec::new() };
    if let Ok(whole) = reader.expression()
        && is_asked
    {
        reader.ask(&whole);
    }
    reader.alone
}

/// What a part of an expression holds, as far as it can be seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    /// A number or a text, by what is known of the person.
    Variable,
    /// A text in quotes that looks like a number, and one that does not.
    Digits,
    Literal,
    /// A text, whatever it looks like.
    Words,
    /// One of the facts, which is true or false; and the words for that.
    Fact,
    Truth,
    Other,
}

/// A part of an expression, and where it stands.
#[derive(Clone)]
struct Operand {
    kind: Kind,
    /// Of a number: it may have decimals.
    is_decimal: bool,
    from: usize,
    to: usize,
    /// A filter behind it is one of all of it.
    is_one: bool,
    /// Of a list.
    members: Vec<Operand>,
}

type Read = Result<Operand, TemplateError>;

/// Reads expressions as minijinja does, which has found them well formed.
struct Reader<'s, 't> {
    source: &'s str,
    tokens: &'t [Token<'s>],
    at: usize,
    /// Variables that were asked whether they are true.
    alone: Vec<String>,
}

impl<'s> Reader<'s, '_> {
    fn token(&self, ahead: usize) -> &'s str {
        self.tokens.get(self.at + ahead).map_or("", |(_, token)| *token)
    }

    fn is_next(&mut self, token: &str) -> bool {
        let is_next = self.token(0) == token;
        self.at += usize::from(is_next);
        is_next
    }

    /// Where the next token begins.
    fn here(&self) -> usize {
        self.tokens.get(self.at).map_or(self.source.len(), |(at, _)| *at)
    }

    /// Something that was read from there to here.
    fn since(&self, from: usize, kind: Kind, is_one: bool) -> Operand {
        let end = self.at.checked_sub(1).and_then(|last| self.tokens.get(last)).map_or(from, |(at, it)| at + it.len());
        Operand { kind, is_decimal: false, from, to: end.max(from), is_one, members: Vec::new() }
    }

    /// It is asked whether this is true.
    fn ask(&mut self, operand: &Operand) {
        if operand.kind == Kind::Variable && operand.is_one {
            self.alone.push(self.source[operand.from..operand.to].to_owned());
        }
    }

    /// `a if b else c`, and what is in it.
    fn expression(&mut self) -> Read {
        let first = self.any_of()?;
        if !self.is_next("if") {
            return Ok(first);
        }
        let asked = self.any_of()?;
        self.ask(&asked);
        let other = if self.is_next("else") { self.expression()?.kind } else { first.kind };
        Ok(self.since(first.from, either(first.kind, other), false))
    }

    /// `a or b`, `a and b`.
    fn any_of(&mut self) -> Read {
        let mut all = self.truth()?;
        while self.is_next("or") || self.is_next("and") {
            let next = self.truth()?;
            self.ask(&all);
            self.ask(&next);
            all = self.since(all.from, either(all.kind, next.kind), false);
        }
        Ok(all)
    }

    /// `not a`, `a < b`, `a < b < c`.
    fn truth(&mut self) -> Read {
        let from = self.here();
        if self.is_next("not") {
            let asked = self.truth()?;
            self.ask(&asked);
            return Ok(self.since(from, Kind::Other, false));
        }
        let mut left = self.sum()?;
        let mut is_compared = false;
        while let Some(sign) = self.sign() {
            let right = self.sum()?;
            compare(self.source, &left, &sign, &right)?;
            (left, is_compared) = (right, true);
        }
        Ok(if is_compared { self.since(from, Kind::Other, false) } else { left })
    }

    fn sign(&mut self) -> Option<String> {
        let is_with = |second| self.token(1) == second;
        let sign = match self.token(0) {
            first @ ("<" | ">" | "=" | "!") if is_with("=") => format!("{first}="),
            first @ ("<" | ">" | "in") => first.to_owned(),
            "not" if is_with("in") => "not in".to_owned(),
            _ => return None,
        };
        self.at += if matches!(sign.as_str(), "<" | ">" | "in") { 1 } else { 2 };
        Some(sign)
    }

    /// `a + b`, `a ~ b`. What is reckoned with is a number, or fails; but two texts are put together by `+` as well.
    fn sum(&mut self) -> Read {
        let mut sum = self.part()?;
        // It is a text for sure.
        let mut is_joined = false;
        while matches!(self.token(0), "+" | "-" | "/" | "%" | "~") {
            let sign = self.token(0);
            self.at += 1;
            self.is_next(sign);
            let part = self.part()?;
            let kinds = [sum.kind, part.kind];
            if sign == "+"
                && !is_joined
                && kinds.iter().all(|kind| matches!(kind, Kind::Variable | Kind::Fact | Kind::Digits))
            {
                return Err(sum_of_texts(self.source, &sum, &part));
            }
            is_joined |= sign == "~" || kinds.iter().any(|kind| matches!(kind, Kind::Literal | Kind::Words));
            let is_decimal = sum.is_decimal || part.is_decimal || sign == "/";
            let is_number = !is_joined && (sign != "+" || kinds.contains(&Kind::Number));
            let kind = if is_number { Kind::Number } else { Kind::Variable };
            sum = Operand { is_decimal, ..self.since(sum.from, kind, false) };
        }
        Ok(sum)
    }

    /// `-a`, `var.a`, `a[b]`, `a | b(c)`.
    fn part(&mut self) -> Read {
        let from = self.here();
        let mut part = match self.is_next("-") {
            true => {
                let is_decimal = self.part()?.is_decimal;
                Operand { is_decimal, ..self.since(from, Kind::Number, true) }
            }
            false => self.first()?,
        };
        loop {
            if self.is_next(".") {
                self.at += 1;
                part.is_decimal = part.kind == Kind::Number;
            } else if matches!(self.token(0), "[" | "(") {
                self.list()?;
            } else if self.is_next("|") {
                let filter = self.token(0);
                self.at += 1;
                if TO_NUMBERS.contains(&filter) {
                    (part.kind, part.is_decimal) = (Kind::Number, TO_DECIMALS.contains(&filter));
                } else if TO_WORDS.contains(&filter) {
                    part.kind = Kind::Words;
                }
            } else {
                return Ok(part);
            }
            // With its brackets, if it stands in some.
            part = Operand { is_decimal: part.is_decimal, ..self.since(from, part.kind, true) };
        }
    }

    fn first(&mut self) -> Read {
        let (from, token) = (self.here(), self.token(0));
        let kind = match token {
            "(" | "[" | "{" => {
                let members = self.list()?;
                return Ok(match &members[..] {
                    [one] if token == "(" && one.is_one => one.clone(),
                    [one] if token == "(" => Operand { is_decimal: one.is_decimal, ..self.since(from, one.kind, true) },
                    _ => Operand { members, ..self.since(from, Kind::Other, true) },
                });
            }
            _ if token.starts_with(['\'', '"']) => literal(token),
            _ if token.starts_with(|c: char| c.is_ascii_digit()) => Kind::Number,
            _ if ["true", "false"].contains(&token.to_lowercase().as_str()) => Kind::Truth,
            _ if WORDS.contains(&token.to_lowercase().as_str()) => Kind::Other,
            _ if FACTS.contains(&token) => Kind::Fact,
            _ if token.starts_with(|c: char| c.is_alphanumeric() || c == '_') => Kind::Variable,
            _ => return Ok(self.since(from, Kind::Other, true)),
        };
        self.at += usize::from(!matches!(token, "else" | "if" | "in" | "and" | "or"));
        let is_decimal = kind == Kind::Digits && token.contains('.');
        Ok(Operand { is_decimal, ..self.since(from, kind, true) })
    }

    /// What stands in brackets.
    fn list(&mut self) -> Result<Vec<Operand>, TemplateError> {
        let mut members = Vec::new();
        self.at += 1;
        while self.at < self.tokens.len() && !matches!(self.token(0), ")" | "]" | "}") {
            let at = self.at;
            members.push(self.expression()?);
            if self.at == at {
                // `a=1` of a filter, `a: 1`, and a comma that comes last.
                members.pop();
                self.at += 1;
            }
            self.is_next(",");
        }
        self.at += 1;
        Ok(members)
    }
}

fn compare(source: &str, left: &Operand, sign: &str, right: &Operand) -> Result<(), TemplateError> {
    if sign.ends_with("in") {
        let wrong = |member: &&Operand| mistake(left.kind, "==", member.kind).is_some();
        let Some(member) = right.members.iter().find(wrong) else { return Ok(()) };
        let is_decimal = right.members.iter().any(|member| member.is_decimal);
        let (number, list) = (as_number(source, left, is_decimal), &source[right.from..right.to]);
        let hint = match (left.kind, number) {
            _ if member.kind == Kind::Truth => format!("write {} {sign} ['true', 'false']", as_words(source, left)),
            (Kind::Variable | Kind::Words, Some(number)) => format!("write {number} {sign} {list}"),
            _ => "write the numbers of the list without quotes, and `| int` behind its variables".to_owned(),
        };
        let wrong = if left.kind == Kind::Number { member } else { left };
        let message = mistake(left.kind, "==", member.kind).unwrap_or_default().to_owned();
        return Err(TemplateError { offset: wrong.from, message, hint });
    }
    let Some(message) = mistake(left.kind, sign, right.kind) else { return Ok(()) };
    if let Some((text, truth)) = beside_truth(left, right) {
        let (text_is, truth_is) = (&source[text.from..text.to], source[truth.from..truth.to].to_lowercase());
        let hint = match text.kind {
            Kind::Variable => format!("write {} {sign} '{truth_is}'", as_words(source, text)),
            _ => format!("write {text_is} {sign} '{truth_is}'"),
        };
        return Err(TemplateError { offset: text.from, message: message.to_owned(), hint });
    }
    let hint = match (as_number(source, left, right.is_decimal), as_number(source, right, left.is_decimal)) {
        (Some(first), Some(second)) if [left.kind, right.kind] == [Kind::Variable; 2] => {
            let [one, two] = [left, right].map(|side| as_words(source, side));
            format!("write {first} {sign} {second}, or {one} {sign} {two} if they are words")
        }
        (Some(first), Some(second)) => format!("write {first} {sign} {second}"),
        _ => "compare a number with a number, and a text with a text".to_owned(),
    };
    let wrong = if left.kind == Kind::Number { right } else { left };
    Err(TemplateError { offset: wrong.from, message: message.to_owned(), hint })
}

/// The text of the two, and the truth value that it is compared with, if they are such.
fn beside_truth<'o>(left: &'o Operand, right: &'o Operand) -> Option<(&'o Operand, &'o Operand)> {
    match (left.kind, right.kind) {
        (_, Kind::Truth) => Some((left, right)),
        (Kind::Truth, _) => Some((right, left)),
        _ => None,
    }
}

/// What is wrong with comparing these two.
fn mistake(left: Kind, sign: &str, right: Kind) -> Option<&'static str> {
    use Kind::{Digits, Fact, Literal, Number, Truth, Variable, Words};
    match (left, right) {
        (Variable | Words | Digits | Literal, Truth) | (Truth, Variable | Words | Digits | Literal) => {
            Some("a text is never equal to true or false")
        }
        (Number, Variable | Fact) | (Variable | Fact, Number) => {
            Some("a variable may be a text, which is not compared as a number")
        }
        (Number, Digits | Literal | Words) | (Digits | Literal | Words, Number) => {
            Some("a text is not compared as a number")
        }
        (Variable | Fact | Digits, Variable | Fact | Digits) if sign.starts_with(['<', '>']) => {
            Some("texts are compared letter by letter, so that 10 comes before 9")
        }
        _ => None,
    }
}

/// What is wrong with adding these two, of which each may be a text.
fn sum_of_texts(source: &str, first: &Operand, second: &Operand) -> TemplateError {
    let number = |one: &Operand, other: &Operand| as_number(source, one, other.is_decimal).unwrap_or_default();
    let (one, two) = (number(first, second), number(second, first));
    let [first_text, second_text] = [first, second].map(|side| &source[side.from..side.to]);
    TemplateError {
        offset: first.from,
        message: "two texts are not added: 1 and 2 would make 12".to_owned(),
        hint: format!("write {one} + {two}, or {first_text} ~ {second_text} to put them together"),
    }
}

/// How it is written as a number, beside one that may have decimals.
fn as_number(source: &str, operand: &Operand, is_decimal: bool) -> Option<String> {
    let written = &source[operand.from..operand.to];
    let filter = if is_decimal { "float" } else { "int" };
    match operand.kind {
        Kind::Number => Some(written.to_owned()),
        Kind::Variable | Kind::Fact | Kind::Words if operand.is_one => Some(format!("{written} | {filter}")),
        Kind::Variable | Kind::Fact | Kind::Words => Some(format!("({written}) | {filter}")),
        Kind::Digits => Some(written.trim_matches(['\'', '"', ' ']).to_owned()),
        Kind::Literal | Kind::Truth | Kind::Other => None,
    }
}

fn as_words(source: &str, operand: &Operand) -> String {
    let written = &source[operand.from..operand.to];
    if operand.is_one { format!("{written} | lower") } else { format!("({written}) | lower") }
}

fn literal(token: &str) -> Kind {
    let text = token.trim_matches(['\'', '"', ' ']);
    if text.parse::<f64>().is_ok_and(f64::is_finite) { Kind::Digits } else { Kind::Literal }
}

/// Of two that may stand at one place.
fn either(first: Kind, second: Kind) -> Kind {
    match (first, second) {
        _ if first == second => first,
        (Kind::Other | Kind::Truth, _) | (_, Kind::Other | Kind::Truth) => Kind::Other,
        _ => Kind::Variable,
    }
}
