//! Who is enrolled: by query, by file, by the application; and who is not, and why.

use sqlx::AssertSqlSafe;

use crate::campaign::{ANN, BOB, CID, THREE, file};
use crate::harness::Harness;

const HI: &str = "[{ send: { body: Hi } }]";

async fn fires(it: &Harness) {
    let (code, _, error) = it.run(&["campaign", "run", "drip"]).await;
    assert_eq!(code, 0, "{error}");
    it.settle(&it.engine()).await;
}

#[tokio::test]
async fn nobody_is_left_out_without_a_reason() {
    let it = Harness::start().await;
    it.execute(
        "create table people (n int, phone text, first_name text);
         insert into people values (1, '+15550142200', 'Ann'), (2, '15550142201', 'Bob'), (3, null, 'Cid'), (4, '+15550142200', 'Ann'),
                                   (5, '+15550142203', 'Dot'), (6, '+15550142204', 'Eve'), (7, '+15550142205', null);
         insert into outbox.suppressions (phone, reason) values ('+15550142203', 'stop');
         insert into outbox.suppressions (phone, scope, reason) values ('+15550142204', 'team=growth', 'stop')",
    )
    .await;
    it.apply(&file(
        "audience: { sql: 'select phone, first_name from people order by n' }\nschedule: { manual: true }\n\
         labels: { team: growth }\nvariables: { first_name: { missing: skip } }",
        "[{ send: { body: 'Hi {{ first_name }}' } }]",
    ))
    .await;
    fires(&it).await;
    let excluded = "select n || '/' || reason || coalesce('/' || phone, '') from outbox.exclusions order by n";
    assert_eq!(
        it.text(excluded).await,
        "2/bad_number 3/bad_number 4/duplicate/+1******2200 5/suppressed/+1******2203 6/suppressed/+1******2204"
    );
    assert_eq!(
        it.text("select people || ' ' || enrolled || ' ' || excluded::text from outbox.ticks").await,
        r#"7 2 {"duplicate": 1, "bad_number": 2, "suppressed": 2}"#
    );
    assert_eq!(it.enrolments().await, "active stopped/missing_variable");
    assert_eq!(it.text("select detail from outbox.enrolments where state = 'stopped'").await, "first_name");
    it.drain().await;
    assert_eq!(it.texts().into_iter().collect::<Vec<_>>(), [(ANN.to_owned(), vec!["Hi Ann".to_owned()])]);
}

#[tokio::test]
async fn a_number_that_stands_twice_is_a_duplicate_however_far_apart() {
    let it = Harness::start().await;
    it.execute("insert into outbox.suppressions (phone, reason) values ('+15550140001', 'stop')").await;
    let rows = "select '+1555014' || lpad((n % 700)::text, 4, '0') as phone from generate_series(1, 1400) n";
    let source = file(&format!("audience: {{ sql: \"{rows}\" }}\nschedule: {{ manual: true }}"), HI);
    it.apply(&source).await;
    fires(&it).await;
    assert_eq!(
        it.text("select enrolled || ' ' || excluded::text from outbox.ticks").await,
        r#"699 {"duplicate": 700, "suppressed": 1}"#
    );
    let duplicates = "select min(n) || ' ' || max(n) from outbox.exclusions where reason = 'duplicate'";
    assert_eq!(it.text(duplicates).await, "701 1400", "each by its row");
}

#[tokio::test]
async fn a_query_reads_only_within_its_limits_and_as_its_role() {
    let it = Harness::start().await;
    it.execute(
        "create table people (phone text); insert into people values ('+15550142200');
         create function public.spoil() returns text language plpgsql as $$ begin delete from people; return '+15550142200'; end $$;
         do $$ begin create role campaign_reader_it; exception when duplicate_object then null; end $$;
         grant usage on schema public to campaign_reader_it",
    )
    .await;
    for (audience, more, told) in [
        ("select public.spoil() as phone", "", "cannot execute DELETE in a read-only transaction"),
        ("select phone from people", "role: campaign_reader_it", "permission denied for table people"),
        ("select 1 as phone; drop table people", "", "syntax error"),
        ("select '+15550142200' as phone, pg_sleep(10)", "time_limit: 1s", "statement timeout"),
        ("select '+1555014220' || n as phone from generate_series(1, 3) n", "row_limit: 2", "more than 2 rows"),
        ("select phone as number from people", "", "no column named phone"),
        ("select a.*, b.* from people a cross join people b", "", "two columns named phone"),
        ("select phone from nowhere", "", "relation \"nowhere\" does not exist"),
    ] {
        it.execute("delete from outbox.ticks").await;
        it.apply(&file(&format!("audience: {{ sql: select 1 as phone, {more} }}\nschedule: {{ manual: true }}"), HI))
            .await;
        // It was right when it was applied.
        sqlx::query("update outbox.campaign_versions set definition = jsonb_set(definition, '{audience,sql}', to_jsonb($1::text))")
            .bind(audience)
            .execute(it.pool())
            .await
            .expect("changed");
        fires(&it).await;
        for _ in 0..2 {
            it.execute("update outbox.ticks set again_at = now()").await;
            it.settle(&it.engine()).await;
        }
        assert_eq!(
            it.text("select state || '/' || reason || '/' || failures from outbox.ticks").await,
            "failed/audience_failed/3",
            "{audience}"
        );
        let error = it.text("select error from outbox.ticks").await;
        assert!(
            error.contains(told) || told == "statement timeout" && error.contains("time_limit"),
            "{audience}: {error}"
        );
        assert_eq!(
            it.scalar("select (select count(*) from outbox.enrolments) + (select count(*) from outbox.audience_rows)")
                .await,
            0
        );
    }
    assert_eq!(it.scalar("select count(*) from people").await, 1);
    it.execute("grant select on people to campaign_reader_it").await;
    it.apply(&file(
        "audience: { sql: 'select phone from people -- all', role: campaign_reader_it }\nschedule: { manual: true }",
        HI,
    ))
    .await;
    fires(&it).await;
    assert_eq!(it.enrolments().await, "active", "with the right, and a comment at its end");
    it.execute("drop owned by campaign_reader_it").await;
}

#[tokio::test]
async fn a_role_that_workers_may_not_become_is_refused_before_anything_is_stored() {
    let it = Harness::start().await;
    let id = uuid::Uuid::new_v4().simple();
    let (user, role) = (format!("deployer_{id}"), format!("reports_{id}"));
    let sql = |text: String| sqlx::raw_sql(AssertSqlSafe(text)).execute(it.pool());
    sql(format!("create role {user} login password 'pw'; grant outbox_worker to {user}; create role {role}"))
        .await
        .expect("made");
    let (_, host) = it.database.url().rsplit_once('@').expect("a URL with a user");
    let url = format!("postgres://{user}:pw@{host}");
    let directory = tempfile::tempdir().expect("made");
    let path = directory.path().join("drip.yaml").display().to_string();
    let apply = async |role: &str| {
        let audience =
            format!("audience:\n  sql: \"select '{ANN}' as phone\"\n  role: {role}\nschedule: {{ manual: true }}");
        std::fs::write(&path, file(&audience, HI)).expect("written");
        let output = it.binary().env("DATABASE_URL", &url).args(["campaign", "apply", &path, "--yes"]).output().await;
        let output = output.expect("it ran");
        (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
    };
    for (role, told) in [
        (format!("nobody_{id}"), "the database has no role `nobody_"),
        (role.clone(), "workers may not become the role `reports_"),
    ] {
        let (code, error) = apply(&role).await;
        assert!(code == Some(1) && error.contains(&format!("{path}:6:9: audience.role: {told}")), "{error}");
        assert!(error.contains(&format!("grant \"{role}\" to outbox_worker")), "{error}");
        assert_eq!(it.scalar("select count(*) from outbox.campaigns").await, 0);
    }
    sql(format!("grant {role} to {user}")).await.expect("granted");
    let (code, error) = apply(&role).await;
    assert_eq!(code, Some(0), "{error}");
    sql(format!("drop role {role}; drop role {user}")).await.expect("dropped");
    // It is gone by now.
    fires(&it).await;
    let error = it.text("select error from outbox.ticks").await;
    assert!(error.contains(&format!("audience.role: the role `{role}` cannot be taken")), "{error}");
}

#[tokio::test]
async fn who_lacks_a_right_that_workers_have_is_told_so_and_may_apply() {
    let it = Harness::start().await;
    let id = uuid::Uuid::new_v4().simple();
    let (user, role) = (format!("deployer_{id}"), format!("reports_{id}"));
    let sql = |text: String| sqlx::raw_sql(AssertSqlSafe(text)).execute(it.pool());
    sql(format!(
        "create role {user} login password 'pw'; create role {role}; grant {role} to outbox_worker; grant usage on schema outbox to {user};
         grant all on all tables in schema outbox to {user}; grant all on all sequences in schema outbox to {user};
         create table people (phone text)"
    ))
    .await
    .expect("made");
    let (_, host) = it.database.url().rsplit_once('@').expect("a URL with a user");
    let url = format!("postgres://{user}:pw@{host}");
    let directory = tempfile::tempdir().expect("made");
    let path = directory.path().join("drip.yaml").display().to_string();
    let role_of = format!("\n  role: {role}");
    for (role, planned) in [
        (role_of.as_str(), format!("{path}: audience.role: you may not take the role `{role}` (permission denied")),
        ("", "the query: permission denied for table people".to_owned()),
    ] {
        let audience = format!("audience:\n  sql: select phone from people{role}\nschedule: {{ manual: true }}");
        std::fs::write(&path, file(&audience, HI)).expect("written");
        let run = async |args: &[&str]| {
            let output = it.binary().env("DATABASE_URL", &url).args(args).output().await.expect("it ran");
            (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
        };
        let (code, error) = run(&["campaign", "plan", &path]).await;
        assert!(code == Some(1) && error.contains(&planned), "{error}");
        let (code, error) = run(&["campaign", "apply", &path, "--yes"]).await;
        let warning = format!("{path}:5:8: audience.sql: the query was not planned: ");
        assert!(code == Some(0) && error.contains(&warning) && error.contains("permission denied"), "{error}");
        assert!(!error.contains("create it"), "it is there: {error}");
    }
    sql(format!("drop owned by {user}; drop role {role}; drop role {user}")).await.expect("dropped");
}

#[tokio::test]
async fn bad_lines_of_a_file_are_told_by_line_and_left_out_only_when_asked() {
    let it = Harness::start().await;
    let directory = tempfile::tempdir().expect("made");
    let at = |name: &str| directory.path().join(name);
    std::fs::write(
        at("people.csv"),
        "phone,first_name\n+15550142200,Ann\n555,Bob\n+15550142200,Ann\n+15550142202\n+15550142203,\"Dot\nDot\"\n",
    )
    .expect("written");
    let source = file(
        "audience: { csv: people.csv }\nschedule: { manual: true }\nvariables: { first_name: { default: there } }",
        HI,
    );
    std::fs::write(at("drip.yaml"), source).expect("written");
    let path = at("drip.yaml");
    let path = path.to_str().expect("UTF-8");
    let (code, _, error) = it.run(&["campaign", "apply", path, "--yes"]).await;
    assert_eq!(code, 1);
    for told in [
        "people.csv:3: phone is not E.164",
        "people.csv:4: the same number stands in line 2",
        "people.csv:5: line has 1 column",
        "3 of 5 lines are bad",
    ] {
        assert!(error.contains(told), "{told}: {error}");
    }
    assert_eq!(it.scalar("select count(*) from outbox.campaigns").await, 0);
    let (code, told, error) = it.run(&["campaign", "apply", path, "--leave-out-bad", "--yes"]).await;
    assert!(code == 0 && told.contains("5 people"), "{told} {error}");
    fires(&it).await;
    assert_eq!(
        it.text("select n || '/' || reason from outbox.exclusions order by n").await,
        "3/bad_number 4/duplicate 5/unreadable"
    );
    assert_eq!(it.enrolments().await, "active active");
    fires(&it).await;
    assert_eq!(it.text("select enrolled::text from outbox.ticks order by at").await, "2 0", "the rows of a file stay");
}

#[tokio::test]
async fn a_row_that_names_no_zone_there_is_is_nobody_and_told_by_its_line() {
    let it = Harness::start().await;
    let directory = tempfile::tempdir().expect("made");
    let at = |name: &str| directory.path().join(name);
    let people = "phone,time_zone\n+15550142200,Asia/Tokyo\n+15550142201,Mars/Base\n+15550142202,\n";
    std::fs::write(at("people.csv"), people).expect("written");
    std::fs::write(at("drip.yaml"), file("audience: { csv: people.csv }\nschedule: { manual: true }", HI))
        .expect("written");
    let path = at("drip.yaml");
    let path = path.to_str().expect("UTF-8");
    let (code, _, error) = it.run(&["campaign", "apply", path, "--yes"]).await;
    assert!(
        code == 1 && error.contains("people.csv:3: its time_zone is the name of none") && !error.contains("Mars"),
        "{error}"
    );
    assert_eq!(it.run(&["campaign", "apply", path, "--yes", "--leave-out-bad"]).await.0, 0);
    let (_, told, _) = it.run(&["campaign", "plan", path, "--json"]).await;
    let plan: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(plan["people"]["excluded"], serde_json::json!({"unknown_zone": 1}));
    fires(&it).await;
    assert_eq!(it.text("select n || '/' || reason from outbox.exclusions").await, "3/unknown_zone");
    assert_eq!(it.enrolments().await, "active active");
}

#[tokio::test]
async fn who_was_left_out_is_listed_row_by_row() {
    let it = Harness::start().await;
    it.execute(
        "create table people (n int, phone text);
         insert into people values (1, '+15550142200'), (2, '555'), (3, '+15550142200'), (4, '+15550142202');
         insert into outbox.suppressions (phone, reason) values ('+15550142202', 'stop')",
    )
    .await;
    it.apply(&file("audience: { sql: 'select phone from people order by n' }\nschedule: { manual: true }", HI)).await;
    fires(&it).await;
    let list = async |args: &[&str]| {
        let (code, told, error) = it.run(&[&["campaign", "people", "drip", "--left-out"], args].concat()).await;
        assert_eq!(code, 0, "{error}");
        told
    };
    let told = list(&[]).await;
    let rows: Vec<String> = told
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().filter(|word| !word.contains(['-', ':'])).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(rows.len(), 3, "{told}");
    for (row, wanted) in rows.iter().zip(["2 bad_number", "3 duplicate +1******2200", "4 suppressed +1******2202"]) {
        assert!(row.ends_with(wanted), "{wanted}: {told}");
    }
    assert!(list(&["--limit", "2"]).await.contains("(the first 2; --limit shows more)"));

    it.execute("update people set phone = '+15550142203' where n = 2").await;
    fires(&it).await;
    let rows = async |args: &[&str]| {
        let told = list(&[&["--json"], args].concat()).await;
        let told: Vec<serde_json::Value> = serde_json::from_str(&told).expect("JSON");
        told.iter().map(|row| (row["firing"].as_i64().expect("an id"), row["row"].as_i64().expect("a row"))).collect()
    };
    let (all, first): (Vec<_>, Vec<_>) = (rows(&[]).await, rows(&["--firing", "1"]).await);
    assert_eq!(
        all,
        [(2, 3), (2, 4), (1, 2), (1, 3), (1, 4)],
        "the newest firing first; who was enrolled is none of them"
    );
    assert_eq!(first, all[2..]);
    let (code, _, error) = it.run(&["campaign", "people", "nobody", "--left-out"]).await;
    assert!(code == 1 && error.contains("nobody"), "{error}");
}

#[tokio::test]
async fn somebody_is_enrolled_again_as_the_campaign_says() {
    for (again, at_once, after_a_week) in [("never", false, false), ("after 5d", false, true), ("always", true, true)] {
        let it = Harness::start().await;
        it.apply(&file(&format!("audience: {{ enrolled: true, again: {again} }}"), HI)).await;
        let first = it.enrol(ANN).await;
        assert_eq!(it.enrol(ANN).await, first, "while it runs there is one");
        it.settle(&it.engine()).await;
        it.drain().await;
        it.settle(&it.engine()).await;
        assert_eq!(it.enrolments().await, "done");
        assert_eq!(it.enrol(ANN).await != first, at_once, "{again}");
        it.settle(&it.engine()).await;
        it.drain().await;
        it.settle(&it.engine()).await;
        it.execute("update outbox.enrolments set created_at = created_at - interval '7 days'").await;
        let latest = it.scalar("select max(id) from outbox.enrolments").await;
        assert_eq!(it.enrol(ANN).await != latest, after_a_week, "{again}");
    }
}

#[tokio::test]
async fn racing_enrolments_of_one_person_are_one() {
    let it = Harness::start().await;
    it.apply(&file("", THREE)).await;
    let racing = (0..12).map(|_| it.enrol(ANN));
    let ids: std::collections::BTreeSet<i64> = futures_util::future::join_all(racing).await.into_iter().collect();
    assert_eq!((ids.len(), it.scalar("select count(*) from outbox.enrolments").await), (1, 1));
}

#[tokio::test]
async fn who_lacks_a_variable_is_held_until_it_comes() {
    let it = Harness::start().await;
    it.apply(&file("variables: { name: { missing: hold } }", "[{ send: { body: 'Hi {{ name }}' } }]")).await;
    let ann = it.enrol(ANN).await;
    it.settle(&it.engine()).await;
    assert_eq!((it.enrolments().await.as_str(), it.count("true").await), ("held/missing_variable", 0));
    for blank in ["", "  "] {
        it.enrol_with(ANN, &format!(r#"{{"name": "{blank}"}}"#)).await;
        it.settle(&it.engine()).await;
        assert_eq!((it.enrolments().await.as_str(), it.count("true").await), ("held/missing_variable", 0), "{blank:?}");
    }
    assert_eq!(it.enrol_with(ANN, r#"{"name": "Ann"}"#).await, ann);
    it.settle(&it.engine()).await;
    it.drain().await;
    assert_eq!(it.texts()[ANN], ["Hi Ann"]);
}

#[tokio::test]
async fn who_lacks_a_variable_goes_on_with_the_row_of_a_later_firing_that_has_it() {
    let it = Harness::start().await;
    it.execute("create table people (phone text, name text); insert into people values ('+15550142200', null), ('+15550142201', null)").await;
    it.apply(&file(
        "audience: { sql: 'select phone, name from people' }\nschedule: { manual: true }\nvariables: { name: { missing: hold } }",
        "[{ send: { body: 'Hi {{ name }}' } }]",
    ))
    .await;
    fires(&it).await;
    assert_eq!(it.enrolments().await, "held/missing_variable held/missing_variable");
    it.execute("update people set name = 'Ann' where phone = '+15550142200'").await;
    fires(&it).await;
    assert_eq!(it.text("select excluded::text from outbox.ticks where id = 2").await, r#"{"already_active": 2}"#);
    assert_eq!(it.enrolments().await, "active held/missing_variable");
    // A file that takes the query's place.
    let directory = tempfile::tempdir().expect("made");
    let path = directory.path().join("drip.yaml");
    std::fs::write(directory.path().join("people.csv"), "phone,name\n+15550142201,Bob\n").expect("written");
    let source = file(
        "audience: { csv: people.csv }\nschedule: { manual: true }\nvariables: { name: { missing: hold } }",
        "[{ send: { body: 'Hi {{ name }}' } }]",
    );
    std::fs::write(&path, source).expect("written");
    let (code, _, error) = it.run(&["campaign", "apply", path.to_str().expect("UTF-8"), "--yes"]).await;
    assert_eq!(code, 0, "{error}");
    fires(&it).await;
    it.drain().await;
    let texts = [(ANN.to_owned(), vec!["Hi Ann".to_owned()]), (BOB.to_owned(), vec!["Hi Bob".to_owned()])];
    assert_eq!(it.texts().into_iter().collect::<Vec<_>>(), texts);
}

#[tokio::test]
async fn what_comes_before_anybody_has_looked_fills_what_is_lacking_and_changes_nothing() {
    let it = Harness::start().await;
    it.apply(&file(
        &format!(
            "audience: {{ sql: \"select '{BOB}' as phone, 'Bob' as name, 'free' as plan\" }}\nschedule: {{ manual: true }}\n\
             variables: {{ name: {{ missing: hold }}, plan: {{ missing: hold }} }}"
        ),
        "[{ send: { body: 'Hi {{ name }}, {{ plan }}' } }]",
    ))
    .await;
    let ann = it.enrol_with(ANN, r#"{"name": " "}"#).await;
    for vars in [r#"{"name": "Ann", "plan": null}"#, r#"{"name": "Eve", "plan": "pro"}"#] {
        assert_eq!(it.enrol_with(ANN, vars).await, ann);
    }
    it.enrol_with(BOB, r#"{"plan": "pro"}"#).await;
    fires(&it).await;
    it.drain().await;
    let texts = [(ANN.to_owned(), vec!["Hi Ann, pro".to_owned()]), (BOB.to_owned(), vec!["Hi Bob, pro".to_owned()])];
    assert_eq!(it.texts().into_iter().collect::<Vec<_>>(), texts);
}

#[tokio::test]
async fn who_was_held_before_the_first_message_has_the_time_of_their_step_from_when_they_are_let_go() {
    let it = Harness::start().await;
    it.apply(&file(
        &format!(
            "audience: {{ sql: \"select '{BOB}' as phone, 'Bob' as name\" }}\nschedule: {{ manual: true }}\n\
             variables: {{ name: {{ missing: hold }} }}"
        ),
        "[{ send: { body: 'Hi {{ name }}' }, expires_after: 1h }]",
    ))
    .await;
    for phone in [ANN, BOB, CID] {
        it.enrol(phone).await;
    }
    it.settle(&it.engine()).await;
    assert_eq!(it.text("select distinct state || '/' || reason from outbox.enrolments").await, "held/missing_variable");
    it.execute(
        "update outbox.enrolments set reached_at = reached_at - interval '2 hours';
         update outbox.enrolments set sent_at = reached_at where phone = '+15550142202'",
    )
    .await;
    it.enrol_with(ANN, r#"{"name": "Ann"}"#).await;
    it.enrol_with(CID, r#"{"name": "Cid"}"#).await;
    fires(&it).await;
    it.drain().await;
    it.settle(&it.engine()).await;
    assert_eq!(it.enrolments().await, "done done stopped/expired", "the step of who was written to goes by that");
    assert_eq!(it.texts().len(), 2);
}

#[tokio::test]
async fn what_could_not_be_written_goes_on_with_a_value_that_can() {
    let it = Harness::start().await;
    it.execute("create table people (phone text, orders text); insert into people values ('+15550142201', '10')").await;
    it.apply(&file(
        "audience: { sql: 'select phone, orders from people' }\nschedule: { manual: true }\nvariables: { orders: { missing: hold } }",
        "[{ send: { body: '{% if orders | int >= 3 %}many{% else %}few{% endif %}' } }]",
    ))
    .await;
    for phone in [ANN, BOB] {
        it.enrol_with(phone, r#"{"orders": "several"}"#).await;
    }
    it.settle(&it.engine()).await;
    assert_eq!(it.enrolments().await, "held/unreadable held/unreadable");
    it.enrol_with(ANN, r#"{"orders": "2"}"#).await;
    fires(&it).await;
    it.drain().await;
    let texts = [(ANN.to_owned(), vec!["few".to_owned()]), (BOB.to_owned(), vec!["many".to_owned()])];
    assert_eq!(it.texts().into_iter().collect::<Vec<_>>(), texts);
}

#[tokio::test]
async fn who_reaches_the_goal_between_a_firing_and_their_enrolment_is_not_enrolled() {
    for (stop_on, enrolled) in [("[goal]", BOB.to_owned()), ("[reply]", format!("{ANN} {BOB}"))] {
        let it = Harness::start().await;
        it.apply(&file(
            &format!(
                "audience: {{ sql: \"select * from (values ('{ANN}'), ('{BOB}')) people (phone)\" }}\n\
                 schedule: {{ manual: true }}\nstop_on: {stop_on}"
            ),
            HI,
        ))
        .await;
        it.execute("select outbox.goal('drip', '+15550142201')").await;
        assert_eq!(it.run(&["campaign", "run", "drip"]).await.0, 0);
        it.execute("select outbox.goal('drip', '+15550142200')").await;
        it.settle(&it.engine()).await;
        assert_eq!(it.text("select phone from outbox.enrolments order by phone").await, enrolled, "{stop_on}");
        let left_out = it.text("select n || '/' || reason from outbox.exclusions").await;
        assert_eq!(left_out == "1/goal", stop_on == "[goal]", "{left_out}");
    }
}

/// A goal is reached when that is told, and not when the transaction began that tells it.
#[tokio::test]
async fn a_goal_that_is_committed_after_a_firing_is_seen_by_it() {
    let it = Harness::start().await;
    let audience =
        format!("audience: {{ sql: \"select '{ANN}' as phone\" }}\nschedule: {{ manual: true }}\nstop_on: [goal]");
    it.apply(&file(&audience, HI)).await;
    let mut buying = it.pool().begin().await.expect("begins");
    sqlx::query("select now()").execute(&mut *buying).await.expect("its transaction has begun");
    assert_eq!(it.run(&["campaign", "run", "drip"]).await.0, 0);
    sqlx::query("select outbox.goal('drip', '+15550142200')").execute(&mut *buying).await.expect("told");
    buying.commit().await.expect("commits");
    let later = "select count(*) from outbox.goals g, outbox.ticks t where g.reached_at > t.recorded_at";
    assert_eq!(it.scalar(later).await, 1);
    it.settle(&it.engine()).await;
    assert_eq!(it.text("select excluded::text from outbox.ticks").await, r#"{"goal": 1}"#);
}

#[tokio::test]
async fn what_two_bring_for_one_new_person_at_once_is_all_kept() {
    let it = Harness::start().await;
    it.apply(&file("audience: { enrolled: true }", HI)).await;
    let mut signing_up = it.pool().begin().await.expect("begins");
    let first: i64 = sqlx::query_scalar(r#"select outbox.enrol('drip', '+15550142200', '{"name": "Ann"}')"#)
        .fetch_one(&mut *signing_up)
        .await
        .expect("enrolled");
    let billing = tokio::spawn({
        let pool = it.pool().clone();
        async move {
            let enrol = r#"select outbox.enrol('drip', '+15550142200', '{"plan": "pro"}')"#;
            sqlx::query_scalar::<_, i64>(enrol).fetch_one(&pool).await
        }
    });
    let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    it.until("the other one waits", || async { it.scalar(waits).await == 1 }).await;
    signing_up.commit().await.expect("commits");
    assert_eq!(billing.await.expect("runs").expect("enrolled"), first);
    assert_eq!(it.text("select vars::text from outbox.enrolments").await, r#"{"name": "Ann", "plan": "pro"}"#);
}

#[tokio::test]
async fn what_cannot_be_brought_to_somebody_is_told_or_left_out() {
    let it = Harness::start().await;
    it.apply(&file("audience: { enrolled: true }", HI)).await;
    let ann = it.enrol(ANN).await;
    let brought = |key: &str| format!(r#"{{"{key}": "{}"}}"#, "x".repeat(40_000));
    assert_eq!((it.enrol_with(ANN, &brought("a")).await, it.enrol_with(ANN, &brought("b")).await), (ann, ann));
    let keys = "select string_agg(key, ' ') from outbox.enrolments, jsonb_object_keys(vars) key";
    assert_eq!(it.text(keys).await, "a", "she is not kept from going on, and nor is the application");
    assert_eq!(it.enrol_with(ANN, "null").await, ann);
    for vars in ["[]", "\"Ann\""] {
        let enrol = format!("select outbox.enrol('drip', '{ANN}', '{vars}')");
        let error = sqlx::query(AssertSqlSafe(enrol)).execute(it.pool()).await.expect_err(vars).to_string();
        assert!(error.contains("the variables are of the type"), "{vars}: {error}");
    }
}

#[tokio::test]
async fn what_would_be_too_much_for_one_person_holds_up_no_firing() {
    let it = Harness::start().await;
    let source = |name: &str| {
        format!(
            "audience: {{ sql: \"select '+15550142200' as phone, repeat('x', 30000) as {name}\" }}\nschedule: {{ manual: true }}\n\
                 variables: {{ name: {{ missing: hold }} }}"
        )
    };
    for column in ["a", "b", "c"] {
        it.apply(&file(&source(column), "[{ send: { body: 'Hi {{ name }}' } }]")).await;
        fires(&it).await;
    }
    assert_eq!(it.text("select state from outbox.ticks order by id").await, "done done done");
    assert_eq!(
        it.text("select array_agg(key order by key)::text from outbox.enrolments, jsonb_object_keys(vars) key").await,
        "{a,b}"
    );
}

#[tokio::test]
async fn what_cannot_be_written_holds_one_person_and_not_the_campaign() {
    for (steps, field) in [
        ("[{ send: { body: '{% if orders | int >= 3 %}many{% else %}few{% endif %}' } }]", "body"),
        (
            "[{ branch: { if: var.orders | int >= 3, then: [{ send: { body: many } }], else: [{ send: { body: few } }] } }]",
            "if",
        ),
    ] {
        let it = Harness::start().await;
        it.apply(&file("variables: { orders: { missing: hold } }", steps)).await;
        it.enrol_with(ANN, r#"{"orders": "several"}"#).await;
        it.enrol_with(BOB, r#"{"orders": "10"}"#).await;
        it.enrol_with(CID, r#"{"orders": 2}"#).await;
        for _ in 0..3 {
            it.settle(&it.engine()).await;
            it.drain().await;
        }
        assert_eq!(it.enrolments().await, "held/unreadable done done");
        assert_eq!(it.text("select detail from outbox.enrolments where state = 'held'").await, field);
        let texts = it.texts();
        assert_eq!(
            (texts.len(), texts[BOB].as_slice(), texts[CID].as_slice()),
            (2, &["many".to_owned()][..], &["few".to_owned()][..])
        );
    }
}

#[tokio::test]
async fn the_application_may_enrol_and_tell_of_goals_and_no_more() {
    let it = Harness::start().await;
    it.apply(&file("stop_on: [goal]", THREE)).await;
    let mut conn = it.pool().acquire().await.expect("connects");
    sqlx::raw_sql("set role outbox_producer").execute(&mut *conn).await.expect("a role");
    sqlx::raw_sql("select outbox.enrol('drip', '+15550142200'); select outbox.goal('drip', '+15550142200')")
        .execute(&mut *conn)
        .await
        .expect("it may");
    for forbidden in [
        "select * from outbox.enrolments",
        "select outbox.stop_enrolments(array[1], 'goal')",
        "update outbox.campaigns set state = 'paused'",
    ] {
        let error = sqlx::raw_sql(forbidden).execute(&mut *conn).await.expect_err(forbidden);
        assert_eq!(
            error.as_database_error().and_then(|refused| refused.code()).as_deref(),
            Some("42501"),
            "{forbidden}"
        );
    }
    for (wrong, code) in
        [("select outbox.enrol('nobody', '+15550142200')", "22023"), ("select outbox.enrol('drip', '555')", "23514")]
    {
        let error = sqlx::raw_sql(wrong).execute(&mut *conn).await.expect_err(wrong);
        assert_eq!(error.as_database_error().and_then(|refused| refused.code()).as_deref(), Some(code), "{wrong}");
    }
    sqlx::raw_sql("reset role").execute(&mut *conn).await.expect("back");
    assert_eq!(it.enrolments().await, "stopped/goal");
}
