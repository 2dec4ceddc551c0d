//! What is no YAML, or too much of it.

use proptest::prelude::*;

use super::*;

#[test]
fn every_mistake_is_told_where_it_is_with_what_to_write() {
    each_is_told(&[
        (
            "  first_name: {",
            "\tfirst_name: {",
            "8:2: this is not YAML: tabs disallowed within this context (block indentation) — indent with spaces",
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
    ]);
}

#[test]
fn a_text_that_a_comment_cuts_short_is_told() {
    let wanted = |place: &str, path: &str| {
        format!(
            "warning {place}: {path}: a comment begins here, and the text ends before it — put the text in quotes, or a blank behind the # of a comment"
        )
    };
    let body = "steps[0].send.body";
    for (text, place) in [
        ("Hi {{ first_name }}, meet us at gate #4", "14:50"),
        ("Hi {{ first_name }}, it is order \t#{{ plan }}", "14:47"),
        ("Hi\n        {{ first_name }}, gate #4", "15:32"),
        ("Äh {{ first_name }} #gym", "14:33"),
    ] {
        assert_eq!(told("Hi {{ first_name }}!", text), [wanted(place, body)], "{text}");
    }
    assert_eq!(
        told("[att_1]", "\n              - att_1 #2"),
        [wanted("25:23", "steps[2].branch.then[0].send.attachments[0]")]
    );
    assert_eq!(
        told("name: welcome\n", "\u{feff}name: welcome\ndescription: Team #1\n"),
        [wanted("2:19", "description")]
    );
    for text in [
        "Hi {{ first_name }}! # for all",
        "Hi {{ first_name }}! ## 4",
        "Hi {{ first_name }}! #-----",
        "Hi {{ first_name }}! #",
        "\"Hi {{ first_name }} at #4\" #4",
        "Hi {{ first_name }}, C#4",
        "|\n        Hi {{ first_name }} at #4",
    ] {
        assert_eq!(told("Hi {{ first_name }}!", text), [""; 0], "{text}");
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
    says(&steps(201), "steps: there are 204 steps — write at most 200");
    let nested = (0..6).fold("[{ send: { body: Hi } }]".to_owned(), |inner, _| {
        format!("[{{ branch: {{ if: replied, then: {inner} }} }}]")
    });
    let head = GOOD.split("steps:").next().expect("the part before");
    says(&format!("{head}steps: {nested}\n"), "branches stand too deep in each other — write at most 5 in each other");
    let many: String = (0..100).map(|key| format!("key{key}: x\n")).collect();
    assert_eq!(told_of(&many).len(), 50, "the first are worth reading");
}

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
