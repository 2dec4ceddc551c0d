//! Enrolments of older versions, moved to the one that new enrolments start with: in batches, beside engines that advance them.

use std::collections::HashMap;

use sqlx::PgPool;

use crate::campaign::moving::{Place, Standing};
use crate::database;
use crate::outbox::campaigns::CampaignsError;

/// Enrolments of one transaction: so many, by their ids, those of other campaigns among them. By a limit on those of one campaign, the
/// planner reads everybody's.
pub const SPAN: i64 = 1_000;

/// Who would be moved, and to which version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movable {
    pub to: i32,
    /// How many stand where.
    pub groups: Vec<(Standing, i64)>,
    /// The first and the last enrolment of them, by id.
    pub ids: (i64, i64),
    /// A firing of an older version still enrols people with it.
    pub enrols: bool,
}

/// Where the running enrolments of older versions stand, or of this one. It counts them, so its cost grows with them.
/// Errors: `NoSuchCampaign`, `Read`.
pub async fn look(pool: &PgPool, name: &str, from: Option<i32>) -> Result<Movable, CampaignsError> {
    let mut tx = database::begin(pool).await.map_err(CampaignsError::Read)?;
    let campaign = sqlx::query!(
        r#"
        select c.version,
               exists (select from outbox.ticks t
                        where t.campaign = c.name and t.finished_at is null and t.state = 'enrolling' and t.version < c.version) as "enrols!"
          from outbox.campaigns c
         where c.name = $1
        "#,
        name,
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(CampaignsError::Read)?
    .ok_or_else(|| CampaignsError::NoSuchCampaign(name.to_owned()))?;
    let groups = sqlx::query!(
        r#"
        select version, step, waiting and made > 0 as "waiting!", coalesce(had, '{}') as "had!", count(*) as "people!", min(id) as "first!", max(id) as "last!"
          from outbox.enrolments
         where campaign = $1 and state in ('active', 'held') and version < $2 and ($3::int is null or version = $3)
         group by 1, 2, 3, 4
         order by 1, 2, 3, 4
        "#,
        name,
        campaign.version,
        from,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(CampaignsError::Read)?;
    let first = groups.iter().map(|group| group.first).min().unwrap_or(0);
    let last = groups.iter().map(|group| group.last).max().unwrap_or(-1);
    let groups = groups.into_iter().map(|group| {
        let standing = Standing { version: group.version, step: group.step, waiting: group.waiting, had: group.had };
        (standing, group.people)
    });
    let groups = groups.collect();
    Ok(Movable { to: campaign.version, groups, ids: (first, last), enrols: campaign.enrols })
}

/// Where somebody goes on, and what they have had by then.
pub type Going = (Place, Vec<String>);
/// Tells where whoever stands there goes on; none if they cannot be moved.
pub type Places<'a> = dyn Fn(&Standing) -> Option<Going> + Send + Sync + 'a;

/// What one batch came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    pub people: i64,
    /// Who has come to stand where `Places` says nothing of.
    pub left: i64,
}

/// Moves enrolments of older versions to this one, those of `SPAN` ids from `first` on. Those that somebody
/// else holds are passed over. Who was held is looked at once more, by the rules of the new version.
/// Errors: `NewerVersion`, if it is not the one that new enrolments start with any more, `Change`; nobody moved by this batch.
pub async fn move_some(
    pool: &PgPool,
    name: &str,
    (from, to): (Option<i32>, i32),
    places: &Places<'_>,
    first: i64,
) -> Result<Moved, CampaignsError> {
    let mut tx = database::begin(pool).await.map_err(CampaignsError::Change)?;
    // Nobody applies another version meanwhile.
    let version = sqlx::query_scalar!("select version from outbox.campaigns where name = $1 for key share", name)
        .fetch_optional(&mut *tx)
        .await
        .map_err(CampaignsError::Change)?;
    if let Some(version) = version.filter(|version| *version != to) {
        return Err(CampaignsError::NewerVersion(name.to_owned(), version));
    }
    let standing = sqlx::query!(
        r#"
        select id, version, step, waiting and made > 0 as "waiting!", coalesce(had, '{}') as "had!"
          from outbox.enrolments
         where id >= $2 and id < $3 and campaign = $1 and state in ('active', 'held')
           and version < $4 and ($5::int is null or version = $5)
         order by id
           for update skip locked
        "#,
        name,
        first,
        first.saturating_add(SPAN),
        to,
        from,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(CampaignsError::Change)?;
    let read = standing.len() as i64;
    // Many stand at one place.
    let mut known: HashMap<Standing, Option<Going>> = HashMap::new();
    let (mut ids, mut going) = (Vec::with_capacity(standing.len()), Vec::with_capacity(standing.len()));
    for one in standing {
        let standing = Standing { version: one.version, step: one.step, waiting: one.waiting, had: one.had };
        let found = known.entry(standing).or_insert_with_key(|standing| places(standing));
        if let Some(found) = found {
            ids.push(one.id);
            going.push(found.clone());
        }
    }
    sqlx::query!(
        r#"
        update outbox.enrolments e
           set version = $1, step = u.step, had = string_to_array(u.had, ','), state = 'active', reason = null, detail = null,
               -- What is to be made by the new version is no matter of what the old one made; of what is under way it is the proof.
               made = case when u.behind then e.made else 0 end,
               -- Where it stands is found when it is looked at.
               ready = false,
               -- Who rests does so until the time that they were told. Windows and caps are looked at anew, and what has become
               -- of a job meanwhile: whoever ended it has passed over an enrolment that is locked here.
               due_at = case when e.waiting or e.due_at is null then clock_timestamp()
                             else least(e.due_at, greatest(e.reached_at, clock_timestamp()))
                        end
          from unnest($2::bigint[], $3::int[], $4::bool[], $5::text[]) as u (id, step, behind, had)
         where e.id = u.id
        "#,
        to,
        &ids,
        &going.iter().map(|(place, _)| i32::try_from(place.step).unwrap_or(i32::MAX)).collect::<Vec<_>>(),
        &going.iter().map(|(place, _)| place.behind).collect::<Vec<_>>(),
        &going.iter().map(|(_, had)| had.join(",")).collect::<Vec<_>>(),
    )
    .execute(&mut *tx)
    .await
    .map_err(CampaignsError::Change)?;
    tx.commit().await.map_err(CampaignsError::Change)?;
    let people = ids.len() as i64;
    Ok(Moved { people, left: read - people })
}
