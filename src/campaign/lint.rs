//! What a campaign may say and hardly means: texts that fall apart into bubbles, links to strangers, steps without effect. Pure.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde_json::Value;

use crate::campaign::file::shape::{Audience, Campaign, Schedule, StopOn, Variable, is_name};
use crate::campaign::file::step::{Attachment, Content, Send, SendStep, Step};
use crate::campaign::file::words::Again;
use crate::campaign::template::{Condition, FACTS, Template, Vars};
use crate::campaign::window::Windows;
use crate::campaign::zone;
use crate::job::Class;
use crate::units::counted;

/// A longer message is read as advertising.
const LONG_CHARS: usize = 600;
/// Ends of domains that are one with a capital as well, as keyboards write them. Of two letters, all are.
const DOMAINS: [&str; 12] =
    ["app", "biz", "com", "dev", "edu", "example", "gov", "info", "net", "online", "org", "shop"];

/// What other tools write around the name of a variable.
const OF_OTHER_TOOLS: [(&str, &str); 5] = [("{", "}"), ("[", "]"), ("<", ">"), ("%", "%"), ("*|", "|*")];
/// So many of the texts in a template's quotes are tried as what its variables hold.
const MOST_TRIED: usize = 20;

/// A warning about a value of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Such as `steps[2].send.body`.
    pub path: String,
    pub message: String,
    pub hint: String,
}

/// Everything that looks wrong. `says_again` says whether the file has a word on who may be enrolled again.
pub fn lint(campaign: &Campaign, says_again: bool) -> Vec<Warning> {
    // The zone is used by what waits and by the hours.
    let mut lint = Lint { campaign, warnings: Vec::new(), used: BTreeSet::from([zone::VARIABLE.to_owned()]) };
    // Who is pinned to a line has been written to before.
    lint.steps(&campaign.steps, "steps", Reader { new: !campaign.lines.pinned_only, sent: false, just_sent: false });
    if let Some(Step::Wait(_)) = campaign.steps.last() {
        let last = format!("steps[{}].wait", campaign.steps.len() - 1);
        lint.warn(last, "nothing comes after this wait", "take it out, or write what comes after it");
    }
    for name in campaign.variables.keys().filter(|name| !lint.used.contains(*name)).collect::<Vec<_>>() {
        let hint = "take it out, or who does not have it may be held for nothing";
        lint.warn(format!("variables.{name}"), format!("no step uses the variable `{name}`"), hint);
    }
    if let (Schedule::Cron { .. }, Audience::Csv { again: Again::Never, .. }, false) =
        (&campaign.schedule, &campaign.audience, says_again)
    {
        let message = "each firing takes the same rows, and enrols nobody twice";
        let hint =
            "write `again: always` or `again: after 30d` beside it; or `again: never`, if `apply` brings new rows";
        lint.warn("audience.csv".to_owned(), message, hint);
    }
    lint.hours();
    lint.warnings
}

/// What may be so of whoever comes to a step.
#[derive(Clone, Copy)]
struct Reader {
    /// They have not been written to.
    new: bool,
    /// This campaign has sent them something, by some way.
    sent: bool,
    /// They were written to a moment ago.
    just_sent: bool,
}

struct Lint<'c> {
    campaign: &'c Campaign,
    warnings: Vec<Warning>,
    used: BTreeSet<String>,
}

impl Lint<'_> {
    fn warn(&mut self, path: String, message: impl Into<String>, hint: impl Into<String>) {
        self.warnings.push(Warning { path, message: message.into(), hint: hint.into() });
    }

    /// Returns what may be so of somebody after these steps, of whom `reader` says it before.
    fn steps(&mut self, steps: &[Step], path: &str, mut reader: Reader) -> Reader {
        for (index, step) in steps.iter().enumerate() {
            let path = format!("{path}[{index}]");
            match step {
                Step::Wait(_) => reader.just_sent = false,
                Step::Send(step) => {
                    self.send(step, &path, reader.new);
                    reader = Reader { new: false, sent: true, just_sent: true };
                }
                Step::Branch(step) => {
                    self.used.extend(step.branch.when.variables().iter().cloned());
                    let asked = format!("{path}.branch.if");
                    self.condition(&step.branch.when, &asked, reader);
                    self.asked_alone(step.branch.when.asked_alone(), "var.", &asked);
                    let then = self.steps(&step.branch.then, &format!("{path}.branch.then"), reader);
                    let otherwise = self.steps(&step.branch.otherwise, &format!("{path}.branch.else"), reader);
                    reader = Reader {
                        new: then.new || otherwise.new,
                        sent: then.sent || otherwise.sent,
                        just_sent: then.just_sent || otherwise.just_sent,
                    };
                }
            }
        }
        reader
    }

    /// What is asked of no message, of one before anything can have become of it, or of those whom the answer has ended.
    fn condition(&mut self, when: &Condition, path: &str, reader: Reader) {
        let asks_of_message = FACTS.iter().any(|fact| when.asks(fact));
        if when.asks_nothing() {
            let hint = "ask for replied, delivered or a variable, such as var.plan == 'pro'";
            self.warn(path.to_owned(), "this asks for nothing, and is the same for everybody", hint);
        } else if asks_of_message && !reader.sent {
            let hint = "put the branch behind a message and a wait";
            self.warn(path.to_owned(), "this asks what became of a message, and none comes before it", hint);
        } else if when.asks("replied") && self.campaign.stop_on.contains(&StopOn::Reply) {
            let hint = "write `stop_on: [opt_out]`, or take the branch out";
            self.warn(path.to_owned(), "nobody comes here who has replied: a reply ends the enrolment", hint);
        } else if reader.just_sent && asks_of_message {
            let hint = "put a wait before the branch";
            self.warn(path.to_owned(), "this is asked at once after a message, before anybody can answer", hint);
        }
    }

    /// Hours that are nights only, or nights as well. Looked at are those of people of no region, for whom the presets of countries hold.
    fn hours(&mut self) {
        let Campaign { class, windows, quiet_hours, .. } = self.campaign;
        let Ok(hours) = self.campaign.hours() else { return };
        let hours = hours.in_region(None);
        let own = Windows::new(windows.iter().map(|window| window.span).collect(), Vec::new(), &[]);
        if is_by_night_only(&hours) && own.is_ok_and(|own| is_by_night_only(&own)) {
            let hint = "windows are when messages go out, such as { from: \"09:00\", to: \"18:00\" }";
            self.warn("windows".to_owned(), "messages go out at night only", hint);
        } else if is_by_night_only(&hours) {
            let hint = "quiet hours are when none goes out, such as { from: \"21:00\", to: \"08:00\" }";
            self.warn("quiet_hours".to_owned(), "messages go out at night only", hint);
        } else if *class == Class::Marketing && (0..7).any(|day| hours.is_open(clock(day, 3), &[Tz::UTC])) {
            let path = match () {
                () if !windows.is_empty() => "windows",
                () if !quiet_hours.is_empty() => "quiet_hours",
                () => "",
            };
            let hint = "write quiet_hours such as us-federal, or windows";
            self.warn(path.to_owned(), "messages go out at night as well", hint);
        }
    }

    fn send(&mut self, step: &SendStep, path: &str, new: bool) {
        let Send { content, name, external_id, phone_line_id } = &step.send;
        self.uses([name, external_id, phone_line_id].into_iter().flatten());
        if external_id.as_ref().is_some_and(|id| id.variables().is_empty()) {
            let hint = "write your own id of the recipient, such as {{ member_id }}";
            self.warn(format!("{path}.send.external_id"), "everybody gets the same external_id", hint);
        }
        self.content(content, &format!("{path}.send"), new);
        for (index, variant) in step.variants.iter().enumerate() {
            let bubbles = variant.content.bubbles.or(content.bubbles);
            let content = Content { bubbles, ..variant.content.clone() };
            self.content(&content, &format!("{path}.variants[{index}]"), new);
        }
    }

    /// A text is true whatever it says: what a CSV says of somebody, and what stands for what is missing.
    fn asked_alone(&mut self, names: BTreeSet<String>, written: &str, path: &str) {
        for name in names {
            let has_default = matches!(self.campaign.variables.get(&name), Some(Variable::Default { .. }));
            if has_default || matches!(self.campaign.audience, Audience::Csv { .. }) {
                let hint = format!("compare it, as in {written}{name} == 'yes'");
                self.warn(
                    path.to_owned(),
                    format!("`{written}{name}` is a text, and so always true, also \"no\""),
                    hint,
                );
            }
        }
    }

    fn uses<'t>(&mut self, templates: impl Iterator<Item = &'t Template>) {
        self.used.extend(templates.flat_map(|template| template.variables().iter().cloned()));
    }

    fn content(&mut self, content: &Content, path: &str, new: bool) {
        let attached = content.attachments.iter().map(|attachment| match attachment {
            Attachment::Id(id) | Attachment::Shown { id, .. } => id,
        });
        self.uses(content.body.iter().chain(&content.effect).chain(attached));
        if new && !content.attachments.is_empty() {
            let hint = "send it in a later step, or set lines.pinned_only if all of them know you";
            self.warn(format!("{path}.attachments"), "media in a first message to somebody looks like spam", hint);
        }
        if let Some(body) = &content.body {
            self.body(body, content.bubbles.unwrap_or(1).into(), &format!("{path}.body"), new);
        }
    }

    fn body(&mut self, body: &Template, meant: usize, path: &str, new: bool) {
        self.asked_alone(body.asked_alone(), "", path);
        if new && has_link(body.source()) {
            let hint = "send it in a later step: Chert refuses links in the first message of a chat";
            self.warn(path.to_owned(), "there is a link in a first message to somebody", hint);
        }
        if body.plain().iter().any(|text| text.contains("\\n")) {
            let hint = "write `|` and each line below it, or put the text in double quotes";
            self.warn(path.to_owned(), "people would read `\\n` here, and get no line break", hint);
        }
        let of_other_tools = body.plain().into_iter().filter_map(|text| self.of_other_tools(text));
        for (written, name) in of_other_tools.collect::<BTreeSet<_>>() {
            self.warn(path.to_owned(), format!("`{written}` goes out as it stands"), format!("write {{{{ {name} }}}}"));
        }
        let texts = self.samples(body);
        let longest = texts.iter().map(|text| text.chars().count()).max().unwrap_or(0);
        if longest > LONG_CHARS {
            let message = format!("this is a text of about {longest} characters");
            self.warn(path.to_owned(), message, format!("write at most {LONG_CHARS}, or spread it over steps"));
        }
        let counts: BTreeSet<usize> = texts.iter().map(|text| bubbles(text)).collect();
        match counts.iter().copied().collect::<Vec<_>>().as_slice() {
            [] => self.warn(
                path.to_owned(),
                "the template fails on texts and on numbers as variables",
                "look at its filters",
            ),
            [count] if *count == meant => {}
            [0] => self.warn(path.to_owned(), "nothing is left of this text", "write something outside of {% if … %}"),
            [count] if bubbles(body.source()) != meant => {
                let message = format!("blank lines make this {}, not {meant}", counted(*count, "bubble", "bubbles"));
                let hint = format!("take the blank lines out, or write `bubbles: {count}` beside it");
                self.warn(path.to_owned(), message, hint);
            }
            _ => {
                let hint = "put {% if … %} and {% endif %} on lines of their own, or join the line with another";
                self.warn(path.to_owned(), "by what a variable holds, another bubble comes or goes", hint);
            }
        }
    }

    /// A variable in what other tools have for `{{` and `}}`, as it is written and as it is called.
    fn of_other_tools(&self, text: &str) -> Option<(String, String)> {
        OF_OTHER_TOOLS.iter().find_map(|(open, close)| {
            text.match_indices(*open).find_map(|(at, _)| {
                let inside = &text[at + open.len()..];
                let inside = &inside[..inside.find(*close)?];
                let is_meant = |name: &&String| name.eq_ignore_ascii_case(inside.trim());
                let declared = self.campaign.variables.keys().find(is_meant).cloned();
                let name =
                    declared.or_else(|| Some(inside.trim().to_owned()).filter(|name| *open == "{" && is_name(name)));
                name.map(|name| (format!("{open}{inside}{close}"), name))
            })
        })
    }

    /// The text with a word in each variable that has no default, and with a number: filters may fail on one of the two. And with what its
    /// variables may be compared with.
    fn samples(&self, body: &Template) -> Vec<String> {
        let default = |name: &str| match self.campaign.variables.get(name) {
            Some(Variable::Default { default }) => Some(default.clone()),
            _ => None,
        };
        let usual = [Value::from("sample"), Value::from(7)].map(|sample| (sample, true));
        let compared = body.texts().into_iter().take(MOST_TRIED).map(|text| (Value::from(text), false));
        let rendered = |(sample, has_defaults): (Value, bool)| {
            let default = |name: &String| default(name).filter(|_| has_defaults).map(Value::from);
            let value = |name: &String| default(name).unwrap_or_else(|| sample.clone());
            let vars: Vars = body.variables().iter().map(|name| (name.clone(), value(name))).collect();
            body.render(&vars).ok()
        };
        usual.into_iter().chain(compared).filter_map(rendered).collect()
    }
}

/// Whether it opens, and never between 08:00 and 21:00.
fn is_by_night_only(hours: &Windows) -> bool {
    let opens = |at: DateTime<Utc>| hours.next_open(at, &[Tz::UTC]);
    let by_day = |day| opens(clock(day, 8)).is_some_and(|at| at < clock(day, 21));
    opens(clock(0, 0)).is_some() && !(0..7).any(by_day)
}

/// An hour of a day of some week.
fn clock(day: i64, hour: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::hours(24 * day + hour)
}

/// Whether a text has a link, also one without a scheme, such as `acme.example/tour`.
pub fn has_link(text: &str) -> bool {
    let lower = text.to_lowercase();
    let begins = |begin: &&str| lower.contains(*begin);
    ["http://", "https://", "www."].iter().any(begins)
        || text.match_indices('/').any(|(at, _)| ends_with_domain(&text[..at]))
}

/// Two names or more with dots between them, of which the last is letters: not `24`, `1.5`, `e.g.` or `p.m`. Nor a blank that is missing
/// behind a dot, as in `Mr.Smith`: few write the end of a domain so.
fn ends_with_domain(text: &str) -> bool {
    let of_domain = |c: char| c.is_alphanumeric() || c == '.' || c == '-';
    let domain = text.trim_end_matches(of_domain).len();
    let names: Vec<&str> = text[domain..].trim_start_matches('.').split('.').collect();
    let top = names.last().is_some_and(|top| top.chars().count() >= 2 && top.chars().all(char::is_alphabetic));
    let is_word =
        |top: &&str| top.chars().count() > 2 && is_capitalized(top) && !DOMAINS.contains(&&*top.to_lowercase());
    top && names.len() >= 2 && names.iter().all(|name| !name.is_empty()) && !names.last().is_some_and(is_word)
}

/// A capital, and small letters behind it.
fn is_capitalized(word: &str) -> bool {
    let mut letters = word.chars();
    letters.next().is_some_and(char::is_uppercase) && letters.all(char::is_lowercase)
}

/// How many bubbles Chert makes of a text: blank lines part them.
pub fn bubbles(text: &str) -> usize {
    let mut lines = text.lines().map(|line| !line.trim().is_empty()).collect::<Vec<_>>();
    lines.dedup();
    lines.into_iter().filter(|filled| *filled).count()
}
