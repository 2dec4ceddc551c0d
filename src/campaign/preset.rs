//! Quiet hours that come with the product, each a dated file that says where it has them from. Pure.

use std::collections::HashMap;
use std::sync::LazyLock;

use chrono::NaiveDate;

use super::calendar::Calendar;
use super::hours::Span;

const BUILT_IN: [(&str, &str); 7] = [
    ("us-federal", include_str!("presets/us-federal.txt")),
    ("us-states", include_str!("presets/us-states.txt")),
    ("australia", include_str!("presets/australia.txt")),
    ("canada", include_str!("presets/canada.txt")),
    ("france", include_str!("presets/france.txt")),
    ("germany", include_str!("presets/germany.txt")),
    ("uk", include_str!("presets/uk.txt")),
];

/// Presets that only add to another, which holds with them.
const IMPLIED: [(&str, &str); 1] = [("us-states", "us-federal")];

static PRESETS: LazyLock<HashMap<&str, Vec<Rule>>> = LazyLock::new(|| {
    let read = |(name, text)| (name, read(text).expect("the built-in presets are read by a test"));
    BUILT_IN.map(read).into()
});

/// The hours of one region: open within any of the spans, save on the days of the calendar.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    region: &'static str,
    pub spans: Vec<Span>,
    closed: Option<&'static Calendar>,
}

/// The rules of a preset, one a region.
pub fn named(name: &str) -> Option<&'static [Rule]> {
    PRESETS.get(name).map(Vec::as_slice)
}

/// The rules of a preset, after those of the preset to which it only adds.
pub fn with_implied(name: &str) -> Option<impl Iterator<Item = &'static Rule>> {
    let implied = IMPLIED.iter().find(|(adds, _)| *adds == name).and_then(|(_, to)| named(to)).unwrap_or_default();
    Some(implied.iter().chain(named(name)?))
}

/// The preset that a rule is of.
pub fn of(rule: &Rule) -> Option<&'static str> {
    let holds = |rules: &Vec<Rule>| rules.iter().any(|known| std::ptr::eq(known, rule));
    PRESETS.iter().find(|(_, rules)| holds(rules)).map(|(name, _)| *name)
}

/// What [`named`] knows.
pub fn names() -> [&'static str; BUILT_IN.len()] {
    BUILT_IN.map(|(name, _)| name)
}

impl Rule {
    /// In ISO 3166, such as `FR` or `US-FL`.
    pub fn region(&self) -> &'static str {
        self.region
    }

    /// Whether the rule is of the country, or of a part of the country, in which a region lies.
    pub fn is_of_country(&self, region: &str) -> bool {
        country(self.region) == country(region)
    }

    /// Whether the rule holds for a recipient of a region; `spoken_of` says whether any rule is of the region's country.
    pub fn concerns(&self, region: Option<&str>, spoken_of: bool) -> bool {
        let of_country = region.is_some_and(|region| self.is_of_country(region));
        let of_whole_country = self.region == country(self.region);
        if of_whole_country {
            of_country || !spoken_of
        } else {
            region == Some(self.region) || (of_country && region == Some(country(self.region)))
        }
    }

    /// The calendar on whose days the region is closed.
    pub fn closed(&self) -> Option<&'static Calendar> {
        self.closed
    }

    /// Whether the region keeps a holiday on which it is closed.
    pub fn is_closed(&self, date: NaiveDate) -> bool {
        self.closed.is_some_and(|calendar| calendar.holiday(date).is_some())
    }
}

/// `US` of `US-FL`.
fn country(region: &str) -> &str {
    region.split('-').next().unwrap_or(region)
}

/// Reads a file of rules; none if a line is not as the files' heads describe.
fn read(text: &'static str) -> Option<Vec<Rule>> {
    let mut rules: Vec<Rule> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        let [region, days, hours] = words[..] else { return None };
        let known = rules.iter_mut().find(|rule| rule.region == region);
        match (known, days) {
            (Some(rule), "closed") => rule.closed = Some(Calendar::named(hours)?),
            (None, "closed") => return None,
            (known, _) => {
                let (from, to) = hours.split_once('-')?;
                let span = Span::new(days, from, to).ok()?;
                match known {
                    Some(rule) => rule.spans.push(span),
                    None => rules.push(Rule { region, spans: vec![span], closed: None }),
                }
            }
        }
    }
    Some(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_that_comes_with_the_product_is_read_and_says_since_when() {
        for (name, text) in BUILT_IN {
            assert!(!named(name).expect(name).is_empty(), "{name}");
            assert!(text.contains("As of November 2026") && text.contains("No legal advice"), "{name}");
        }
        assert_eq!(named("moon"), None);
    }

    #[test]
    fn a_line_that_is_not_a_rule_spoils_the_file() {
        for bad in ["US mon-sun", "US mon-sun 08:00", "US someday 08:00-21:00", "US closed us", "FR mon 8-9\n"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(read("US sat 08:00-21:00\nUS closed atlantis\n"), None);
        assert_eq!(read("US mon 08:00-21:00\nUS tue 10:00-12:00\nUS closed us\n").map(|rules| rules.len()), Some(1));
    }

    #[test]
    fn a_rule_concerns_those_who_may_be_in_its_region() {
        let rules = read("US mon 08:00-21:00\nUS-FL mon 08:00-20:00\n").expect("good rules");
        let concerned = |region, spoken_of| {
            let rules = rules.iter().filter(|rule| rule.concerns(region, spoken_of));
            rules.map(|rule| rule.region).collect::<Vec<_>>()
        };
        assert_eq!(concerned(Some("US-FL"), true), ["US", "US-FL"]);
        assert_eq!(concerned(Some("US-NY"), true), ["US"]);
        assert_eq!(concerned(Some("US"), true), ["US", "US-FL"], "the state is not known");
        assert_eq!(concerned(Some("FR"), true), [""; 0], "another rule speaks of France");
        assert_eq!(concerned(Some("FR"), false), ["US"], "better these hours than none");
        assert_eq!(concerned(None, false), ["US"]);
    }
}
