//! SIGKILL to workers: at random, and at the points where it hurts most.

use std::time::Duration;

use rand::RngExt as _;

use crate::failpoint::{self, Point};
use crate::simulate::Faults;
use crate::trial::prove::{ProveError, Scenario, Setup, World};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "kill-random",
        breaks: "SIGKILL of workers at random; answers lost",
        quick: false,
        setup,
        play: |world| Box::pin(kill_at_random(world)),
    },
    Scenario {
        name: "kill-after-claim",
        breaks: "SIGKILL after a claim is committed",
        quick: false,
        setup,
        play: |world| Box::pin(kill_at(world, Point::AfterClaim)),
    },
    Scenario {
        name: "kill-before-call",
        breaks: "SIGKILL in the slot, before the call",
        quick: false,
        setup,
        play: |world| Box::pin(kill_at(world, Point::BeforeCall)),
    },
    Scenario {
        name: "kill-after-accept",
        breaks: "SIGKILL after Chert took the message, before its answer",
        quick: true,
        setup: slow_answers,
        play: |world| Box::pin(kill_after_accept(world)),
    },
    Scenario {
        name: "kill-after-answer",
        breaks: "SIGKILL after the answer, before the record",
        quick: false,
        setup,
        play: |world| Box::pin(kill_at(world, Point::AfterAnswer)),
    },
    Scenario {
        name: "kill-in-record",
        breaks: "SIGKILL in the middle of a recorded batch",
        quick: false,
        setup,
        play: |world| Box::pin(kill_at(world, Point::InRecord)),
    },
    Scenario {
        name: "kill-after-record",
        breaks: "SIGKILL after the record is committed",
        quick: false,
        setup,
        play: |world| Box::pin(kill_at(world, Point::AfterRecord)),
    },
];

const JOBS: usize = 200;
const RECIPIENTS: u32 = 100;

/// Many lines and small hands: what a dead worker held waits for its lease, and so does everybody behind it.
fn setup() -> Setup {
    Setup { lines: 80, worker_env: vec![("OUTBOX_CONCURRENCY", "16".to_owned())], ..Setup::default() }
}

/// One worker stays, another is killed again and again.
async fn kill_at_random(world: &mut World) -> Result<(), ProveError> {
    world.faults(Faults { drop_after: 0.05, drop_before: 0.03, ..Faults::default() })?;
    world.insert(JOBS, RECIPIENTS).await?;
    world.start_worker()?;
    world.start_worker()?;
    let mut kills = 0;
    while world.progress().await?.ended() < world.inserted * 9 / 10 && kills < 20 {
        let life = Duration::from_millis(world.rng.random_range(300..900));
        tokio::time::sleep(life).await;
        world.kill_any_worker().await?;
        world.start_worker()?;
        kills += 1;
    }
    world.notes.push(format!("{kills} kills"));
    Ok(())
}

/// A worker that dies by itself at this point, replaced each time by one that dies there a little later.
async fn kill_at(world: &mut World, point: Point) -> Result<(), ProveError> {
    if !failpoint::ARE_BUILT_IN {
        return Err(ProveError::Skipped("release builds have no failpoints: use make prove".to_owned()));
    }
    const DEATHS: usize = 6;
    world.insert(JOBS, RECIPIENTS).await?;
    let mut deaths = 0;
    while deaths < DEATHS && world.progress().await?.ended() < world.inserted {
        while world.workers.len() < 2 {
            let times = world.rng.random_range(1..=4);
            world.start_worker_with(&[(failpoint::VARIABLE, format!("{}={times}", point.name()))])?;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        deaths += world.reap()?;
    }
    if deaths == 0 {
        world.findings.push(format!("no worker died at {}", point.name()));
    }
    world.notes.push(format!("{deaths} deaths"));
    for index in (0..world.workers.len()).rev() {
        world.kill_worker(index).await?;
    }
    Ok(())
}

fn slow_answers() -> Setup {
    let mut setup = setup();
    setup.simulator.latency = Duration::from_millis(300);
    setup
}

/// Kills a worker at moments when it waits for the answer to a message that is on its phone.
async fn kill_after_accept(world: &mut World) -> Result<(), ProveError> {
    const KILLS: usize = 6;
    world.insert(JOBS, RECIPIENTS).await?;
    world.start_worker()?;
    let phones = world.simulator.handle();
    for _ in 0..KILLS {
        let before = phones.ledger_len();
        let handle = phones.clone();
        world
            .until("the worker has a message on a phone", || {
                let handle = handle.clone();
                async move { Ok(handle.ledger_len() > before) }
            })
            .await?;
        // Nothing that arrived less than 300 ms ago is answered yet.
        world.kill_any_worker().await?;
        world.start_worker()?;
    }
    world.notes.push(format!("{KILLS} kills"));
    Ok(())
}
