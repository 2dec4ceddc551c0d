//! Firings: each a row, once, whoever notices it and however late.

use std::process::Stdio;
use std::time::Duration;

use crate::campaign::{ANN, file};
use crate::harness::Harness;

const TWENTY: &str = "audience: { sql: \"select '+1555014' || lpad(n::text, 4, '0') as phone from generate_series(1, 20) n\", again: always }";

/// A campaign that fires every hour, as far from now as can be, so that none is on time and none comes while a test runs.
async fn hourly(it: &Harness, policy: &str) {
    let minute = it.scalar("select (extract(minute from now())::bigint + 30) % 60").await;
    it.apply(&file(
        &format!("{TWENTY}\nschedule: {{ cron: '{minute} * * * *', {policy} }}"),
        "[{ send: { body: Hi } }]",
    ))
    .await;
}

/// The same, and nothing has run for so many hours.
async fn late(it: &Harness, policy: &str, hours: i64) {
    hourly(it, policy).await;
    let sql = format!("update outbox.campaigns set next_at = next_at - interval '{hours} hours'");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(it.pool()).await.expect("set back");
}

async fn ticks(it: &Harness) -> String {
    it.text("select state || coalesce('/' || reason, '') from outbox.ticks order by at").await
}

#[tokio::test]
async fn i09_every_firing_is_one_row_however_many_engines_race() {
    let it = Harness::start().await;
    late(&it, "catch_up: all, catch_up_within: 30d", 40).await;
    let first = it.text("select next_at::text from outbox.campaigns").await;
    let engines: Vec<_> = (0..6).map(|_| it.engine()).collect();
    let work = engines.iter().map(|engine| async {
        for _ in 0..60 {
            match engine.pass().await {
                Err(error) if !error.is_conflict() => panic!("{error}"),
                _ => {}
            }
        }
    });
    futures_util::future::join_all(work).await;
    it.settle(&engines[0]).await;
    assert_eq!(it.scalar("select count(*) from outbox.ticks").await, 40);
    assert_eq!(
        it.scalar(&format!("select count(*) from generate_series('{first}', now(), interval '1 hour') g (at) join outbox.ticks t using (at)")).await,
        40,
        "each hour is there"
    );
    assert_eq!(it.scalar("select count(*) from outbox.ticks where late and state = 'done'").await, 40);
    assert_eq!(it.scalar("select sum(people)::bigint from outbox.ticks").await, 40 * 20);
    assert_eq!(
        it.scalar("select sum(enrolled)::bigint from outbox.ticks").await,
        20,
        "who is enrolled is not enrolled again"
    );
    assert_eq!(
        it.scalar("select sum((excluded ->> 'already_active')::bigint)::bigint from outbox.ticks").await,
        39 * 20
    );
    assert_eq!(it.scalar("select count(*) from outbox.enrolments").await, 20);
    assert_eq!(it.count("true").await, 20);
    assert_eq!(it.scalar("select count(*) from outbox.audience_rows").await, 0, "no snapshot is kept");
}

#[tokio::test]
async fn i09_a_firing_whose_time_comes_again_is_the_same_row() {
    let it = Harness::start().await;
    late(&it, "catch_up: all, catch_up_within: 30d", 5).await;
    it.settle(&it.engine()).await;
    let before = it.text("select id || ' ' || at from outbox.ticks order by at").await;
    it.execute("update outbox.campaigns set next_at = next_at - interval '5 hours'").await;
    it.settle(&it.engine()).await;
    assert_eq!(it.text("select id || ' ' || at from outbox.ticks order by at").await, before);
    assert_eq!(it.scalar("select count(*) from outbox.ticks").await, 5);
}

#[tokio::test]
async fn what_nothing_ran_at_is_recorded_and_made_up_for_as_the_campaign_says() {
    for (policy, expected) in [
        ("catch_up: skip", "missed/too_late missed/too_late missed/too_late"),
        ("catch_up: last", "missed/caught_up missed/caught_up done"),
        ("catch_up: all", "done done done"),
        ("catch_up: all, catch_up_within: 1h 1s", "missed/too_late missed/too_late done"),
    ] {
        let it = Harness::start().await;
        late(&it, policy, 3).await;
        it.settle(&it.engine()).await;
        assert_eq!(ticks(&it).await, expected, "{policy}");
        let (_, status, _) = it.run(&["campaign", "status", "drip"]).await;
        assert_eq!(status.contains("done, late"), expected.contains("done"), "{policy}: {status}");
        let next_in = it.scalar("select extract(epoch from next_at - now())::bigint from outbox.campaigns").await;
        assert!((0..=3_600).contains(&next_in), "the next hour");
    }
}

#[tokio::test]
async fn an_audience_that_cannot_be_read_is_tried_ever_less_often_until_its_firing_is_too_late() {
    let it = Harness::start().await;
    let minute = it.scalar("select (extract(minute from now())::bigint + 30) % 60").await;
    let source = format!("audience: {{ sql: 'select phone from people' }}\nschedule: {{ cron: '{minute} * * * *' }}");
    it.execute("create table people (phone text)").await;
    it.apply(&file(&source, "[{ send: { body: Hi } }]")).await;
    it.execute("drop table people").await;
    let engine = it.engine();
    it.execute("update outbox.campaigns set next_at = now()").await;
    for wait in [20, 40, 80, 160, 320, 600, 600] {
        it.settle(&engine).await;
        assert_eq!(ticks(&it).await, "new");
        let again = it.scalar("select extract(epoch from again_at - now())::bigint from outbox.ticks").await;
        assert!((wait - 5..=wait).contains(&again), "{again} of {wait}");
        it.execute("update outbox.ticks set again_at = now()").await;
    }
    it.execute("create table people (phone text); insert into people values ('+15550142200')").await;
    it.settle(&engine).await;
    assert_eq!((ticks(&it).await.as_str(), it.enrolments().await.as_str()), ("done", "active"));
    it.execute("drop table people; update outbox.campaigns set next_at = now()").await;
    for state in ["done new", "new done", "failed/audience_failed done"] {
        it.settle(&engine).await;
        assert_eq!(ticks(&it).await, state);
        // The next one has come meanwhile.
        it.execute(
            "update outbox.ticks set again_at = now(), at = now() - interval '1 hour' where finished_at is null",
        )
        .await;
    }
}

#[tokio::test]
async fn a_firing_that_fails_is_nobody_elses_before_that_is_written_down() {
    let it = Harness::start().await;
    let source =
        "audience: { sql: 'select 1 / (n - 1) as phone from generate_series(0, 1) n' }\nschedule: { manual: true }";
    it.apply(&file(source, "[{ send: { body: Hi } }]")).await;
    assert_eq!(it.run(&["campaign", "run", "drip"]).await.0, 0);
    // Firings can be locked, and not be written.
    let mut holder = it.pool().begin().await.expect("begins");
    sqlx::query("lock table outbox.ticks in share mode").execute(&mut *holder).await.expect("locked");
    let (one, other) = (it.engine(), it.engine());
    let looking = async {
        let waits = "select count(*) from pg_locks where not granted and relation = 'outbox.ticks'::regclass";
        it.until("the query has failed", || async { it.scalar(waits).await == 1 }).await;
        let passed = tokio::time::timeout(Duration::from_secs(5), other.pass()).await;
        holder.rollback().await.expect("let go");
        assert!(!passed.expect("it finds nothing to do").expect("it works"));
    };
    let (passed, ()) = tokio::join!(one.pass(), looking);
    passed.expect("it works");
    assert_eq!(it.scalar("select failures::bigint from outbox.ticks").await, 1);
}

#[tokio::test]
async fn a_firing_that_finds_nobody_goes_on_with_a_mended_file_and_so_do_those_behind_it() {
    let it = Harness::start().await;
    let apply = async |table: &str| {
        let audience = format!("audience: {{ sql: 'select phone from {table}' }}\nschedule: {{ manual: true }}");
        it.apply(&file(&audience, "[{ send: { body: Hi } }]")).await;
    };
    it.execute("create table people (phone text); insert into people values ('+15550142200')").await;
    it.execute("create table peple (phone text)").await;
    apply("peple").await;
    it.execute("drop table peple").await;
    let engine = it.engine();
    for _ in 0..2 {
        assert_eq!(it.run(&["campaign", "run", "drip"]).await.0, 0);
        it.settle(&engine).await;
    }
    assert_eq!(ticks(&it).await, "new new");
    let (_, status, _) = it.run(&["campaign", "status", "drip"]).await;
    assert!(
        status.contains("new, by hand, tried again 20") && status.contains("new, by hand, behind firing 1"),
        "{status}"
    );
    apply("people").await;
    it.settle(&engine).await;
    assert_eq!(it.text("select state || '/' || version from outbox.ticks order by id").await, "done/2 done/2");
    assert_eq!(it.text("select state || '/' || version from outbox.enrolments").await, "active/2");
}

#[tokio::test]
async fn a_firing_that_meets_an_earlier_one_still_at_it_does_what_the_campaign_says() {
    for (overlap, expected) in
        [("skip", "enrolling skipped/overlap"), ("queue", "enrolling new"), ("allow", "enrolling done")]
    {
        let it = Harness::start().await;
        hourly(&it, &format!("overlap: {overlap}")).await;
        it.execute(
            "insert into outbox.ticks (campaign, at, version, state, audience)
             values ('drip', now() - interval '1 minute', 1, 'enrolling', nextval('outbox.audiences'));
             update outbox.campaigns set next_at = now()",
        )
        .await;
        // Somebody else is at the first one.
        let mut holder = it.pool().begin().await.expect("begins");
        sqlx::query("select * from outbox.ticks for update").execute(&mut *holder).await.expect("held");
        it.settle(&it.engine()).await;
        assert_eq!(ticks(&it).await, expected, "{overlap}");
        holder.rollback().await.expect("let go");
        it.settle(&it.engine()).await;
        assert_eq!(ticks(&it).await.replace("skipped/overlap", "done"), "done done", "{overlap}");
    }
}

#[tokio::test]
async fn a_query_that_takes_its_time_holds_up_nobodys_next_step() {
    let it = Harness::start().await;
    let slow = "audience: { sql: \"select '+15550142201' as phone from pg_sleep(300)\", time_limit: 10m }\nschedule: { manual: true }";
    it.apply(&file(slow, "[{ send: { body: Hi } }]").replace("name: drip", "name: slow")).await;
    it.apply(&file("", "[{ send: { body: Hi } }]")).await;
    assert_eq!(it.run(&["campaign", "run", "slow"]).await.0, 0);
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let engine = it.engine();
    let working = engine.run(stopping);
    let looking = async {
        let reads = "pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'";
        let count = format!("select count(*) from {reads}");
        it.until("the query reads", || async { it.scalar(&count).await == 1 }).await;
        it.enrol(ANN).await;
        it.until("she has her job", || async { it.count("campaign = 'drip'").await == 1 }).await;
        assert_eq!(it.scalar(&count).await, 1, "it still reads");
        stop.send_replace(true);
        it.scalar(&format!("select count(pg_cancel_backend(pid)) from {reads}")).await;
    };
    tokio::join!(working, looking);
}

#[tokio::test]
async fn a_campaign_can_be_fired_by_hand_and_not_while_it_is_paused() {
    let it = Harness::start().await;
    it.apply(&file(&format!("{TWENTY}\nschedule: {{ manual: true }}"), "[{ send: { body: Hi } }]")).await;
    let (code, _, error) = it.run(&["campaign", "run", "drip"]).await;
    assert_eq!(code, 0, "{error}");
    it.settle(&it.engine()).await;
    assert_eq!((ticks(&it).await.as_str(), it.scalar("select count(*) from outbox.enrolments").await), ("done", 20));
    it.run(&["campaign", "pause", "drip"]).await;
    let (code, _, error) = it.run(&["campaign", "run", "drip"]).await;
    assert!(code == 1 && error.contains("the campaign drip is paused: resume it first"), "{error}");
    let (code, _, error) = it.run(&["campaign", "run", "nobody"]).await;
    assert!(code == 1 && error.contains("there is no campaign named nobody"), "{error}");
}

#[tokio::test]
async fn a_campaign_that_the_application_fills_is_not_fired_by_hand() {
    let it = Harness::start().await;
    it.apply(&file("", "[{ send: { body: Hi } }]")).await;
    let (code, _, error) = it.run(&["campaign", "run", "drip"]).await;
    let told =
        "the application enrols the people of drip, so that there is nobody to find: select outbox.enrol('drip', ";
    assert!(code == 1 && error.contains(told), "{error}");
    assert_eq!(ticks(&it).await, "");
}

#[tokio::test]
async fn a_schedule_that_is_changed_fires_from_then_on_and_one_that_is_not_goes_on() {
    let it = Harness::start().await;
    let at = |minute: u32, more: &str| {
        file(
            &format!("{TWENTY}\nschedule: {{ cron: '{minute} * * * *', catch_up: all }}\n{more}"),
            "[{ send: { body: Hi } }]",
        )
    };
    it.apply(&at(0, "")).await;
    it.execute("update outbox.campaigns set next_at = next_at - interval '2 hours'").await;
    let told = it.apply(&at(0, "labels: { team: growth }")).await;
    assert!(told.contains("version 2 is applied, running"), "{told}");
    assert!(
        it.scalar("select extract(epoch from now() - next_at)::bigint from outbox.campaigns").await > 3_000,
        "still to fire"
    );
    let told = it.apply(&at(0, "labels: { team: growth }")).await;
    assert!(told.contains("version 2 is as it was"), "{told}");
    it.apply(&at(30, "")).await;
    assert!(
        it.scalar("select extract(epoch from next_at - now())::bigint from outbox.campaigns").await >= 0,
        "not in the past"
    );
    assert_eq!(it.scalar("select count(*) from outbox.campaign_versions").await, 3);
}

#[tokio::test]
async fn a_firing_that_has_come_is_not_lost_when_its_schedule_is_changed() {
    let it = Harness::start().await;
    let minute = it.scalar("select (extract(minute from now())::bigint + 30) % 60").await;
    let at = async |minute: i64, policy: &str| {
        let schedule = format!("{TWENTY}\nschedule: {{ cron: '{minute} * * * *', {policy} }}");
        it.apply(&file(&schedule, "[{ send: { body: Hi } }]")).await
    };
    let back = "update outbox.campaigns set next_at = next_at - interval '2 hours'";
    at(minute, "catch_up_within: 5m").await;
    it.execute(back).await;
    at(minute, "catch_up_within: 8h, jitter: 1s").await;
    it.settle(&it.engine()).await;
    assert_eq!(ticks(&it).await, "missed/caught_up done", "by what the file says of it now");
    it.execute("delete from outbox.ticks").await;
    it.execute(back).await;
    at((minute + 10) % 60, "catch_up_within: 8h").await;
    it.settle(&it.engine()).await;
    assert_eq!(ticks(&it).await, "missed/rescheduled missed/rescheduled", "it belongs to no schedule any more");
    it.execute("delete from outbox.ticks").await;
    it.execute(back).await;
    assert_eq!(it.run(&["campaign", "stop", "drip", "--yes"]).await.0, 0);
    let told = at(minute, "catch_up_within: 8h").await;
    assert!(told.contains("stopped; it fires at no time by itself"), "{told}");
    assert_eq!(ticks(&it).await, "", "a campaign that is stopped does not fire");
}

#[tokio::test]
async fn a_firing_whose_people_are_found_when_it_is_too_late_is_missed() {
    for (schedule, tick, expected) in [
        ("cron: '0 0 1 1 *'", "('drip', now() - interval '9 hours', 1, 'new', false)", "missed/too_late"),
        ("cron: '0 0 1 1 *'", "('drip', now() - interval '7 hours', 1, 'new', false)", "done"),
        (
            "cron: '0 0 1 1 *', catch_up: skip",
            "('drip', now() - interval '3 hours', 1, 'new', false)",
            "missed/too_late",
        ),
        ("cron: '0 0 1 1 *', catch_up: skip", "('drip', now() - interval '1 hour', 1, 'new', false)", "done"),
        ("cron: '0 0 1 1 *'", "('drip', now() - interval '9 hours', 1, 'new', true)", "done"),
    ] {
        let it = Harness::start().await;
        it.apply(&file(&format!("{TWENTY}\nschedule: {{ {schedule} }}"), "[{ send: { body: Hi } }]")).await;
        let sql = format!("insert into outbox.ticks (campaign, at, version, state, manual) values {tick}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(it.pool()).await.expect("inserted");
        it.settle(&it.engine()).await;
        assert_eq!(ticks(&it).await, expected, "{schedule}: {tick}");
    }
    // Behind another one it waited for its turn.
    let it = Harness::start().await;
    it.apply(&file(&format!("{TWENTY}\nschedule: {{ cron: '0 0 1 1 *' }}"), "[{ send: { body: Hi } }]")).await;
    it.execute(
        "insert into outbox.ticks (campaign, at, version, state, finished_at)
         values ('drip', now() - interval '10 hours', 1, 'done', now()), ('drip', now() - interval '9 hours', 1, 'new', null)",
    )
    .await;
    it.settle(&it.engine()).await;
    assert_eq!(ticks(&it).await, "done done");
}

#[tokio::test]
async fn i12_a_query_that_fails_on_a_row_says_nothing_of_what_stands_there() {
    let it = Harness::start().await;
    it.execute(
        "create table people (note text); insert into people values ('+1 555 014-2200');
         create domain short as text constraint is_short check (length(value) < 3);
         create function public.shout(said text, code text) returns text language plpgsql as
         $$ begin raise exception '% is wrong', said using errcode = code; end $$",
    )
    .await;
    let directory = tempfile::tempdir().expect("made");
    let path = directory.path().join("drip.yaml");
    let plan = async |source: &str| {
        std::fs::write(&path, source).expect("written");
        it.run(&["campaign", "plan", path.to_str().expect("UTF-8")]).await
    };
    for (column, told) in [
        ("note::bigint", "22P02: a value does not fit the type it is cast to"),
        ("note::date", "22007: a value is no date or time"),
        ("note::short", "23514: a value breaks a constraint"),
        ("public.shout(note, 'P0001')", "P0001: a function that it calls raised an exception"),
        ("public.shout(note, '57014')", "57014: a function that it calls raised an exception"),
        ("to_tsquery(note || ' &')", "42601: a value is taken for a name or for syntax"),
        ("(note || 'x')::regtype", "42601: a value is taken for a name or for syntax"),
    ] {
        let audience = format!("audience: {{ sql: \"select '{ANN}' as phone, {column} as more from people\" }}");
        let source = file(&format!("{audience}\nschedule: {{ manual: true }}"), "[{ send: { body: Hi } }]");
        it.execute("delete from outbox.ticks").await;
        it.apply(&source).await;
        it.run(&["campaign", "run", "drip"]).await;
        it.settle(&it.engine()).await;
        let (code, shown, error) = plan(&source).await;
        assert_eq!(code, 1, "{shown}");
        for said in [it.text("select error from outbox.ticks").await, format!("{shown}{error}")] {
            assert!(said.contains(told) && !said.contains("555") && !said.contains("014-2200"), "{column}: {said}");
        }
    }
    // What a function only warns of would be logged.
    it.execute(
        "create function public.mutter(said text) returns text language plpgsql as
         $$ begin raise warning '% is odd', said; return said; end $$",
    )
    .await;
    let muttered = format!("audience: {{ sql: \"select '{ANN}' as phone, public.mutter(note) as more from people\" }}");
    let (code, shown, error) =
        plan(&file(&format!("{muttered}\nschedule: {{ manual: true }}"), "[{ send: { body: Hi } }]")).await;
    assert!(code == 0 && !error.contains("014-2200"), "{shown}{error}");
}

#[tokio::test]
async fn a_version_that_this_release_cannot_read_holds_up_no_other_campaign_and_loses_no_firing() {
    let it = Harness::start().await;
    for state in ["new", "enrolling"] {
        it.execute("delete from outbox.ticks; delete from outbox.enrolments").await;
        let source = file(&format!("{TWENTY}\nschedule: {{ manual: true }}"), "[{ send: { body: Hi } }]");
        it.apply(&source).await;
        it.apply(&source.replace("name: drip", "name: good")).await;
        it.run(&["campaign", "run", "drip"]).await;
        if state == "enrolling" {
            it.execute(
                "insert into outbox.audience_rows (audience, n, phone) values (1000, 1, '+15550142200');
                 update outbox.ticks set state = 'enrolling', audience = 1000",
            )
            .await;
        }
        it.run(&["campaign", "run", "good"]).await;
        it.execute(
            "create table kept as select * from outbox.campaign_versions;
             update outbox.campaign_versions set definition = '{\"next\": 2}' where campaign = 'drip'",
        )
        .await;
        let engine = it.engine();
        it.settle(&engine).await;
        let told = "select campaign || '/' || state || '/' || failures from outbox.ticks order by campaign";
        assert_eq!(it.text(told).await, format!("drip/{state}/0 good/done/0"));
        assert_eq!(it.scalar("select count(*) from outbox.enrolments where campaign = 'good'").await, 20);
        let waits = "select (again_at > now() + interval '50 seconds')::text from outbox.ticks where campaign = 'drip'";
        assert_eq!(it.text(waits).await, "true");
        it.execute(
            "update outbox.campaign_versions v set definition = k.definition from kept k where (k.campaign, k.version) = (v.campaign, v.version);
             drop table kept;
             update outbox.ticks set again_at = now() where campaign = 'drip'",
        )
        .await;
        it.settle(&engine).await;
        assert_eq!(it.text(told).await, "drip/done/0 good/done/0");
    }
}

#[tokio::test]
async fn a_campaign_whose_version_cannot_be_read_says_so_in_its_status_and_once_in_the_log() {
    let it = Harness::start().await;
    let source = file(&format!("{TWENTY}\nschedule: {{ cron: '0 0 1 1 *' }}"), "[{ send: { body: Hi } }]");
    it.apply(&source).await;
    it.apply(&source.replace("name: drip", "name: good")).await;
    it.execute(
        "update outbox.campaign_versions set definition = '{\"next\": 2}' where campaign = 'drip';
         update outbox.campaigns set next_at = now() - interval '1 hour' where name = 'drip'",
    )
    .await;
    let mut command = it.binary();
    command.args(["worker", "--roles", "campaigns"]).stderr(Stdio::piped());
    let mut worker = command.spawn().expect("starts");
    // Each firing of the one is another look at the other.
    for fired in 1..=4 {
        it.execute("update outbox.campaigns set next_at = now() where name = 'good'").await;
        let ticks = "select count(*) from outbox.ticks where campaign = 'good'";
        it.until("the other one fires", || async { it.scalar(ticks).await == fired }).await;
    }
    worker.start_kill().expect("it runs");
    let said = worker.wait_with_output().await.expect("it ends").stderr;
    let said = String::from_utf8(said).expect("UTF-8");
    assert_eq!(said.matches("does not fire until a release can read its version 1").count(), 1, "{said}");
    let (code, told, _) = it.run(&["campaign", "status", "drip"]).await;
    let line = "version 1 cannot be read by this release, so that it does not fire, and people in it wait: its definition is none";
    assert!(code == 0 && told.contains(line), "{told}");
    let (_, told, _) = it.run(&["campaign", "status", "drip", "--json"]).await;
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["unreadable"][0]["version"], 1);
}

#[tokio::test]
async fn who_stands_there_twice_is_enrolled_by_the_row_that_is_none_the_worse() {
    let it = Harness::start().await;
    let rows = "select '+15550142200' as phone, repeat('x', 40000) as name union all select '+15550142200', 'Ann' \
                union all select '+15550142200', 'Ann again'";
    let audience = format!("audience: {{ sql: \"{rows}\" }}\nschedule: {{ manual: true }}");
    it.apply(&file(
        &format!("{audience}\nvariables: {{ name: {{ missing: hold }} }}"),
        "[{ send: { body: 'Hi {{ name }}' } }]",
    ))
    .await;
    it.run(&["campaign", "run", "drip"]).await;
    it.settle(&it.engine()).await;
    assert_eq!(
        it.text("select n || '/' || reason from outbox.exclusions order by n").await,
        "1/unreadable 3/duplicate"
    );
    assert_eq!(it.text("select body from outbox.jobs").await, "Hi Ann");
}

#[tokio::test]
async fn a_transaction_that_stays_open_after_enrolling_somebody_holds_up_only_their_own_firing() {
    let it = Harness::start().await;
    let source = file(&format!("{TWENTY}\nschedule: {{ manual: true }}"), "[{ send: { body: Hi } }]");
    it.apply(&source).await;
    it.apply(&source.replace("name: drip", "name: good")).await;
    it.apply(&file("", "[{ send: { body: Hi } }]").replace("name: drip", "name: other")).await;
    let mut application = it.pool().begin().await.expect("begins");
    sqlx::query("select outbox.enrol('drip', '+15550140007')").execute(&mut *application).await.expect("enrolled");
    it.scalar("select outbox.enrol('other', '+15550142200')").await;
    it.run(&["campaign", "run", "drip"]).await;
    it.run(&["campaign", "run", "good"]).await;
    let engine = it.engine();
    tokio::time::timeout(Duration::from_secs(15), it.settle(&engine)).await.expect("it waits for nobody");
    assert_eq!(it.count("campaign = 'other'").await, 1, "who is due has their job");
    let told =
        "select campaign || '/' || state || '/' || enrolled || '/' || failures from outbox.ticks order by campaign";
    assert_eq!(it.text(told).await, "drip/enrolling/0/0 good/done/20/0");
    application.commit().await.expect("committed");
    it.execute("update outbox.ticks set again_at = now() where finished_at is null").await;
    it.settle(&engine).await;
    assert_eq!(it.text(told).await, "drip/done/19/0 good/done/20/0", "the application has enrolled one");
    assert_eq!(it.scalar("select count(*) from outbox.enrolments where campaign = 'drip'").await, 20);
}

#[tokio::test]
async fn a_firing_is_recorded_while_nobody_goes_on() {
    let it = Harness::start().await;
    let source = format!("audience: {{ sql: \"select '{ANN}' as phone\" }}\nschedule: {{ cron: '0 0 1 1 *' }}");
    it.apply(&file(&source, "[{ send: { body: Hi } }]")).await;
    let mut holder = it.pool().begin().await.expect("begins");
    sqlx::query("lock table outbox.enrolments").execute(&mut *holder).await.expect("locked");
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let engine = it.engine();
    let working = tokio::spawn(async move { engine.run(stopping).await });
    let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    it.until("those who go on are waited for", || async { it.scalar(waits).await == 1 }).await;
    it.execute("update outbox.campaigns set next_at = now()").await;
    it.until("it is recorded", || async { it.scalar("select count(*) from outbox.ticks").await == 1 }).await;
    holder.rollback().await.expect("lets go");
    stop.send(true).expect("it listens");
    working.await.expect("it stops");
}

#[tokio::test]
async fn the_people_of_one_campaign_do_not_wait_behind_the_list_of_another() {
    let it = Harness::start().await;
    let campaign = |name: &str, people: u32| {
        let rows = format!("select '+1555' || lpad(n::text, 7, '0') as phone from generate_series(1, {people}) n");
        let source = format!("audience: {{ sql: \"{rows}\" }}\nschedule: {{ manual: true }}");
        file(&source, "[{ send: { body: Hi } }]").replace("name: drip", &format!("name: {name}"))
    };
    it.apply(&campaign("long", 25_000)).await;
    it.apply(&campaign("short", 3)).await;
    for name in ["long", "short"] {
        assert_eq!(it.run(&["campaign", "run", name]).await.0, 0);
    }
    let engine = it.engine();
    for _ in 0..2 {
        engine.pass().await.expect("the engine works");
    }
    assert_eq!(it.text("select state from outbox.ticks order by id").await, "enrolling done");
}
