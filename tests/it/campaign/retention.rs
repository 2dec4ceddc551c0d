//! What campaigns leave behind, and when it goes; nobody is enrolled again for that.

use std::time::Duration;

use chert_outbox::outbox::prune::{self, Kind, Mark};

use crate::campaign::{ANN, BOB, CID, DOT, file};
use crate::harness::Harness;

const HI: &str = "[{ send: { body: Hi } }]";
const AGES: [&str; 8] = ["--enrolments", "30d", "--goals", "30d", "--firings", "30d", "--replaced-files", "30d"];

async fn purge(it: &Harness, args: &[&str]) -> serde_json::Value {
    let (code, told, error) = it.run(&[&["purge", "--json"], args].concat()).await;
    assert_eq!(code, 0, "{error}");
    serde_json::from_str(&told).expect("JSON")
}

/// What a purge says of each kind: rows, and how many of as old ones are kept.
fn counts(told: &serde_json::Value) -> Vec<(String, i64, i64)> {
    let told = told.as_array().expect("a list").iter();
    told.map(|kind| {
        let number = |name: &str| kind[name].as_i64().expect("a number");
        (kind["what"].as_str().expect("a text").to_owned(), number("rows"), number("kept"))
    })
    .collect()
}

#[tokio::test]
async fn nobody_is_enrolled_again_since_their_enrolment_was_deleted() {
    for (again, kept) in [("never", 1), ("after 60d", 1), ("after 40d", 0), ("always", 0)] {
        let it = Harness::start().await;
        it.apply(&file(&format!("audience: {{ enrolled: true, again: {again} }}"), HI)).await;
        it.enrol(ANN).await;
        it.settle(&it.engine()).await;
        it.drain().await;
        it.settle(&it.engine()).await;
        it.execute("update outbox.enrolments set created_at = now() - interval '50 days', finished_at = now() - interval '49 days'").await;
        assert_eq!(
            counts(&purge(&it, &["--enrolments", "30d"]).await),
            [("enrolments".to_owned(), 1 - kept, kept)],
            "{again}"
        );
        purge(&it, &["--enrolments", "30d", "--yes"]).await;
        let left = "select count(*) from outbox.enrolments";
        assert_eq!(it.scalar(left).await, kept, "{again}");
        it.enrol(ANN).await;
        assert_eq!(it.scalar(left).await, 1, "{again}");
        it.settle(&it.engine()).await;
        let again_now = kept == 0;
        assert_eq!(it.count("true").await, if again_now { 2 } else { 1 }, "{again}");
    }
}

#[tokio::test]
async fn an_earlier_round_goes_and_what_still_decides_stays() {
    let it = Harness::start().await;
    it.apply(&file("", HI)).await;
    let ended = "insert into outbox.enrolments (campaign, version, phone, round, state, reason, due_at, finished_at)
                 values ('drip', 1, '+15550142200', 1, 'done', null, null, now() - interval '90 days'),
                        ('drip', 1, '+15550142200', 2, 'done', null, null, now() - interval '80 days'),
                        ('drip', 1, '+15550142201', 1, 'stopped', 'replied', null, now() - interval '80 days'),
                        ('drip', 1, '+15550142201', 2, 'active', null, now() + interval '1 day', null)";
    it.execute(ended).await;
    // A message of the one that was stopped by a reply is still on its way: the enrolment is what ends it.
    it.execute(
        "insert into outbox.jobs (phone, body, campaign, enrolment, step) select phone, 'Hi', campaign, id, 0 from outbox.enrolments where reason = 'replied';
         update outbox.enrolments set job_id = (select id from outbox.jobs) where reason = 'replied'",
    )
    .await;
    // A firing goes through people by the rule of its own version.
    it.execute("insert into outbox.ticks (campaign, at, version, state) values ('drip', now(), 1, 'new')").await;
    assert_eq!(counts(&purge(&it, &["--enrolments", "30d", "--yes"]).await), [("enrolments".to_owned(), 0, 3)]);
    it.execute("update outbox.ticks set state = 'done', finished_at = now()").await;
    it.execute("update outbox.jobs set state = 'sending', lease_until = now() + interval '1 minute', worker = 'w', idempotency_key = 'k'").await;
    assert_eq!(counts(&purge(&it, &["--enrolments", "30d"]).await), [("enrolments".to_owned(), 1, 2)]);
    assert_eq!(counts(&purge(&it, &["--enrolments", "30d", "--yes"]).await), [("enrolments".to_owned(), 1, 2)]);
    it.execute("update outbox.jobs set state = 'queued', lease_until = null, worker = null, idempotency_key = null")
        .await;
    assert_eq!(counts(&purge(&it, &["--enrolments", "30d", "--yes"]).await), [("enrolments".to_owned(), 0, 2)]);
    it.drain().await;
    assert_eq!((it.text("select state from outbox.jobs").await.as_str(), it.ledger().len()), ("canceled", 0));
    assert_eq!(counts(&purge(&it, &["--enrolments", "30d", "--yes"]).await), [("enrolments".to_owned(), 1, 1)]);
    let rest = "select phone || '/' || round from outbox.enrolments order by id";
    assert_eq!(it.text(rest).await, "+15550142200/2 +15550142201/2");
}

#[tokio::test]
async fn firings_goals_and_replaced_files_go_with_all_their_rows_and_what_is_needed_stays() {
    let it = Harness::start().await;
    let directory = tempfile::tempdir().expect("made");
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("written");
    write("drip.yaml", &file("audience: { csv: people.csv }\nschedule: { manual: true }", HI));
    let yaml = directory.path().join("drip.yaml");
    for people in [[ANN, BOB, "nobody"], [CID, DOT, "nobody"]] {
        write("people.csv", &format!("phone\n{}\n", people.join("\n")));
        let (code, _, error) =
            it.run(&["campaign", "apply", yaml.to_str().expect("UTF-8"), "--leave-out-bad", "--yes"]).await;
        assert_eq!(code, 0, "{error}");
        it.run(&["campaign", "run", "drip"]).await;
        it.settle(&it.engine()).await;
    }
    // More than a batch of people left out, and a query of which a stop left rows.
    it.execute(
        "insert into outbox.exclusions (tick_id, n, reason) select 1, n, 'suppressed' from generate_series(100, 2500) n;
         insert into outbox.ticks (campaign, at, version, state, audience, finished_at) values ('drip', now(), 1, 'skipped', 900, now());
         insert into outbox.audience_rows (audience, n, phone) select 900, n, '+15550142200' from generate_series(1, 1500) n;
         select outbox.goal('drip', '+15550142200')",
    )
    .await;
    let all = "select (select count(*) from outbox.ticks) + (select count(*) from outbox.exclusions) + (select count(*) from outbox.goals)
                    + (select count(*) from outbox.audience_rows)";
    let before = it.scalar(all).await;
    assert!(counts(&purge(&it, &[&AGES as &[&str], &["--yes"]].concat()).await).iter().all(|(_, rows, _)| *rows == 0));
    assert_eq!(it.scalar(all).await, before, "nothing of it is old");
    it.execute(
        "update outbox.ticks set finished_at = finished_at - interval '40 days'; update outbox.goals set reached_at = reached_at - interval '40 days';
         update outbox.campaign_versions set created_at = created_at - interval '40 days'",
    )
    .await;
    // While a firing of the replaced version goes through its people, they stay.
    it.execute("insert into outbox.ticks (campaign, at, version, state, audience) select campaign, now() + interval '1 day', 1, 'enrolling', audience from outbox.campaign_versions where version = 1").await;
    for args in [&["--replaced-files", "30d"][..], &["--replaced-files", "30d", "--yes"]] {
        assert_eq!(counts(&purge(&it, args).await), [("replaced files".to_owned(), 0, 6)]);
    }
    it.execute("delete from outbox.ticks where finished_at is null").await;
    let told = [("enrolments", 0, 0), ("goals", 1, 0), ("firings", 3 + 2403 + 1500, 0), ("replaced files", 3, 3)]
        .map(|(what, rows, kept)| (what.to_owned(), rows, kept));
    assert_eq!(counts(&purge(&it, &AGES).await), told);
    assert_eq!(it.scalar(all).await, before, "it was only said");
    let deleted = purge(&it, &[&AGES as &[&str], &["--yes"]].concat()).await;
    assert!(deleted.as_array().expect("a list").iter().all(|kind| kind["deleted"] == kind["rows"]), "{deleted}");
    assert_eq!(it.scalar(all).await, 3, "the people of the newest version's file stay");
    it.run(&["campaign", "run", "drip"]).await;
    it.settle(&it.engine()).await;
    assert_eq!(it.text("select people || ' ' || enrolled from outbox.ticks").await, "3 0", "and are known");
}

#[tokio::test]
async fn what_stays_does_not_hide_what_goes() {
    let it = Harness::start().await;
    it.apply(&file("", HI)).await;
    // More than one look takes in, all older than the one that goes.
    it.execute(
        "insert into outbox.enrolments (campaign, version, phone, round, state, due_at, finished_at)
         select 'drip', 1, '+1' || (2000000000 + n), 1, 'done', null, now() - interval '90 days' from generate_series(1, 5200) n;
         insert into outbox.enrolments (campaign, version, phone, round, state, due_at, finished_at)
         values ('drip', 1, '+12000005200', 2, 'done', null, now() - interval '60 days'),
                ('drip', 1, '+12000005200', 3, 'done', null, now() - interval '50 days')",
    )
    .await;
    let told = purge(&it, &["--enrolments", "30d", "--yes"]).await;
    assert_eq!((&told[0]["deleted"], &told[0]["kept"]), (&2.into(), &5200.into()), "{told}");
}

#[tokio::test]
async fn a_job_that_an_enrolment_still_asks_for_stays() {
    let it = Harness::start().await;
    let steps = "[{ send: { body: one } }, { wait: 100d }, { branch: { if: delivered, then: [{ send: { body: well } }], else: [{ send: { body: lost } }] } }]";
    it.apply(&file("", steps)).await;
    it.enrol(ANN).await;
    it.enrol(BOB).await;
    let engine = it.engine();
    it.settle(&engine).await;
    it.drain().await;
    it.settle(&engine).await;
    it.execute(
        "update outbox.jobs set delivered_at = sent_at;
         update outbox.jobs set sent_at = sent_at - interval '100 days', finished_at = finished_at - interval '100 days';
         update outbox.enrolments set state = 'stopped', reason = 'replied', due_at = null, ready = false, finished_at = now() where id = 2",
    )
    .await;
    let expected = [("finished jobs".to_owned(), 1, 1)];
    assert_eq!(counts(&purge(&it, &["--finished-jobs", "90d"]).await), expected);
    let told = purge(&it, &["--finished-jobs", "90d", "--yes"]).await;
    assert_eq!((counts(&told), &told[0]["deleted"]), (expected.to_vec(), &1.into()), "of one who goes no further");
    it.time_passes().await;
    it.settle(&engine).await;
    it.drain().await;
    assert_eq!(it.texts()[ANN], ["one", "well"]);
}

#[tokio::test]
async fn a_message_stays_while_a_cap_counts_it() {
    let it = Harness::start().await;
    it.apply(&file("caps: { per_recipient: 1 in 180d }", HI)).await;
    it.apply(&file("caps: { per_recipient: 1 in 7d }", HI).replace("drip", "other")).await;
    // To Ann by a campaign within the longer cap, to Bob by a campaign before it, to Cid by the application; to Dot nothing went out.
    it.execute(
        "insert into outbox.jobs (phone, body, campaign, state, reason, sent_at, finished_at)
         select phone, 'old', campaign, state, reason, case when state = 'sent' then at end, at
           from (values ('+15550142200', 'gone', 'sent', null, now() - interval '179 days'), ('+15550142201', 'gone', 'sent', null, now() - interval '181 days'),
                        ('+15550142202', null, 'sent', null, now() - interval '100 days'), ('+15550142203', 'gone', 'failed', 'rejected', now() - interval '100 days'))
             as j (phone, campaign, state, reason, at)",
    )
    .await;
    let expected = [("finished jobs".to_owned(), 3, 1)];
    assert_eq!(counts(&purge(&it, &["--finished-jobs", "90d"]).await), expected);
    let told = purge(&it, &["--finished-jobs", "90d", "--yes"]).await;
    assert_eq!((counts(&told), &told[0]["deleted"]), (expected.to_vec(), &3.into()));
    for phone in [ANN, BOB] {
        it.enrol(phone).await;
    }
    it.settle(&it.engine()).await;
    assert_eq!(
        it.text("select phone || '/' || body from outbox.jobs order by id").await,
        format!("{ANN}/old {BOB}/Hi")
    );
}

#[tokio::test]
async fn jobs_that_stay_do_not_hide_those_that_go() {
    let it = Harness::start().await;
    // More than one look takes in, all older than those that go.
    it.execute(
        "insert into outbox.enrolments (campaign, version, phone) select 'drip', 1, '+1' || (2000000000 + n) from generate_series(1, 5200) n;
         insert into outbox.jobs (phone, body, campaign, enrolment, state, sent_at, finished_at)
         select phone, 'old', campaign, id, 'sent', now() - interval '100 days', now() - interval '100 days' from outbox.enrolments;
         insert into outbox.jobs (phone, body, state, sent_at, finished_at)
         select '+1' || (2000000000 + n), 'old', 'sent', now() - interval '95 days', now() - interval '95 days' from generate_series(1, 1200) n",
    )
    .await;
    let told = purge(&it, &["--finished-jobs", "90d", "--yes"]).await;
    assert_eq!((&told[0]["deleted"], &told[0]["kept"]), (&1200.into(), &5200.into()), "{told}");
}

#[tokio::test]
async fn i01_a_job_that_is_tried_again_or_parked_after_it_was_found_old_stays() {
    let it = Harness::start().await;
    it.execute(
        "insert into outbox.jobs (phone, body, state, reason, finished_at)
         select phone, 'old', 'failed', 'rejected', now() - interval '100 days'
           from unnest(array['+15550142200', '+15550142201', '+15550142202']) phone",
    )
    .await;
    let before = prune::before(it.pool(), Duration::from_secs(90 * 86_400)).await.expect("answers");
    // What is old can be read, and not be locked.
    let mut somebody = it.pool().begin().await.expect("begins");
    sqlx::raw_sql("lock table outbox.jobs in exclusive mode").execute(&mut *somebody).await.expect("locks");
    let mut mark = Mark::default();
    let pruning = prune::prune(it.pool(), Kind::FinishedJobs, before, &mut mark);
    let changing = async {
        let waits = "select count(*) from pg_locks where not granted and relation = 'outbox.jobs'::regclass";
        it.until("it wants to lock them", || async { it.scalar(waits).await == 1 }).await;
        let change =
            "update outbox.jobs set state = 'queued', reason = null, finished_at = null where phone = '+15550142200';
             update outbox.jobs set state = 'parked', reason = 'outcome_unknown' where phone = '+15550142201'";
        sqlx::raw_sql(change).execute(&mut *somebody).await.expect("changes");
        somebody.commit().await.expect("lets go");
    };
    let (deleted, ()) = tokio::join!(pruning, changing);
    assert_eq!(deleted.expect("prunes"), 1);
    assert_eq!(it.text("select state from outbox.jobs order by phone").await, "queued parked");
}
