//! Times in which nothing can be sent: dispatch stops with a reason, tries with few calls whether it has passed, and goes
//! on by itself.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use sqlx::PgPool;

use super::{RECIPIENTS, all_sent, happened, left_attempts, look, require, setup, start, strike};
use crate::outbox::account;
use crate::simulate::{AccountChange, DEFAULT_SECRET, Fault, Faults, Rate};
use crate::trial::facts;
use crate::trial::prove::{ProveError, Setup, World};

pub(super) async fn html(world: &mut World) -> Result<(), ProveError> {
    start(world).await?;
    strike(world, Faults { html: 0.25, ..Faults::default() }, 0.25).await?;
    world.faults(Faults { html: 1.0, ..Faults::default() })?;
    only_probes(world).await?;
    world.faults(Faults::default())?;
    let seen = all_sent(world).await?;
    let pages = seen.faults("html");
    happened(world, "pages", pages, 10);
    left_attempts(world, &seen, "retry", pages);
    Ok(())
}

/// Half the usual time-out, so that an outage of many time-outs is short.
pub(super) fn impatient() -> Setup {
    Setup { worker_env: vec![("OUTBOX_HTTP_TIMEOUT", "500ms".to_owned())], ..setup() }
}

pub(super) async fn hang(world: &mut World) -> Result<(), ProveError> {
    start(world).await?;
    world.until_ended(0.25).await?;
    world.faults(Faults { hang: 1.0, ..Faults::default() })?;
    only_probes(world).await?;
    world.faults(Faults::default())?;
    let seen = all_sent(world).await?;
    let hanging = seen.faults("hang");
    happened(world, "calls without an answer", hanging, 5);
    left_attempts(world, &seen, "unknown", hanging);
    Ok(())
}

pub(super) async fn refused(world: &mut World) -> Result<(), ProveError> {
    start(world).await?;
    world.until_ended(0.25).await?;
    world.simulator.close().await?;
    only_probes(world).await?;
    world.simulator.open()?;
    let seen = all_sent(world).await?;
    happened(world, "calls refused", seen.attempts("unreachable"), 2);
    Ok(())
}

/// Waits until the workers say that their gates have closed, and why. From then on only probes may come, each after a pause
/// of a second at least.
async fn only_probes(world: &mut World) -> Result<(), ProveError> {
    const WATCHED: Duration = Duration::from_secs(2);
    let pool = &world.pool.clone();
    let closed = || async {
        let all_say_so =
            "select count(*) filter (where dispatch = 'open') = 0 and count(dispatch_reason) > 0 from outbox.workers";
        let all_say_so: bool = sqlx::query_scalar(all_say_so).fetch_one(pool).await?;
        Ok(all_say_so && facts::progress(pool).await?.sending == 0)
    };
    world.until("the gates have closed", closed).await?;
    let (before, began) = (look(world).await?.attempts.total(), Instant::now());
    tokio::time::sleep(WATCHED).await;
    let calls = look(world).await?.attempts.total() - before;
    let most = world.workers.len() as u64 * (2 + began.elapsed().as_secs());
    require(world, calls <= most, || format!("{calls} calls behind closed gates, {most} at most were to come"));
    world.notes.push(format!("{calls} probes"));
    Ok(())
}

/// A halted account is probed soon, so that an outage of several probes is short.
pub(super) fn probing_soon() -> Setup {
    Setup { worker_env: vec![("OUTBOX_PROBE_WAIT", "300ms".to_owned())], ..setup() }
}

pub(super) async fn wrong_secret(world: &mut World) -> Result<(), ProveError> {
    let secret = |secret: &str| AccountChange { secret: Some(secret.to_owned()), ..AccountChange::default() };
    halt(world, secret("another"), secret(DEFAULT_SECRET), 2004).await
}

pub(super) fn signing() -> Setup {
    let mut setup = probing_soon();
    setup.worker_env.extend([("CHERT_AUTH", "hmac".to_owned()), ("CHERT_TENANT", "acme".to_owned())]);
    setup
}

/// The two clocks differ; Chert's is the one that is moved, which the workers cannot tell from their own being off.
pub(super) async fn clock_skew(world: &mut World) -> Result<(), ProveError> {
    const SKEW_SECS: i64 = 600;
    let ahead = |secs: i64| AccountChange { clock_ahead_secs: Some(secs), ..AccountChange::default() };
    let skew_secs = if world.rng.random() { SKEW_SECS } else { -SKEW_SECS };
    halt(world, ahead(skew_secs), ahead(0), 2013).await
}

/// The tenant is at fault for a while. Once the account is halted, with the reason, a worker that starts makes one call,
/// and all of them together make one for each probe that the account counts.
async fn halt(world: &mut World, fault: AccountChange, mended: AccountChange, code: u16) -> Result<(), ProveError> {
    start(world).await?;
    world.until_ended(0.25).await?;
    let (pool, chert) = (&world.pool.clone(), &world.simulator.handle());
    chert.change_account(fault);
    let halted = || async {
        let nothing_under_way = facts::progress(pool).await?.sending == 0;
        Ok(nothing_under_way && account::read(pool).await?.kind.as_deref() == Some("halted"))
    };
    world.until("the account is halted and nothing is under way", halted).await?;
    let before = chert.calls().sends;
    world.start_worker()?;
    let probed = || async { Ok(account::read(pool).await?.probes >= 3 && chert.calls().sends > before) };
    world.until("the account was probed three times", probed).await?;
    let calls = chert.calls().sends - before;
    let account = account::read(pool).await?;
    let most = 1 + u64::from(account.probes.unsigned_abs());
    require(world, calls <= most, || format!("{calls} calls while halted, {most} at most were to come"));
    let told = account.code == Some(i32::from(code)) && account.reason.is_some();
    require(world, told, || format!("the account does not tell of {code}"));
    chert.change_account(mended);
    let seen = all_sent(world).await?;
    happened(world, &format!("calls answered {code}"), seen.attempts("halted"), 2);
    world.notes.push(format!("{calls} of them while halted"));
    Ok(())
}

/// Less than half of what the lines could send.
pub(super) fn rate_limited() -> Setup {
    let mut setup = setup();
    setup.simulator.request_rate = Some(Rate { count: 30, period: Duration::from_secs(1) });
    setup
}

/// Everybody waits as long as Chert asks for, which once is long enough to see that nobody calls meanwhile.
pub(super) async fn too_many_requests(world: &mut World) -> Result<(), ProveError> {
    const LONG_WAIT: Duration = Duration::from_secs(4);
    start(world).await?;
    world.until_ended(0.5).await?;
    let wait = |secs| Fault::Error { code: 1007, status: None, retryable: None, retry_after: Some(secs) };
    // The calls under way are told different waits, and the longest counts.
    let waits = [wait(1), wait(LONG_WAIT.as_secs()), wait(1)];
    let began = Instant::now();
    world.faults(Faults { next: waits.into(), ..Faults::default() })?;
    let (pool, chert) = (&world.pool.clone(), &world.simulator.handle());
    let everybody_waits = || async { Ok(chert.faults().next.is_empty() && facts::progress(pool).await?.sending == 0) };
    world.until("everybody waits", everybody_waits).await?;
    let before = chert.calls().sends;
    let meanwhile = Cell::new(before);
    let wait_is_over = || async {
        // Counted before the account is asked: a call that comes after the wait's end is none that came in between.
        let sends = chert.calls().sends;
        let blocked = account::read(pool).await?.blocked;
        if blocked {
            meanwhile.set(sends);
        }
        Ok(!blocked)
    };
    world.until("the wait is over", wait_is_over).await?;
    let waited = began.elapsed();
    require(world, waited >= LONG_WAIT, || format!("everybody waited for {waited:.1?} of {LONG_WAIT:?}"));
    let calls = meanwhile.get() - before;
    require(world, calls == 0, || format!("{calls} calls while everybody had to wait"));
    let seen = all_sent(world).await?;
    happened(world, "calls answered 1007", seen.attempts("rate_limited"), 2);
    Ok(())
}

/// Deferred, with no attempt spent, and the lines slow down; when it is over all are sent, and the lines recover.
pub(super) async fn saturation(world: &mut World) -> Result<(), ProveError> {
    const SLOWED: i64 = 20;
    start(world).await?;
    world.until_ended(0.2).await?;
    let saturated_lines = (1..=RECIPIENTS).map(|line| format!("pl_{line}")).collect();
    world.faults(Faults { saturated_lines, saturated_retry_after: 1, ..Faults::default() })?;
    let pool = &world.pool.clone();
    world.until("half the lines have slowed down", || async { Ok(slowdowns(pool).await?.0 >= SLOWED) }).await?;
    world.faults(Faults::default())?;
    let (slowed, slowness) = slowdowns(pool).await?;
    let seen = all_sent(world).await?;
    let left = slowdowns(pool).await?.1;
    require(world, left < slowness, || {
        format!("lines that were slowed down {slowness:.1} times still are {left:.1} times")
    });
    happened(world, "answers 4002", seen.attempts("deferred"), 2 * SLOWED.unsigned_abs());
    happened(world, "lines slowed down", slowed.unsigned_abs(), SLOWED.unsigned_abs());
    Ok(())
}

/// How many lines are slower than their own pace, and how many times slower the lines are on average.
async fn slowdowns(pool: &PgPool) -> Result<(i64, f64), sqlx::Error> {
    sqlx::query_as("select count(*) filter (where slowdown > 1), avg(slowdown) from outbox.lines where id <> '*'")
        .fetch_one(pool)
        .await
}
