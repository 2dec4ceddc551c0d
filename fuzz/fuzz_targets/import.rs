//! Whatever bytes a file holds, importing it gives jobs and rejected records, each with its place in the file, within
//! bounded memory; and a run that goes on after any line gives what the first run gave there.

#![no_main]

use std::io::BufReader;

use chert_outbox::NewJob;
use chert_outbox::cli::import::{BATCH_MAX_RECORDS, Batch, Format, RECORD_MAX_BYTES, Record, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    for format in [Format::Csv, Format::Jsonl] {
        let Some(records) = records(file, format, 0, usize::MAX) else { continue };
        let mut line = 0;
        for record in &records {
            assert!(line < record.first_line && record.first_line <= record.last_line, "out of order");
            line = record.last_line;
            assert!(record.raw.len() <= RECORD_MAX_BYTES);
            if let Ok(job) = &record.row {
                assert_eq!(job.check(), Ok(()));
                let json = serde_json::to_vec(job).expect("a job is JSON");
                // Not the whole job: a fraction among its labels may read back a last digit off.
                let again: NewJob = serde_json::from_slice(&json).expect("its own JSON");
                assert!((again.phone, again.body, again.due_at) == (job.phone.clone(), job.body.clone(), job.due_at));
            }
        }
        assert!(records.iter().map(|record| record.raw.len()).sum::<usize>() <= file.len());

        // From a pipe, bytes come as they please.
        let again = self::records(file, format, 0, 1).expect("it was readable before");
        assert!(same(&records, &again));
        let Some(half) = records.get(records.len() / 2) else { continue };
        let rest = self::records(file, format, half.last_line, usize::MAX).expect("it was readable before");
        assert!(same(&records[records.len() / 2 + 1..], &rest));
    }
});

/// All records, or `None` if the file has no usable header; read by `chunk` bytes at a time.
fn records(file: &[u8], format: Format, skip_lines: u64, chunk: usize) -> Option<Vec<Record<NewJob>>> {
    let mut records = Vec::new();
    let take = |batch: Batch<NewJob>| {
        assert!(batch.records.len() <= BATCH_MAX_RECORDS && batch.bytes_read <= file.len() as u64);
        records.extend(batch.records);
        true
    };
    let source = BufReader::with_capacity(chunk.min(file.len()).max(1), file);
    read(source, format, skip_lines, take).ok().map(|()| records)
}

fn same(left: &[Record<NewJob>], right: &[Record<NewJob>]) -> bool {
    let alike = |(left, right): (&Record<NewJob>, &Record<NewJob>)| {
        (left.first_line, left.last_line, &left.raw, &left.row)
            == (right.first_line, right.last_line, &right.raw, &right.row)
    };
    left.len() == right.len() && left.iter().zip(right).all(alike)
}
