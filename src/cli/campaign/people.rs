//! The people of a campaign's CSV, with everything that is wrong with its lines.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::cli::import::{self, BadRecord, Format, Row};
use crate::outbox::campaigns::audience::{Person, Problem};
use crate::phone::Phone;

/// The largest file, in bytes, and the most people of one.
const MAX_BYTES: u64 = 256 << 20;
const MAX_PEOPLE: usize = 1_000_000;

/// The people of a file, in its order, those with a problem too.
pub struct People {
    pub people: Vec<Person>,
    /// As its first line names them.
    pub columns: Vec<String>,
    /// What is wrong, line by line; nothing of what stands there.
    pub problems: Vec<(i64, String)>,
    /// What the file was, to know it again.
    pub digest: String,
}

/// A row of the file: `phone`, and variables by their names.
struct Member(Map<String, Value>);

impl Row for Member {
    const FIELDS: &'static [(&'static str, &'static str)] = &[("phone", "the number, such as +15550142200")];
    const NEEDED: &'static [&'static str] = &["phone"];
    const ANY_COLUMN: bool = true;

    fn of(fields: Value) -> Result<Member, BadRecord> {
        let Value::Object(fields) = fields else { return Err(BadRecord::new("line", "is no row")) };
        let has_nul = |text: &str| text.contains('\0');
        let column = fields.iter().find(|(column, value)| has_nul(column) || value.as_str().is_some_and(has_nul));
        match column.map(|(column, _)| column.replace('\0', "")) {
            Some(column) => Err(BadRecord::new(&column, "has a NUL character, which cannot be stored: take it out")),
            None => Ok(Member(fields)),
        }
    }
}

/// Reads a CSV whose first line names the columns.
/// Errors: the file cannot be read, or not as a CSV; a bad line is none.
pub fn read(path: &Path) -> anyhow::Result<People> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| format!("opening {shown}"))?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).with_context(|| format!("reading {shown}"))?;
    ensure!(bytes.len() as u64 <= MAX_BYTES, "{shown} is larger than {MAX_BYTES} bytes: split it");
    let columns = import::columns_of::<Member>(bytes.as_slice()).with_context(|| shown.to_string())?;
    let (mut people, mut problems, mut first) = (Vec::new(), Vec::new(), HashMap::<Phone, i64>::new());
    import::read::<Member>(bytes.as_slice(), Format::Csv, 0, |batch| {
        for record in batch.records {
            let n = i64::try_from(record.first_line).unwrap_or(i64::MAX);
            let (person, problem) = person(n, record.row, &mut first);
            problems.extend(problem.map(|problem| (n, problem)));
            people.push(person);
        }
        people.len() <= MAX_PEOPLE
    })
    .with_context(|| shown.to_string())?;
    ensure!(people.len() <= MAX_PEOPLE, "{shown} has more than {MAX_PEOPLE} people: split it");
    Ok(People { people, columns, problems, digest: hex::encode(Sha256::digest(&bytes)) })
}

fn person(n: i64, row: Result<Member, BadRecord>, first: &mut HashMap<Phone, i64>) -> (Person, Option<String>) {
    let mut person = match row {
        Ok(Member(row)) => Person::of(n, row),
        Err(bad) => {
            let problem = if bad.field == "phone" { Problem::BadNumber } else { Problem::Unreadable };
            let person = Person { n, phone: None, vars: Map::new(), problem: Some(problem) };
            return (person, Some(format!("{} {}", bad.field, bad.reason)));
        }
    };
    match (&person.phone, person.problem) {
        (None, _) => (person, Some(Problem::BadNumber.told())),
        (_, Some(problem)) => (person, Some(problem.told())),
        (Some(phone), None) => match first.get(phone) {
            None => {
                first.insert(phone.clone(), n);
                (person, None)
            }
            Some(earlier) => {
                let told = format!("the same number stands in line {earlier}");
                person.problem = Some(Problem::Duplicate);
                person.vars = Map::new();
                (person, Some(told))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read_text(text: &str) -> anyhow::Result<People> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        read(file.path())
    }

    #[test]
    fn each_bad_line_is_told_and_none_is_dropped() {
        let people = read_text(
            "phone,first_name,priority\n+15550142200,Ann,1\n5550142201,Bob,\n+15550142200,Ann again,2\n+15550142202\n,Cid,\n+15550142203,\" Dot \",\n",
        )
        .expect("a CSV");
        let told: Vec<String> = people.problems.iter().map(|(line, problem)| format!("{line}: {problem}")).collect();
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told[0].starts_with("3: phone is not E.164"), "{told:?}");
        assert_eq!(told[1], "4: the same number stands in line 2");
        assert_eq!(told[2], "5: line has 1 column, the header has 3: put quotes around commas");
        assert!(told[3].starts_with("6: phone "), "{told:?}");
        assert!(!told.iter().any(|told| told.contains("Bob") || told.contains("5550142201")), "{told:?}");
        let problems: Vec<_> = people.people.iter().map(|person| person.problem).collect();
        let (bad, twice, unreadable) = (Some(Problem::BadNumber), Some(Problem::Duplicate), Some(Problem::Unreadable));
        assert_eq!(problems, [None, bad, twice, unreadable, bad, None]);
        assert_eq!(
            Value::Object(people.people[0].vars.clone()),
            serde_json::json!({"first_name": "Ann", "priority": "1"})
        );
        assert_eq!(Value::Object(people.people[5].vars.clone()), serde_json::json!({"first_name": "Dot"}));
    }

    #[test]
    fn a_nul_is_told_by_its_line_and_column_and_takes_only_its_own_row_out() {
        let people =
            read_text("phone,first_name\n+15550142200,A\0nn\n+15550142201,Bob\n+1555\x00142202,Cid\n").expect("a CSV");
        let told = |column| format!("{column} has a NUL character, which cannot be stored: take it out");
        assert_eq!(people.problems, [(2, told("first_name")), (4, told("phone"))]);
        let problems: Vec<_> = people.people.iter().map(|person| person.problem).collect();
        assert_eq!(problems, [Some(Problem::Unreadable), None, Some(Problem::BadNumber)]);
    }

    #[test]
    fn a_file_without_numbers_is_none() {
        let told = |text| read_text(text).err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(told("first_name\nAnn\n").contains("the column `phone` is missing"));
        assert!(told("phone,phone\n").contains("stands there twice"));
        assert!(
            told("phone;first_name\n")
                .ends_with("the line is one column: write commas between columns, not semicolons")
        );
        assert!(told("first_name\tphone\n").ends_with("not tabs"));
        assert!(told("phone,,\n").contains("column 2 has no name"));
    }
}
