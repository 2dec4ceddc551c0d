//! `campaign migrate`: who runs with an older version goes on with the newest one.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::Args;
use serde_json::json;
use sqlx::PgPool;

use crate::campaign::moving::{Moving, Place, Standing, Unmoved};
use crate::campaign::running::Running;
use crate::cli::{DatabaseOptions, print_json, table};
use crate::database;
use crate::outbox::campaigns::moving::{self, Going, Movable, Moved};
use crate::outbox::campaigns::{CampaignsError, versions};
use crate::units::counted;

/// Those whom an engine holds are tried again so often, and so long after.
const TRIES: usize = 100;
const AGAIN: Duration = Duration::from_millis(100);

/// Move whoever runs with an older version to the newest one; it only says who would be, unless --yes is given.
#[derive(Debug, Args)]
#[command(
    after_help = "Everybody goes on at the step of the same name; a step without a name is the same only if it says the same. For steps that the new
version does not have, --map says where their people go on; `end` ends them as done, and a new message in place of an old one is that one
by another name. Who waits for a step waits until the time that they were
told. A message that is queued or on its way is not called back, also not one that a pause holds: it goes out with its old text, and its
person goes on behind it. Nobody is moved who would get a message
again. Who is held is looked at once more, by the rules of the new version. Workers go on meanwhile, and it can be cut short and run again.

Examples:
  chert-outbox campaign migrate welcome
  chert-outbox campaign migrate welcome --from 2 --map tips=advice,survey=end --yes

Exit code: 0 all can be moved, or are; 1 somebody cannot: then nobody is moved, but those who got there meanwhile."
)]
pub struct Migrate {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The campaign.
    name: String,
    /// Only those who run with this version; those of every older one unless given.
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(i32).range(1..))]
    from: Option<i32>,
    /// Who stands at OLD goes on at NEW, or is done at `end`; several with commas.
    #[arg(long, value_name = "OLD=NEW", value_delimiter = ',', value_parser = pair)]
    map: Vec<(String, String)>,
    /// Do it.
    #[arg(long)]
    yes: bool,
    /// Print who was moved, or would be, as JSON.
    #[arg(long)]
    json: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(old, new)| !old.is_empty() && !new.is_empty());
    let pair = pair.map(|(old, new)| (old.to_owned(), new.to_owned()));
    pair.ok_or_else(|| "write OLD=NEW, two names of steps".to_owned())
}

/// The versions, read.
struct Versions {
    old: BTreeMap<i32, Running>,
    new: Running,
    map: BTreeMap<String, String>,
}

impl Migrate {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = self.database.outbox(2).await?;
        let movable = moving::look(&pool, &self.name, self.from).await?;
        let to = movable.to;
        if self.from.is_some_and(|from| from >= to) {
            bail!("the newest version of {} is {to}: there is no older one with this number", self.name);
        }
        let versions = self.versions(&pool, &movable).await?;
        let bad: Vec<String> = movable
            .groups
            .iter()
            .filter_map(|(standing, people)| {
                let unmoved = versions.place(standing).err()?;
                Some(format!(
                    "{} at `{}` of version {}: {unmoved}",
                    counted(*people, "person", "people"),
                    versions.name(standing),
                    standing.version
                ))
            })
            .collect();
        if !bad.is_empty() {
            bail!("nobody was moved\n{}", bad.join("\n"));
        }
        let moved = if self.yes { Some(self.move_all(&pool, &movable, &versions).await?) } else { None };
        self.tell(&movable, &versions, moved)?;
        if let Some(Moved { left: 1.., .. }) = moved {
            bail!(
                "people have come to steps meanwhile that the map says nothing of: run it again without --yes to see them"
            );
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn versions(&self, pool: &PgPool, movable: &Movable) -> anyhow::Result<Versions> {
        let mut tx = database::begin_plain(pool).await.map_err(CampaignsError::Read)?;
        let mut old = BTreeMap::new();
        for version in movable.groups.iter().map(|(standing, _)| standing.version).collect::<BTreeSet<_>>() {
            old.insert(version, versions::running(&mut tx, &self.name, version).await?);
        }
        let new = versions::running(&mut tx, &self.name, movable.to).await?;
        let map: BTreeMap<String, String> = self.map.iter().cloned().collect();
        ensure!(map.len() == self.map.len(), "--map names a step twice");
        if let Some((_, name)) = map.iter().find(|(_, name)| new.program.index_of(name).is_none()) {
            bail!("--map: version {} has no step `{name}`: {}", movable.to, names(&new));
        }
        let known = |name: &String| old.values().any(|running| running.program.index_of(name).is_some());
        if let Some(name) = map.keys().find(|name| !old.is_empty() && !known(name)) {
            let each = old.iter().map(|(version, running)| format!("version {version} has {}", names(running)));
            bail!("--map: no older version has a step `{name}`: {}", each.collect::<Vec<_>>().join("; "));
        }
        Ok(Versions { old, new, map })
    }

    /// Moves everybody, batch after batch. Whom an engine holds at the moment of their batch comes again.
    async fn move_all(&self, pool: &PgPool, movable: &Movable, versions: &Versions) -> anyhow::Result<Moved> {
        let going = |standing: &Standing| versions.going(standing);
        let (mut sum, mut ids) = (Moved::default(), movable.ids);
        for _ in 0..TRIES {
            let mut left = 0;
            while ids.0 <= ids.1 {
                let moved = moving::move_some(pool, &self.name, (self.from, movable.to), &going, ids.0).await?;
                sum.people += moved.people;
                left += moved.left;
                ids.0 = ids.0.saturating_add(moving::SPAN);
            }
            let remaining = moving::look(pool, &self.name, self.from).await?;
            let people: i64 = remaining.groups.iter().map(|(_, people)| people).sum();
            if people <= left {
                return Ok(Moved { left: people, ..sum });
            }
            ids = remaining.ids;
            tokio::time::sleep(AGAIN).await;
        }
        bail!("{} moved; others are held by somebody: run it again", counted(sum.people, "person was", "people were"))
    }

    fn tell(&self, movable: &Movable, versions: &Versions, moved: Option<Moved>) -> anyhow::Result<()> {
        let places = movable.groups.iter().filter_map(|(standing, people)| {
            let place = versions.place(standing).ok()?;
            Some((standing, people, versions.new.program.steps()[place.step].name.as_str(), place.behind))
        });
        if self.json {
            let people: Vec<_> = places
                .map(|(standing, people, to, behind)| {
                    json!({"version": standing.version, "step": versions.name(standing), "message_under_way": standing.waiting,
                           "people": people, "to": to, "behind": behind})
                })
                .collect();
            return print_json(&json!({
                "campaign": self.name, "version": movable.to, "people": people, "moved": moved.map(|moved| moved.people),
                "still_enrols_with_an_older_version": movable.enrols,
            }));
        }
        let mut rows = table(&["version", "step", "people", "message", &format!("in version {}", movable.to)]);
        for (standing, people, to, behind) in places {
            rows.add_row([
                standing.version.to_string(),
                versions.name(standing).to_owned(),
                people.to_string(),
                if standing.waiting { "under way" } else { "" }.to_owned(),
                format!("{}{to}", if behind { "behind " } else { "" }),
            ]);
        }
        match (movable.groups.is_empty(), moved) {
            (true, _) => outln!("nobody runs with an older version of {}", self.name),
            (false, None) => outln!("{}\nnobody was moved: add --yes to do it", rows.trim_fmt()),
            (false, Some(moved)) => {
                outln!("{}\n{} moved", rows.trim_fmt(), counted(moved.people, "person was", "people were"))
            }
        }
        if movable.enrols {
            outln!("a firing still enrols people with an older version: run it again when that is over");
        }
        Ok(())
    }
}

impl Versions {
    fn moving(&self, standing: &Standing) -> Option<Moving<'_>> {
        let old = &self.old.get(&standing.version)?.program;
        Some(Moving { old, new: &self.new.program, map: &self.map })
    }

    fn place(&self, standing: &Standing) -> Result<Place, Unmoved> {
        // A version that nobody ran with at the first look is none that the map was written for.
        let moving = self.moving(standing).ok_or_else(|| Unmoved::Missing(standing.step.to_string()))?;
        moving.place(standing)
    }

    fn going(&self, standing: &Standing) -> Option<Going> {
        Some((self.place(standing).ok()?, self.moving(standing)?.had(standing)))
    }

    fn name(&self, standing: &Standing) -> &str {
        self.moving(standing).map_or("?", |moving| moving.name(standing.step))
    }
}

fn names(running: &Running) -> String {
    let steps = running.program.steps().iter().enumerate();
    let own = steps.filter(|(index, step)| running.program.index_of(step.name.as_str()) == Some(*index));
    own.map(|(_, step)| step.name.to_string()).collect::<Vec<_>>().join(", ")
}
