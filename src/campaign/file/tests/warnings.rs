//! What is allowed and looks wrong.

use super::*;

#[test]
fn what_is_allowed_and_looks_wrong_is_a_warning() {
    let body =
        |text: &str| told("      body: Hi {{ first_name }}!", &format!("      body: {text} {{{{ first_name }}}}"));
    for (told, wanted) in [
        (
            body("See https://acme.example,"),
            "warning 14:13: steps[0].send.body: there is a link in a first message to somebody — send it in a later step: Chert refuses links in the first message of a chat",
        ),
        (
            body("|\n        Hi\n\n       "),
            "warning 15:9: steps[0].send.body: blank lines make this 2 bubbles, not 1 — take the blank lines out, or write `bubbles: 2` beside it",
        ),
        (
            body("|\n        Hi\n\n        you,"),
            "warning 15:9: steps[0].send.body: blank lines make this 2 bubbles, not 1 — take the blank lines out, or write `bubbles: 2` beside it",
        ),
        (
            body(&"long ".repeat(200)),
            "warning 14:13: steps[0].send.body: this is a text of about 1007 characters — write at most 600, or spread it over steps",
        ),
        (
            told("      body: Hi {{ first_name }}!", "      body: Hi\n      attachments: [a]"),
            "warning 15:20: steps[0].send.attachments: media in a first message to somebody looks like spam — send it in a later step, or set lines.pinned_only if all of them know you",
        ),
        (
            told("  plan: {", "  surname: { missing: hold }\n  plan: {"),
            "warning 9:12: variables.surname: no step uses the variable `surname` — take it out, or who does not have it may be held for nothing",
        ),
        (
            body("|\n        Hi\n        {% if plan == 'pro' %}you pro{% endif %}\n       "),
            "warning 15:9: steps[0].send.body: by what a variable holds, another bubble comes or goes — put {% if … %} and {% endif %} on lines of their own, or join the line with another",
        ),
        (
            body("|\n        Hi\n        {% if plan != 'pro' %}you{% endif %}\n       "),
            "warning 15:9: steps[0].send.body: by what a variable holds, another bubble comes or goes — put {% if … %} and {% endif %} on lines of their own, or join the line with another",
        ),
        (
            told("quiet_hours: us-federal\n", ""),
            "warning 1:1: messages go out at night as well — write quiet_hours such as us-federal, or windows",
        ),
        (
            told_of(&format!("{GOOD}  - wait: 1d\n")),
            "warning 25:11: steps[3].wait: nothing comes after this wait — take it out, or write what comes after it",
        ),
    ] {
        assert_eq!(told, [wanted]);
    }
    assert_eq!(body("|\n        Hi\n\n        you,\n        "), body("|\n        Hi\n\n        you,"), "the same text");
    let known = GOOD
        .replace("zone:", "lines: { pinned_only: true }\nzone:")
        .replace("body: Hi", "body: https://acme.example Hi");
    assert_eq!(told_of(&known), [""; 0], "they have had a first message");
}

#[test]
fn a_line_break_that_is_none_is_told() {
    let told = |text: &str| told("Hi {{ first_name }}!", text);
    let wanted = "warning 14:13: steps[0].send.body: people would read `\\n` here, and get no line break — write `|` and each line below it, or put the text in double quotes";
    for text in [r"Hi {{ first_name }}\nyou", r"'Hi\n{{ first_name }}'"] {
        assert_eq!(told(text), [wanted], "{text}");
    }
    for text in [r#""Hi\n{{ first_name }}""#, r#"Hi{{ '\n' }}{{ first_name }}"#] {
        assert_eq!(told(text), [""; 0], "{text}");
    }
}

#[test]
fn a_variable_in_the_braces_of_other_tools_is_told() {
    let told = |text: &str| told("Hi {{ first_name }}!", &format!("'Hi {text}, {{{{ first_name }}}}'"));
    for (text, name) in [
        ("{first_name}", "first_name"),
        ("{ plan }", "plan"),
        ("{surname}", "surname"),
        ("[First_Name]", "first_name"),
        ("5% of %first_name%", "first_name"),
        ("*|PLAN|*", "plan"),
        ("<3 <plan>", "plan"),
    ] {
        let written = text.rsplit("of ").next().and_then(|text| text.rsplit("<3 ").next()).expect("it is there");
        let wanted =
            format!("warning 14:13: steps[0].send.body: `{written}` goes out as it stands — write {{{{ {name} }}}}");
        assert_eq!(told(text), [wanted]);
    }
    for text in ["{Hi|Ho}", "[surname]", "50% off, 20% for {{ plan }}", r#"{{ "{plan}" }}"#, "{# {plan} #}", "<3", "{}"]
    {
        assert_eq!(told(text), [""; 0], "{text}");
    }
}

#[test]
fn hours_that_are_nights_are_told() {
    let told = |hours: &str| told("quiet_hours: us-federal", hours);
    let as_well = |path: &str, column| {
        format!(
            "warning 10:{column}: {path}: messages go out at night as well — write quiet_hours such as us-federal, or windows"
        )
    };
    let quiet = "warning 10:14: quiet_hours: messages go out at night only — quiet hours are when none goes out, such as { from: \"21:00\", to: \"08:00\" }";
    let windows = "warning 10:10: windows: messages go out at night only — windows are when messages go out, such as { from: \"09:00\", to: \"18:00\" }";
    let transactional = |hours: &str| format!("{hours}\nclass: transactional");
    for (hours, wanted) in [
        ("quiet_hours: { from: \"08:00\", to: \"21:00\" }", quiet),
        ("quiet_hours: [{ from: \"08:00\", to: \"14:00\" }, { from: \"14:00\", to: \"21:00\" }]", quiet),
        ("windows: [{ from: \"21:00\", to: \"08:00\" }]", windows),
        ("windows: [{ days: sat, from: \"22:00\", to: \"02:00\" }]", windows),
    ] {
        assert_eq!(told(hours), [wanted], "{hours}");
        assert_eq!(told(&transactional(hours)), [wanted], "{hours}");
    }
    for (hours, wanted) in [
        ("windows: [{ from: \"00:00\", to: \"24:00\" }]", as_well("windows", 10)),
        ("windows: [{ days: sat, from: \"20:00\", to: \"04:00\" }]", as_well("windows", 10)),
        ("quiet_hours: { from: \"12:00\", to: \"13:00\" }", as_well("quiet_hours", 14)),
    ] {
        assert_eq!(told(hours), [wanted], "{hours}");
        assert_eq!(told(&transactional(hours)), [""; 0], "{hours}");
    }
    for hours in [
        "windows: [{ from: \"00:00\", to: \"24:00\" }]\nquiet_hours: us-states",
        "windows: [{ days: sat, from: \"20:00\", to: \"23:00\" }]",
        "quiet_hours: { from: \"22:00\", to: \"07:00\" }",
        "quiet_hours: australia",
    ] {
        assert_eq!(told(hours), [""; 0], "{hours}");
    }
}

#[test]
fn a_list_that_is_enrolled_once_and_fired_for_again_is_told() {
    let told = |again: &str| told("{ again: always,", &format!("{{ {again}"));
    let wanted = "warning 6:8: audience.csv: each firing takes the same rows, and enrols nobody twice — write `again: always` or `again: after 30d` beside it; or `again: never`, if `apply` brings new rows";
    assert_eq!(told(""), [wanted]);
    for again in ["again: never,", "again: after 30d,"] {
        assert_eq!(told(again), [""; 0], "{again}");
    }
    let once = GOOD.replace("again: always,", "").replace("cron: \"0 9 * * mon-fri\"", "at: 2027-06-01T10:00");
    assert_eq!(told_of(&once), [""; 0], "it fires once");
}

#[test]
fn a_text_that_is_asked_whether_it_is_true_is_told() {
    let told = |audience: &str, variable: &str, body: &str, when: &str| {
        let source = format!(
            "name: a\nzone: UTC\nquiet_hours: us-federal\n{audience}\nvariables: {{ vip: {variable} }}\nsteps:\n\
             \x20 - send: {{ body: \"{body}\" }}\n  - branch: {{ if: {when}, then: [{{ send: {{ body: Hi }} }}] }}\n"
        );
        let placed = |line: String| line.split_once(": ").map(|(_, rest)| rest.to_owned()).unwrap_or(line);
        told_of(&source).into_iter().map(placed).collect::<Vec<_>>()
    };
    let csv = "audience: { csv: a.csv }\nschedule: { manual: true }";
    let sql = "audience: { sql: select 1 }\nschedule: { manual: true }";
    let (hold, no) = ("{ missing: hold }", "{ default: \"no\" }");
    let told_if =
        "steps[1].branch.if: `var.vip` is a text, and so always true, also \"no\" — compare it, as in var.vip == 'yes'";
    let told_body =
        "steps[0].send.body: `vip` is a text, and so always true, also \"no\" — compare it, as in vip == 'yes'";
    for when in ["var.vip", "not var.vip", "false or (var.vip and true)", "(1 if var.vip else 2) == 1"] {
        let when = format!("\"{when}\"");
        assert_eq!(told(csv, hold, "Hi", &when), [told_if], "{when}");
        assert_eq!(told(sql, no, "Hi", &when), [told_if], "{when}");
        assert_eq!(told(sql, hold, "Hi", &when), [""; 0], "a query may bring a truth value");
    }
    for body in ["{% if vip %}Hi{% else %}Ho{% endif %}", "{{ 'Hi' if vip else 'Ho' }}"] {
        assert_eq!(told(csv, hold, body, "var.vip == 'yes'"), [told_body], "{body}");
    }
    assert_eq!(told(csv, hold, "Hi", "var.vip == 'yes' or not var.vip | lower == 'no'"), [""; 0]);
}

#[test]
fn a_branch_that_always_goes_one_way_is_told() {
    let of = |stop_on: &str, steps: &str| {
        let (head, _) = GOOD.split_once("steps:").expect("it has steps");
        let steps = format!("steps: [{{ send: {{ body: 'Hi {{{{ first_name }}}} {{{{ plan }}}}' }} }}, {steps}]");
        let told = told_of(&format!("{head}stop_on: {stop_on}\n{steps}\n"));
        let placed = |line: String| line.split_once(": ").map(|(_, rest)| rest.to_owned()).unwrap_or(line);
        told.into_iter().map(placed).collect::<Vec<_>>()
    };
    let branch = |when: &str| format!("{{ branch: {{ if: {when}, then: [{{ send: {{ body: Thanks }} }}] }} }}");
    let never = "steps[2].branch.if: nobody comes here who has replied: a reply ends the enrolment — \
                 write `stop_on: [opt_out]`, or take the branch out";
    let early = "steps[1].branch.if: this is asked at once after a message, before anybody can answer — \
                 put a wait before the branch";
    let waited = |when: &str| format!("{{ wait: 1d }}, {}", branch(when));
    assert_eq!(of("[reply, opt_out]", &waited("not replied")), [never]);
    assert_eq!(of("[opt_out]", &branch("delivered")), [early]);
    assert_eq!(of("[opt_out]", &branch("replied or var.plan == 'pro'")), [early]);
    for (stop_on, steps) in [
        ("[opt_out]", waited("replied")),
        ("[reply, opt_out]", waited("delivered")),
        ("[reply, opt_out]", branch("var.plan == 'replied'")),
    ] {
        assert_eq!(of(stop_on, &steps), [""; 0], "{stop_on} {steps}");
    }
    let first = |when: &str, then: &str| {
        let (head, _) = GOOD.split_once("steps:").expect("it has steps");
        let arms = format!("then: [{then}], else: [{{ send: {{ body: 'Hi {{{{ first_name }}}} {{{{ plan }}}}' }} }}]");
        told_of(&format!(
            "{head}stop_on: [opt_out]\nsteps: [{{ branch: {{ if: {when}, {arms} }} }}, {}]\n",
            waited("replied")
        ))
    };
    let thanks = "{ send: { body: Thanks } }";
    for when in ["replied", "not delivered", "delivered and var.plan == 'pro'"] {
        let told = first(when, thanks);
        let wanted = "steps[0].branch.if: this asks what became of a message, and none comes before it — put the branch behind a message and a wait";
        assert!(told.len() == 1 && told[0].ends_with(wanted), "{told:?}");
    }
    assert_eq!(first("var.plan == 'pro'", thanks), [""; 0]);
    assert_eq!(first("var.plan == 'pro'", "{ wait: 1d }"), [""; 0], "by one way there is a message");
    let constant = "steps[2].branch.if: this asks for nothing, and is the same for everybody — \
                    ask for replied, delivered or a variable, such as var.plan == 'pro'";
    assert_eq!(of("[opt_out]", &waited("\"'plan' == 'pro'\"")), [constant]);
    let behind = format!("{}, {}", branch("var.plan == 'pro'"), branch("delivered"));
    assert!(of("[opt_out]", &behind)[0].contains("steps[2].branch.if: this is asked at once"), "by one way it is");
}

#[test]
fn a_link_is_one_without_a_scheme_too() {
    let told = |text: &str| told("Hi {{ first_name }}!", &format!("\"{text} {{{{ first_name }}}}\""));
    for link in [
        "acme.example/tour",
        "see (acme.example/tour)!",
        "shop.acme.co.uk/{{ first_name }}",
        "www.acme.example",
        "Acme.Example/",
        "Acme.example/a",
        "ACME.PLUMBING/a",
        "example.com/a",
        "Example.Com/a",
        "Bit.Ly/a",
        "mr.smith.com/jones",
    ] {
        let told = told(link);
        assert!(told.len() == 1 && told[0].contains("there is a link in a first message"), "{link}: {told:?}");
    }
    for text in [
        "Mr.Smith/Jones",
        "Come by.Bring/take a friend",
        "e.g./i.e.",
        "24/7",
        "1.5/2.5",
        "and/or",
        "9 a.m./p.m.",
        "a.m/p.m",
        "Wed./Thu.",
        "at 7.Come by",
        "//",
        "./x",
    ] {
        assert_eq!(told(text), [""; 0], "{text}");
    }
}

#[test]
fn a_text_that_reckons_with_numbers_is_tried_with_numbers() {
    let told = |text: &str| told("Hi {{ first_name }}!", &format!("Hi {text}!"));
    for text in ["{{ first_name | int }}", "{{ first_name | round(2) }}", "{{ first_name | title }} {{ plan }}"] {
        assert_eq!(told(text), [""; 0], "{text}");
    }
    assert_eq!(
        told("{{ first_name - 'a' }}"),
        [
            "warning 14:13: steps[0].send.body: the template fails on texts and on numbers as variables — look at its filters"
        ]
    );
}

#[test]
fn an_id_of_the_recipient_is_one_of_each() {
    let told = |id: &str| {
        told(
            "      body: Hi {{ first_name }}!",
            &format!("      body: Hi {{{{ first_name }}}}!\n      external_id: {id}"),
        )
    };
    assert_eq!(
        told("check-in"),
        [
            "warning 15:20: steps[0].send.external_id: everybody gets the same external_id — write your own id of the recipient, such as {{ member_id }}"
        ]
    );
    assert_eq!(told("\"{{ first_name }}\""), [""; 0]);
}

#[test]
fn a_message_is_a_first_one_unless_every_way_to_it_has_sent() {
    let linked = |arms: &str| {
        let head = GOOD.split("  - name: hello").next().expect("the part before").to_owned();
        let steps = format!(
            "  - branch: {{ if: var.plan == var.first_name, {arms} }}\n  - send: {{ body: https://acme.example }}\n"
        );
        told_of(&(head + &steps))
    };
    let sent = "[{ send: { body: Hi } }]";
    assert_eq!(linked(&format!("then: {sent}, else: {sent}")), [""; 0]);
    for arms in [format!("then: {sent}"), format!("else: {sent}"), format!("then: {sent}, else: [{{ wait: 1d }}]")] {
        let told = linked(&arms);
        assert!(told.len() == 1 && told[0].contains("13:19: steps[1].send.body: there is a link"), "{told:?}");
    }
}
