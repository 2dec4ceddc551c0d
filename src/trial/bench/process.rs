//! What processes have cost so far, as Linux counts it; elsewhere nothing is known.

use std::fs;

/// Ticks a second in /proc/<pid>/stat, on every Linux of today.
const TICKS_PER_SEC: f64 = 100.0;

/// The fields of one /proc/<pid>/stat that are of use here.
struct Stat {
    parent: u32,
    own_ticks: u64,
    reaped_ticks: u64,
}

impl Stat {
    fn read(pid: &str) -> Option<Stat> {
        Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The program's name stands in brackets and may hold anything: the fields are counted from its end.
    fn parse(text: &str) -> Option<Stat> {
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field)?.parse::<u64>().ok();
        Some(Stat {
            parent: u32::try_from(number(1)?).ok()?,
            own_ticks: number(11)? + number(12)?,
            reaped_ticks: number(13)? + number(14)?,
        })
    }
}

/// CPU seconds of one process.
pub fn cpu_secs(pid: u32) -> Option<f64> {
    Stat::read(&pid.to_string()).map(|stat| stat.own_ticks as f64 / TICKS_PER_SEC)
}

/// CPU seconds of this process.
pub fn own_cpu_secs() -> Option<f64> {
    cpu_secs(std::process::id())
}

/// CPU seconds of all children of this process that have ended and been waited for.
pub fn reaped_cpu_secs() -> Option<f64> {
    Stat::read("self").map(|stat| stat.reaped_ticks as f64 / TICKS_PER_SEC)
}

/// CPU seconds of a process and its children, those that have ended among them.
pub fn family_cpu_secs(pid: u32) -> Option<f64> {
    let head = Stat::read(&pid.to_string())?;
    let names = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let children =
        names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).filter_map(|name| Stat::read(&name));
    let children: u64 = children.filter(|child| child.parent == pid).map(|child| child.own_ticks).sum();
    Some((head.own_ticks + head.reaped_ticks + children) as f64 / TICKS_PER_SEC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_is_no_trouble() {
        let stat = Stat::parse("7 (a) b (c)) S 3 7 7 0 -1 0 1 2 3 4 10 20 30 40 20 0 1").expect("parses");
        assert_eq!((stat.parent, stat.own_ticks, stat.reaped_ticks), (3, 30, 70));
    }
}
