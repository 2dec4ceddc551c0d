//! Windows and quiet hours out of their tree.

use crate::campaign::file::finding::{Findings, did_you_mean};
use crate::campaign::file::node::{Place, Value};
use crate::campaign::file::reader::{each, fields, filled, list, text};
use crate::campaign::file::shape::{QuietHours, Window};
use crate::campaign::hours::{Days, Span};
use crate::campaign::preset;

/// One of the windows.
pub fn window(place: &Place<'_>, findings: &mut Findings) -> Option<Window> {
    let of = fields(place, &["days", "from", "to"], findings)?;
    let days = of.given("days", findings, days).unwrap_or_else(|| "daily".to_owned());
    let from = of.needed("from", "\"09:00\"", findings, filled);
    let to = of.needed("to", "\"18:00\"", findings, filled);
    let (from, to) = (from?.to_owned(), to?.to_owned());
    let span = span(&days, &from, &to, &of.place("from")?, &of.place("to")?, findings)?;
    Some(Window { days: days.parse().ok()?, from, to, span })
}

/// Days of the week, in one text or in a list.
fn days(place: &Place<'_>, findings: &mut Findings) -> Option<String> {
    if !matches!(place.node.value, Value::List(_)) {
        return some_days(place, findings);
    }
    let days = each(place, some_days, findings)?;
    if days.is_empty() {
        findings.add(place, "no day is here", "write days such as mon-fri, or leave `days` out for all of them");
        return None;
    }
    Some(days.join(","))
}

fn some_days(place: &Place<'_>, findings: &mut Findings) -> Option<String> {
    let written = filled(place, findings)?;
    match written.parse::<Days>() {
        Ok(_) => Some(written.to_owned()),
        Err(error) => {
            findings.add_sentence(place, &error.to_string());
            None
        }
    }
}

/// Points at whichever of the two times is wrong.
fn span(
    days: &str,
    from: &str,
    to: &str,
    from_place: &Place<'_>,
    to_place: &Place<'_>,
    findings: &mut Findings,
) -> Option<Span> {
    let error = match Span::new(days, from, to) {
        Ok(span) => return Some(span),
        Err(error) => error,
    };
    let from_is_well = Span::new("daily", from, "24:00").is_ok();
    findings.add_sentence(if from_is_well { to_place } else { from_place }, &error.to_string());
    None
}

/// One or several quiet hours.
pub fn quiet_hours(place: &Place<'_>, findings: &mut Findings) -> Option<Vec<QuietHours>> {
    let items = list(place, true, "write the name of a preset, or { from: \"21:00\", to: \"08:00\" }", findings)?;
    items.iter().map(|place| quiet(place, findings)).collect()
}

fn quiet(place: &Place<'_>, findings: &mut Findings) -> Option<QuietHours> {
    if matches!(place.node.value, Value::Map(_)) {
        let of = fields(place, &["from", "to"], findings)?;
        let from = of.needed("from", "\"21:00\"", findings, filled);
        let to = of.needed("to", "\"08:00\"", findings, filled);
        let (from, to) = (from?.to_owned(), to?.to_owned());
        let span = span("daily", &from, &to, &of.place("from")?, &of.place("to")?, findings)?;
        return Some(QuietHours::Between { from, to, span });
    }
    let name = text(place, findings)?;
    if preset::named(name).is_none() {
        let hint = format!("{} (or write {{ from: \"21:00\", to: \"08:00\" }})", did_you_mean(name, preset::names()));
        findings.add(place, format!("the preset `{name}` is unknown"), hint);
        return None;
    }
    Some(QuietHours::Preset(name.to_owned()))
}
