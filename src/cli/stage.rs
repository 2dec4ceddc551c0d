//! The story of a trial on standard error.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::trial::Audience;
use crate::trial::facts::Progress;

/// The story on standard error: bars on a terminal, a line a second elsewhere.
pub struct Stage {
    began: Instant,
    /// Which story this is, where several are told at once.
    name: Option<&'static str>,
    /// The bars of all stories.
    all: MultiProgress,
    bars: Option<Bars>,
    is_terminal: bool,
    spoke: Option<Instant>,
}

impl Stage {
    /// The clock of its lines starts now.
    pub fn new() -> Stage {
        let is_terminal = std::io::stderr().is_terminal();
        Stage { began: Instant::now(), name: None, all: MultiProgress::new(), bars: None, is_terminal, spoke: None }
    }

    /// Another story, which may be told beside this one: each of its lines begins with its name.
    pub fn beside(&self, name: &'static str) -> Stage {
        let Stage { began, ref all, is_terminal, .. } = *self;
        Stage { began, name: Some(name), all: all.clone(), bars: None, is_terminal, spoke: None }
    }

    /// Takes the bars away.
    pub fn close(&mut self) {
        if let Some(bars) = self.bars.take() {
            bars.leave(&self.all);
        }
    }
}

impl Audience for Stage {
    fn say(&mut self, line: &str) {
        let name = self.name.map_or(String::new(), |name| format!("{name:<NAME_WIDTH$}  "));
        let line = format!("{:>5.1} s  {name}{line}", self.began.elapsed().as_secs_f64());
        self.all.suspend(|| eprintln!("{line}"));
    }

    fn show(&mut self, progress: &Progress) {
        if self.is_terminal {
            self.bars.get_or_insert_with(|| Bars::new(&self.all, self.name)).show(progress);
        } else if self.spoke.is_none_or(|spoke| spoke.elapsed() >= Duration::from_secs(1)) {
            self.spoke = Some(Instant::now());
            let Progress { queued, sending, sent, ended_otherwise } = progress;
            self.say(&format!("{sent} sent, {ended_otherwise} failed, {sending} in flight, {queued} waiting"));
        }
    }
}

/// What the longest name of a scenario takes.
const NAME_WIDTH: usize = 18;

/// One bar a state.
struct Bars {
    sent: ProgressBar,
    failed: ProgressBar,
    sending: ProgressBar,
    waiting: ProgressBar,
}

impl Bars {
    fn new(all: &MultiProgress, story: Option<&'static str>) -> Bars {
        let story = story.map_or(String::new(), |story| format!("{story:<NAME_WIDTH$}  "));
        let bar = |name: &'static str, colour: &str| {
            let template = format!("         {story}{{prefix:<10}} {{bar:40.{colour}}} {{pos:>4}} of {{len}}");
            let style = ProgressStyle::with_template(&template).expect("the template is well formed");
            all.add(ProgressBar::new(1).with_style(style.progress_chars("━╸ ")).with_prefix(name))
        };
        let sent = bar("sent", "green");
        let failed = bar("failed", "red");
        let sending = bar("in flight", "yellow");
        let waiting = bar("waiting", "blue");
        Bars { sent, failed, sending, waiting }
    }

    fn leave(self, all: &MultiProgress) {
        for bar in [self.sent, self.failed, self.sending, self.waiting] {
            bar.finish_and_clear();
            all.remove(&bar);
        }
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
