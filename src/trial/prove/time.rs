//! Workers that stand still, and clocks that jump.

use std::time::Duration;

use rand::RngExt as _;

use crate::trial::prove::{ProveError, Scenario, Setup, World};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "worker-frozen",
        breaks: "SIGSTOP of workers past their leases, then SIGCONT",
        quick: true,
        setup: slow_answers,
        play: |world| Box::pin(freeze(world, 3, Duration::from_millis(5_500)..Duration::from_millis(6_500))),
    },
    Scenario {
        name: "worker-stalled",
        breaks: "SIGSTOP of workers for moments, again and again",
        quick: false,
        setup: Setup::default,
        play: |world| Box::pin(freeze(world, 20, Duration::from_millis(100)..Duration::from_millis(1_500))),
    },
];

/// So that a worker is likely to stand still while it waits for an answer.
fn slow_answers() -> Setup {
    let mut setup = Setup::default();
    setup.simulator.latency = Duration::from_millis(200);
    setup
}

/// Three workers, one of which stands still for a while, again and again. What it held is taken over meanwhile if it is
/// for long; when it goes on it must neither send what is not its own any more, nor catch up on its slots.
async fn freeze(world: &mut World, times: u32, lengths: std::ops::Range<Duration>) -> Result<(), ProveError> {
    const WORKERS: usize = 3;
    world.insert(700, 140).await?;
    for _ in 0..WORKERS {
        world.start_worker()?;
    }
    world.until_ended(0.02).await?;
    let mut frozen = 0;
    while frozen < times && world.progress().await?.ended() < world.inserted {
        let victim = world.rng.random_range(0..WORKERS);
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
