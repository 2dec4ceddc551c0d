//! What a reply asks of us: to stop, to go on, or nothing that a list could tell for certain. Pure.

use std::collections::HashSet;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// The lists that come with the product, one a language.
const BUILT_IN: [(&str, &str); 5] = [
    ("en", include_str!("words/en.txt")),
    ("es", include_str!("words/es.txt")),
    ("fr", include_str!("words/fr.txt")),
    ("de", include_str!("words/de.txt")),
    ("pt", include_str!("words/pt.txt")),
];

/// No message is read further than this, in characters: a stop is short, and folding costs time.
const MAX_TEXT: usize = 4_000;

/// What a message asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    Stop,
    Start,
    /// It may mean a stop: a person decides. Holds the phrase of the list.
    Review(String),
    Nothing,
}

/// Which words ask for what.
#[derive(Debug, Clone)]
pub struct Words {
    /// Whole messages, folded and without spaces.
    stop: HashSet<String>,
    start: HashSet<String>,
    /// Parts of messages, folded.
    review: Vec<String>,
}

/// A list that cannot be read, with the line that is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the word list {name}: {problem}")]
pub struct WordsError {
    name: String,
    line: usize,
    problem: &'static str,
}

impl Default for Words {
    fn default() -> Words {
        let mut words = Words { stop: HashSet::new(), start: HashSet::new(), review: Vec::new() };
        for (name, list) in BUILT_IN {
            words.extend(name, list).expect("the built-in lists are read by a test");
        }
        words
    }
}

impl Words {
    /// Takes in a list: `[stop]`, `[start]` and `[review]` head their lines, one word or phrase each; `#` begins a comment.
    /// Errors: the line that is none of these.
    pub fn extend(&mut self, name: &str, list: &str) -> Result<(), WordsError> {
        let mut section = None;
        for (index, line) in list.lines().enumerate() {
            let bad = |problem| WordsError { name: name.to_owned(), line: index + 1, problem };
            let text = line.split('#').next().unwrap_or_default().trim();
            if text.is_empty() {
                continue;
            }
            if let Some(head) = text.strip_prefix('[') {
                let head = head.strip_suffix(']').filter(|head| ["stop", "start", "review"].contains(head));
                section = Some(head.ok_or_else(|| bad("a section is [stop], [start] or [review]"))?.to_owned());
                continue;
            }
            let folded = fold(text);
            if folded.is_empty() {
                return Err(bad("there is no letter in it"));
            }
            match section.as_deref() {
                Some("stop") => drop(self.stop.insert(squeezed(&folded))),
                Some("start") => drop(self.start.insert(squeezed(&folded))),
                Some(_) => self.review.push(folded),
                None => return Err(bad("a section such as [stop] must come first")),
            }
        }
        Ok(())
    }

    /// What a message asks: a stop or a start as a whole; anything else is held for review if one of its lines alone is a stop,
    /// or a phrase of the lists stands in it.
    pub fn read(&self, text: &str) -> Ask {
        let text: String = text.chars().take(MAX_TEXT).collect();
        let folded = fold(&text);
        let whole = squeezed(&folded);
        if self.stop.contains(&whole) {
            return Ask::Stop;
        }
        if self.start.contains(&whole) {
            return Ask::Start;
        }
        if let Some(line) = text.lines().map(fold).find(|line| self.stop.contains(&squeezed(line))) {
            return Ask::Review(line);
        }
        let padded = format!(" {folded} ");
        let phrase = self.review.iter().find(|phrase| padded.contains(&format!(" {phrase} ")));
        phrase.map_or(Ask::Nothing, |phrase| Ask::Review(phrase.clone()))
    }
}

/// Lower case, without accents, only letters and digits, one space between words.
fn fold(text: &str) -> String {
    let plain = text.nfkd().filter(|char| !is_combining_mark(*char)).flat_map(char::to_lowercase);
    // An apostrophe parts no word: "don't" is "dont".
    let spaced: String = plain
        .filter(|char| !matches!(char, '\'' | '\u{2019}' | '\u{2018}' | '`' | '\u{b4}'))
        .map(|char| if char.is_alphanumeric() { char } else { ' ' })
        .collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Without spaces: "opt out", "opt-out" and "optout" are one.
fn squeezed(folded: &str) -> String {
    folded.split(' ').collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_of_a_stop_is_one() {
        let words = Words::default();
        let spellings = [
            "STOP",
            "stop",
            "Stop.",
            "stop!",
            "\"stop\"",
            "  stop \n",
            "Stopall",
            "STOP ALL",
            "quit",
            "END",
            "Revoke",
            "opt out",
            "Opt-Out",
            "OPTOUT",
            "cancel",
            "Unsubscribe!",
            "S.T.O.P",
            "stóp",
            "ＳＴＯＰ",
            "stop 🛑",
            "arrêt",
            "ALTO",
        ];
        for text in spellings {
            assert_eq!(words.read(text), Ask::Stop, "{text}");
        }
    }

    #[test]
    fn every_spelling_of_a_start_is_one() {
        let words = Words::default();
        for text in ["START", "unstop", "Opt in", "opt-in!", "OPTIN"] {
            assert_eq!(words.read(text), Ask::Start, "{text}");
        }
    }

    #[test]
    fn what_may_mean_a_stop_is_held_for_a_person() {
        let words = Words::default();
        let texts = [
            "please remove me from this",
            "STOP TEXTING ME",
            "Wrong number, sorry",
            "no más!",
            "¡No mas mensajes por favor!",
            "Stop\n\nSent from my iPhone",
            "don't text me again",
            "Don’t contact me",
        ];
        for text in texts {
            assert!(matches!(words.read(text), Ask::Review(_)), "{text}");
        }
    }

    #[test]
    fn other_messages_ask_nothing() {
        let words = Words::default();
        for text in [
            "",
            "yes please",
            "I'll stop by at 5",
            "can we cancel the 3pm?",
            "the end",
            "🛑",
            "starting now",
            "don't stop believing",
        ] {
            assert_eq!(words.read(text), Ask::Nothing, "{text}");
        }
    }

    #[test]
    fn a_list_of_ones_own_adds_words_and_a_bad_one_names_its_line() {
        let mut words = Words::default();
        words
            .extend("nl", "# Dutch\n[stop]\nstoppen\n[review]\nverkeerd nummer # wrong number\n")
            .expect("a good list");
        assert_eq!(words.read("Stoppen!"), Ask::Stop);
        assert_eq!(words.read("sorry, verkeerd nummer"), Ask::Review("verkeerd nummer".to_owned()));
        for (list, line) in [("stop", 1), ("[halt]\n", 1), ("[stop]\n\n!!!", 3)] {
            assert_eq!(words.extend("x", list).expect_err(list).line, line);
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in any::<String>()) {
            Words::default().read(&text);
        }

        #[test]
        fn case_punctuation_and_space_do_not_matter(
            before in "[ .!?\"\\n-]{0,5}", after in "[ .!?\"\\n-]{0,5}", upper in proptest::collection::vec(any::<bool>(), 11),
        ) {
            let word: String = "unsubscribe".chars().zip(upper).map(|(c, up)| if up { c.to_ascii_uppercase() } else { c }).collect();
            prop_assert_eq!(Words::default().read(&format!("{before}{word}{after}")), Ask::Stop);
        }
    }
}
