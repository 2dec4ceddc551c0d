//! How soon a webhook is answered, beside a bare commit on the same server: answering is storing, and applying comes after.

use std::net::TcpListener;
use std::time::Duration;

use reqwest::Client;
use serde::Serialize;
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::chert::auth;
use crate::chert::client::wall_clock;
use crate::trial::bench::children::{Simulator, receiver};
use crate::trial::bench::{BenchError, Progress, Scratch};

/// What Chert signs with here.
const SECRET: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// How long the receiver may take until it listens, and a webhook until it is answered.
const PATIENCE: Duration = Duration::from_secs(20);
/// Replies come from so many people.
const SENDERS: u32 = 1_000;

/// What was measured, from the first byte of a request to the last one of its answer.
#[derive(Debug, Clone, Serialize)]
pub struct Answers {
    pub webhooks: u32,
    pub per_sec: u32,
    pub webhook: Spread,
    /// One row inserted and committed, at the same rate.
    pub commit: Spread,
    /// The median of a webhook to that of a bare commit.
    pub ratio: f64,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub slowest_ms: f64,
}

/// Posts so many replies at such a rate, whether or not those before are answered, to a process that receives them.
pub async fn run(scratch: &Scratch, webhooks: u32, per_sec: u32, progress: &Progress) -> Result<Answers, BenchError> {
    let pool = scratch.connect(8).await?;
    progress.say(format!("{webhooks} bare commits, {per_sec} a second"));
    sqlx::query("create table bare (id bigint generated always as identity primary key, body text)")
        .execute(&pool)
        .await?;
    let commit = measure(webhooks, per_sec, |n| commit(pool.clone(), n)).await?;

    progress.say(format!("{webhooks} webhooks, {per_sec} a second"));
    let mut simulator = Simulator::start().await?;
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.map_err(|source| BenchError::Child { role: "the receiver", source })?.to_string();
    let mut child = receiver(scratch.url(), &simulator.base_url, &address, SECRET)?;
    let http = Client::builder().no_proxy().tcp_nodelay(true).timeout(PATIENCE).build().map_err(posting)?;
    let url = format!("http://{address}/webhooks/chert");
    // The first one is answered when it listens, and is not counted.
    timeout(PATIENCE, until_answered(&http, &url)).await.map_err(|_| BenchError::Idle(PATIENCE))?;
    let webhook = measure(webhooks, per_sec, |n| post(http.clone(), url.clone(), n)).await?;

    child.kill().await.map_err(|source| BenchError::Child { role: "the receiver", source })?;
    simulator.stop().await?;
    pool.close().await;
    let ratio = webhook.p50_ms / commit.p50_ms;
    Ok(Answers { webhooks, per_sec, webhook, commit, ratio })
}

/// Starts so many of them at this rate, and measures each from its start to its end.
async fn measure<F>(count: u32, per_sec: u32, act: impl Fn(u32) -> F) -> Result<Spread, BenchError>
where
    F: Future<Output = Result<(), BenchError>> + Send + 'static,
{
    let mut ticks = interval(Duration::from_secs(1) / per_sec);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut acts = JoinSet::new();
    for n in 0..count {
        let due = ticks.tick().await;
        let act = act(n);
        acts.spawn(async move { act.await.map(|()| due.elapsed()) });
    }
    let took: Result<Vec<Duration>, BenchError> = acts.join_all().await.into_iter().collect();
    let mut took: Vec<f64> = took?.into_iter().map(|took| took.as_secs_f64() * 1e3).collect();
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    Ok(Spread { p50_ms: at(0.5), p99_ms: at(0.99), slowest_ms: at(1.0) })
}

async fn commit(pool: PgPool, n: u32) -> Result<(), BenchError> {
    sqlx::query("insert into bare (body) values ($1)").bind(event(n)).execute(&pool).await?;
    Ok(())
}

async fn until_answered(http: &Client, url: &str) {
    while post(http.clone(), url.to_owned(), u32::MAX).await.is_err() {
        sleep(Duration::from_millis(50)).await;
    }
}

async fn post(http: Client, url: String, n: u32) -> Result<(), BenchError> {
    let (body, unix_secs) = (event(n), wall_clock().timestamp());
    let signature = format!("t={unix_secs},v1={}", auth::sign(SECRET, unix_secs, body.as_bytes()));
    let answer = http.post(url).header("x-webhook-signature", signature).body(body).send().await.map_err(posting)?;
    answer.error_for_status().map_err(posting)?.bytes().await.map_err(posting)?;
    Ok(())
}

fn posting(error: reqwest::Error) -> BenchError {
    BenchError::Post(error.without_url().to_string())
}

fn event(n: u32) -> String {
    let phone = 2_000_000_000 + n % SENDERS;
    format!(
        r#"{{"event":"message.received","event_id":"bench:{n}","data":{{"message":{{"direction":"inbound","sender_handle":{{"handle":"+1{phone}"}},"parts":[{{"type":"text","value":"Yes please, number {n}"}}]}}}}}}"#
    )
}
