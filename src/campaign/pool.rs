//! Which line of a campaign's pool writes to a new contact. Pure.

use sha2::{Digest as _, Sha256};

use crate::phone::Phone;

/// A line of the account, as far as a draw asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountLine {
    pub id: String,
    /// It may send, and its cap has room for first touches on any day.
    pub takes_new: bool,
}

/// The lines of a pool among which new contacts are drawn: those that take them. While none does, those that the account has, where they
/// wait: nobody is lost. None, if it has none of them; all, as long as no line of the account is known.
pub fn open(pool: &[String], account: &[AccountLine]) -> Vec<String> {
    if account.is_empty() {
        return pool.to_vec();
    }
    let there: Vec<&AccountLine> = account.iter().filter(|line| pool.contains(&line.id)).collect();
    let some_take = there.iter().any(|line| line.takes_new);
    there.into_iter().filter(|line| line.takes_new || !some_take).map(|line| line.id.clone()).collect()
}

/// A person's line of these: of the same lines always the same, in whatever order. Where one goes, only those who had it get another; where
/// one comes, only those who get it have had another.
pub fn drawn<'a>(lines: &'a [String], phone: &Phone) -> Option<&'a str> {
    lines.iter().max_by_key(|line| weight(phone, line)).map(String::as_str)
}

fn weight(phone: &Phone, line: &str) -> [u8; 32] {
    Sha256::new().chain_update(phone.as_str()).chain_update([0]).chain_update(line).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn people() -> Vec<Phone> {
        (0..3_000).map(|n| format!("+1212555{n:04}").parse().expect("valid")).collect()
    }

    #[test]
    fn new_contacts_are_drawn_among_the_lines_that_take_them_and_wait_where_none_does() {
        let pool = ids(&["a", "b", "c"]);
        let open = |account: &[(&str, bool)]| {
            let line = |(id, takes_new): &(&str, bool)| AccountLine { id: (*id).to_owned(), takes_new: *takes_new };
            open(&pool, &account.iter().map(line).collect::<Vec<_>>()).join(" ")
        };
        assert_eq!(open(&[("a", true), ("b", false), ("c", true), ("of none", true)]), "a c");
        assert_eq!(open(&[("a", false), ("b", false), ("of none", true)]), "a b", "where they wait");
        assert_eq!(open(&[("of none", true)]), "");
        assert_eq!(open(&[]), "a b c", "nothing is known yet");
    }

    #[test]
    fn each_line_is_drawn_as_often_in_whatever_order_they_stand() {
        let (lines, turned) = (ids(&["a", "b", "c"]), ids(&["c", "a", "b"]));
        for line in &lines {
            let count = people().iter().filter(|phone| drawn(&lines, phone) == Some(line)).count();
            assert!((900..1_100).contains(&count), "{line}: {count}");
        }
        assert!(people().iter().all(|phone| drawn(&lines, phone) == drawn(&turned, phone)));
        assert_eq!(drawn(&[], &people()[0]), None);
    }

    #[test]
    fn a_line_that_goes_moves_nobody_but_those_who_had_it() {
        let (all, rest) = (ids(&["a", "b", "c"]), ids(&["a", "c"]));
        for phone in people() {
            let had = drawn(&all, &phone);
            assert!(had == Some("b") || drawn(&rest, &phone) == had);
        }
    }
}
