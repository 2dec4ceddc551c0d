//! Reading mappings, lists and single values; what is wrong is noted, and reading goes on.

use std::str::FromStr;

use crate::campaign::file::finding::{Findings, did_you_mean, kind_of, nearest};
use crate::campaign::file::node::{Key, Node, Place, Value};

/// The keys of one mapping, of which none is unknown any more.
pub struct Fields<'n> {
    pub place: Place<'n>,
}

/// Keys that are often written one level too high or too low, and where they belong.
const BELONGS: [(&str, &[&str]); 5] = [
    ("schedule", &["cron", "at", "manual", "catch_up", "catch_up_within", "overlap", "jitter"]),
    ("audience", &["sql", "csv", "enrolled", "role", "time_limit", "row_limit", "again"]),
    ("send", &["body", "external_id", "attachments", "effect", "phone_line_id", "bubbles"]),
    ("branch", &["if", "then", "else"]),
    ("lines", &["pool", "pinned_only"]),
];

/// Keys of a step that are often written one level too low.
const BESIDE_SEND: [&str; 2] = ["expires_after", "variants"];

/// The fields of a mapping. Notes keys that are unknown or stand there twice; none if it is no mapping at all.
pub fn fields<'n>(place: &Place<'n>, known: &[&str], findings: &mut Findings) -> Option<Fields<'n>> {
    let entries = entries(place, &format!("write keys such as `{}: …` under it", known[0]), findings)?;
    for (key, node) in entries {
        if !known.contains(&key.name.as_str()) {
            let path = place.key(&key.name, node).path;
            let home = BELONGS.iter().find(|(_, keys)| keys.contains(&key.name.as_str())).map(|(home, _)| *home);
            let hint = match home {
                _ if place.path.ends_with(".send") && BESIDE_SEND.contains(&key.name.as_str()) => {
                    format!("`{}` belongs beside `send:`, indented like it", key.name)
                }
                Some(home) if !place.path.ends_with(home) && nearest(&key.name, known.iter().copied()).is_none() => {
                    format!("`{}` belongs under `{home}:`, indented below it", key.name)
                }
                _ => did_you_mean(&key.name, known.iter().copied()),
            };
            findings.at(&path, key.line, key.column, format!("the key `{}` is unknown here", key.name), hint);
        }
    }
    Some(Fields { place: place.clone() })
}

/// Keys and values of a mapping whose keys are free. Notes keys that stand there twice.
pub fn entries<'n>(place: &Place<'n>, hint: &str, findings: &mut Findings) -> Option<&'n [(Key, Node)]> {
    let Value::Map(entries) = &place.node.value else {
        findings.add(place, format!("this is {}, not a mapping", kind_of(place.node)), hint);
        return None;
    };
    for (index, (key, node)) in entries.iter().enumerate() {
        if entries[..index].iter().any(|(earlier, _)| earlier.name == key.name) {
            let path = place.key(&key.name, node).path;
            let message = format!("the key `{}` stands here twice", key.name);
            findings.at(&path, key.line, key.column, message, "keep one of them");
        }
    }
    Some(entries)
}

impl<'n> Fields<'n> {
    /// The value of a key, if it is given.
    pub fn place(&self, name: &str) -> Option<Place<'n>> {
        self.place.node.get(name).map(|node| self.place.key(name, node))
    }

    /// What a key holds, read by `read`. None if it is not given or could not be read.
    pub fn given<T>(
        &self,
        name: &str,
        findings: &mut Findings,
        read: impl FnOnce(&Place<'n>, &mut Findings) -> Option<T>,
    ) -> Option<T> {
        self.place(name).and_then(|place| read(&place, findings))
    }

    /// The same of a key that must be given; `example` is what to write.
    pub fn needed<T>(
        &self,
        name: &str,
        example: &str,
        findings: &mut Findings,
        read: impl FnOnce(&Place<'n>, &mut Findings) -> Option<T>,
    ) -> Option<T> {
        if self.place(name).is_none() {
            findings.add(&self.place, format!("`{name}` is missing"), format!("write `{name}: {example}`"));
        }
        self.given(name, findings, read)
    }
}

/// A text that can be stored.
pub fn text<'n>(place: &Place<'n>, findings: &mut Findings) -> Option<&'n str> {
    let hint = match &place.node.value {
        Value::Text(text) => {
            let nul = text.text.find('\0');
            if let Some(at) = nul {
                findings.add_within(place, at, "a NUL character cannot be stored", "take it out");
            }
            return Some(text.text.as_str()).filter(|_| nul.is_none());
        }
        Value::Number(written) => format!("put it in quotes to make it a text: \"{written}\""),
        Value::Bool(value) => format!("put it in quotes to make it a text: \"{value}\""),
        Value::Null => "write a text after the colon; one that begins with # goes in quotes".to_owned(),
        Value::Map(_) | Value::List(_) => {
            "write a text; one that begins with { or [ goes in quotes, such as \"{{ first_name }}, hello\"".to_owned()
        }
    };
    findings.add(place, format!("this is {}, not a text", kind_of(place.node)), hint);
    None
}

/// A text that is not blank.
pub fn filled<'n>(place: &Place<'n>, findings: &mut Findings) -> Option<&'n str> {
    let text = text(place, findings)?;
    if text.trim().is_empty() {
        findings.add(place, "this is blank", "write a text, or leave the key out");
        return None;
    }
    Some(text)
}

/// A value that is written as a text, or as a bare number. Its error is a sentence that ends with what to write.
pub fn word<T: FromStr<Err: std::fmt::Display>>(place: &Place<'_>, findings: &mut Findings) -> Option<T> {
    let written = match &place.node.value {
        Value::Number(written) => written,
        _ => text(place, findings)?,
    };
    match written.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            findings.add_sentence(place, &error.to_string());
            None
        }
    }
}

pub fn truth(place: &Place<'_>, findings: &mut Findings) -> Option<bool> {
    if let Value::Bool(value) = place.node.value {
        return Some(value);
    }
    findings.add(place, format!("this is {}, not a truth value", kind_of(place.node)), "write true or false");
    None
}

/// A whole number in a range.
pub fn number<T: TryFrom<i64>>(
    place: &Place<'_>,
    range: std::ops::RangeInclusive<i64>,
    findings: &mut Findings,
) -> Option<T> {
    let hint = || format!("write a whole number from {} to {}", range.start(), range.end());
    let Value::Number(written) = &place.node.value else {
        findings.add(place, format!("this is {}, not a number", kind_of(place.node)), hint());
        return None;
    };
    match written.parse::<i64>().ok().filter(|number| range.contains(number)) {
        Some(number) => T::try_from(number).ok(),
        None => {
            findings.add(place, format!("{written} is out of range"), hint());
            None
        }
    }
}

/// One of some words.
pub fn choice<T: Copy>(place: &Place<'_>, words: &[(&str, T)], findings: &mut Findings) -> Option<T> {
    let text = text(place, findings)?;
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    if found.is_none() {
        let hint = did_you_mean(text, words.iter().map(|(word, _)| *word));
        findings.add(place, format!("`{text}` is not a choice here"), hint);
    }
    found
}

/// The items of a list; where `single` is allowed, a value that is no list is a list of one.
pub fn list<'n>(place: &Place<'n>, single: bool, hint: &str, findings: &mut Findings) -> Option<Vec<Place<'n>>> {
    match &place.node.value {
        Value::List(items) => Some(items.iter().enumerate().map(|(index, node)| place.item(index, node)).collect()),
        Value::Null => {
            findings.add(place, "this is nothing, not a list", hint);
            None
        }
        _ if single => Some(vec![place.clone()]),
        _ => {
            findings.add(place, format!("this is {}, not a list", kind_of(place.node)), hint);
            None
        }
    }
}

/// Every item of a list; none if one could not be read, after all were tried.
pub fn each<'n, T>(
    place: &Place<'n>,
    read: impl Fn(&Place<'n>, &mut Findings) -> Option<T>,
    findings: &mut Findings,
) -> Option<Vec<T>> {
    let items = list(place, false, "write each item on a line of its own, after a dash", findings)?;
    let read: Vec<Option<T>> = items.iter().map(|place| read(place, findings)).collect();
    read.into_iter().collect()
}

/// Which of several keys a mapping has; it must have exactly one. `several` is what to do about more.
pub fn one_of<'k>(
    place: &Place<'_>,
    kinds: &[&'k str],
    example: &str,
    several: &str,
    findings: &mut Findings,
) -> Option<&'k str> {
    let written = entries(place, &format!("write `{example}` under it"), &mut Findings::default());
    if written.is_none() {
        entries(place, &format!("write `{example}` under it"), findings);
        return None;
    }
    let given: Vec<&str> = kinds.iter().copied().filter(|kind| place.node.get(kind).is_some()).collect();
    match given.as_slice() {
        [kind] => Some(kind),
        [] => {
            let near = written?.iter().find_map(|(key, _)| Some((key, nearest(&key.name, kinds.iter().copied())?)));
            match near {
                Some((key, meant)) => {
                    let path = place.key(&key.name, place.node).path;
                    let message = format!("the key `{}` is unknown here", key.name);
                    findings.at(&path, key.line, key.column, message, format!("did you mean `{meant}`?"));
                }
                None => {
                    findings.add(place, format!("none of {} is here", kinds.join(", ")), format!("write `{example}`"))
                }
            }
            None
        }
        [first, others @ ..] => {
            let second = place.key(others[0], place.node.get(others[0])?);
            findings.add(&second, format!("`{first}` and `{}` exclude each other", others[0]), several);
            None
        }
    }
}
