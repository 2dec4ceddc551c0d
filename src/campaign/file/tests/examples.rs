//! Campaigns without a mistake.

use super::*;

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

#[test]
fn a_campaign_written_as_json_is_the_same_campaign() {
    for (name, source) in examples().into_iter().chain([("good".to_owned(), GOOD.to_owned())]) {
        let campaign = read(&source).expect(&name).campaign;
        let json = serde_json::to_string(&campaign).expect("serialisable");
        assert_eq!(read(&json).map(|checked| checked.campaign), Ok(campaign), "{name}");
    }
}
