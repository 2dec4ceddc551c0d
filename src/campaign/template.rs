//! Texts with `{{ variables }}` and conditions on them. Strict: a variable that is missing is an error, never a gap in the text.
//! Loops, assignments, includes and functions are refused, so that a template is no longer to render than to read; which
//! variables it needs is known without rendering it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value, escape_formatter, filters};
use serde::{Serialize, Serializer};

use crate::campaign::compared::{TO_NUMBERS, WORDS};
use crate::campaign::tags::{
    Tag, outside, refuse_the_deep, refuse_the_misleading, refuse_the_rest, tags, with_line_breaks,
};
use crate::job::BODY_MAX_CHARS;

/// The variables of one person by name: texts, numbers and truth values, and lists and objects, which only conditions may ask. A null, or a text of blanks, is as good as missing.
pub type Vars = BTreeMap<String, serde_json::Value>;

/// Whether a value is as good as none, since it would leave a gap in a text.
pub fn is_missing(value: &serde_json::Value) -> bool {
    value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty())
}

/// As minijinja writes it, but for a truth value, which would stand in the text as a program writes it.
fn write_value(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Bool => Err(Error::new(ErrorKind::InvalidOperation, "a truth value is asked and not written")),
        _ => escape_formatter(out, state, value),
    }
}

/// Whether a value is a list or an object, which would stand in a text as a program writes it.
fn is_many(value: &serde_json::Value) -> bool {
    value.is_array() || value.is_object()
}

/// Enough for any text that fits into a file, and reached in well under a millisecond.
const FUEL: u64 = 50_000;
/// Longest result, in bytes: as many characters as a job may have, of four bytes each.
const MAX_OUTPUT: usize = 4 * BODY_MAX_CHARS;

/// What a condition may ask besides `var.NAME` and `label.NAME`.
pub const FACTS: [&str; 2] = ["delivered", "replied"];

/// Whether a name means something else in a template, so that no variable that is called so could be written into a text.
pub fn is_kept(name: &str) -> bool {
    let name = name.to_lowercase();
    WORDS.contains(&name.as_str()) || matches!(name.as_str(), "loop" | "self" | "true")
}

/// A text with variables, known to be well formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    source: String,
    variables: BTreeSet<String>,
}

/// A condition on replies, deliveries, variables and labels, e.g. `replied or var.plan == 'pro'`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    source: String,
    facts: BTreeSet<String>,
    variables: BTreeSet<String>,
    labels: BTreeSet<String>,
}

/// What a condition is held against. A label that is not there is none, and equal to nothing.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub replied: bool,
    pub delivered: bool,
    pub vars: &'a Vars,
    pub labels: &'a BTreeMap<String, String>,
}

/// Why a text is no template, where, and what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {hint}")]
pub struct TemplateError {
    /// The byte of the text at which it shows.
    pub offset: usize,
    pub message: String,
    pub hint: String,
}

/// Why a person gets no text. Says nothing of what the variables hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    #[error("the variable {0} is missing")]
    Missing(String),
    #[error("the text is too long")]
    TooLong,
    #[error("the template does not fit what a variable holds: {0}")]
    Mismatch(ErrorKind),
}

impl Template {
    /// Reads a template.
    /// Errors: the first place that cannot be rendered by this release.
    pub fn parse(source: &str) -> Result<Template, TemplateError> {
        let tags = tags(source);
        refuse_the_deep(&tags)?;
        let env = environment();
        let compiled = env.template_from_str(source).map_err(|error| explain(&error, source))?;
        refuse_the_rest(&tags)?;
        let variables = compiled.undeclared_variables(false).into_iter().collect();
        Ok(Template { source: source.to_owned(), variables })
    }

    /// What a file may not say, although it can be rendered.
    /// Errors: the first place that is misleading.
    pub fn check(&self) -> Result<(), TemplateError> {
        refuse_the_misleading(&tags(&self.source))
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// The variables that it needs, in any of its branches.
    pub fn variables(&self) -> &BTreeSet<String> {
        &self.variables
    }

    /// The text for one person, without blanks at its ends.
    /// Errors: a variable is missing or does not fit, or the text is too long.
    pub fn render(&self, vars: &Vars) -> Result<String, RenderError> {
        let missing = || self.variables.iter().find(|name| vars.get(*name).is_none_or(is_missing));
        if let Some(name) = missing() {
            return Err(RenderError::Missing(name.clone()));
        }
        let is_odd = |name: &String| match vars.get(name) {
            Some(value) if is_many(value) => self.shows(name),
            Some(value) if value.is_f64() => self.shows_as_it_is(name),
            _ => false,
        };
        if self.variables.iter().any(is_odd) {
            return Err(RenderError::Mismatch(ErrorKind::InvalidOperation));
        }
        let source = with_line_breaks(&self.source);
        let env = environment();
        let template = env.template_from_str(&source).map_err(|error| RenderError::Mismatch(error.kind()))?;
        let mut out = Bounded(Vec::new());
        template.render_captured_to(Serde(vars), &mut out).map(drop).map_err(|error| match error.kind() {
            ErrorKind::WriteFailure | ErrorKind::OutOfFuel => RenderError::TooLong,
            kind => RenderError::Mismatch(kind),
        })?;
        Ok(String::from_utf8_lossy(&out.0).trim().to_owned())
    }

    /// Whether a variable is written into the text. What only an `if` asks for is not.
    fn shows(&self, name: &str) -> bool {
        tags(&self.source).iter().any(|tag| !tag.statement && tag.word(name).is_some())
    }

    /// Whether a variable is written into the text, and nothing makes another number of it: 12.50 would stand there as 12.5.
    fn shows_as_it_is(&self, name: &str) -> bool {
        let is_reckoned = |tag: &Tag<'_>| TO_NUMBERS.iter().any(|filter| tag.word(filter).is_some());
        tags(&self.source).iter().any(|tag| !tag.statement && tag.word(name).is_some() && !is_reckoned(tag))
    }

    /// The variables that it asks whether they are true.
    pub fn asked_alone(&self) -> BTreeSet<String> {
        let asked = tags(&self.source).iter().flat_map(Tag::asked_alone).collect::<BTreeSet<_>>();
        &asked & &self.variables
    }

    /// What stands outside of its tags, which goes out as it is.
    pub fn plain(&self) -> Vec<&str> {
        outside(&self.source)
    }

    /// What stands in quotes in its tags, such as what a variable is compared with.
    pub fn texts(&self) -> BTreeSet<&str> {
        tags(&self.source).iter().flat_map(Tag::texts).collect()
    }

    /// Where a name is used first, as a byte of the text.
    pub fn offset_of(&self, name: &str) -> usize {
        tags(&self.source).iter().find_map(|tag| tag.word(name)).unwrap_or(0)
    }
}

impl Condition {
    /// Reads a condition.
    /// Errors: the first place that cannot be answered by this release, also a name that conditions do not know.
    pub fn parse(source: &str) -> Result<Condition, TemplateError> {
        let whole = Tag::whole(source);
        refuse_the_deep(std::slice::from_ref(&whole))?;
        let env = environment();
        let compiled = env.compile_expression(source).map_err(|error| explain(&error, source))?;
        refuse_the_rest(std::slice::from_ref(&whole))?;
        let (mut facts, mut variables, mut labels) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for name in compiled.undeclared_variables(true).into_iter().collect::<BTreeSet<_>>() {
            match name.split_once('.') {
                Some(("var", name)) => drop(variables.insert(name.to_owned())),
                Some(("label", name)) => drop(labels.insert(name.to_owned())),
                None if FACTS.contains(&name.as_str()) => drop(facts.insert(name)),
                _ => {
                    let (offset, hint) = meant(&whole, &name);
                    let message = format!("a condition does not know `{name}`");
                    return Err(TemplateError { offset, message, hint });
                }
            }
        }
        Ok(Condition { source: source.to_owned(), facts, variables, labels })
    }

    /// What a file may not say, although it can be answered.
    /// Errors: the first place that is misleading.
    pub fn check(&self) -> Result<(), TemplateError> {
        refuse_the_misleading(&[Tag::whole(&self.source)])
    }

    /// The variables that it needs, without `var.`.
    pub fn variables(&self) -> &BTreeSet<String> {
        &self.variables
    }

    /// The labels that it asks for, without `label.`.
    pub fn labels(&self) -> &BTreeSet<String> {
        &self.labels
    }

    /// The variables that it asks whether they are true.
    pub fn asked_alone(&self) -> BTreeSet<String> {
        let asked = Tag::whole(&self.source).asked_alone();
        asked.iter().filter_map(|name| name.strip_prefix("var.")).map(str::to_owned).collect()
    }

    /// Whether it asks for nothing at all.
    pub fn asks_nothing(&self) -> bool {
        self.facts.is_empty() && self.variables.is_empty() && self.labels.is_empty()
    }

    /// Whether it asks for one of [`FACTS`].
    pub fn asks(&self, fact: &str) -> bool {
        self.facts.contains(fact)
    }

    /// Where a name such as `var.plan` is used first, as a byte of the text.
    pub fn offset_of(&self, name: &str) -> usize {
        self.source.find(name).unwrap_or(0)
    }

    /// Whether it is so.
    /// Errors: a variable is missing, or its kind does not fit.
    pub fn holds(&self, facts: Facts<'_>) -> Result<bool, RenderError> {
        if let Some(name) = self.variables.iter().find(|name| facts.vars.get(*name).is_none_or(is_missing)) {
            return Err(RenderError::Missing(name.clone()));
        }
        let label: BTreeMap<_, _> = self.labels.iter().map(|name| (name, facts.labels.get(name))).collect();
        let (replied, delivered) = (facts.replied, facts.delivered);
        let context = minijinja::context! { replied, delivered, var => Serde(facts.vars), label => Serde(label) };
        let env = environment();
        let mismatch = |error: Error| RenderError::Mismatch(error.kind());
        let answer = env.compile_expression(&self.source).and_then(|compiled| compiled.eval(context));
        answer.map(|value| value.is_true()).map_err(mismatch)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

/// No files, no functions, no tests; what stands alone on a line in `{% … %}` leaves no blank line behind, which would be another bubble.
/// Of a text that goes through [`with_line_breaks`], other lines keep their breaks.
fn environment<'s>() -> Environment<'s> {
    let mut env = Environment::empty();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_formatter(write_value);
    env.set_fuel(Some(FUEL));
    // Errors say where they are only then.
    env.set_debug(true);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    env.set_syntax(syntax.expect("the delimiters are the usual ones"));
    env.add_filter("capitalize", filters::capitalize);
    env.add_filter("float", float);
    env.add_filter("int", int);
    env.add_filter("lower", filters::lower);
    env.add_filter("round", filters::round);
    env.add_filter("title", filters::title);
    env.add_filter("trim", filters::trim);
    env.add_filter("upper", filters::upper);
    env
}

/// The filter of minijinja, which takes `nan` and `inf`, or makes numbers of them: to nobody they are any.
fn float(state: &State<'_, '_>, value: &Value, default: Option<Value>, more: Kwargs) -> Result<Value, Error> {
    refuse_the_infinite(value)?;
    filters::float(state, value, default, more)
}

/// As `float`.
fn int(
    state: &State<'_, '_>,
    value: &Value,
    default: Option<Value>,
    base: Option<u32>,
    more: Kwargs,
) -> Result<Value, Error> {
    refuse_the_infinite(value)?;
    filters::int(state, value, default, base, more)
}

fn refuse_the_infinite(value: &Value) -> Result<(), Error> {
    let number = value.as_str().and_then(|text| text.parse::<f64>().ok());
    match number.is_some_and(|number| !number.is_finite()) {
        true => Err(Error::new(ErrorKind::InvalidOperation, "this is no number")),
        false => Ok(()),
    }
}

/// Where a name stands that conditions do not know, and what was probably meant.
fn meant(condition: &Tag<'_>, name: &str) -> (usize, String) {
    let first = name.split('.').next().unwrap_or_default();
    let (offset, is_compared) = condition.compared(first).unwrap_or_default();
    // `reply`, `delivery`: no typing errors, and yet like them.
    let begins_like = |fact: &&str| fact.chars().zip(first.chars()).take_while(|(a, b)| a == b).count() >= 4;
    let hint = match FACTS.into_iter().find(begins_like) {
        Some(fact) => format!("did you mean `{fact}`?"),
        None if is_compared => format!("put a text in quotes: '{first}'; a variable is var.{first}"),
        None => {
            let example = if matches!(first, "var" | "label") { "plan == 'pro'" } else { first };
            format!("write replied, delivered, var.NAME or label.NAME, such as var.{example}")
        }
    };
    (offset, hint)
}

/// What minijinja says of a template, and what is usually behind it.
fn explain(error: &Error, source: &str) -> TemplateError {
    let said = error.detail().unwrap_or("it cannot be read");
    let offset = error.range().map_or(0, |range| range.start).min(source.len());
    let rest = &source[offset..];
    let statement = said.strip_prefix("unknown statement ");
    let hint = match () {
        () if rest.starts_with('=') => "write == to compare",
        () if rest.starts_with('&') || rest.starts_with('|') => "write and, or",
        () if matches!(statement, Some("endif" | "else" | "elif")) => "there is no {% if … %} before it; take it out",
        () if statement.is_some() => "write {{ variable }} or {% if … %} … {% endif %}",
        () if said.contains("expected end of block") => "end each {% if … %} with {% endif %}",
        () if said.contains("recursion") => "write fewer brackets in each other",
        () if said.contains("end of variable block") && rest.starts_with(|c: char| c.is_alphanumeric()) => {
            "a variable is one word, such as {{ first_name }}, closed with }}"
        }
        () if said.contains("string") => "close the quotes",
        () if source.contains("{{") || source.contains("{%") => "write {{ variable }}, closed with }}",
        () => "write a condition such as replied or var.plan == 'pro'",
    };
    TemplateError { offset, message: format!("the template cannot be read: {said}"), hint: hint.to_owned() }
}

struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other("the text is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::campaign::tags::{MOST_ELIFS, MOST_JOINED};

    fn vars(of: Value) -> Vars {
        serde_json::from_value(of).expect("a mapping")
    }

    fn rendered(source: &str, of: Value) -> Result<String, RenderError> {
        Template::parse(source).expect(source).render(&vars(of))
    }

    fn refused(source: &str) -> (usize, String) {
        let error = Template::parse(source).and_then(|template| template.check()).expect_err(source);
        (error.offset, error.message)
    }

    /// A condition as a file may say it.
    fn checked(source: &str) -> Result<Condition, TemplateError> {
        let condition = Condition::parse(source)?;
        condition.check().map(|()| condition)
    }

    #[test]
    fn a_text_is_made_of_its_variables() {
        let ann = json!({"first_name": "ann", "count": 3});
        assert_eq!(
            rendered("Hi {{ first_name | title }}, {{ count }} left.", ann.clone()),
            Ok("Hi Ann, 3 left.".to_owned())
        );
        assert_eq!(
            rendered("\n Hi {{ first_name }} \n", ann.clone()),
            Ok("Hi ann".to_owned()),
            "no blanks at its ends"
        );
        let lines = "Hi\n{% if count | int > 5 %}\nmany\n{% endif %}\nbye";
        assert_eq!(rendered(lines, ann.clone()), Ok("Hi\nbye".to_owned()), "an if leaves no blank line");
        assert_eq!(
            rendered("{{ first_name }} <b>&amp;</b> {# for us #}", ann),
            Ok("ann <b>&amp;</b>".to_owned()),
            "not HTML"
        );
    }

    #[test]
    fn only_what_stands_alone_on_its_line_takes_the_line_break_away() {
        for (source, pro, basic) in [
            ("Hi{% if plan == 'pro' %} (pro){% endif %}\nHow are you?", "Hi (pro)\nHow are you?", "Hi\nHow are you?"),
            ("Hi {{ plan }}{%if plan == 'pro'%}!{%endif%}\nBye", "Hi pro!\nBye", "Hi basic\nBye"),
            ("{% if plan == 'pro' %}Pro{% else %}Basic{% endif %}\nBye", "Pro\nBye", "Basic\nBye"),
            ("Hi\r\nyou{% if plan == 'pro' %}!{% endif %}\r\nBye", "Hi\r\nyou!\r\nBye", "Hi\r\nyou\r\nBye"),
            ("Hi {# for us #}\nBye", "Hi \nBye", "Hi \nBye"),
            ("Hi{##}\nBye", "Hi\nBye", "Hi\nBye"),
            ("{# for us #}\nHi\n{# and us #}\nBye", "Hi\nBye", "Hi\nBye"),
            ("Hi\n  {% if plan == 'pro' %}\n  you\n  {% endif %}\nBye", "Hi\n  you\nBye", "Hi\nBye"),
            (
                "Hi\n{% if true %}{# it is #}{% if plan == 'pro' %}\nyou\n{% endif %}{% endif %}\nBye",
                "Hi\nyou\nBye",
                "Hi\nBye",
            ),
            ("Hi\n{% if\n plan == 'pro' %}\nyou\n{% endif %}\nBye", "Hi\nyou\nBye", "Hi\nBye"),
            ("Hi{% if plan == 'pro' %} you{% endif -%}\nBye", "Hi youBye", "HiBye"),
            ("Hi{% if plan == '{%' %}!{% endif %}\nBye", "Hi\nBye", "Hi\nBye"),
        ] {
            for (plan, wanted) in [("pro", pro), ("basic", basic)] {
                assert_eq!(rendered(source, json!({"plan": plan})), Ok(wanted.to_owned()), "{source:?} of {plan}");
            }
        }
    }

    #[test]
    fn what_it_needs_is_known_in_all_branches() {
        let template =
            Template::parse("{% if plan == 'pro' %}{{ coach }}{% else %}{{ first_name }}{% endif %}").expect("valid");
        assert_eq!(
            template.variables().iter().map(String::as_str).collect::<Vec<_>>(),
            ["coach", "first_name", "plan"]
        );
        assert_eq!(Template::parse("no {braces} 100 % {# {{ x }} #}").expect("valid").variables().len(), 0);
    }

    #[test]
    fn a_missing_variable_is_an_error_never_a_gap() {
        let missing = Err(RenderError::Missing("name".to_owned()));
        assert_eq!(rendered("Hi {{ name }}", json!({})), missing);
        assert_eq!(rendered("Hi {{ name }}", json!({"name": null})), missing);
        for blank in ["", " ", "\n\u{a0}"] {
            assert_eq!(rendered("Hi {{ name }},", json!({"name": blank})), missing, "{blank:?}");
            assert_eq!(rendered("{% if name %}Hi {{ name }}{% endif %}", json!({"name": blank})), missing, "{blank:?}");
        }
        assert_eq!(
            rendered("{% if false %}{{ name }}{% endif %}Hi", json!({})),
            missing,
            "also where it would not show"
        );
    }

    #[test]
    fn a_list_or_an_object_is_asked_and_never_written() {
        let ann = json!({"name": "Ann", "likes": ["hiking", "golf"], "home": {"city": "Rome"}});
        let mismatch = Err(RenderError::Mismatch(ErrorKind::InvalidOperation));
        for source in
            ["{{ likes }}", "{{ home }}", "{{ likes | upper }}", "{{ 'You like ' ~ likes }}", "{{ likes[0] }}"]
        {
            assert_eq!(rendered(source, ann.clone()), mismatch, "{source}");
        }
        let asked = "Hi {{ name }}{% if 'golf' in likes %}, a round of golf?{% endif %}";
        assert_eq!(rendered(asked, ann), Ok("Hi Ann, a round of golf?".to_owned()));
    }

    #[test]
    fn what_a_program_writes_otherwise_than_people_is_not_written() {
        let ann = json!({"name": "Ann", "due": 12.5, "sum": 1.8e19, "left": 3, "vip": true});
        let mismatch = Err(RenderError::Mismatch(ErrorKind::InvalidOperation));
        for source in ["{{ due }}", "{{ sum }}", "{{ '$' ~ due }}", "{{ due | trim }}", "{{ vip }}"] {
            assert_eq!(rendered(source, ann.clone()), mismatch, "{source}");
        }
        for (source, wanted) in [
            ("{{ due | int }} and {{ due | float | round(1) }}", "12 and 12.5"),
            ("{{ left }} left", "3 left"),
            ("{% if due | float > 12.4 %}Hi {{ name }}{% endif %}", "Hi Ann"),
            ("{{ 'Hi' if vip else 'Bye' }}{% if vip %} {{ name }}{% endif %}", "Hi Ann"),
        ] {
            assert_eq!(rendered(source, ann.clone()), Ok(wanted.to_owned()), "{source}");
        }
    }

    #[test]
    fn more_than_texts_need_is_refused_at_its_place() {
        for (source, place) in [
            ("{% for x in y %}{% endfor %}", 3),
            ("Hi {%- set x = 1 %}", 7),
            ("{% include 'x' %}", 3),
            ("{{ name | default('x') }}", 8),
            ("{{ 'a | b' | nope }}", 13),
            ("{{ name is defined }}", 8),
            ("{{ person.name }}", 9),
            ("{{ range(9) }}", 3),
            ("{{ name.upper() }}", 7),
            ("é {{ name }", 11),
        ] {
            assert_eq!(refused(source).0, place, "{source}: {}", refused(source).1);
        }
    }

    #[test]
    fn rendering_is_bounded() {
        let long = "x".repeat(BODY_MAX_CHARS);
        assert_eq!(rendered("{{ a }}{{ a }}{{ a }}{{ a }}{{ a }}", json!({"a": long})), Err(RenderError::TooLong));
        assert_eq!(refused("{{ a * 1000000000 }}"), (5, "nothing is multiplied in a message".to_owned()));
        assert_eq!(rendered(&"{{ a }}".repeat(40_000), json!({"a": "x"})), Err(RenderError::TooLong), "fuel");
    }

    #[test]
    fn i12_an_error_says_nothing_of_what_variables_hold() {
        let error = rendered("{{ a | int }}", json!({"a": "secret"})).expect_err("not a number");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }

    fn holds(source: &str, replied: bool, label: &str) -> Result<bool, RenderError> {
        let labels = BTreeMap::from([("tier".to_owned(), label.to_owned())]);
        let vars = vars(json!({"plan": "pro", "orders": 3, "nick": " "}));
        let facts = Facts { replied, delivered: true, vars: &vars, labels: &labels };
        Condition::parse(source).expect(source).holds(facts)
    }

    #[test]
    fn conditions_ask_for_replies_deliveries_variables_and_labels() {
        for (source, wanted) in [
            ("replied", true),
            ("not replied or not delivered", false),
            ("var.plan == 'pro' and var.orders | int >= 3", true),
            ("label.tier == 'gold'", true),
            ("label.tier in ['silver', 'gold']", true),
            ("label.unknown == 'gold'", false),
            ("label.unknown", false),
            ("var.plan == label.tier", false),
        ] {
            assert_eq!(holds(source, true, "gold"), Ok(wanted), "{source}");
        }
        assert_eq!(holds("replied", false, ""), Ok(false));
        assert_eq!(holds("var.age == 'old'", true, ""), Err(RenderError::Missing("age".to_owned())));
        assert_eq!(holds("not var.nick", true, ""), Err(RenderError::Missing("nick".to_owned())), "blank");
        for bad in [
            "plan == 'pro'",
            "var['plan'] == 'pro'",
            "var",
            "replied.at",
            "opened",
            "var.a.b",
            "replied = true",
            "replied is true",
            "now()",
        ] {
            assert!(Condition::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_text_is_never_compared_as_a_number() {
        for (source, place, hint) in [
            ("var.orders >= 3", 0, "var.orders | int >= 3"),
            ("replied and var.orders<3", 12, "var.orders | int < 3"),
            ("3 <= var.orders", 5, "3 <= var.orders | int"),
            ("-3.5 != var.orders", 8, "-3.5 != var.orders | float"),
            ("var.orders == 3.5 or replied", 0, "var.orders | float == 3.5"),
            ("var.orders >= (3.5)", 0, "var.orders | float >= 3.5"),
            ("var.orders < 1 / 3", 0, "var.orders | float < 1 / 3"),
            ("var.orders in [1, 2.5]", 0, "var.orders | float in [1, 2.5]"),
            ("var.orders > var.most | float", 0, "var.orders | float > var.most | float"),
            ("var.plan == 'pro' and not (var.orders) > -3", 27, "var.orders | int > -3"),
            ("1 < var.orders < 5", 4, "1 < var.orders | int"),
            ("label.level > 3", 0, "label.level | int > 3"),
            ("var.orders | trim > 3", 0, "var.orders | trim | int > 3"),
            ("var.orders in [1, 2]", 0, "var.orders | int in [1, 2]"),
            ("var.orders not in (1, 2)", 0, "var.orders | int not in (1, 2)"),
            ("var.orders in ['a', 2]", 0, "var.orders | int in ['a', 2]"),
            ("var.orders | trim('a') > 3", 0, "var.orders | trim('a') | int > 3"),
            ("(var.orders) | trim > 3", 0, "(var.orders) | trim | int > 3"),
            ("3 > (var.orders | trim('a'))", 5, "3 > var.orders | trim('a') | int"),
            ("(var.orders if replied else 3) > 3", 0, "(var.orders if replied else 3) | int > 3"),
            ("var.orders ~ '0' > 3", 0, "(var.orders ~ '0') | int > 3"),
            ("var.orders | lower == 3", 0, "var.orders | lower | int == 3"),
            ("var.orders | int == '3'", 20, "var.orders | int == 3"),
            ("var.orders | round(2) > var.plan", 24, "var.orders | round(2) > var.plan | float"),
            ("var.orders < '9'", 0, "var.orders | int < 9"),
            ("replied or \" 9.5 \" >= label.tier", 11, "9.5 >= label.tier | float"),
            ("'10' < '9'", 0, "10 < 9"),
            (
                "var.orders<var.most",
                0,
                "var.orders | int < var.most | int, or var.orders | lower < var.most | lower if they are words",
            ),
            (
                "replied and not (var.orders | trim) >= label.tier",
                17,
                "var.orders | trim | int >= label.tier | int, or var.orders | trim | lower >= label.tier | lower if they are words",
            ),
        ] {
            let error = checked(source).expect_err(source);
            assert_eq!((error.offset, error.hint.as_str()), (place, format!("write {hint}").as_str()), "{source}");
        }
        for (source, place) in [
            ("{% if orders > 3 %}many{% endif %}", 6),
            ("{{ 'many' if 3 < orders else 'few' }}", 17),
            ("{{ orders == 3 }}", 3),
            ("{{- orders > 3 -}}", 4),
            ("{%- if orders < most -%}{% endif %}", 7),
            ("{% if true %}{% elif orders > '3' %}{% endif %}", 21),
            ("{{ 'a' | trim(orders < 3) }}", 14),
        ] {
            assert_eq!(refused(source).0, place, "{source}: {}", refused(source).1);
        }
        for fine in [
            "var.orders | round(2) > var.plan | int",
            "var.orders | int + 1 < 10 - var.most | int",
            "var.plan | lower < var.most",
            "var.plan < 'm'",
            "var.since >= '2026-01-01'",
            "var.plan in [var.most, 'pro']",
            "'pro' in var.plan",
            "var.orders | int in [1, 2]",
            "(replied or delivered) == true",
            "var.plan == '3'",
            "var.plan == var.orders",
            "var.plan in ['1', '2']",
            "replied == delivered",
            "var.score | float >= 3.5",
            "var.orders | int + 1 == 3",
            "1 + var.orders | int == 3",
            "var.first + ' ' + var.last == 'Ann Lee'",
            "var.first ~ var.last == 'AnnLee'",
        ] {
            assert!(checked(fine).is_ok(), "{fine}");
        }
    }

    #[test]
    fn a_text_is_never_compared_with_a_truth_value() {
        for (source, place, hint) in [
            ("var.vip == true", 0, "write var.vip | lower == 'true'"),
            ("replied and False != var.vip", 21, "write var.vip | lower != 'false'"),
            ("var.vip | lower == true", 0, "write var.vip | lower == 'true'"),
            ("(var.a or var.b) == true", 0, "write (var.a or var.b) | lower == 'true'"),
            ("var.vip in [true, false]", 0, "write var.vip | lower in ['true', 'false']"),
        ] {
            let error = checked(source).expect_err(source);
            assert_eq!((error.offset, error.hint.as_str()), (place, hint), "{source}");
        }
        for fine in
            ["replied == true", "not delivered == false", "(replied and delivered) == true", "var.vip == 'true'"]
        {
            assert!(checked(fine).is_ok(), "{fine}");
        }
        let condition = checked("var.vip | lower == 'true'").expect("well formed");
        for (vip, wanted) in [(json!(true), true), (json!(false), false), (json!("True"), true), (json!("no"), false)] {
            let vars = vars(json!({"vip": vip}));
            let facts = Facts { replied: false, delivered: false, vars: &vars, labels: &BTreeMap::new() };
            assert_eq!(condition.holds(facts), Ok(wanted), "{vip}");
        }
    }

    #[test]
    fn two_texts_are_not_added() {
        for (source, place, hint) in [
            ("var.a + var.b == '3'", 0, "write var.a | int + var.b | int, or var.a ~ var.b to put them together"),
            ("replied and var.a + '1.5'", 12, "write var.a | float + 1.5, or var.a ~ '1.5' to put them together"),
            (
                "1 < (var.a + label.b) | int",
                5,
                "write var.a | int + label.b | int, or var.a ~ label.b to put them together",
            ),
        ] {
            let error = checked(source).expect_err(source);
            assert_eq!((error.offset, error.hint.as_str()), (place, hint), "{source}");
        }
        assert_eq!(refused("{{ a + b }}"), (3, "two texts are not added: 1 and 2 would make 12".to_owned()));
    }

    #[test]
    fn decimals_are_compared_as_such_and_what_is_none_is_refused() {
        let condition = checked("var.score | float >= 3.5").expect("well formed");
        let holds = |score: Value| {
            let vars = vars(json!({"score": score}));
            condition.holds(Facts { replied: false, delivered: false, vars: &vars, labels: &BTreeMap::new() })
        };
        for (score, wanted) in [(json!("3.7"), true), (json!("3.4"), false), (json!(4), true), (json!("10"), true)] {
            assert_eq!(holds(score.clone()), Ok(wanted), "{score}");
        }
        for score in ["several", "nan", "inf", "-1e999"] {
            assert!(matches!(holds(json!(score)), Err(RenderError::Mismatch(_))), "{score}");
        }
    }

    #[test]
    fn nothing_is_read_so_deep_that_the_stack_ends() {
        // As much as fits into a file, and the most that is read: on the stack of a thread of a worker.
        for many in [MOST_JOINED - 4, 50_000] {
            for (begin, part, end) in [
                ("", "(", "replied"),
                ("", "[", "replied"),
                ("", "not ", "replied"),
                ("", "- ", "1"),
                ("", "-(", "1"),
                ("", "{'a':", "1"),
                ("replied", " if replied else replied", ""),
                ("replied", " if replied", ""),
                ("replied", " or replied", ""),
                ("1", " + 1", ""),
                ("'a'", " ~ 'a'", ""),
                ("'a'", " | trim", ""),
                ("var", ".a", ""),
                ("1", ".1", ""),
                ("replied", "[0]", ""),
                ("replied", "()", ""),
                ("1", " < 1", ""),
                ("1", " not in [1]", ""),
                ("replied", " is replied", ""),
                ("{'a':{'b':1}} ~ ", "not ", "replied"),
            ] {
                let source = format!("{begin}{}{end}", part.repeat(many));
                drop(checked(&source));
                drop(Template::parse(&format!("{{{{ {source} }}}}")).and_then(|template| template.check()));
                drop(
                    Template::parse(&format!("{{% if {source} %}}{{% endif %}}")).and_then(|template| template.check()),
                );
            }
            for (begin, part, end) in [
                ("", "{% if a %}", "{% endif %}"),
                ("{% if a %}", "{% elif a %}", "{% endif %}"),
                ("{% if a %}", "{%- elif a -%}", "{% endif %}"),
                ("", "{% for a in b %}", "{% endfor %}"),
            ] {
                let source = format!("{begin}{}{end}", part.repeat(many));
                drop(Template::parse(&source).and_then(|template| template.check()));
            }
        }
        let long = |many| format!("replied{}", " or replied".repeat(many));
        assert!(checked(&long(MOST_JOINED)).is_ok());
        let error = checked(&long(MOST_JOINED + 1)).expect_err("too long");
        let told = (error.message.as_str(), error.hint.as_str());
        assert_eq!(told, ("too many parts are joined here", "join at most 500, and prepare the rest in the audience"));
        assert_eq!(error.offset, "replied".len() + 1 + MOST_JOINED * " or replied".len(), "the first too many");
        let elifs = |many| format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(many));
        assert!(Template::parse(&elifs(MOST_ELIFS)).is_ok());
        assert_eq!(refused(&elifs(MOST_ELIFS + 1)).1, "there are too many {% elif %}");
        let brackets = Condition::parse(&format!("{}replied", "(".repeat(1_000))).expect_err("too deep");
        assert_eq!(brackets.hint, "join at most 500, and prepare the rest in the audience");
        let brackets = Condition::parse(&format!("{}replied", "(".repeat(400))).expect_err("too deep");
        assert_eq!(brackets.hint, "write fewer brackets in each other");
    }

    #[test]
    fn a_filter_makes_numbers_of_texts_before_they_are_compared() {
        for (source, wanted) in [
            ("var.orders | int >= 3", true),
            ("3 <= var.orders | int", true),
            ("not var.orders | int > 10", true),
            ("var.orders | int in [2, 10]", true),
            ("(var.orders | int) == 10 and var.orders | int < 11", true),
            ("2 < var.orders | int < 10", false),
        ] {
            let condition = checked(source).unwrap_or_else(|error| panic!("{source}: {error}"));
            for orders in [json!("10"), json!(10), json!("10.0")] {
                let vars = vars(json!({"orders": orders}));
                let facts = Facts { replied: false, delivered: false, vars: &vars, labels: &BTreeMap::new() };
                assert_eq!(condition.holds(facts), Ok(wanted), "{source}: {orders}");
            }
            for orders in ["several", "nan", "inf", "-1e999", "3 or 4"] {
                let vars = vars(json!({"orders": orders}));
                let facts = Facts { replied: false, delivered: false, vars: &vars, labels: &BTreeMap::new() };
                assert!(matches!(condition.holds(facts), Err(RenderError::Mismatch(_))), "{source}: {orders}");
            }
        }
        let many = "{% if orders | int >= 3 %}many{% else %}few{% endif %}";
        assert_eq!(rendered(many, json!({"orders": "10"})), Ok("many".to_owned()));
        assert_eq!(rendered(many, json!({"orders": 2})), Ok("few".to_owned()));
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_points_into_the_text(source in "([a-z é.|()'\"=<>!0-9\\[\\]-]|\\{\\{|\\}\\}|\\{%|%\\}|\\{#|if |endif|is ){0,30}") {
            let template = Template::parse(&source).and_then(|template| template.check());
            for error in [template.err(), checked(&source).err()].into_iter().flatten() {
                prop_assert!(source.is_char_boundary(error.offset), "{} of {:?}", error.offset, source);
            }
        }

        #[test]
        fn what_is_read_is_rendered(
            parts in proptest::collection::vec(
                proptest::sample::select(
                    &["a", " ", "\n", "\r\n", "{% if a %}", "{%+ else %}", "{% endif -%}", "{%endif%}", "{{ a }}", "{# x #}", "{##}", "{#-#}"][..],
                ),
                0..12,
            ),
        ) {
            let source = parts.concat();
            if let Ok(template) = Template::parse(&source) {
                prop_assert!(template.render(&vars(json!({"a": "x"}))).is_ok(), "{:?}", source);
            }
        }

        #[test]
        fn variables_are_never_read_as_templates(value in ".{0,40}[^\\s]") {
            let shown = rendered("<{{ a }}>", json!({"a": value}));
            prop_assert_eq!(shown, Ok(format!("<{value}>")));
        }
    }
}
