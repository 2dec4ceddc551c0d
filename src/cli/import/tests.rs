//! Files with records of every kind, and what is read of them.

use super::*;
use crate::NewJob;

/// The line, then the body, or the field and the reason.
type Read = (u64, Result<String, (String, String)>);

fn read_all(format: Format, file: &[u8]) -> Vec<Read> {
    let mut all = Vec::new();
    let take = |batch: Batch<NewJob>| {
        all.extend(batch.records.into_iter().map(|record| {
            let job = record.row.map(|job| job.body).map_err(|bad| (bad.field, bad.reason));
            (record.first_line, job)
        }));
        true
    };
    read(file, format, 0, take).expect("readable");
    all
}

fn bodies(read: &[Read]) -> Vec<(u64, &str)> {
    read.iter().filter_map(|(line, job)| Some((*line, job.as_deref().ok()?))).collect()
}

fn reasons(read: &[Read]) -> Vec<(u64, &str, &str)> {
    read.iter()
        .filter_map(|(line, job)| job.as_ref().err().map(|(field, reason)| (*line, field.as_str(), reason.as_str())))
        .collect()
}

#[test]
fn a_mark_crlf_and_quoted_newlines_are_understood() {
    let file = "\u{feff}phone,body\r\n+15550142200,\"Hi \"\"Ann\"\",\r\nthere\"\r\n\r\n+15550142201,5\" pipe\r\n+15550142202,last";
    let read = read_all(Format::Csv, file.as_bytes());
    assert_eq!(bodies(&read), [(2, "Hi \"Ann\",\r\nthere"), (5, "5\" pipe"), (6, "last")]);
}

#[test]
fn a_mark_is_known_however_few_bytes_a_pipe_gives_at_once() {
    let file = "\u{feff}phone,body\n+15550142200,Hi\n";
    let mut batches = Vec::new();
    let a_byte_each = io::BufReader::with_capacity(1, file.as_bytes());
    read(a_byte_each, Format::Csv, 0, |batch: Batch<NewJob>| {
        batches.push(batch);
        true
    })
    .expect("readable");
    assert!(batches[0].records[0].row.is_ok());
}

#[test]
fn a_bad_record_is_named_and_costs_no_other() {
    let long = "x".repeat(RECORD_MAX_BYTES);
    let file = format!(
        "phone,body,priority,due_at\n\
         +15550142200,ok,,\n\
         15550142299,no plus,,\n\
         +15550142200,ok,high,\n\
         +15550142200,a,b,,\n\
         +15550142200,{long},,\n\
         +15550142200,ok,1,tomorrow\n\
         +15550142200,,,\n\
         +15550142200,ok,1,2026-06-03T09:15:00Z\n"
    );
    let mut file = file.into_bytes();
    file.extend(b"+15550142200,caf\xe9,,\n+15550142200,end,,\n");
    let read = read_all(Format::Csv, &file);
    assert_eq!(bodies(&read), [(2, "ok"), (9, "ok"), (11, "end")]);
    let fields: Vec<(u64, &str)> = reasons(&read).into_iter().map(|(line, field, _)| (line, field)).collect();
    let expected = [(3, "phone"), (4, "priority"), (5, "line"), (6, "line"), (7, "due_at"), (8, "body"), (10, "body")];
    assert_eq!(fields, expected);
    for (_, _, reason) in reasons(&read) {
        assert!(!["15550142299", "no plus", "high", "tomorrow"].iter().any(|held| reason.contains(held)), "{reason}");
    }
}

#[test]
fn an_open_quote_costs_its_own_line_alone() {
    for (second, found) in
        [("+15550142200,\"open", vec![(3, "b"), (4, "c")]), ("+15550142200,\"text\" after", vec![(3, "b"), (4, "c")])]
    {
        let file = format!("phone,body\n{second}\n+15550142201,b\n+15550142202,\"c\"\n");
        let read = read_all(Format::Csv, file.as_bytes());
        assert_eq!(bodies(&read), found);
        assert_eq!(reasons(&read).len(), 1);
        assert_eq!(reasons(&read)[0].0, 2);
    }
    let far = format!("phone,body\n+15550142200,\"open\n{}", "+15550142201,b\n".repeat(RECORD_MAX_BYTES / 8));
    let read = read_all(Format::Csv, far.as_bytes());
    assert_eq!((bodies(&read).len(), reasons(&read).len()), (RECORD_MAX_BYTES / 8, 1));
}

#[test]
fn cells_become_the_fields_of_a_job() {
    let file = "phone,body,attachments,labels,label.city,max_attempts,name,due_at\n\
                +15550142200,Hi,a; b,\"{\"\"n\"\": 1}\",Bonn,3,Ann,2026-06-03T11:15:00+02:00\n\
                +15550142200,Hi,\"[\"\"a\"\", {\"\"id\"\": \"\"b\"\"}]\",,,,,\n";
    let mut jobs = Vec::new();
    let take = |batch: Batch<NewJob>| {
        jobs.extend(batch.records.into_iter().map(|record| record.row.expect("valid")));
        true
    };
    read(file.as_bytes(), Format::Csv, 0, take).expect("readable");
    let expected = [
        serde_json::json!({"phone": "+15550142200", "body": "Hi", "priority": 0, "attachments": ["a", "b"],
            "labels": {"n": 1, "city": "Bonn"}, "max_attempts": 3, "name": "Ann", "due_at": "2026-06-03T09:15:00Z"}),
        serde_json::json!({"phone": "+15550142200", "body": "Hi", "priority": 0, "attachments": ["a", {"id": "b"}]}),
    ];
    assert_eq!(jobs.iter().map(|job| serde_json::to_value(job).expect("serialisable")).collect::<Vec<_>>(), expected);
}

#[test]
fn json_lines_are_read_with_the_same_rules() {
    let file = "{\"phone\":\"+15550142200\",\"body\":\"Hi\",\"name\":null}\r\n\n\
                {\"phone\":\"+15550142200\",\"body\":\"Hi\"\n\
                {\"phone\":\"+15550142200\",\"bdy\":\"Hi\"}\n\
                [1]\n\
                {\"phone\":\"+15550142200\",\"body\":7}\n\
                {\"phone\":\"+15550142200\"}\n\
                {\"phone\":\"+15550142200\",\"body\":\"Hi\",\"class\":\"news\"}\n\
                {\"phone\":\"+15550142200\",\"body\":\"end\"}";
    let read = read_all(Format::Jsonl, file.as_bytes());
    assert_eq!(bodies(&read), [(1, "Hi"), (9, "end")]);
    let found = reasons(&read);
    assert_eq!(
        found.iter().map(|bad| (bad.0, bad.1)).collect::<Vec<_>>(),
        [(3, "line"), (4, "line"), (5, "line"), (6, "body"), (7, "body"), (8, "class")]
    );
    assert!(found[1].2.contains("`bdy`") && found[1].2.contains("dedupe_key"), "{}", found[1].2);
    assert_eq!((found[3].2, found[5].2), ("body is not text", "class is not transactional or marketing"));
}

#[test]
fn a_header_that_is_not_ours_refuses_the_file() {
    let refusal =
        |file: &[u8]| read::<NewJob>(file, Format::Csv, 0, |_| panic!("nothing to take")).expect_err("refused");
    let unknown = refusal(b"phone,body,nmae\n+15550142200,Hi,Ann\n").to_string();
    assert!(unknown.contains("`nmae`") && unknown.contains("dedupe_key") && unknown.contains("label.KEY"), "{unknown}");
    assert!(matches!(refusal(b"phone;body\n"), ImportError::UnknownColumn { .. }));
    assert!(matches!(refusal(b"phone,body,phone\n"), ImportError::ColumnTwice { .. }));
    assert!(matches!(refusal(b"phone,name\n"), ImportError::ColumnMissing { column: "body", .. }));
    assert!(matches!(refusal(b"phone,body,\n"), ImportError::UnnamedColumn { number: 3 }));
    assert!(matches!(refusal(b"\n\n"), ImportError::NoHeader));
    assert!(matches!(refusal(b"\xff\xfep\0h\0o\0"), ImportError::HeaderNotUtf8));
}

#[test]
fn skipped_lines_and_small_batches() {
    let mut file = b"phone,body\n".to_vec();
    for _ in 0..2 * BATCH_MAX_RECORDS + 1 {
        file.extend(b"+15550142200,\"two\nlines\"\n");
    }
    let mut sizes = Vec::new();
    let mut first = 0;
    let take = |batch: Batch<NewJob>| {
        first = if first == 0 { batch.records[0].first_line } else { first };
        sizes.push(batch.records.len());
        true
    };
    read(&file[..], Format::Csv, 5, take).expect("readable");
    assert_eq!((first, sizes), (6, vec![BATCH_MAX_RECORDS, BATCH_MAX_RECORDS - 1]));
}
