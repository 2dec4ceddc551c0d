//! Workers that stand still, and clocks that jump.

use std::time::Duration;

use rand::RngExt as _;

use crate::trial::facts;
use crate::trial::prove::{Machine, ProveError, Scenario, Setup, World};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "worker-frozen",
        breaks: "SIGSTOP of workers past their leases, then SIGCONT",
        quick: false,
        setup: slow_answers,
        play: |world| Box::pin(freeze_past_leases(world)),
    },
    Scenario {
        name: "worker-stalled",
        breaks: "SIGSTOP of workers for moments, again and again",
        quick: false,
        setup: many_lines,
        play: |world| Box::pin(freeze(world, 12, Duration::from_millis(100)..Duration::from_millis(1_500))),
    },
    Scenario {
        name: "clock-set",
        breaks: "Postgres's clock set forward by ten minutes, and back by five seconds",
        quick: false,
        setup: with_a_clock,
        play: |world| Box::pin(set_clock(world)),
    },
];

/// First touches lie 3 s apart, so that a jump would let many of them go at once.
fn with_a_clock() -> Setup {
    let first_touch_gap = Duration::from_secs(3);
    Setup { machine: Machine::Clock, lines: 40, first_touch_gap, ..Setup::default() }
}

/// Two workers on lines that keep two gaps. All slots are kept in Postgres's time, which jumps in the middle of it.
async fn set_clock(world: &mut World) -> Result<(), ProveError> {
    world.insert(120, 100).await?;
    world.start_worker()?;
    world.start_worker()?;
    // Back by a little only: what waits for a time waits that much longer.
    for (share, offset_secs) in [(0.2, 600), (0.6, 595)] {
        world.until_ended(share).await?;
        world.server.set_clock(offset_secs)?;
    }
    Ok(())
}

/// So that a worker is likely to stand still while it waits for an answer.
fn slow_answers() -> Setup {
    let mut setup = Setup::default();
    setup.simulator.latency = Duration::from_millis(400);
    setup
}

fn many_lines() -> Setup {
    Setup { lines: 80, ..Setup::default() }
}

/// So long that what was taken over is asked again before the frozen worker goes on, and its answer comes late.
async fn freeze_past_leases(world: &mut World) -> Result<(), ProveError> {
    freeze(world, 2, Duration::from_millis(8_000)..Duration::from_millis(9_000)).await?;
    world.until_ended(1.0).await?;
    let (taken_over, late) = facts::taken_over(&world.pool).await?;
    if taken_over == 0 || late == 0 {
        world.findings.push("nothing was taken over, or no answer came after that: it was not tried".to_owned());
    }
    world.notes.push(format!("{taken_over} jobs taken over, {late} late answers"));
    Ok(())
}

/// Three workers, one of which stands still for a while, again and again. What it held is taken over meanwhile if it is
/// for long; when it goes on it must neither send what is not its own any more, nor catch up on its slots.
async fn freeze(world: &mut World, times: u32, lengths: std::ops::Range<Duration>) -> Result<(), ProveError> {
    const WORKERS: usize = 3;
    world.insert(450, 140).await?;
    for _ in 0..WORKERS {
        world.start_worker()?;
    }
    world.until_ended(0.02).await?;
    let mut frozen = 0;
    let phones = world.simulator.handle();
    while frozen < times && (phones.ledger_len() as u64) < world.inserted {
        // In the middle of the calls of a slot, not between two.
        let before = phones.ledger_len();
        world.until("a message is on a phone", || async { Ok(phones.ledger_len() > before) }).await?;
        let victim = caller(world).await?;
        let length = world.rng.random_range(lengths.clone());
        world.workers[victim].freeze();
        tokio::time::sleep(length).await;
        world.workers[victim].thaw();
        frozen += 1;
        // As long as it takes until it holds jobs again.
        tokio::time::sleep(Duration::from_millis(world.rng.random_range(200..600))).await;
    }
    world.notes.push(format!("{frozen} times"));
    Ok(())
}

/// The worker that waits for the answer about the newest message; any, if it has come.
async fn caller(world: &mut World) -> Result<usize, ProveError> {
    let newest = world.simulator.ledger().pop().and_then(|entry| entry.idempotency_key);
    for (index, worker) in world.workers.iter().enumerate() {
        let held = facts::held_keys(&world.pool, worker.name()).await?;
        if newest.as_ref().is_some_and(|key| held.contains(key)) {
            return Ok(index);
        }
    }
    Ok(world.rng.random_range(0..world.workers.len()))
}
