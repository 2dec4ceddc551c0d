//! Mistakes in variants.

use super::*;

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
        ("", two.lines().take(1).collect(), "16:7: steps[0].variants: there is 1 variant — write 2 to 20, or none"),
        (
            "",
            two.replace("weight: 3", "wieght: 3"),
            "16:20: steps[0].variants[0].wieght: the key `wieght` is unknown here — did you mean `weight`?",
        ),
    ] {
        assert_eq!(variants(send, &written), [wanted]);
    }
}
