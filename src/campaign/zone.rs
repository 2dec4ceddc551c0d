//! Where a recipient is and what the clocks show there, as far as the number tells. Pure.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use chrono::{DateTime, NaiveDateTime, TimeZone as _, Utc};
use chrono_tz::{GapInfo, Tz};

use serde_json::Value;

use crate::campaign::template::is_missing;
use crate::phone::Phone;

/// The variable that gives somebody's zone, where nothing else gives it.
pub const VARIABLE: &str = "time_zone";

const COUNTRIES: &str = include_str!("places/countries.txt");
const NANP: &str = include_str!("places/nanp.txt");

static PLACES: LazyLock<HashMap<&str, Place>> = LazyLock::new(|| {
    let all = places(COUNTRIES).chain(places(NANP)).collect::<Option<_>>();
    all.expect("the built-in places are read by a test")
});

/// The digits that tell a place are at most so many.
const LONGEST_PREFIX: usize = 7;

/// A beginning of numbers and what it tells.
struct Place {
    region: &'static str,
    zones: Vec<Tz>,
}

/// A variable that is to give a zone, and is the name of none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownZone;

/// The zone that is given for a recipient: the one that is `known` of them, else that of their [`VARIABLE`], if they have one.
/// Errors: it is asked, and is the name of no zone.
pub fn given(known: Option<Tz>, variable: Option<&Value>) -> Result<Option<Tz>, UnknownZone> {
    match variable.filter(|said| known.is_none() && !is_missing(said)) {
        Some(said) => said.as_str().and_then(|name| name.parse().ok()).map(Some).ok_or(UnknownZone),
        None => Ok(known),
    }
}

/// The zone to think of a recipient in: the one that was `given`, else that of the number, else `fallback`. Where a number
/// tells several, it is the one with most people.
pub fn zone_of(phone: &Phone, given: Option<Tz>, fallback: Tz) -> Tz {
    zones_of(phone, given, fallback).first().copied().unwrap_or(fallback)
}

/// Every zone that the recipient may be in, at least one: what must not happen at night may happen only when it is day in all.
pub fn zones_of(phone: &Phone, given: Option<Tz>, fallback: Tz) -> Cow<'static, [Tz]> {
    let known = given.map(|zone| vec![zone].into());
    let known = known.or_else(|| place_of(phone).map(|place| Cow::Borrowed(place.zones.as_slice())));
    known.unwrap_or_else(|| vec![fallback].into())
}

/// The country of a number, with its state or province where the area code tells it, in ISO 3166: `FR`, `US-FL`.
pub fn region_of(phone: &Phone) -> Option<&'static str> {
    place_of(phone).map(|place| place.region)
}

/// When a local time is reached: the first time if it comes twice, the end of the gap if the clocks skip it.
/// None only at the ends of time.
pub fn first_instant(local: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    let instant = match zone.from_local_datetime(&local).earliest() {
        Some(instant) => Some(instant),
        None => GapInfo::new(&local, &zone).and_then(|gap| gap.end),
    };
    instant.map(|instant| instant.with_timezone(&Utc))
}

/// What the longest known beginning of the number tells.
fn place_of(phone: &Phone) -> Option<&'static Place> {
    let digits = phone.as_str().trim_start_matches('+');
    let longest = digits.len().min(LONGEST_PREFIX);
    (1..=longest).rev().find_map(|length| PLACES.get(&digits[..length]))
}

/// The lines of a file of places; none for a line that cannot be read.
fn places(file: &'static str) -> impl Iterator<Item = Option<(&'static str, Place)>> {
    let lines = file.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let mut words = line.split(' ');
        let (prefix, region) = (words.next()?, words.next()?);
        let zones: Vec<Tz> = words.map(|zone| zone.parse().ok()).collect::<Option<_>>()?;
        let usable = prefix.len() <= LONGEST_PREFIX && !zones.is_empty();
        usable.then_some((prefix, Place { region, zones }))
    })
}

#[cfg(test)]
pub mod changes {
    //! Every change of clocks in ten years, for tests.

    use std::collections::BTreeMap;

    use chrono::{DateTime, Offset as _, TimeDelta, Utc};
    use chrono_tz::{TZ_VARIANTS, Tz};

    /// When a zone's clocks change, with the seconds from UTC before and after.
    pub type Changes = Vec<(DateTime<Utc>, i32, i32)>;

    /// Each list of changes that any zone has from 2025 to 2034, with one of the zones that have it: many are alike.
    pub fn of_every_zone() -> BTreeMap<Changes, Tz> {
        let offset = |zone: Tz, at: DateTime<Utc>| at.with_timezone(&zone).offset().fix().local_minus_utc();
        let start: DateTime<Utc> = "2025-01-01T00:00:00Z".parse().expect("a time");
        let mut zones = BTreeMap::new();
        for zone in TZ_VARIANTS {
            let mut changes = Vec::new();
            for day in (0..3_652).map(|days| start + TimeDelta::days(days)) {
                let (before, after) = (offset(zone, day), offset(zone, day + TimeDelta::days(1)));
                if before != after {
                    let mut later = (1..=1_440).map(|minute| day + TimeDelta::minutes(minute));
                    let change = later.find(|at| offset(zone, *at) != before).expect("it changed");
                    changes.push((change, before, after));
                }
            }
            zones.insert(changes, zone);
        }
        let count: usize = zones.keys().map(Vec::len).sum();
        assert!(zones.len() > 20 && count > 500, "{} kinds of zone with {count} changes", zones.len());
        zones
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::{America, Europe, Pacific};

    use super::*;

    fn phone(text: &str) -> Phone {
        text.parse().expect(text)
    }

    #[test]
    fn every_place_is_read_once() {
        let lines = |file: &str| file.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
        assert_eq!(PLACES.len(), lines(COUNTRIES) + lines(NANP), "no beginning stands twice");
        assert!(PLACES.len() > 600, "{}", PLACES.len());
        let states = PLACES.values().filter(|place| place.region.starts_with("US-"));
        let states: std::collections::BTreeSet<&str> = states.map(|place| place.region).collect();
        assert_eq!(states.len(), 51, "fifty states and the District of Columbia: {states:?}");
    }

    #[test]
    fn a_number_tells_its_zone_and_region() {
        for (number, zone, region) in [
            ("+12125550142", America::New_York, "US-NY"),
            ("+13055550142", America::New_York, "US-FL"),
            ("+18085550142", Pacific::Honolulu, "US-HI"),
            ("+16045550142", America::Vancouver, "CA-BC"),
            ("+18765550142", America::Jamaica, "JM"),
            ("+18005550142", America::New_York, "US"),
            ("+33612345678", Europe::Paris, "FR"),
            ("+447700900123", Europe::London, "GB"),
            ("+77011234567", Tz::Asia__Almaty, "KZ"),
            ("+79161234567", Europe::Moscow, "RU"),
            ("+61891621234", Tz::Indian__Cocos, "CC"),
        ] {
            assert_eq!(zone_of(&phone(number), None, Tz::UTC), zone, "{number}");
            assert_eq!(region_of(&phone(number)), Some(region), "{number}");
        }
        assert_eq!(zone_of(&phone("+8881234567"), None, America::Denver), America::Denver);
        assert_eq!(zone_of(&phone("+12125550142"), Some(Tz::UTC), America::Denver), Tz::UTC);
    }

    #[test]
    fn a_variable_gives_the_zone_where_nothing_else_does() {
        let said = |zone: &str| given(None, Some(&Value::from(zone)));
        assert_eq!(said("Europe/Berlin"), Ok(Some(Europe::Berlin)));
        assert_eq!(
            given(Some(Tz::UTC), Some(&"Europe/Berlin".into())),
            Ok(Some(Tz::UTC)),
            "what is known of them goes first"
        );
        assert_eq!((said(" "), given(None, None)), (Ok(None), Ok(None)), "the number tells it then");
        assert_eq!((said("Berlin"), given(None, Some(&5.into()))), (Err(UnknownZone), Err(UnknownZone)));
        assert_eq!(given(Some(Tz::UTC), Some(&"Berlin".into())), Ok(Some(Tz::UTC)), "it is not asked");
    }

    #[test]
    fn where_a_number_may_be_in_several_zones_all_are_told() {
        let zones = |number| zones_of(&phone(number), None, Tz::UTC).into_owned();
        assert_eq!(zones("+18505550142"), [America::New_York, America::Chicago], "the Panhandle lies in two");
        assert_eq!(zones("+34612345678"), [Europe::Madrid, Tz::Atlantic__Canary]);
        assert!(zones("+18005550142").contains(&Pacific::Honolulu));
        assert_eq!(zones_of(&phone("+18505550142"), Some(Tz::UTC), Tz::UTC).into_owned(), [Tz::UTC]);
    }

    #[test]
    fn a_day_that_a_zone_skipped_begins_after_it() {
        let local = "2011-12-30T09:00:00".parse().expect("a time");
        let after = "2011-12-30T10:00:00Z".parse().expect("a time");
        assert_eq!(first_instant(local, Pacific::Apia), Some(after), "Samoa had no 30 December");
    }
}
