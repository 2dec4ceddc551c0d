//! People who answer and say stop while webhooks are lost, doubled and reordered, and whoever receives them is killed.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::seq::SliceRandom as _;

use crate::simulate::{Inbound, STOPS, WebhookFaults};
use crate::trial::prove::world::{Suppression, phone};
use crate::trial::prove::{ProveError, Scenario, Setup, World};
use crate::trial::rig::WorkerProcess;

pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "replies",
    breaks: "30 % of the webhooks lost, 20 % doubled, others late; whoever receives them killed every few seconds",
    quick: true,
    setup: || Setup { lines: 80, alone: true, ..Setup::default() },
    play: |world| Box::pin(answer(world)),
}];

const REPLIES: usize = 5_000;
const JOBS: usize = 600;
/// Who is written to; as many others write to us.
const RECIPIENTS: u32 = 200;
/// Who of them says stop, once.
const STOPPING: u32 = 60;
/// How many write at once.
const BATCH: usize = 125;
/// How long receiving may take to end in good order.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// Three workers send; a fourth receives, and lives for some seconds at a time.
async fn answer(world: &mut World) -> Result<(), ProveError> {
    let webhooks = Webhooks::subscribe(world).await?;
    let phones = world.simulator.handle();
    let faults =
        WebhookFaults { loss: 0.3, double: 0.2, reorder: 0.3, reorder_by_ms: 1_500, ..WebhookFaults::default() };
    phones.webhook_faults(faults)?;
    world.insert(JOBS, RECIPIENTS).await?;
    for _ in 0..3 {
        world.start_worker()?;
    }
    let mut texts = texts(world);
    let mut lives = 1;
    let mut receiver = webhooks.receive(world, lives)?;
    let mut dies_at = Instant::now() + Duration::from_millis(world.rng.random_range(1_500..3_500));
    while !texts.is_empty() {
        for (phone, text) in texts.split_off(texts.len().saturating_sub(BATCH)) {
            let inbound = Inbound { phone, text: Some(text), ..Inbound::default() };
            phones.receive(&inbound).expect("anybody of the world may write");
            // Chert answers on these threads, and what waits for it looks late.
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(world.rng.random_range(150..400))).await;
        if Instant::now() > dies_at {
            receiver.kill().await?;
            lives += 1;
            receiver = webhooks.receive(world, lives)?;
            dies_at = Instant::now() + Duration::from_millis(world.rng.random_range(2_000..4_000));
        }
    }
    judge(world).await?;
    world.notes.push(format!("its receiver killed {} times", lives - 1));
    receiver.stop(STOP_PATIENCE).await?;
    Ok(())
}

/// All that is written to us, in an order by the seed.
fn texts(world: &mut World) -> Vec<(String, String)> {
    let stops = (0..STOPPING).map(|n| (phone(n), STOPS[n as usize % STOPS.len()].to_owned()));
    let mut texts: Vec<(String, String)> = stops.collect();
    while texts.len() < REPLIES {
        texts.push((phone(world.rng.random_range(0..2 * RECIPIENTS)), "Yes please".to_owned()));
    }
    texts.shuffle(&mut world.rng);
    texts
}

/// A subscription of Chert's to a port of ours.
struct Webhooks {
    address: String,
    secret: String,
}

impl Webhooks {
    /// Subscribes as a person would.
    async fn subscribe(world: &mut World) -> Result<Webhooks, ProveError> {
        let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let file = world.logs.path().join("webhook.secret");
        let url = format!("http://{free}/webhooks/chert");
        world.command(&["webhooks", "create", "--url", &url, "--secret-file", &file.display().to_string()]).await?;
        Ok(Webhooks { address: free.to_string(), secret: fs::read_to_string(file)?.trim().to_owned() })
    }

    /// Starts a process that receives, and sends nothing. By the seed some hear the stream too; without it, what no webhook brought
    /// is in the list alone.
    fn receive(&self, world: &mut World, life: u32) -> Result<WorkerProcess, ProveError> {
        let stream = if world.rng.random_bool(0.5) { "on" } else { "off" };
        let mut setup = world.setup.clone();
        let env = [
            ("OUTBOX_ROLES", "inbound"),
            ("OUTBOX_WEBHOOK_LISTEN", &self.address),
            ("CHERT_WEBHOOK_SECRET", &self.secret),
            ("OUTBOX_EVENTS_STREAM", stream),
            ("OUTBOX_EVENTS_EVERY", "2s"),
            // A text to somebody who said stop would look like a fault.
            ("OUTBOX_OPT_OUT_TEXT", ""),
        ];
        setup.env.extend(env.map(|(name, value)| (name, value.to_owned())));
        Ok(WorkerProcess::start(&setup, &format!("receiver-{life}"))?)
    }
}

/// Every event is stored once and applied, whoever said stop is suppressed, and when that was.
async fn judge(world: &mut World) -> Result<(), ProveError> {
    let pool = world.pool.clone();
    let applied = || async {
        let applied: i64 = sqlx::query_scalar("select count(*) from outbox.events where applied_at is not null")
            .fetch_one(&pool)
            .await?;
        Ok(applied >= REPLIES as i64)
    };
    world.until("every reply has been applied", applied).await?;
    let (stops, replies, others): (i64, i64, i64) = sqlx::query_as(
        "select count(*) filter (where effect = 'opt_out'), count(*) filter (where effect = 'reply'),
                count(*) filter (where effect is distinct from 'opt_out' and effect is distinct from 'reply')
           from outbox.events",
    )
    .fetch_one(&world.pool)
    .await?;
    if (stops, replies, others) != (i64::from(STOPPING), REPLIES as i64 - i64::from(STOPPING), 0) {
        world.findings.push(format!("{replies} replies, {stops} stops and {others} others were applied"));
    }
    // Counted from when each transaction began, which is before it was committed.
    let ages: Vec<(String, f64, f64)> = sqlx::query_as(
        "select s.phone, extract(epoch from clock_timestamp() - s.created_at)::float8,
                extract(epoch from s.created_at - e.occurred_at)::float8
           from outbox.suppressions s join outbox.events e using (event_id)",
    )
    .fetch_all(&world.pool)
    .await?;
    let now_us = world.simulator.handle().now_us();
    let slowest = ages.iter().map(|(.., took)| *took).fold(0.0, f64::max);
    let ago = |age: f64| now_us - (age * 1e6) as i64;
    world.suppressions.extend(ages.into_iter().map(|(phone, age, _)| Suppression { phone, committed_us: ago(age) }));
    if world.suppressions.len() != STOPPING as usize {
        world.findings.push(format!("{} of {STOPPING} who said stop are suppressed", world.suppressions.len()));
    }
    world.until_ended(1.0).await?;
    let suppressed: i64 = sqlx::query_scalar("select count(*) from outbox.jobs where state = 'suppressed'")
        .fetch_one(&world.pool)
        .await?;
    if suppressed == 0 {
        world.findings.push("no job was suppressed: the stops came too late to prove anything".to_owned());
    }
    world.notes.push(format!(
        "{REPLIES} replies, {STOPPING} stops, the slowest known after {slowest:.1} s, {suppressed} jobs suppressed"
    ));
    Ok(())
}
