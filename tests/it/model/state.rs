//! What the model knows of jobs, workers, line and Chert, and the steps that change it.

pub const MAX_ATTEMPTS: u8 = 2;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    /// The first is due before the second.
    pub jobs: [Job; 2],
    /// One claim each: a process that holds more stands for several of these.
    pub workers: [Option<Claim>; 2],
    /// How far off the line's next free slot is.
    pub next_slot: i8,
    /// How many messages have passed their last look in the present slot.
    pub looked: u8,
}

/// A row of `outbox.jobs`, and below it what Chert and the recipient know of the job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Job {
    pub is: Is,
    pub key: Option<u8>,
    pub lease: u8,
    pub attempts: u8,
    /// An attempt may have reached the phone.
    pub unknown: bool,
    pub age: Age,
    /// Requests that may still reach Chert, and those that it remembers: one bit a key. Two with one key are one, since
    /// Chert lets the second wait for what becomes of the first.
    pub on_the_way: u8,
    pub remembered: u8,
    pub messages: u8,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Is {
    #[default]
    Queued,
    Sending,
    Sent,
    Failed,
    Parked,
}

/// How long it is since the outcome became unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Age {
    #[default]
    Young,
    PastKeyHorizon,
    Forgotten,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    pub job: usize,
    pub key: u8,
    pub lease: u8,
    /// Somebody has claimed the job since. All that a fence is for is this comparison, so the model keeps its result.
    pub overtaken: bool,
    pub at: Stage,
}

/// Where a claim stands: `Looked` when its last look said yes, and the call has not left yet. `slot`: how far off it is,
/// -1 when it was missed. `untried`: no earlier claim has called with this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    Waits { slot: i8, untried: bool },
    Looked,
    Calls,
    Ends(Ending),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    HandedBack { forget_key: bool },
    Sent,
    Refused,
    Unknown,
}

/// What may happen next. `heard`: the worker learns that its record was committed; otherwise it will write it once more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    TimePasses,
    Claim { worker: usize, job: usize },
    Look { worker: usize },
    HandBack { worker: usize },
    Send { worker: usize },
    HearYes { worker: usize },
    HearNothing { worker: usize },
    Record { worker: usize, heard: bool },
    Crash { worker: usize },
    Accept { job: usize, key: u8 },
    Refuse { job: usize, key: u8 },
    Rescue { job: usize },
    Park { job: usize },
    GrowOld { job: usize },
}

impl Job {
    pub fn has_ended(&self) -> bool {
        matches!(self.is, Is::Sent | Is::Failed | Is::Parked)
    }

    /// Chert may have forgotten the key of a message that may be on the phone.
    pub fn is_too_old(&self) -> bool {
        self.unknown && self.age != Age::Young
    }

    /// `outbox::admit`: what is too old to be sent again is left to a person.
    pub fn park(&mut self) -> Option<()> {
        (self.is == Is::Queued && self.is_too_old()).then(|| self.is = Is::Parked)
    }

    /// `retry::next`: it is tried again, or has ended; one that may be on the phone is never called failed.
    pub fn spend_attempt(&mut self, unknown: bool) {
        self.attempts += 1;
        self.unknown |= unknown;
        self.is = match (self.attempts < MAX_ATTEMPTS, self.unknown) {
            (true, _) => Is::Queued,
            (false, true) => Is::Parked,
            (false, false) => Is::Failed,
        };
    }

    /// Chert takes a request: a message, unless it remembers the key.
    pub fn accept(&mut self, key: u8) {
        self.on_the_way &= !bit(key);
        self.messages += u8::from(!has(self.remembered, key));
        self.remembered |= bit(key);
    }
}

impl State {
    /// Chert says no, to everybody who called with this key.
    pub fn refuse(&mut self, job: usize, key: u8) {
        self.jobs[job].on_the_way &= !bit(key);
        for claim in self.workers.iter_mut().flatten() {
            if (claim.job, claim.key, claim.at) == (job, key, Stage::Calls) {
                claim.at = Stage::Ends(Ending::Refused);
            }
        }
    }

    /// One state for all that differ only in which worker is which, or in what nobody looks at any more.
    pub fn representative(&self) -> State {
        let mut state = *self;
        for job in state.jobs.iter_mut().filter(|job| job.has_ended()) {
            job.attempts = 0;
        }
        state.workers.sort();
        state
    }

    /// The same with which job is which, where their order does not matter.
    pub fn representative_in_any_order(&self) -> State {
        let mut swapped = *self;
        swapped.jobs.reverse();
        for claim in swapped.workers.iter_mut().flatten() {
            claim.job = 1 - claim.job;
        }
        self.representative().min(swapped.representative())
    }
}

pub fn bit(key: u8) -> u8 {
    1 << key
}

pub fn has(keys: u8, key: u8) -> bool {
    keys & bit(key) != 0
}
