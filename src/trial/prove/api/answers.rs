//! Answers that come late, broken, wrong or not at all, one by one, while others arrive: each call alone must find out
//! what became of its message.

use std::time::Duration;

use super::{RECIPIENTS, all_ended, all_sent, happened, left_attempts, look, require, setup, start, strike};
use crate::simulate::Faults;
use crate::trial::prove::{ProveError, Setup, World};

/// Some are over the time-out of 1 s.
pub(super) fn slow() -> Setup {
    let mut setup = setup();
    (setup.simulator.latency, setup.simulator.latency_jitter) = (Duration::ZERO, Duration::from_millis(1_200));
    setup
}

pub(super) async fn latency(world: &mut World) -> Result<(), ProveError> {
    start(world).await?;
    let seen = all_sent(world).await?;
    happened(world, "answers too late", seen.attempts("unknown"), 3);
    happened(world, "asked again", seen.calls.replays, 1);
    Ok(())
}

pub(super) async fn drops(world: &mut World) -> Result<(), ProveError> {
    start(world).await?;
    strike(world, Faults { drop_before: 0.15, drop_after: 0.15, ..Faults::default() }, 0.7).await?;
    let seen = all_sent(world).await?;
    let (before, after) = (seen.faults("drop_before"), seen.faults("drop_after"));
    happened(world, "dropped before", before, 1);
    happened(world, "after", after, 1);
    happened(world, "asked again", seen.calls.replays, 1);
    left_attempts(world, &seen, "unknown", before + after);
    Ok(())
}

pub(super) async fn half_answers(world: &mut World) -> Result<(), ProveError> {
    start(world).await?;
    strike(world, Faults { half_answer: 0.3, ..Faults::default() }, 0.7).await?;
    let seen = all_sent(world).await?;
    let halves = seen.faults("half_answer");
    happened(world, "half answers", halves, 10);
    happened(world, "asked again", seen.calls.replays, 1);
    left_attempts(world, &seen, "unknown", halves);
    Ok(())
}

pub(super) async fn bursts(world: &mut World) -> Result<(), ProveError> {
    const BURST: u64 = 25;
    start(world).await?;
    for share in [0.2, 0.4] {
        world.until_ended(share).await?;
        let enough = look(world).await?.faults("error") + BURST;
        world.faults(Faults { error_5xx: 1.0, ..Faults::default() })?;
        let chert = &world.simulator.handle();
        let errors = || chert.calls().faults.get("error").copied().unwrap_or(0);
        world.until("a burst has struck", || async { Ok(errors() >= enough) }).await?;
        world.faults(Faults::default())?;
    }
    let seen = all_sent(world).await?;
    let errors = seen.faults("error");
    happened(world, "answers 5xx", errors, 2 * BURST);
    left_attempts(world, &seen, "retry", errors);
    Ok(())
}

pub(super) fn deduplicating() -> Setup {
    let mut setup = setup();
    setup.simulator.dedup_window = Some(Duration::from_secs(300));
    setup
}

/// An answer `duplicate` means another job's message; one's own message, asked for again by its key, is still `sent`.
pub(super) async fn duplicates(world: &mut World) -> Result<(), ProveError> {
    world.faults(Faults { drop_after: 0.1, ..Faults::default() })?;
    world.insert_everybody_twice(RECIPIENTS).await?;
    world.start_worker()?;
    world.start_worker()?;
    let seen = all_ended(world).await?;
    let (sent, otherwise) = (world.progress().await?.sent, world.progress().await?.ended_otherwise);
    let each = u64::from(RECIPIENTS);
    require(world, (sent, otherwise) == (each, each), || {
        format!("{sent} sent and {otherwise} duplicates, not {each} each")
    });
    happened(world, "duplicates", seen.calls.duplicates, each);
    happened(world, "answers lost", seen.faults("drop_after"), 1);
    happened(world, "asked again", seen.calls.replays, 1);
    Ok(())
}
