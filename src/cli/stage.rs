//! The story of a trial on standard error.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::trial::Audience;
use crate::trial::facts::Progress;

/// The story on standard error: bars on a terminal, a line a second elsewhere.
pub struct Stage {
    began: Instant,
    bars: Option<Bars>,
    is_terminal: bool,
    spoke: Option<Instant>,
}

impl Stage {
    /// The clock of its lines starts now.
    pub fn new() -> Stage {
        Stage { began: Instant::now(), bars: None, is_terminal: std::io::stderr().is_terminal(), spoke: None }
    }

    /// Takes the bars away.
    pub fn close(&mut self) {
        if let Some(bars) = self.bars.take() {
            let _ = bars.all.clear();
        }
    }
}

impl Audience for Stage {
    fn say(&mut self, line: &str) {
        let line = format!("{:>5.1} s  {line}", self.began.elapsed().as_secs_f64());
        match &self.bars {
            Some(bars) => bars.all.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    fn show(&mut self, progress: &Progress) {
        if self.is_terminal {
            self.bars.get_or_insert_with(Bars::new).show(progress);
        } else if self.spoke.is_none_or(|spoke| spoke.elapsed() >= Duration::from_secs(1)) {
            self.spoke = Some(Instant::now());
            let Progress { queued, sending, sent, ended_otherwise } = progress;
            self.say(&format!("{sent} sent, {ended_otherwise} failed, {sending} in flight, {queued} waiting"));
        }
    }
}

/// One bar a state.
struct Bars {
    all: MultiProgress,
    sent: ProgressBar,
    failed: ProgressBar,
    sending: ProgressBar,
    waiting: ProgressBar,
}

impl Bars {
    fn new() -> Bars {
        let all = MultiProgress::new();
        let bar = |name: &'static str, colour: &str| {
            let template = format!("         {{prefix:<10}} {{bar:40.{colour}}} {{pos:>4}} of {{len}}");
            let style = ProgressStyle::with_template(&template).expect("the template is well formed");
            all.add(ProgressBar::new(1).with_style(style.progress_chars("━╸ ")).with_prefix(name))
        };
        let sent = bar("sent", "green");
        let failed = bar("failed", "red");
        let sending = bar("in flight", "yellow");
        let waiting = bar("waiting", "blue");
        Bars { sent, failed, sending, waiting, all }
    }

    fn show(&self, progress: &Progress) {
        let counts = [
            (&self.sent, progress.sent),
            (&self.failed, progress.ended_otherwise),
            (&self.sending, progress.sending),
            (&self.waiting, progress.queued),
        ];
        for (bar, count) in counts {
            bar.set_length(progress.total());
            bar.set_position(count);
        }
    }
}
