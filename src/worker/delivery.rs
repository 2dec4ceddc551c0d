//! One claim's way: wait for its slot, look once more whether it may go, call, and tell what became of it.

use tokio::time::Instant;
use tracing::{debug, warn};

use crate::claim::{Claim, Finished};
use crate::config::LEASE_MARGIN;
use crate::failpoint::{self, Point};
use crate::line::LineChoice;
use crate::outcome::{Outcome, classify};
use crate::pace::slots::latest_start;
use crate::retry;
use crate::worker::Shared;
use crate::worker::gate::Ticket;

/// Sends a claim in its slot, or hands it back.
pub async fn deliver(shared: &Shared, claim: Claim, ticket: Ticket) -> Finished {
    if !may_go(shared, &claim, ticket).await {
        shared.gate.handed_back(ticket);
        return claim.hand_back();
    }
    failpoint::reached(Point::BeforeCall);
    let started = Instant::now();
    let reply = shared.client.send(claim.request.clone()).await;
    failpoint::reached(Point::AfterAnswer);
    shared.pace.answered(&claim.line.id, started.elapsed());
    let outcome = classify(&reply);
    shared.gate.report(ticket, &reply, &outcome);
    tell(shared, &claim, &outcome);
    let next = retry::next(&outcome, claim.standing, &mut rand::rng());
    claim.finish(started, reply, outcome, next)
}

/// Waits for the slot, and tells whether the message may leave in it.
async fn may_go(shared: &Shared, claim: &Claim, ticket: Ticket) -> bool {
    let mut stopping = shared.stopping.clone();
    tokio::select! {
        _ = stopping.wait_for(|stopping| *stopping) => return false,
        allowed = shared.last_look.allows(claim.job_id, claim.slot) => if !allowed {
            debug!(job.id = claim.job_id, "Job {} may not be wanted any more, and is handed back", claim.job_id);
            return false;
        },
    }
    if *stopping.borrow() || !shared.gate.admits(ticket) {
        return false;
    }
    // A worker whose lease is nearly over does not send: somebody else may have the job before the call ends.
    if Instant::now() + shared.client.timeout() + LEASE_MARGIN > claim.lease_ends {
        warn!(job.id = claim.job_id, "Job {} was held too long to be sent within its lease", claim.job_id);
        return false;
    }
    on_time(shared, claim).await
}

/// Whether the line's gap is kept by leaving now. A slot that was missed is given back, never caught up on.
async fn on_time(shared: &Shared, claim: &Claim) -> bool {
    let line = &claim.line;
    let Some(latest) =
        latest_start(line.gap).or_else(|| latest_start(line.first_touch_gap).filter(|_| claim.first_touch))
    else {
        return true;
    };
    let deadline = claim.slot + latest;
    loop {
        // Before the line's turn is taken: nobody would answer for a message that does not leave, and the line would wait.
        if Instant::now() > deadline {
            debug!(job.id = claim.job_id, line.id = line.id, "Job {} came too late for its slot", claim.job_id);
            return false;
        }
        match shared.pace.check(&line.id, line.gap) {
            Ok(()) => return true,
            Err(wait) if Instant::now() + wait > deadline => return false,
            Err(wait) => tokio::time::sleep(wait).await,
        }
    }
}

fn tell(shared: &Shared, claim: &Claim, outcome: &Outcome) {
    let (id, word) = (claim.job_id, outcome.word());
    match outcome {
        Outcome::Sent { ids, .. }
            if claim.first_touch
                && ids.lead_created == Some(false)
                && shared.options.line_choice == LineChoice::Name =>
        {
            warn!(
                job.id = id,
                line.id = claim.line.id,
                "Chert knew the recipient of job {id} before: naming a line has moved that person's pin. \
                 Import the pins into outbox.recipients, or set OUTBOX_LINE_CHOICE=chert"
            );
        }
        Outcome::Halted { why } => warn!(job.id = id, outcome = word, "Dispatch stops for everybody: {why}"),
        Outcome::Unreachable { why } => warn!(job.id = id, outcome = word, "Chert cannot be reached: {why}"),
        Outcome::Unknown { why } => warn!(job.id = id, outcome = word, "Job {id} has an unknown outcome: {why}"),
        _ => debug!(job.id = id, outcome = word, "Job {id} ended its attempt as {word}"),
    }
}
