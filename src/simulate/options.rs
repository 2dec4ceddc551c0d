//! The switches of the simulator: every open question of the contract, and every fault, is one flag.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::time::Duration;

use chrono::TimeDelta;
use chrono_tz::Tz;
use clap::{Args, ValueEnum};
use secrecy::SecretString;

mod events;
mod messages;
mod webhooks;

pub use events::{EventOptions, EventShape};
pub use messages::{MessageOptions, MessageShape, Recipients};
pub use webhooks::WebhookOptions;

/// The secret that the simulator takes when none is given; public, so that it may be printed.
pub const DEFAULT_SECRET: &str = "00112233445566778899aabbccddeeff";

// The first sentence is also what `simulate --help` opens with.
/// Runs a local Chert, which answers as the contract says, fails when asked to, and remembers what each phone received.
///
/// Time spans are given as `10m`, `24h` or `80ms`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Address to listen on. The admin routes under `/_sim` ask for no credentials: keep it on a loopback address.
    #[arg(long, env = "SIMULATE_HOST", default_value = "127.0.0.1")]
    pub host: IpAddr,

    /// TCP port to listen on; 0 takes any free one.
    #[arg(long, env = "SIMULATE_PORT", default_value_t = 9900)]
    pub port: u16,

    /// Number of sender lines, `pl_1` (+15550100001) and so on; 1 to 1000.
    #[arg(long, env = "SIMULATE_LINES", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub lines: u32,

    /// Signing secret of the one tenant.
    #[arg(long, env = "CHERT_SIGNING_SECRET", default_value = DEFAULT_SECRET, hide_env_values = true)]
    pub secret: SecretString,

    /// Slug of the one tenant.
    #[arg(long, env = "SIMULATE_TENANT", default_value = "acme")]
    pub tenant: String,

    /// Least simulated time between two first touches on one line, e.g. `10m`; `0s` for none.
    #[arg(long, env = "SIMULATE_FIRST_TOUCH_GAP", default_value = "10m", value_parser = duration)]
    pub first_touch_gap: Duration,

    /// Most first touches on one line in one simulated day; `none` for no cap.
    #[arg(long, env = "SIMULATE_FIRST_TOUCH_CAP", default_value = "30")]
    pub first_touch_cap: Cap,

    /// IANA time zone in which a day of the cap ends at midnight, e.g. `America/New_York`.
    #[arg(long, env = "SIMULATE_TIME_ZONE", default_value = "UTC")]
    pub time_zone: Tz,

    /// Simulated seconds per real second, up to 100000: with 600, ten minutes pass in one second. It drives the
    /// first-touch gap, the day, the dedup window, the key lifetime, delivery and recipients; `retry_after`, the stream and
    /// webhooks keep real time.
    #[arg(long, env = "SIMULATE_TIME_SCALE", default_value = "1", value_parser = scale)]
    pub time_scale: f64,

    /// Most API requests in a period of real time, e.g. `50/s`, `90/m`; more get 1007. Unset: no limit.
    #[arg(long, env = "SIMULATE_REQUEST_RATE")]
    pub request_rate: Option<Rate>,

    /// Simulated time in which the same body to the same phone is answered `duplicate`, e.g. `5m`. Unset: never.
    #[arg(long, env = "SIMULATE_DEDUP_WINDOW", value_parser = duration)]
    pub dedup_window: Option<Duration>,

    /// Simulated time for which an idempotency key is remembered, e.g. `24h`.
    #[arg(long, env = "SIMULATE_KEY_LIFETIME", default_value = "24h", value_parser = duration)]
    pub key_lifetime: Duration,

    /// What a known key with another request body gets.
    #[arg(long, env = "SIMULATE_SAME_KEY_OTHER_BODY", value_enum, default_value_t = SameKeyOtherBody::Error)]
    pub same_key_other_body: SameKeyOtherBody,

    /// What a second request gets while the first with its key has no answer yet.
    #[arg(long, env = "SIMULATE_CONCURRENT_KEY", value_enum, default_value_t = ConcurrentKey::Wait)]
    pub concurrent_key: ConcurrentKey,

    /// Remember errors of capacity and delivery under the key too, not only successes.
    #[arg(long, env = "SIMULATE_CACHE_ERRORS")]
    pub cache_errors: bool,

    /// Which of the two documented error bodies `/send` answers with; every other route answers nested.
    #[arg(long, env = "SIMULATE_ERROR_SHAPE", value_enum, default_value_t = ErrorShape::Mixed)]
    pub error_shape: ErrorShape,

    /// Real time from the arrival of a `/send` request to its answer, e.g. `80ms`. The message is accepted on arrival,
    /// so a caller that gives up meanwhile has sent it.
    #[arg(long, env = "SIMULATE_LATENCY", default_value = "0ms", value_parser = duration)]
    pub latency: Duration,

    /// Most real time added to the latency, drawn uniformly for each request.
    #[arg(long, env = "SIMULATE_LATENCY_JITTER", default_value = "0ms", value_parser = duration)]
    pub latency_jitter: Duration,

    /// Probability (0 to 1) that a `/send` request gets 3001, 3002 or 3004 and is not accepted.
    #[arg(long, env = "SIMULATE_FAULT_5XX", default_value = "0", value_parser = probability)]
    pub fault_5xx: f64,

    /// Probability (0 to 1) that a `/send` request gets 502 with an HTML page, as from a proxy, and is not accepted.
    #[arg(long, env = "SIMULATE_FAULT_HTML", default_value = "0", value_parser = probability)]
    pub fault_html: f64,

    /// Probability (0 to 1) that the connection is closed and the message is not accepted.
    #[arg(long, env = "SIMULATE_FAULT_DROP_BEFORE", default_value = "0", value_parser = probability)]
    pub fault_drop_before: f64,

    /// Probability (0 to 1) that the message is accepted and the connection is closed without an answer.
    #[arg(long, env = "SIMULATE_FAULT_DROP_AFTER", default_value = "0", value_parser = probability)]
    pub fault_drop_after: f64,

    /// Probability (0 to 1) that the message is accepted and the answer's body takes 10 s to arrive.
    #[arg(long, env = "SIMULATE_FAULT_SLOW_BODY", default_value = "0", value_parser = probability)]
    pub fault_slow_body: f64,

    /// Probability (0 to 1) that the message is accepted and the connection breaks in the middle of the answer.
    #[arg(long, env = "SIMULATE_FAULT_HALF_ANSWER", default_value = "0", value_parser = probability)]
    pub fault_half_answer: f64,

    /// Probability (0 to 1) that a `/send` request is never answered and the message is not accepted.
    #[arg(long, env = "SIMULATE_FAULT_HANG", default_value = "0", value_parser = probability)]
    pub fault_hang: f64,

    /// Seed of the random faults and of the jitter. Unset: another one at every start.
    #[arg(long, env = "SIMULATE_SEED")]
    pub seed: Option<u64>,

    /// Most messages kept in the ledger; the oldest go first, and are counted.
    #[arg(long, env = "SIMULATE_LEDGER_LIMIT", default_value = "1000000", value_parser = at_least_one)]
    pub ledger_limit: usize,

    /// How far its calendar is ahead of this machine's; signatures go by the machine's. For rigs that live at another time of day.
    #[arg(skip)]
    pub calendar_ahead: TimeDelta,

    #[command(flatten)]
    pub messages: MessageOptions,

    #[command(flatten)]
    pub events: EventOptions,

    #[command(flatten)]
    pub webhooks: WebhookOptions,
}

/// What the flags default to, whatever the environment says.
impl Default for Options {
    fn default() -> Options {
        Options {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 9900,
            lines: 5,
            secret: DEFAULT_SECRET.into(),
            tenant: "acme".into(),
            first_touch_gap: Duration::from_secs(600),
            first_touch_cap: Cap(Some(30)),
            time_zone: Tz::UTC,
            time_scale: 1.0,
            calendar_ahead: TimeDelta::zero(),
            request_rate: None,
            dedup_window: None,
            key_lifetime: Duration::from_secs(86_400),
            same_key_other_body: SameKeyOtherBody::Error,
            concurrent_key: ConcurrentKey::Wait,
            cache_errors: false,
            error_shape: ErrorShape::Mixed,
            latency: Duration::ZERO,
            latency_jitter: Duration::ZERO,
            fault_5xx: 0.0,
            fault_html: 0.0,
            fault_drop_before: 0.0,
            fault_drop_after: 0.0,
            fault_slow_body: 0.0,
            fault_half_answer: 0.0,
            fault_hang: 0.0,
            seed: None,
            ledger_limit: 1_000_000,
            messages: MessageOptions::default(),
            events: EventOptions::default(),
            webhooks: WebhookOptions::default(),
        }
    }
}

/// What a known key with another request body gets. Contract 8, question 2.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameKeyOtherBody {
    /// 1012 with status 409, not retryable.
    Error,
    /// The answer to the first body.
    Replay,
    /// A second message.
    Send,
}

/// What a second request with a key gets while the first is in flight. Contract 8, question 3.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConcurrentKey {
    /// It blocks, then gets the answer of the first.
    Wait,
    /// Both are executed: two messages.
    Both,
}

/// Which error body `/send` answers with. Contract 8, question 15.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorShape {
    /// Flat for 3xxx and 4xxx, nested for the rest.
    Mixed,
    /// Always flat.
    Flat,
    /// Always nested.
    Nested,
}

impl ErrorShape {
    /// Whether `/send` answers `code` with the flat body.
    pub fn is_flat(self, code: u16) -> bool {
        match self {
            ErrorShape::Mixed => (3000..5000).contains(&code),
            ErrorShape::Flat => true,
            ErrorShape::Nested => false,
        }
    }
}

/// A number of first touches a day, or `None` for as many as come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap(pub Option<u32>);

impl FromStr for Cap {
    type Err = String;

    fn from_str(text: &str) -> Result<Cap, String> {
        match text {
            "none" => Ok(Cap(None)),
            number => number.parse().map(|cap| Cap(Some(cap))).map_err(|_| "expected a number or `none`".into()),
        }
    }
}

/// At most `count` requests in any `period`, all of them at once if need be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests; at least 1.
    pub count: u32,
    /// Real time.
    pub period: Duration,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        let expected = || "expected requests per second, minute or hour, e.g. `20/s`, `90/m`, `500/h`".to_owned();
        let (count, unit) = text.split_once('/').ok_or_else(expected)?;
        let period_secs = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(expected()),
        };
        match count.parse() {
            Ok(count @ 1..=1_000_000) => Ok(Rate { count, period: Duration::from_secs(period_secs) }),
            Ok(_) => Err("expected 1 to 1000000 requests".into()),
            Err(_) => Err(expected()),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|given| if given.is_zero() { Err("expected more than nothing".into()) } else { Ok(given) })
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(chance) if (0.0..=1.0).contains(&chance) => Ok(chance),
        _ => Err("expected a probability from 0 to 1".into()),
    }
}

fn scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if scale > 0.0 && scale <= 100_000.0 => Ok(scale),
        _ => Err("expected a number above 0 and at most 100000".into()),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|limit| *limit >= 1).ok_or_else(|| "expected a whole number from 1".into())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use secrecy::ExposeSecret as _;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: Options,
    }

    fn parse(flags: &[&str]) -> Result<Options, clap::Error> {
        Command::try_parse_from([&["simulate"], flags].concat()).map(|command| command.options)
    }

    #[test]
    fn default_is_what_the_flags_default_to() {
        let parsed = parse(&[]).expect("valid");
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Options::default()));
        assert_eq!(parsed.secret.expose_secret(), DEFAULT_SECRET);
    }

    #[test]
    fn flags_take_human_units() {
        let options = parse(&["--first-touch-gap=0s", "--first-touch-cap=none", "--request-rate=90/m"]).expect("valid");
        assert_eq!(options.first_touch_gap, Duration::ZERO);
        assert_eq!(options.first_touch_cap, Cap(None));
        assert_eq!(options.request_rate, Some(Rate { count: 90, period: Duration::from_secs(60) }));
        assert_eq!(parse(&["--time-zone=America/New_York"]).expect("valid").time_zone, Tz::America__New_York);
        let options = parse(&["--webhook-waits=0s,20ms", "--webhook-http=false"]).expect("valid");
        assert_eq!(options.webhooks.webhook_waits, [Duration::ZERO, Duration::from_millis(20)]);
        assert!(!options.webhooks.webhook_http);
    }

    #[test]
    fn nonsense_is_refused() {
        for flag in [
            "--fault-html=2",
            "--time-scale=0",
            "--request-rate=0/s",
            "--request-rate=5",
            "--lines=0",
            "--stream-life=0s",
        ] {
            assert!(parse(&[flag]).is_err(), "{flag}");
        }
    }

    #[test]
    fn debug_hides_the_secret() {
        assert!(!format!("{:?}", Options::default()).contains(DEFAULT_SECRET));
    }
}
