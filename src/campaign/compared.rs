//! Comparisons of a number with what may be a text. They are refused: what a file says of somebody is a text, and of two kinds one is
//! always the greater, so that `orders >= 3` would be true of everybody. Pure.

use crate::campaign::template::TemplateError;

/// A word or a sign of a tag, and where it begins.
type Token<'s> = (usize, &'s str);

/// Filters that make a number of a text, or refuse it.
const TO_NUMBERS: [&str; 2] = ["int", "round"];
/// Words that are no variables.
const WORDS: [&str; 10] = ["and", "elif", "else", "false", "if", "in", "is", "none", "not", "or"];

/// What stands beside a comparison.
enum Side<'s> {
    Number(&'s str),
    /// Of which no filter makes a number, and where it begins.
    Variable(usize, &'s str),
    Other,
}

/// Refuses the first comparison of a number that is written down with a variable as it is.
pub fn refuse_texts_as_numbers(source: &str, tokens: &[Token<'_>]) -> Result<(), TemplateError> {
    for index in 0..tokens.len() {
        let (left, right) = (&tokens[..index], &tokens[index + 1..]);
        let (first, second) = (tokens[index].1, right.first().map_or("", |(_, token)| *token));
        let (sides, sign) = match (first, second) {
            ("<" | ">" | "=" | "!", "=") => ((before(source, left), after(source, &right[1..])), format!("{first}=")),
            ("<" | ">", _) => ((before(source, left), after(source, right)), first.to_owned()),
            ("in", "[" | "(") => match left.split_last() {
                Some(((_, "not"), left)) => ((before(source, left), listed(source, right)), "not in".to_owned()),
                _ => ((before(source, left), listed(source, right)), first.to_owned()),
            },
            _ => continue,
        };
        let (offset, written) = match sides {
            (Side::Variable(at, variable), Side::Number(number)) => (at, format!("{variable} | int {sign} {number}")),
            (Side::Number(number), Side::Variable(at, variable)) => (at, format!("{number} {sign} {variable} | int")),
            _ => continue,
        };
        let message = "a variable may be a text, which is not compared as a number".to_owned();
        return Err(TemplateError { offset, message, hint: format!("write {written}") });
    }
    Ok(())
}

/// What ends where a comparison stands.
fn before<'s>(source: &'s str, tokens: &[Token<'s>]) -> Side<'s> {
    let inside = tokens.iter().rposition(|(_, token)| *token != ")").map_or(0, |last| last + 1);
    let Some(&(at, last)) = tokens[..inside].last() else { return Side::Other };
    let token = |index: Option<usize>| index.and_then(|index| tokens.get(index)).map_or("", |(_, token)| *token);
    // Back over filters, and over the parts of `var.orders` and `3.5`.
    let mut begin = inside - 1;
    while matches!(token(begin.checked_sub(1)), "|" | ".") && begin >= 2 {
        begin -= 2;
    }
    if token(begin.checked_sub(1)) == "(" && is_operand(token(begin.checked_sub(2))) {
        // What a filter is given, as in `round(2)`.
        return Side::Other;
    }
    if is_number(last) && token(begin.checked_sub(1)) == "-" && !is_operand(token(begin.checked_sub(2))) {
        begin -= 1;
    }
    let filter = token((inside - 1).checked_sub(1)) == "|";
    side(tokens[begin].0, &source[tokens[begin].0..at + last.len()], last, filter.then_some(last))
}

/// What begins behind a comparison.
fn after<'s>(source: &'s str, tokens: &[Token<'s>]) -> Side<'s> {
    let token = |index: usize| tokens.get(index).map_or("", |(_, token)| *token);
    let Some(begin) = tokens.iter().position(|(_, token)| *token != "(") else { return Side::Other };
    let mut last = begin + usize::from(token(begin) == "-");
    let first = token(last);
    let mut filter = None;
    while matches!(token(last + 1), "|" | ".") && last + 2 < tokens.len() {
        filter = (token(last + 1) == "|").then_some(token(last + 2));
        last += 2;
    }
    let Some((at, end)) = tokens.get(last) else { return Side::Other };
    side(tokens[begin].0, &source[tokens[begin].0..at + end.len()], first, filter)
}

/// A list, if it begins with a number.
fn listed<'s>(source: &'s str, tokens: &[Token<'s>]) -> Side<'s> {
    let first = tokens[1..].iter().find(|(_, token)| *token != "-").map_or("", |(_, token)| *token);
    let end = tokens.iter().find(|(_, token)| matches!(*token, "]" | ")")).map_or(source.len(), |(at, _)| at + 1);
    if is_number(first) { Side::Number(&source[tokens[0].0..end]) } else { Side::Other }
}

fn side<'s>(at: usize, written: &'s str, word: &str, filter: Option<&str>) -> Side<'s> {
    match filter {
        Some(filter) if TO_NUMBERS.contains(&filter) => Side::Other,
        _ if is_number(word) => Side::Number(written),
        _ if is_operand(word) => Side::Variable(at, written),
        _ => Side::Other,
    }
}

fn is_number(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_digit())
}

fn is_operand(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_') && !WORDS.contains(&token.to_lowercase().as_str())
}
