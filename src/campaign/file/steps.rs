//! The steps of a campaign out of their tree.

use std::collections::BTreeSet;

use crate::campaign::file::finding::{Findings, did_you_mean};
use crate::campaign::file::node::{Place, Value};
use crate::campaign::file::reader::{Fields, fields, filled, list, number, one_of, truth, word};
use crate::campaign::file::step::{Attachment, Branch, BranchStep, Content, Send, SendStep, Step, Variant, WaitStep};
use crate::campaign::file::words::{Name, Wait};
use crate::campaign::template::{Condition, Template, TemplateError};
use crate::job::BODY_MAX_CHARS;

/// The most steps of a campaign, in all its branches.
const MAX_STEPS: usize = 200;
/// How many branches may stand in each other.
const MAX_DEPTH: usize = 5;
const MAX_VARIANTS: usize = 20;
/// What ends every campaign is called so.
pub const END: &str = "end";

/// What the steps may refer to.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    pub variables: &'a [&'a str],
    pub labels: &'a [&'a str],
    pub calendar: bool,
}

/// What is told once for all steps.
struct Reading<'a, 'f> {
    known: Known<'a>,
    findings: &'f mut Findings,
    names: BTreeSet<String>,
    count: usize,
}

/// All steps.
pub fn steps(place: &Place<'_>, known: Known<'_>, findings: &mut Findings) -> Option<Vec<Step>> {
    let mut reading = Reading { known, findings, names: BTreeSet::new(), count: 0 };
    let steps = reading.steps(place, 0);
    let Reading { count, findings, .. } = reading;
    if count > MAX_STEPS {
        findings.refuse(place, format!("there are {count} steps"), format!("write at most {MAX_STEPS}"));
    }
    let first = list(place, false, "", &mut Findings::default()).and_then(|items| items.into_iter().next());
    match first {
        Some(first) if first.node.get("wait").is_some() => {
            let first = first.key("wait", first.node.get("wait")?);
            let hint = "begin with a send; when it starts is said by `schedule`";
            findings.refuse(&first, "the first step is a wait", hint);
        }
        None if matches!(place.node.value, Value::List(_)) => {
            findings.add(place, "there are no steps", "write at least one `- send: { body: … }`");
        }
        _ => {}
    }
    steps
}

impl Reading<'_, '_> {
    /// The steps of one list; every one is tried.
    fn steps(&mut self, place: &Place<'_>, depth: usize) -> Option<Vec<Step>> {
        let hint = "write each step after a dash, such as `- wait: 2d`";
        let items = list(place, false, hint, self.findings)?;
        let read: Vec<Option<Step>> = items.iter().map(|place| self.step(place, depth)).collect();
        read.into_iter().collect()
    }

    fn step(&mut self, place: &Place<'_>, depth: usize) -> Option<Step> {
        self.count += 1;
        let several = "each is a step of its own, after a dash";
        match one_of(place, &["send", "wait", "branch"], "send: { body: … }", several, self.findings)? {
            "send" => {
                let of = fields(place, &["send", "name", "expires_after", "variants"], self.findings)?;
                let name = of.given("name", self.findings, word);
                self.take_name(of.place("name"), name.as_ref());
                let expires_after = of.given("expires_after", self.findings, word);
                let variants = of.place("variants").map(|place| self.variants(&place));
                let send = of.place("send").and_then(|place| self.send(&place, variants.is_some()));
                let (send, variants) = (send?, variants.unwrap_or(Some(Vec::new()))?);
                if send.content.body.is_none()
                    && let Some(index) = variants.iter().position(|variant| variant.content.body.is_none())
                {
                    let of_variants = of.place("variants")?;
                    let item = list(&of_variants, false, "", self.findings)?.swap_remove(index);
                    self.findings.add(&item, "this variant has no body", "write one here, or one for all under `send`");
                    return None;
                }
                if let Some(body) = of.place("send").filter(|_| send.content.body.is_some() && !variants.is_empty())
                    && variants.iter().all(|variant| variant.content.body.is_some())
                {
                    let body = body.key("body", body.node.get("body")?);
                    self.findings.refuse(&body, "no variant uses this body", "take it out, or the body of a variant");
                }
                Some(Step::Send(Box::new(SendStep { send, name, expires_after, variants })))
            }
            "wait" => {
                let of = fields(place, &["wait", "name"], self.findings)?;
                let name = of.given("name", self.findings, word);
                self.take_name(of.place("name"), name.as_ref());
                let wait = of.given("wait", self.findings, word)?;
                if let (Wait::BusinessDay(_), Some(place), false) = (wait, of.place("wait"), self.known.calendar) {
                    let hint = "write whose holidays count, such as `calendar: us`, at the top of the file";
                    self.findings.refuse(&place, "there is no calendar to know business days by", hint);
                }
                Some(Step::Wait(WaitStep { wait, name }))
            }
            _ => {
                let of = fields(place, &["branch", "name"], self.findings)?;
                let name = of.given("name", self.findings, word);
                self.take_name(of.place("name"), name.as_ref());
                let branch = of.place("branch").and_then(|place| self.branch(&place, depth + 1))?;
                Some(Step::Branch(BranchStep { branch, name }))
            }
        }
    }

    fn take_name(&mut self, place: Option<Place<'_>>, name: Option<&Name>) {
        let (Some(place), Some(name)) = (place, name) else { return };
        let number = name.as_str().strip_prefix("step-").unwrap_or_default();
        if name.as_str() == END || number.starts_with(|c: char| c.is_ascii_digit()) {
            let message = format!("`{name}` is what the end, or a step without a name, is called");
            self.findings.refuse(&place, message, "choose another name");
        } else if !self.names.insert(name.to_string()) {
            let hint = "give each step a name of its own";
            self.findings.refuse(&place, format!("another step is called `{name}`"), hint);
        }
    }

    fn branch(&mut self, place: &Place<'_>, depth: usize) -> Option<Branch> {
        let of = fields(place, &["if", "then", "else"], self.findings)?;
        if depth > MAX_DEPTH {
            let hint = format!("write at most {MAX_DEPTH} in each other");
            self.findings.add(place, "branches stand too deep in each other", hint);
            return None;
        }
        if of.place("if").is_none() {
            self.findings.add(
                place,
                "`if` is missing",
                "write `if: replied`, `if: delivered` or `if: var.plan == 'pro'`",
            );
        }
        let when = of.place("if").and_then(|place| self.condition(&place));
        let (then, otherwise) = (of.place("then"), of.place("else"));
        let then_steps = then.as_ref().map(|place| self.steps(place, depth));
        let otherwise_steps = otherwise.as_ref().map(|place| self.steps(place, depth));
        let (then_steps, otherwise_steps) =
            (then_steps.unwrap_or(Some(Vec::new())), otherwise_steps.unwrap_or(Some(Vec::new())));
        let (then, otherwise) = (then_steps?, otherwise_steps?);
        if then.is_empty() && otherwise.is_empty() {
            self.findings.refuse(place, "the branch leads nowhere", "write steps under `then:` or `else:`");
        }
        Some(Branch { when: when?, then, otherwise })
    }

    fn condition(&mut self, place: &Place<'_>) -> Option<Condition> {
        let written = match place.node.value {
            Value::Bool(_) => {
                self.findings.add(
                    place,
                    "this is always the same",
                    "write `replied`, `delivered` or `var.plan == 'pro'`",
                );
                return None;
            }
            _ => filled(place, self.findings)?,
        };
        let condition = Condition::parse(written).map_err(|error| self.template_error(place, error)).ok()?;
        self.refuse_what_misleads(place, condition.check());
        for name in condition.variables() {
            self.must_know(place, name, condition.offset_of(&format!("var.{name}")));
        }
        for name in condition.labels().iter().filter(|name| !self.known.labels.contains(&name.as_str())) {
            let offset = condition.offset_of(&format!("label.{name}"));
            let declare = "labels are the campaign's own, the same for everybody: declare a variable, and write var.";
            let hint = match did_you_mean(name, self.known.labels.iter().copied()) {
                meant if meant.starts_with("did") => format!("{meant} else {declare}{name}"),
                _ => format!("{declare}{name}"),
            };
            self.findings.refuse_within(place, offset, format!("the campaign has no label `{name}`"), hint);
        }
        Some(condition)
    }

    fn send(&mut self, place: &Place<'_>, has_variants: bool) -> Option<Send> {
        if has_variants && place.node.value == Value::Null {
            return Some(Send::default());
        }
        let known = ["body", "bubbles", "attachments", "effect", "name", "external_id", "phone_line_id"];
        let of = fields(place, &known, self.findings)?;
        if !has_variants && of.place("body").is_none() {
            self.findings.add(place, "`body` is missing", "write `body: \"Hi {{ first_name }}\"`");
            return None;
        }
        let content = self.content(&of);
        let [name, external_id, phone_line_id] =
            ["name", "external_id", "phone_line_id"].map(|key| self.given_template(&of, key));
        if let (Some(place), Some(Some(name))) = (of.place("name"), &name)
            && name.variables().is_empty()
        {
            let message = format!("everybody gets the name `{}`", name.source().chars().take(40).collect::<String>());
            let hint =
                "a step's own name stands beside `send:`; here write the recipient's, such as \"{{ first_name }}\"";
            self.findings.refuse(&place, message, hint);
        }
        Some(Send { content: content?, name: name?, external_id: external_id?, phone_line_id: phone_line_id? })
    }

    fn variants(&mut self, place: &Place<'_>) -> Option<Vec<Variant>> {
        let items = list(place, false, "write each variant after a dash, with name and body", self.findings)?;
        if !(2..=MAX_VARIANTS).contains(&items.len()) {
            let message = match items.len() {
                1 => "there is 1 variant".to_owned(),
                count => format!("there are {count} variants"),
            };
            self.findings.refuse(place, message, format!("write 2 to {MAX_VARIANTS}, or none"));
        }
        let mut names = BTreeSet::new();
        let read: Vec<Option<Variant>> = items.iter().map(|place| self.variant(place, &mut names)).collect();
        read.into_iter().collect()
    }

    fn variant(&mut self, place: &Place<'_>, names: &mut BTreeSet<String>) -> Option<Variant> {
        let of = fields(place, &["name", "weight", "body", "bubbles", "attachments", "effect"], self.findings)?;
        let name: Option<Name> = of.needed("name", "a", self.findings, word);
        if let (Some(place), Some(name)) = (of.place("name"), &name)
            && !names.insert(name.to_string())
        {
            self.findings.refuse(&place, format!("another variant is called `{name}`"), "give each a name of its own");
        }
        let weight = of.given("weight", self.findings, |place, findings| {
            if matches!(&place.node.value, Value::Number(zero) if zero.parse() == Ok(0)) {
                findings.add(place, "a variant of weight 0 is never sent", "take it out, or give it 1 or more");
                return None;
            }
            number(place, 1..=1000, findings)
        });
        let content = self.content(&of);
        Some(Variant { name: name?, weight: weight.unwrap_or(1), content: content? })
    }

    fn content(&mut self, of: &Fields<'_>) -> Option<Content> {
        let attachments = of.place("attachments").map_or(Some(Vec::new()), |place| self.attachments(&place));
        let bubbles = of.given("bubbles", self.findings, |place, findings| number(place, 1..=10, findings));
        let [body, effect] = ["body", "effect"].map(|key| self.given_template(of, key));
        Some(Content { body: body?, bubbles, attachments: attachments?, effect: effect? })
    }

    fn attachments(&mut self, place: &Place<'_>) -> Option<Vec<Attachment>> {
        let items = list(place, false, "write the ids of uploads, each after a dash", self.findings)?;
        items.iter().map(|place| self.attachment(place)).collect()
    }

    fn attachment(&mut self, place: &Place<'_>) -> Option<Attachment> {
        if !matches!(place.node.value, Value::Map(_)) {
            let written = filled(place, self.findings)?;
            if written.starts_with("http://") || written.starts_with("https://") {
                let hint = "upload it with POST /attachments and write the id that this gives";
                self.findings.refuse(place, "Chert takes no URLs here", hint);
            }
            return self.template(place).map(Attachment::Id);
        }
        if let Some(url) = place.node.get("url") {
            let hint = "upload it with POST /attachments and write `id:`";
            self.findings.add(&place.key("url", url), "Chert takes no URLs here", hint);
            return None;
        }
        let of = fields(place, &["id", "live_photo"], self.findings)?;
        let live_photo = of.given("live_photo", self.findings, truth).unwrap_or_default();
        if of.place("id").is_none() {
            self.findings.add(place, "`id` is missing", "write the id of an upload");
        }
        let id = of.place("id").and_then(|place| self.template(&place))?;
        Some(Attachment::Shown { id, live_photo })
    }

    /// `Some(None)` if the field is not given.
    fn given_template(&mut self, of: &Fields<'_>, key: &str) -> Option<Option<Template>> {
        of.place(key).map_or(Some(None), |place| self.template(&place).map(Some))
    }

    fn template(&mut self, place: &Place<'_>) -> Option<Template> {
        let written = filled(place, self.findings)?;
        if written.chars().count() > BODY_MAX_CHARS {
            self.findings.refuse(
                place,
                "this is too long for a message",
                format!("write at most {BODY_MAX_CHARS} characters"),
            );
        }
        let template = Template::parse(written).map_err(|error| self.template_error(place, error)).ok()?;
        self.refuse_what_misleads(place, template.check());
        for name in template.variables() {
            self.must_know(place, name, template.offset_of(name));
        }
        Some(template)
    }

    fn must_know(&mut self, place: &Place<'_>, name: &str, offset: usize) {
        if !self.known.variables.contains(&name) {
            let declare = format!("write `{name}: {{ missing: hold }}` under `variables:`");
            let hint = match did_you_mean(name, self.known.variables.iter().copied()) {
                meant if meant.starts_with("did") => format!("{meant} else {declare}"),
                _ => declare,
            };
            self.findings.refuse_within(place, offset, format!("the variable `{name}` is not declared"), hint);
        }
    }

    fn refuse_what_misleads(&mut self, place: &Place<'_>, checked: Result<(), TemplateError>) {
        if let Err(error) = checked {
            self.findings.refuse_within(place, error.offset, error.message, error.hint);
        }
    }

    fn template_error(&mut self, place: &Place<'_>, error: TemplateError) {
        self.findings.add_within(place, error.offset, error.message, error.hint);
    }
}
