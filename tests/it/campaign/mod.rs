//! Campaigns from file to phone: applied by the real command, worked on by engines in this process, sent by real workers.

mod applying;
mod control;
mod firing;
mod follow;
mod lines;
mod moving;
mod people;
mod plan;
mod retention;
mod steps;

use std::collections::BTreeMap;

use chert_outbox::campaign::engine::Engine;
use chert_outbox::config::CampaignOptions;
use sqlx::AssertSqlSafe;

use crate::harness::Harness;

pub const ANN: &str = "+15550142200";
pub const BOB: &str = "+15550142201";
pub const CID: &str = "+15550142202";
pub const DOT: &str = "+15550142203";

/// Three messages, a day apart: nobody goes on unless time is made to pass, however slow the machine is.
pub const THREE: &str = "[{ send: { body: one }, name: first }, { wait: 1d }, { send: { body: two }, name: second }, { wait: 1d }, \
     { send: { body: three }, name: third }]";

/// A campaign file for people whom the application enrols, or whom `more` says otherwise.
pub fn file(more: &str, steps: &str) -> String {
    let audience = if more.contains("audience:") { "" } else { "audience: { enrolled: true }\n" };
    format!("name: drip\nzone: UTC\nclass: transactional\n{audience}{more}\nsteps: {steps}\n")
}

impl Harness {
    /// Applies a campaign file by the command.
    pub async fn apply(&self, source: &str) -> String {
        let directory = tempfile::tempdir().expect("made");
        let path = directory.path().join("campaign.yaml");
        std::fs::write(&path, source).expect("written");
        let (code, told, error) = self.run(&["campaign", "apply", path.to_str().expect("UTF-8"), "--yes"]).await;
        assert_eq!(code, 0, "{error}");
        told
    }

    pub fn engine(&self) -> Engine {
        self.engine_with(500)
    }

    pub fn engine_with(&self, look_ahead: u16) -> Engine {
        Engine::new(self.pool().clone(), CampaignOptions { look_ahead }, Some(3))
    }

    /// Lets an engine work until there is nothing to do.
    pub async fn settle(&self, engine: &Engine) {
        while engine.pass().await.expect("the engine works") {}
    }

    pub async fn enrol(&self, phone: &str) -> i64 {
        self.enrol_with(phone, "{}").await
    }

    pub async fn enrol_with(&self, phone: &str, vars: &str) -> i64 {
        self.scalar(&format!("select outbox.enrol('drip', '{phone}', '{vars}')")).await
    }

    /// One number out of the database.
    pub async fn scalar(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::query_scalar(sql).fetch_one(self.pool()).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// One text out of the database; several values are joined by a blank.
    pub async fn text(&self, sql: &str) -> String {
        let found: Vec<Option<String>> = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_all(self.pool())
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        found.into_iter().map(|text| text.unwrap_or_else(|| "null".to_owned())).collect::<Vec<_>>().join(" ")
    }

    /// Where the enrolments stand, as `state/reason`, by number.
    pub async fn enrolments(&self) -> String {
        self.text("select state || coalesce('/' || reason, '') from outbox.enrolments order by id").await
    }

    /// What rests, rests no longer.
    pub async fn time_passes(&self) {
        self.execute(
            "update outbox.enrolments set due_at = now(), reached_at = least(reached_at, now()) where state = 'active' and not waiting",
        )
        .await;
    }

    /// The texts that each phone got, in their order.
    pub fn texts(&self) -> BTreeMap<String, Vec<String>> {
        let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for entry in self.ledger() {
            texts.entry(entry.phone).or_default().push(entry.body);
        }
        texts
    }
}
