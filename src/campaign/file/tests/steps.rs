//! Mistakes in steps, their templates and conditions.

use super::*;

#[test]
fn every_mistake_is_told_where_it_is_with_what_to_write() {
    each_is_told(&[
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
            "  - wait: 2M",
            "15:11: steps[1].wait: \"2M\" counts months or years, which have no fixed length — write days, such as 30d, and minutes as in 5m",
        ),
        (
            "  - wait: 2d",
            "    wait: 2d",
            "15:11: steps[0].wait: `send` and `wait` exclude each other — each is a step of its own, after a dash",
        ),
        (
            "      body: Hi {{ first_name }}!",
            "      body: Hi {{ first_name }}!\n      expires_after: 1d",
            "15:7: steps[0].send.expires_after: the key `expires_after` is unknown here — `expires_after` belongs beside `send:`, indented like it",
        ),
        (
            "      body: Hi {{ first_name }}!",
            "      body: Hi {{ first_name }}!\n      variants: []",
            "15:7: steps[0].send.variants: the key `variants` is unknown here — `variants` belongs beside `send:`, indented like it",
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
            "14:32: steps[0].send.body: the filter `shout` is unknown — known filters: capitalize, float, int, lower, round, title, trim, upper",
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
            "14:7: steps[0].send.body: this is nothing, not a text — write a text after the colon; one that begins with # goes in quotes",
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
            "      body: Hi {{ first_name }}!",
            "      name: hello\n      body: Hi {{ first_name }}!",
            "14:13: steps[0].send.name: everybody gets the name `hello` — a step's own name stands beside `send:`; here write the recipient's, such as \"{{ first_name }}\"",
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
            "if: var.plan == 'pro'",
            "if: replied or var.plan == pro",
            "18:34: steps[2].branch.if: a condition does not know `pro` — put a text in quotes: 'pro'; a variable is var.pro",
        ),
        (
            "if: var.plan == 'pro'",
            "if: var.pro == 'a' or var.plan in ['basic', pro]",
            "18:51: steps[2].branch.if: a condition does not know `pro` — put a text in quotes: 'pro'; a variable is var.pro",
        ),
        (
            "if: var.plan == 'pro'",
            "if: pro != var.plan",
            "18:11: steps[2].branch.if: a condition does not know `pro` — put a text in quotes: 'pro'; a variable is var.pro",
        ),
        (
            "var.plan == 'pro'",
            "not reply",
            "18:15: steps[2].branch.if: a condition does not know `reply` — did you mean `replied`?",
        ),
        (
            "var.plan == 'pro'",
            "delivery",
            "18:11: steps[2].branch.if: a condition does not know `delivery` — did you mean `delivered`?",
        ),
        (
            "var.plan == 'pro'",
            "opened",
            "18:11: steps[2].branch.if: a condition does not know `opened` — write replied, delivered, var.NAME or label.NAME, such as var.opened",
        ),
        (
            "var.plan == 'pro'",
            "replied and var.plna == 'pro'",
            "18:23: steps[2].branch.if: the variable `plna` is not declared — did you mean `plan`? else write `plna: { missing: hold }` under `variables:`",
        ),
        (
            "var.plan == 'pro'",
            "replied or label.vip == 'yes'",
            "18:22: steps[2].branch.if: the campaign has no label `vip` — labels are the campaign's own, the same for everybody: declare a variable, and write var.vip",
        ),
        (
            "var.plan == 'pro'",
            "var.plan > 3",
            "18:11: steps[2].branch.if: a variable may be a text, which is not compared as a number — write var.plan | int > 3",
        ),
        (
            "if: var.plan == 'pro'",
            "if: replied or var.plan | trim('a') > 3",
            "18:22: steps[2].branch.if: a variable may be a text, which is not compared as a number — write var.plan | trim('a') | int > 3",
        ),
        (
            "if: var.plan == 'pro'",
            "if: var.plan < '9'",
            "18:11: steps[2].branch.if: texts are compared letter by letter, so that 10 comes before 9 — write var.plan | int < 9",
        ),
        (
            "if: var.plan == 'pro'",
            "if: var.plan < var.first_name",
            "18:11: steps[2].branch.if: texts are compared letter by letter, so that 10 comes before 9 — write var.plan | int < var.first_name | int, or var.plan | lower < var.first_name | lower if they are words",
        ),
        (
            "Hi {{ first_name }}!",
            "Hi {% if first_name > '3' %}you{% endif %}!",
            "14:22: steps[0].send.body: texts are compared letter by letter, so that 10 comes before 9 — write first_name | int > 3",
        ),
        (
            "Hi {{ first_name }}!",
            "Hi {% if plan == 3 %}you{% endif %}!",
            "14:22: steps[0].send.body: a variable may be a text, which is not compared as a number — write plan | int == 3",
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
    ]);
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
