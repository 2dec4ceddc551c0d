//! Each mistake, with the line and the column at which it is told.

use super::*;

/// A campaign without faults, of which the tests spoil one line.
const GOOD: &str = r#"name: welcome
zone: America/New_York
schedule:
  cron: "0 9 * * mon-fri"
audience:
  csv: people.csv
variables:
  first_name: { missing: hold }
  plan: { default: "basic" }
quiet_hours: us-federal
steps:
  - name: hello
    send:
      body: Hi {{ first_name }}!
  - wait: 2d
  - name: more
    branch:
      if: var.plan == 'pro'
      then:
        - send:
            body: |
              More for you,
              {{ first_name }}.
            attachments: [att_1]
"#;

/// What is said of the campaign with one text put for another.
fn told(from: &str, to: &str) -> Vec<String> {
    assert_eq!(GOOD.matches(from).count(), 1, "{from}");
    told_of(&GOOD.replacen(from, to, 1))
}

fn told_of(source: &str) -> Vec<String> {
    match read(source) {
        Ok(checked) => checked.warnings.iter().map(|warning| format!("warning {warning}")).collect(),
        Err(findings) => findings.iter().map(Finding::to_string).collect(),
    }
}

#[test]
fn a_good_file_is_good() {
    assert_eq!(told_of(GOOD), [""; 0]);
}

#[test]
fn every_mistake_is_told_where_it_is_with_what_to_write() {
    let table: &[(&str, &str, &str)] = &[
        // The file as a whole.
        ("name: welcome", "nme: welcome", "1:1: nme: the key `nme` is unknown here — did you mean `name`?"),
        (
            "name: welcome",
            "name: Spring Sale",
            "1:7: name: this is no name — write 1 to 64 of a-z, 0-9, _ and -, such as spring-sale",
        ),
        (
            "name: welcome\n",
            "name: welcome\nname: two\n",
            "2:1: name: the key `name` stands here twice — keep one of them",
        ),
        (
            "name: welcome\n",
            "name: welcome\ncron: '@daily'\n",
            "2:1: cron: the key `cron` is unknown here — `cron` belongs under `schedule:`, indented below it",
        ),
        (
            "zone: America/New_York",
            "zone: New York",
            "2:7: zone: the time zone `New York` is unknown — did you mean America/New_York?",
        ),
        (
            "zone: America/New_York",
            "zone: Amerika/New_York",
            "2:7: zone: the time zone `Amerika/New_York` is unknown — did you mean America/New_York?",
        ),
        (
            "zone: America/New_York",
            "zone: Mars",
            "2:7: zone: the time zone `Mars` is unknown — write a place such as America/New_York or Europe/Berlin, or UTC",
        ),
        (
            "zone: America/New_York",
            "zone: 5",
            "2:7: zone: this is the number 5, not a text — put it in quotes to make it a text: \"5\"",
        ),
        ("zone: America/New_York\n", "", "1:1: `zone` is missing — write `zone: America/New_York`"),
        (
            "quiet_hours: us-federal",
            "quiet_hours: us-fedral",
            "10:14: quiet_hours: the preset `us-fedral` is unknown — did you mean `us-federal`? (or write { from: \"21:00\", to: \"08:00\" })",
        ),
        (
            "quiet_hours: us-federal",
            "quiet_hours: { from: \"21\", to: \"08:00\" }",
            "10:22: quiet_hours.from: \"21\" is not a time of day — write it from 00:00 to 24:00, such as 09:00",
        ),
        (
            "quiet_hours: us-federal",
            "windows: [{ days: weekdays, from: \"09:00\", to: \"18:00\" }]",
            "10:19: windows[0].days: \"weekdays\" is not days of the week — write mon-fri, or mon,wed,sat, or daily",
        ),
        (
            "quiet_hours: us-federal",
            "windows: { from: \"09:00\", to: \"18:00\" }",
            "10:10: windows: this is a mapping of keys to values, not a list — write each item on a line of its own, after a dash",
        ),
        (
            "quiet_hours: us-federal",
            "windows: [{ from: \"21:00\", to: \"23:00\" }]\nquiet_hours: { from: \"20:00\", to: \"08:00\" }",
            "10:10: windows: no time of the week is inside the windows and outside the quiet hours — let them leave some hours in which messages may go out",
        ),
        (
            "quiet_hours: us-federal",
            "stop_on: [reply, optout]",
            "10:18: stop_on[1]: `optout` is not a choice here — did you mean `opt_out`?",
        ),
        (
            "quiet_hours: us-federal",
            "caps: { per_recipient: 3 }",
            "10:24: caps.per_recipient: \"3\" is no cap — write how many messages in what time, such as 3 in 7d",
        ),
        (
            "quiet_hours: us-federal",
            "caps: { priority: low }",
            "10:19: caps.priority: this is a text, not a number — write a whole number from 0 to 1000",
        ),
        (
            "quiet_hours: us-federal",
            "labels: { team: 7 }",
            "10:17: labels.team: this is the number 7, not a text — put it in quotes to make it a text: \"7\"",
        ),
        (
            "quiet_hours: us-federal",
            "lines: { pinned_only: yes }",
            "10:23: lines.pinned_only: this is a text, not a truth value — write true or false",
        ),
        (
            "quiet_hours: us-federal",
            "calendar: uk",
            "10:11: calendar: the calendar `uk` is unknown — known here: au, ca, de, fr, gb, us",
        ),
        (
            "quiet_hours: us-federal",
            "class: marketng",
            "10:8: class: `marketng` is not a choice here — did you mean `marketing`?",
        ),
        // When and who.
        (
            "cron: \"0 9 * * mon-fri\"",
            "cron: \"0 25 * * mon-fri\"",
            "4:12: schedule.cron: \"25\" is no hour (field 2, column 3 of the spec) — write 0 to 23, a range such as 9-17, a step such as */4, several with commas, or *",
        ),
        (
            "cron: \"0 9 * * mon-fri\"",
            "cron: 0 0 30 2 *",
            "4:9: schedule.cron: this cron spec never fires — no such day exists up to the year 2100; check the day of month against the month and the year",
        ),
        (
            "cron: \"0 9 * * mon-fri\"",
            "crn: \"0 9 * * mon-fri\"",
            "4:3: schedule.crn: the key `crn` is unknown here — did you mean `cron`?",
        ),
        (
            "cron: \"0 9 * * mon-fri\"",
            "zone: UTC",
            "4:3: schedule: none of cron, at, manual is here — write `cron: \"0 9 * * mon-fri\"`",
        ),
        (
            "cron: \"0 9 * * mon-fri\"",
            "cron: '@daily'\n  at: 2026-12-01T09:00",
            "5:7: schedule.at: `cron` and `at` exclude each other — keep one of them",
        ),
        (
            "cron: \"0 9 * * mon-fri\"",
            "at: tomorrow",
            "4:7: schedule.at: \"tomorrow\" is no local time — write it like 2026-12-01T09:00",
        ),
        (
            "cron: \"0 9 * * mon-fri\"",
            "cron: '@daily'\n  catch_up: frist",
            "5:13: schedule.catch_up: `frist` is not a choice here — known here: skip, last, all",
        ),
        (
            "cron: \"0 9 * * mon-fri\"",
            "cron: '@daily'\n  jitter: 10",
            "5:11: schedule.jitter: \"10\" is no length of time — write a number and its unit, such as 30m, 6h or 2d, at most a year",
        ),
        (
            "cron: \"0 9 * * mon-fri\"",
            "manual: false",
            "4:11: schedule.manual: false says nothing here — write true, or another key",
        ),
        (
            "csv: people.csv",
            "sql: delete from people",
            "6:8: audience.sql: this is no query that only reads — begin with select or with; name a column phone",
        ),
        (
            "csv: people.csv",
            "csv: people.csv\n  row_limit: 5",
            "7:3: audience.row_limit: the key `row_limit` is unknown here — known here: csv, again",
        ),
        (
            "csv: people.csv",
            "enrolled: true",
            "4:3: schedule: the application enrols people, so nothing is enrolled by the clock — leave `schedule` out",
        ),
        (
            "{ missing: hold }",
            "{ missing: wait }",
            "8:26: variables.first_name.missing: `wait` is not a choice here — known here: hold, skip",
        ),
        (
            "{ missing: hold }",
            "hold",
            "8:15: variables.first_name: this does not say what happens where the variable is missing — write { missing: hold }, { missing: skip } or { default: \"there\" }",
        ),
        (
            "{ default: \"basic\" }",
            "{ default: \"\" }",
            "9:20: variables.plan.default: this is blank — write a text, or leave the key out",
        ),
        (
            "  plan: {",
            "  plan: { missing: skip, ",
            "9:36: variables.plan.default: a variable with a default is never missing — keep one of the two",
        ),
        // Steps.
        (
            "  - wait: 2d",
            "  - wait: 2",
            "15:11: steps[1].wait: \"2\" is no wait — write a length such as 2d or 6h, `until 09:00`, `next business day` or `next business day 09:00`",
        ),
        (
            "  - wait: 2d",
            "  - wait: 0d",
            "15:11: steps[1].wait: a wait of nothing is no step — write a length such as 2d, or take the step out",
        ),
        (
            "  - wait: 2d",
            "  - wait: next business day",
            "15:11: steps[1].wait: there is no calendar to know business days by — write whose holidays count, such as `calendar: us`, at the top of the file",
        ),
        ("  - wait: 2d", "  - wiat: 2d", "15:5: steps[1].wiat: the key `wiat` is unknown here — did you mean `wait`?"),
        (
            "  - wait: 2d",
            "  - 2d",
            "15:5: steps[1]: this is a text, not a mapping — write `send: { body: … }` under it",
        ),
        (
            "  - wait: 2d",
            "  - name: hello\n    wait: 2d",
            "15:11: steps[1].name: another step is called `hello` — give each step a name of its own",
        ),
        (
            "  - wait: 2d",
            "  - name: end\n    wait: 2d",
            "15:11: steps[1].name: `end` is what the end, or a step without a name, is called — choose another name",
        ),
        (
            "  - name: hello\n",
            "  - wait: 1d\n  - name: hello\n",
            "12:11: steps[0].wait: the first step is a wait — begin with a send; when it starts is said by `schedule`",
        ),
        (
            "Hi {{ first_name }}!",
            "Hi {{ first_nam }}!",
            "14:19: steps[0].send.body: the variable `first_nam` is not declared — did you mean `first_name`? else write `first_nam: { missing: hold }` under `variables:`",
        ),
        (
            "Hi {{ first_name }}!",
            "\"Hi {{ surname }}!\"",
            "14:20: steps[0].send.body: the variable `surname` is not declared — write `surname: { missing: hold }` under `variables:`",
        ),
        (
            "Hi {{ first_name }}!",
            "Hi {{ first_name }!",
            "14:30: steps[0].send.body: the template cannot be read: unexpected `}`, expected end of variable block — write {{ variable }}, closed with }}",
        ),
        (
            "Hi {{ first_name }}!",
            "Hi {{ first name }}!",
            "14:25: steps[0].send.body: the template cannot be read: unexpected identifier, expected end of variable block — a variable is one word, such as {{ first_name }}, closed with }}",
        ),
        (
            "Hi {{ first_name }}!",
            "Hi {% if plan %}there",
            "14:29: steps[0].send.body: the template cannot be read: unexpected end of input, expected end of block — end each {% if … %} with {% endif %}",
        ),
        (
            "Hi {{ first_name }}!",
            "Hi {% for x in plan %}x{% endfor %}",
            "14:19: steps[0].send.body: `for` has no place in a message — write {{ variable }} or {% if … %} … {% endif %}; prepare anything else in the audience",
        ),
        (
            "Hi {{ first_name }}!",
            "Hi {{ first_name | default('x') }}!",
            "14:30: steps[0].send.body: a default is not given in the text — write the default under `variables:`, such as first_name: { default: \"there\" }",
        ),
        (
            "Hi {{ first_name }}!",
            "Hi {{ first_name | shout }}!",
            "14:32: steps[0].send.body: the filter `shout` is unknown — known filters: capitalize, int, lower, round, title, trim, upper",
        ),
        (
            "Hi {{ first_name }}!",
            "{{ first_name }}, hi!",
            "14:14: a key is a word, not a list or a mapping — put a text that begins with { or [ in quotes, such as \"{{ first_name }}, hello\"",
        ),
        (
            "Hi {{ first_name }}!",
            "{{ first_name }}",
            "14:14: a key is a word, not a list or a mapping — put a text that begins with { or [ in quotes, such as \"{{ first_name }}, hello\"",
        ),
        (
            "Hi {{ first_name }}!",
            "",
            "14:7: steps[0].send.body: this is nothing, not a text — write a text after the colon",
        ),
        (
            "      body: Hi {{ first_name }}!",
            "    body: Hi {{ first_name }}!",
            "14:5: steps[0].body: the key `body` is unknown here — `body` belongs under `send:`, indented below it",
        ),
        (
            "      body: Hi {{ first_name }}!",
            "      effect: celebration",
            "14:7: steps[0].send: `body` is missing — write `body: \"Hi {{ first_name }}\"`",
        ),
        (
            "{{ first_name }}.",
            "{{ firstname }}.",
            "23:18: steps[2].branch.then[0].send.body: the variable `firstname` is not declared — did you mean `first_name`? else write `firstname: { missing: hold }` under `variables:`",
        ),
        (
            "[att_1]",
            "[https://acme.example/a.png]",
            "24:27: steps[2].branch.then[0].send.attachments[0]: Chert takes no URLs here — upload it with POST /attachments and write the id that this gives",
        ),
        (
            "[att_1]",
            "[{ url: x }]",
            "24:34: steps[2].branch.then[0].send.attachments[0].url: Chert takes no URLs here — upload it with POST /attachments and write `id:`",
        ),
        (
            "var.plan == 'pro'",
            "var.plan = 'pro'",
            "18:20: steps[2].branch.if: the template cannot be read: unexpected input after expression — write == to compare",
        ),
        (
            "var.plan == 'pro'",
            "plan == 'pro'",
            "18:11: steps[2].branch.if: a condition does not know `plan` — write replied, delivered, var.NAME or label.NAME, such as var.plan",
        ),
        (
            "var.plan == 'pro'",
            "replied and var.plna == 'pro'",
            "18:23: steps[2].branch.if: the variable `plna` is not declared — did you mean `plan`? else write `plna: { missing: hold }` under `variables:`",
        ),
        (
            "var.plan == 'pro'",
            "true",
            "18:11: steps[2].branch.if: this is always the same — write `replied`, `delivered` or `var.plan == 'pro'`",
        ),
        (
            "      if: var.plan == 'pro'\n",
            "",
            "18:7: steps[2].branch: `if` is missing — write `if: replied`, `if: delivered` or `if: var.plan == 'pro'`",
        ),
        // YAML.
        (
            "  csv: people.csv",
            "\tcsv: people.csv",
            "6:2: this is not YAML: tabs disallowed within this context (block indentation) — indent with spaces",
        ),
        (
            "  - wait: 2d",
            " - wait: 2d",
            "15:2: this is not YAML: while parsing a block mapping, did not find expected key — indent it like its neighbours, with spaces; a text with special characters goes in quotes",
        ),
        (
            "csv: people.csv",
            "csv: &a people.csv",
            "6:8: anchors (&) and aliases (*) are not read here — write the value out; put a text that begins with & or * in quotes",
        ),
        (
            "csv: people.csv",
            "csv: *a",
            "6:8: this is not YAML: while parsing node, found unknown anchor — put a text that begins with * in quotes",
        ),
        (
            "csv: people.csv",
            "csv: !path people.csv",
            "6:8: tags such as !this have no meaning here — put a text that begins with ! in quotes",
        ),
        ("steps:\n", "---\nsteps:\n", "11:1: a second document begins here — write one campaign a file, without `---`"),
    ];
    let mut wrong = Vec::new();
    for (from, to, wanted) in table {
        let told = told(from, to);
        if !told.iter().any(|line| line == wanted) {
            wrong.push(format!("{to}\n  wanted {wanted}\n  told   {}", told.join("\n         ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn several_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let source = GOOD
        .replace("New_York", "York")
        .replace("0 9 *", "0 9 32")
        .replace("2d", "2")
        .replace("first_name }}!", "nme }}!");
    let told = told_of(&source);
    let begins = ["2:7: zone:", "4:14: schedule.cron:", "14:19: steps[0].send.body:", "15:11: steps[1].wait:"];
    assert_eq!(told.len(), begins.len(), "{told:#?}");
    assert!(told.iter().zip(begins).all(|(line, begin)| line.starts_with(begin)), "{told:#?}");
}

#[test]
fn a_mistake_is_told_once() {
    for (from, to) in [
        ("{ missing: hold }", "hold"),
        ("name: welcome", "name: Spring Sale"),
        ("  - wait: 2d", "  - wait: 2"),
        ("cron: \"0 9 * * mon-fri\"", "crn: x"),
        ("quiet_hours: us-federal", "quiet_hours: moon"),
    ] {
        assert_eq!(told(from, to).len(), 1, "{:#?}", told(from, to));
    }
}

#[test]
fn variants_have_weights_and_bodies_of_their_own() {
    let variants = |send: &str, variants: &str| {
        told("      body: Hi {{ first_name }}!", format!("{send}\n    variants:\n{variants}").trim_end())
    };
    let two = "      - { name: a, weight: 3, body: Hi }\n      - { name: b, body: Ho }";
    assert_eq!(variants("", two), [""; 0]);
    for (send, written, wanted) in [
        (
            "",
            two.replace("3", "0"),
            "16:28: steps[0].variants[0].weight: a variant of weight 0 is never sent — take it out, or give it 1 or more",
        ),
        (
            "",
            two.replace("name: b", "name: a"),
            "17:17: steps[0].variants[1].name: another variant is called `a` — give each a name of its own",
        ),
        (
            "",
            two.replace(", body: Ho", ""),
            "17:9: steps[0].variants[1]: this variant has no body — write one here, or one for all under `send`",
        ),
        (
            "      body: Hi",
            two.to_owned(),
            "14:13: steps[0].send.body: no variant uses this body — take it out, or the body of a variant",
        ),
        ("", two.lines().take(1).collect(), "16:7: steps[0].variants: there are 1 variants — write 2 to 20, or none"),
        (
            "",
            two.replace("weight: 3", "wieght: 3"),
            "16:20: steps[0].variants[0].wieght: the key `wieght` is unknown here — did you mean `weight`?",
        ),
    ] {
        assert_eq!(variants(send, &written), [wanted]);
    }
}

#[test]
fn a_branch_leads_somewhere() {
    let branch = |arms: &str| {
        let source = GOOD.split("      then:\n").next().expect("the part before").to_owned() + arms;
        told_of(&source)
    };
    let nowhere = "18:7: steps[2].branch: the branch leads nowhere — write steps under `then:` or `else:`";
    assert_eq!(branch(""), [nowhere]);
    assert_eq!(branch("      then: []\n      else: []\n"), [nowhere]);
    assert_eq!(branch("      then: []\n      else: [{ send: { body: Hi } }]\n"), [""; 0]);
}

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
            "warning 15:9: steps[0].send.body: where a variable is blank, another bubble comes or goes — put the line and its line break into {% if … %}, or join it with another",
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

#[test]
fn input_is_bounded() {
    let says = |source: &str, wanted: &str| {
        let told = told_of(source);
        assert!(told.len() == 1 && told[0].contains(wanted), "{told:?}");
    };
    says("", "1:1: the file is empty — write a campaign, beginning with `name:`");
    says("# nothing\n", "the file is empty");
    says("- a\n", "1:1: this is a list, not a mapping");
    says(&"#".repeat(node::MAX_BYTES + 1), "the file is too large");
    says(&format!("a: {}", "[".repeat(200_000)), "recursion limit exceeded — write fewer brackets in each other");
    says(&format!("a: {}1{}", "[".repeat(100), "]".repeat(100)), "1:35: lists and mappings stand too deep");
    says(&format!("a: {}", "{b: ".repeat(100)), "stand too deep");
    says(&format!("a: [{}]", "1,".repeat(30_000)), "too many values");
    says("a: &a [x]\nb: [*a, *a]\n", "1:4: anchors (&)");
    let steps = |count: usize| GOOD.replace("  - wait: 2d\n", &"  - wait: 2d\n".repeat(count));
    says(&steps(201), "11:1: steps: there are 204 steps — write at most 200".trim_start_matches("11:1: "));
    let nested = (0..6).fold("[{ send: { body: Hi } }]".to_owned(), |inner, _| {
        format!("[{{ branch: {{ if: replied, then: {inner} }} }}]")
    });
    let head = GOOD.split("steps:").next().expect("the part before");
    says(&format!("{head}steps: {nested}\n"), "branches stand too deep in each other — write at most 5 in each other");
    let many: String = (0..100).map(|key| format!("key{key}: x\n")).collect();
    assert_eq!(told_of(&many).len(), 50, "the first are worth reading");
}

/// The files in `jobs/`, with their texts.
fn examples() -> Vec<(String, String)> {
    let jobs = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/jobs")).expect("it is there");
    let files = jobs.map(|file| file.expect("readable").path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let read = |path: std::path::PathBuf| (path.display().to_string(), std::fs::read_to_string(&path).expect("UTF-8"));
    files.map(read).collect()
}

#[test]
fn the_examples_have_neither_faults_nor_warnings() {
    assert!(examples().len() >= 4);
    for (name, source) in examples() {
        assert_eq!(told_of(&source), [""; 0], "{name}");
    }
}

#[test]
fn a_campaign_written_as_json_is_the_same_campaign() {
    for (name, source) in examples().into_iter().chain([("good".to_owned(), GOOD.to_owned())]) {
        let campaign = read(&source).expect(&name).campaign;
        let json = serde_json::to_string(&campaign).expect("serialisable");
        assert_eq!(read(&json).map(|checked| checked.campaign), Ok(campaign), "{name}");
    }
}

mod any_file {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reading_never_panics_and_points_into_the_file(from in 0..GOOD.len(), length in 0..20_usize, put in "[ -~\n\t{}|é]{0,8}") {
            let to = (from + length).min(GOOD.len());
            let source = format!("{}{put}{}", &GOOD[..from], &GOOD[to..]);
            if let Err(findings) = read(&source) {
                prop_assert!(!findings.is_empty());
                for finding in findings {
                    let lines = source.lines().count() + 1;
                    prop_assert!((1..=lines).contains(&finding.line) && finding.column >= 1, "{}", finding);
                }
            }
        }
    }
}
