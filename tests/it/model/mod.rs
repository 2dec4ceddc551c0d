//! The protocol of claim, lease, fence, send and record, small enough to be tried out whole: two workers, two jobs, one
//! line, and crashes, freezes and lost answers at every step. stateright visits every state that can come of it.
//!
//! Each rule names the function of the product whose rule it is. Time is counted in slots of the line, and of every length
//! the model knows only what is left, so that it has no last day. A worker that does nothing while time passes is frozen.
//! Each guard can be taken out ([`Missing`]), and is missed then. What is left out: `tests/README.md`.

mod rules;
mod state;

use std::collections::{BTreeSet, HashMap};

use stateright::{Checker, HasDiscoveries, Model, Property};

use rules::{Missing, Outbox};
use state::{Is, Job, Stage, State};

const ONE_RECIPIENT: Outbox = Outbox { one_recipient: true, paced: true, missing: None };
const TWO_RECIPIENTS: Outbox = Outbox { one_recipient: false, ..ONE_RECIPIENT };
/// A line without a gap: any time is on time.
const UNPACED: Outbox = Outbox { paced: false, ..ONE_RECIPIENT };

const ONE_MESSAGE: &str = "a job is one message at most";
const TRUE: &str = "what is recorded is true";
const IN_ORDER: &str = "a job waits until the earlier one of its recipient has ended";
const KEPT_CLAIM: &str = "a claim is its worker's while its lease lasts";
const GAP: &str = "one message a slot passes its last look";

/// What holds in every state; and what happens in some, since a model in which nothing happens would keep all the rest.
fn properties() -> Vec<Property<Outbox>> {
    vec![
        Property::always(ONE_MESSAGE, |_, state: &State| state.jobs.iter().all(|job| job.messages <= 1)),
        Property::always(TRUE, |_, state: &State| {
            state.jobs.iter().all(|job| match job.is {
                Is::Sent => job.messages > 0,
                Is::Failed => job.messages == 0,
                Is::Queued | Is::Sending | Is::Parked => true,
            })
        }),
        Property::always(IN_ORDER, |world: &Outbox, state: &State| {
            !world.one_recipient || state.jobs[1] == Job::default() || state.jobs[0].has_ended()
        }),
        Property::always(KEPT_CLAIM, |_, state: &State| {
            state.workers.iter().flatten().all(|claim| {
                let lives = claim.lease > 0 && !matches!(claim.at, Stage::Ends(_));
                !lives || !claim.overtaken && state.jobs[claim.job].is == Is::Sending
            })
        }),
        Property::always(GAP, |_, state: &State| state.looked <= 1),
        Property::sometimes("both are sent", |_, state: &State| state.jobs.iter().all(|job| job.is == Is::Sent)),
        Property::sometimes("one fails", |_, state: &State| state.jobs.iter().any(|job| job.is == Is::Failed)),
        Property::sometimes("one is parked", |_, state: &State| state.jobs.iter().any(|job| job.is == Is::Parked)),
    ]
}

/// Visits all states of this world.
fn holds(world: Outbox, representative: fn(&State) -> State) {
    let visited = world.checker().symmetry_fn(representative).spawn_dfs().join();
    println!("{world:?}: {} states, all of them visited", visited.unique_state_count());
    visited.assert_properties();
}

#[test]
fn i01_i02_i03_i04_the_protocol_holds_in_every_state_with_one_recipient() {
    holds(ONE_RECIPIENT, State::representative);
}

#[test]
fn i01_i02_i03_the_protocol_holds_in_every_state_with_two_recipients() {
    holds(TWO_RECIPIENTS, State::representative_in_any_order);
}

#[test]
fn i01_i02_i04_the_protocol_holds_in_every_state_of_an_unpaced_line() {
    holds(UNPACED, State::representative);
}

/// The number of states from which no steps lead to the end of both jobs. stateright cannot ask "can still be reached".
fn dead_ends(world: Outbox) -> usize {
    let start = State::default();
    let (mut states, mut number_of, mut before) = (vec![start], HashMap::from([(start, 0)]), vec![Vec::new()]);
    let mut next = 0;
    while let Some(state) = states.get(next).copied() {
        for after in world.next_states(&state) {
            let after = after.representative();
            let number = *number_of.entry(after).or_insert_with(|| {
                states.push(after);
                before.push(Vec::new());
                states.len() - 1
            });
            before[number].push(next);
        }
        next += 1;
    }
    let mut reaches: Vec<bool> = states.iter().map(|state| state.jobs.iter().all(Job::has_ended)).collect();
    let mut found: Vec<usize> = (0..states.len()).filter(|number| reaches[*number]).collect();
    while let Some(number) = found.pop() {
        for &earlier in &before[number] {
            if !std::mem::replace(&mut reaches[earlier], true) {
                found.push(earlier);
            }
        }
    }
    println!("{world:?}: {} states", states.len());
    reaches.iter().filter(|reaches| !**reaches).count()
}

#[test]
fn i01_from_every_state_both_jobs_can_still_end() {
    assert_eq!(dead_ends(UNPACED), 0);
}

#[test]
fn i01_without_a_rescue_a_job_is_lost() {
    assert!(dead_ends(Outbox { missing: Some(Missing::Rescue), ..UNPACED }) > 0);
}

/// Takes a guard out, and asserts that this property breaks; prints the way there.
fn misses(world: Outbox, guard: Missing, property: &'static str) {
    let world = Outbox { missing: Some(guard), ..world };
    let until = HasDiscoveries::AllOf(BTreeSet::from([property]));
    let visited = world.checker().finish_when(until).spawn_bfs().join();
    let path = visited.discovery(property).unwrap_or_else(|| panic!("without {guard:?}, “{property}” still holds"));
    println!("without {guard:?}, “{property}” breaks by {:?}", path.into_actions());
}

#[test]
fn i02_without_the_fence_a_lost_claim_is_written_over_its_successor() {
    misses(UNPACED, Missing::Fence, KEPT_CLAIM);
    misses(UNPACED, Missing::Fence, ONE_MESSAGE);
}

#[test]
fn i02_with_a_new_key_at_a_retry_a_job_is_two_messages() {
    misses(UNPACED, Missing::FrozenKey, ONE_MESSAGE);
}

/// While Chert remembers the key the key alone would do; and on a paced line the slot alone, which is missed before the
/// lease runs out.
#[test]
fn i02_without_a_look_at_the_lease_a_frozen_worker_sends_after_chert_has_forgotten_the_key() {
    misses(UNPACED, Missing::LookAtTheLease, ONE_MESSAGE);
}

#[test]
fn i02_a_key_horizon_without_a_margin_lets_a_call_arrive_after_chert_has_forgotten_the_key() {
    misses(UNPACED, Missing::MarginOfTheKeyHorizon, ONE_MESSAGE);
}

#[test]
fn i01_i02_an_unknown_outcome_that_is_taken_for_a_no_is_recorded_as_failed_and_sent_twice() {
    misses(UNPACED, Missing::UnknownOutcome, TRUE);
    misses(UNPACED, Missing::UnknownOutcome, ONE_MESSAGE);
}

#[test]
fn i03_without_a_look_at_the_slot_a_missed_one_is_caught_up_in_the_next() {
    misses(TWO_RECIPIENTS, Missing::LookAtTheSlot, GAP);
}

#[test]
fn i04_without_a_look_at_the_order_a_message_overtakes() {
    misses(ONE_RECIPIENT, Missing::LookAtTheOrder, IN_ORDER);
}
