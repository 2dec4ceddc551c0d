//! Campaigns without a mistake.

use super::*;
use crate::campaign::file::step::Step;
use crate::campaign::running::Running;

/// The files in `jobs/`, with their texts.
fn examples() -> Vec<(String, String)> {
    let jobs = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/jobs")).expect("it is there");
    let files = jobs.map(|file| file.expect("readable").path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let read = |path: std::path::PathBuf| (path.display().to_string(), std::fs::read_to_string(&path).expect("UTF-8"));
    files.map(read).collect()
}

#[test]
fn a_good_file_is_good() {
    assert_eq!(told_of(GOOD), [""; 0]);
}

#[test]
fn the_examples_have_neither_faults_nor_warnings() {
    assert!(examples().len() >= 4);
    for (name, source) in examples() {
        assert_eq!(told_of(&source), [""; 0], "{name}");
    }
}

/// The most messages that one person gets of some steps.
fn most(steps: &[Step]) -> usize {
    let of = |step: &Step| match step {
        Step::Send(_) => 1,
        Step::Wait(_) => 0,
        Step::Branch(step) => most(&step.branch.then).max(most(&step.branch.otherwise)),
    };
    steps.iter().map(of).sum()
}

#[test]
fn the_examples_have_room_for_all_their_messages_under_their_caps() {
    for (name, source) in examples() {
        let campaign = read(&source).expect(&name).campaign;
        if let Some(cap) = campaign.caps.per_recipient {
            assert!(
                most(&campaign.steps) <= cap.messages as usize,
                "{name}: later ones expire before the cap lets them go"
            );
        }
    }
}

#[test]
fn the_calls_in_the_examples_bring_every_variable_that_is_needed() {
    let mut called = 0;
    for (name, source) in examples() {
        let comments = source.lines().filter(|line| line.starts_with('#')).collect::<String>();
        let Some((_, call)) = comments.split_once("outbox.enrol(") else { continue };
        let vars = call.split_once("'{").and_then(|(_, vars)| vars.split_once("}'")).expect(&name).0;
        let vars = serde_json::from_str(&format!("{{{vars}}}")).expect(&name);
        let definition = serde_json::to_value(&read(&source).expect(&name).campaign).expect("serialisable");
        assert_eq!(Running::read(&definition).expect(&name).vars(vars).err(), None, "{name}");
        called += 1;
    }
    assert_eq!(called, 1);
}

#[test]
fn a_campaign_written_as_json_is_the_same_campaign() {
    for (name, source) in examples().into_iter().chain([("good".to_owned(), GOOD.to_owned())]) {
        let campaign = read(&source).expect(&name).campaign;
        let json = serde_json::to_string(&campaign).expect("serialisable");
        assert_eq!(read(&json).map(|checked| checked.campaign), Ok(campaign), "{name}");
    }
}
