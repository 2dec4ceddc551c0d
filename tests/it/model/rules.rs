//! The rules: what each step needs, and what it changes.

use stateright::{Model, Property};

use super::state::{Age, Claim, Ending, Is, Job, Stage, State, Step, bit, has};

/// How long a claim lasts.
const LEASE: u8 = 2;
/// How far ahead slots are dealt out.
const HORIZON: i8 = 1;

/// A guard that is taken out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Missing {
    Fence,
    FrozenKey,
    LookAtTheLease,
    LookAtTheSlot,
    LookAtTheOrder,
    UnknownOutcome,
    Rescue,
    MarginOfTheKeyHorizon,
}

#[derive(Debug, Clone, Copy)]
pub struct Outbox {
    pub one_recipient: bool,
    pub paced: bool,
    pub missing: Option<Missing>,
}

impl Model for Outbox {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    /// All steps; those that cannot be taken have no next state.
    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        steps.push(Step::TimePasses);
        for worker in 0..2 {
            steps.extend([0, 1].map(|job| Step::Claim { worker, job }));
            steps.extend([Step::Look { worker }, Step::HandBack { worker }, Step::Send { worker }]);
            steps.extend([Step::HearYes { worker }, Step::HearNothing { worker }, Step::Crash { worker }]);
            steps.extend([true, false].map(|heard| Step::Record { worker, heard }));
        }
        for job in 0..2 {
            steps.extend([Step::Rescue { job }, Step::Park { job }, Step::GrowOld { job }]);
            for key in (0..8).filter(|key| has(state.jobs[job].on_the_way, *key)) {
                steps.extend([Step::Accept { job, key }, Step::Refuse { job, key }]);
            }
        }
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = *before;
        match step {
            Step::TimePasses => self.pass_time(&mut state),
            Step::Claim { worker, job } => self.claim(&mut state, worker, job)?,
            Step::Look { worker } => self.look(&mut state, worker)?,
            Step::HandBack { worker } => {
                let claim = state.workers[worker].as_mut()?;
                let Stage::Waits { untried, .. } = claim.at else { return None };
                claim.at = Stage::Ends(Ending::HandedBack { forget_key: untried });
            }
            Step::Send { worker } => {
                let claim = state.workers[worker].as_mut().filter(|claim| claim.at == Stage::Looked)?;
                claim.at = Stage::Calls;
                let job = &mut state.jobs[claim.job];
                job.on_the_way |= bit(claim.key) & !job.remembered;
            }
            Step::HearYes { worker } => {
                let claim = state.workers[worker].as_mut().filter(|claim| claim.at == Stage::Calls)?;
                has(state.jobs[claim.job].remembered, claim.key).then_some(())?;
                claim.at = Stage::Ends(Ending::Sent);
            }
            Step::HearNothing { worker } => {
                let claim = state.workers[worker].as_mut().filter(|claim| claim.at == Stage::Calls)?;
                claim.at = Stage::Ends(Ending::Unknown);
            }
            Step::Record { worker, heard } => self.record(&mut state, worker, heard)?,
            Step::Crash { worker } => drop(state.workers[worker].take()?),
            Step::Accept { job, key } => state.jobs[job].accept(key),
            Step::Refuse { job, key } => state.refuse(job, key),
            Step::Rescue { job } => self.rescue(&mut state.jobs[job])?,
            Step::Park { job } => state.jobs[job].park()?,
            Step::GrowOld { job } => self.grow_old(&mut state, job)?,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Outbox>> {
        super::properties()
    }
}

impl Outbox {
    fn without(&self, guard: Missing) -> bool {
        self.missing == Some(guard)
    }

    /// `outbox::claim`: one transaction takes slot, lease and fence, and freezes the key if there is none.
    fn claim(&self, state: &mut State, worker: usize, index: usize) -> Option<()> {
        let behind = index == 1 && self.one_recipient && !state.jobs[0].has_ended();
        let in_turn = !behind || self.without(Missing::LookAtTheOrder);
        let job = &mut state.jobs[index];
        let can_go = job.is == Is::Queued && in_turn && !job.is_too_old() && state.next_slot <= HORIZON;
        (state.workers[worker].is_none() && can_go).then_some(())?;
        let fresh = (0..8).find(|key| !has(job.on_the_way | job.remembered, *key))?;
        let key = job.key.filter(|_| !self.without(Missing::FrozenKey)).unwrap_or(fresh);
        let at = Stage::Waits { slot: state.next_slot, untried: job.key.is_none() };
        (job.is, job.key, job.lease) = (Is::Sending, Some(key), LEASE);
        for claim in state.workers.iter_mut().flatten().filter(|claim| claim.job == index) {
            claim.overtaken = true;
        }
        state.workers[worker] = Some(Claim { job: index, key, lease: LEASE, overtaken: false, at });
        state.next_slot += i8::from(self.paced);
        Some(())
    }

    /// `worker::delivery::may_go`: in its slot and within its lease, or not at all.
    fn look(&self, state: &mut State, worker: usize) -> Option<()> {
        let claim = state.workers[worker].as_mut()?;
        let Stage::Waits { slot, .. } = claim.at else { return None };
        let on_time = slot == 0 || slot < 0 && self.without(Missing::LookAtTheSlot);
        let leased = claim.lease > 0 || self.without(Missing::LookAtTheLease);
        (on_time && leased).then_some(())?;
        claim.at = Stage::Looked;
        state.looked += u8::from(self.paced);
        Some(())
    }

    /// `outbox::record`: the newest claim writes the state, while the job is `sending`; a late yes still counts while
    /// nobody has claimed the job again.
    fn record(&self, state: &mut State, worker: usize, heard: bool) -> Option<()> {
        let claim = state.workers[worker]?;
        let Stage::Ends(ending) = claim.at else { return None };
        if heard {
            state.workers[worker] = None;
        }
        let job = &mut state.jobs[claim.job];
        let late_yes = ending == Ending::Sent && matches!(job.is, Is::Queued | Is::Parked);
        let newest = !claim.overtaken || self.without(Missing::Fence);
        if !newest || !(job.is == Is::Sending || late_yes) {
            return Some(());
        }
        job.lease = 0;
        match ending {
            Ending::HandedBack { forget_key } => {
                job.is = Is::Queued;
                job.key = job.key.filter(|_| !forget_key);
            }
            Ending::Sent => job.is = Is::Sent,
            Ending::Refused => job.spend_attempt(false),
            Ending::Unknown => job.spend_attempt(!self.without(Missing::UnknownOutcome)),
        }
        Some(())
    }

    /// `outbox::rescue`: a lease that ran out is an attempt with unknown outcome.
    fn rescue(&self, job: &mut Job) -> Option<()> {
        (job.is == Is::Sending && job.lease == 0 && !self.without(Missing::Rescue)).then_some(())?;
        job.spend_attempt(true);
        Some(())
    }

    /// The key horizon passes; later Chert forgets, and what has not arrived by then never will. Two assumptions: jobs are
    /// parked two leases before Chert forgets (`config::claims_unknown_for`); and from its last look to the end of its
    /// call, nobody takes as long as that memory lasts.
    fn grow_old(&self, state: &mut State, index: usize) -> Option<()> {
        let calls = |claim: &Claim| claim.job == index && matches!(claim.at, Stage::Looked | Stage::Calls);
        let calls = state.workers.iter().flatten().any(calls);
        let job = &mut state.jobs[index];
        let leased = job.lease > 0 && !self.without(Missing::MarginOfTheKeyHorizon);
        match job.age {
            Age::Young if job.unknown || job.is == Is::Sending && job.lease == 0 => job.age = Age::PastKeyHorizon,
            Age::PastKeyHorizon if !leased && !calls => {
                (job.age, job.on_the_way, job.remembered) = (Age::Forgotten, 0, 0);
            }
            _ => return None,
        }
        Some(())
    }

    fn pass_time(&self, state: &mut State) {
        for lease in state.jobs.iter_mut().map(|job| &mut job.lease) {
            *lease = lease.saturating_sub(1);
        }
        for claim in state.workers.iter_mut().flatten() {
            claim.lease = claim.lease.saturating_sub(1);
            if let (true, Stage::Waits { slot, .. }) = (self.paced, &mut claim.at) {
                *slot = (*slot - 1).max(-1);
            }
        }
        state.next_slot = (state.next_slot - 1).max(0);
        state.looked = 0;
    }
}
