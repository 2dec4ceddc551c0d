//! What is read as a length of time, an instant or a rate is shown so that it reads back.

#![no_main]

use std::time::Duration;

use chert_outbox::units::{Rate, duration, instant, show_duration};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(length) = duration(text) {
        assert_eq!(duration(&show_duration(length)), Ok(length));
    }
    if let Ok(at) = instant(text) {
        assert_eq!(instant(&at.to_rfc3339()), Ok(at));
    }
    if let Ok(rate) = text.parse::<Rate>() {
        let gap = rate.gap();
        assert!(gap <= Duration::from_secs(86_400));
        let shown: Rate = rate.to_string().parse().expect("a shown rate reads back");
        // It is shown with two decimals of a count of at least one.
        assert!(shown.gap().abs_diff(gap) <= gap / 100 + Duration::from_micros(1), "{rate} for {gap:?}");
    }
});
