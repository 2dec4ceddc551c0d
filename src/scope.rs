//! What a suppression covers.

use std::fmt;
use std::str::FromStr;

/// `all`, or `KEY=VALUE`: the jobs of one campaign (`campaign=spring`), or those that carry one label (`topic=offers`). Key of 1 to 64
/// characters, value of 1 to 200; the same rule as the constraint `scope_is_all_or_key_value`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(String);

/// The text was not a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("scope is neither all nor KEY=VALUE: write all, campaign=NAME, or a label such as topic=offers")]
pub struct NotAScope;

impl Scope {
    /// Everything that goes to the recipient.
    pub fn all() -> Scope {
        Scope("all".to_owned())
    }

    /// As the database calls it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Scope {
    type Err = NotAScope;

    fn from_str(text: &str) -> Result<Scope, NotAScope> {
        if text == "all" {
            return Ok(Scope::all());
        }
        let (key, value) = text.split_once('=').ok_or(NotAScope)?;
        let valid = (1..=64).contains(&key.chars().count())
            && (1..=200).contains(&value.chars().count())
            && !text.contains('\0');
        if valid { Ok(Scope(text.to_owned())) } else { Err(NotAScope) }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_all_or_a_key_and_a_value() {
        for good in ["all", "campaign=spring", "topic=a=b", &format!("{}={}", "k".repeat(64), "é".repeat(200))] {
            assert_eq!(good.parse::<Scope>().map(|scope| scope.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "ALL", "campaign", "=v", "k=", "k=\0", &"k=".repeat(102), &format!("{}=v", "k".repeat(65))] {
            assert_eq!(bad.parse::<Scope>(), Err(NotAScope), "{bad}");
        }
    }
}
