//! How many people a hold stops: counted after it is in force, from the rows of waves, and never waited
//! for long. A hold that cannot be counted stands all the same, and the answer says so.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_orchestrator::hold::heads::HeadCount;
use tidegate_orchestrator::hold::{Hold, MovedPeople, Placement, Scope};
use tidegate_orchestrator::ids::{HoldId, Timestamp};
use tokio::sync::oneshot;

use super::part::PartView;
use super::{NewHold, matching, placement, rows, wanted_of};
use crate::app::App;
use crate::operations::view::ScopeView;
use crate::operations::{Actor, OperationError};
use crate::store::{Lane, StoreError, review, transact};

/// The longest that an answer waits for a count: whoever halts must read that it stands, not how many it stops.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// How many people a hold stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HeadCountsView {
    /// As they were counted when it was placed: `at`, `rollouts`, `people` in all (`not_begun`, `in_flight`,
    /// `undecided`, `moved`, `others`), and the `largest` rollouts with theirs.
    #[schema(value_type = Option<Object>)]
    pub placed: Option<HeadCount>,
    /// The same as counted now, while it is in force.
    #[schema(value_type = Option<Object>)]
    pub now: Option<HeadCount>,
    /// What will and what will not happen with them.
    pub sentences: Vec<String>,
    /// Why they were not counted now, when they were not. The hold stands.
    pub not_counted: Option<String>,
}

/// What placing a hold would come to. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HoldPreview {
    /// Always true: nothing was placed.
    pub dry_run: bool,
    /// place; or join, when the same hold is in force already.
    pub would: String,
    /// The hold that would be joined.
    #[schema(value_type = Option<String>)]
    pub hold: Option<HoldId>,
    /// pause or halt.
    pub kind: String,
    /// What it would cover.
    pub scope: ScopeView,
    /// Whom it would keep back, when it means some people of a wave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<PartView>,
    /// keep, freeze or revert people already moved.
    pub effect: String,
    /// When somebody would have to look at it again.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub review_at: Option<Timestamp>,
    /// Whom it would stop.
    pub people: HeadCountsView,
    /// What of the call would not be taken as it was said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A count that is under way.
#[derive(Debug)]
pub(super) struct Counting {
    told: Told,
    placed: oneshot::Sender<HoldId>,
}

/// What was counted, once it is.
pub(super) type Told = oneshot::Receiver<Result<HeadCount, StoreError>>;

/// Begins to count whom a hold over a scope would stop. A count that is ready when the hold is in force keeps
/// nobody waiting who stops something; people who are moved meanwhile are in both.
pub(super) fn ahead(app: &App, scope: Scope) -> Counting {
    let (tell, told) = oneshot::channel();
    let (placed, hold) = oneshot::channel();
    let app = app.clone();
    app.clone().background.spawn(async move {
        let counted = count(&app, &scope).await;
        let kept = counted.as_ref().ok().cloned();
        // Whoever asked may have gone.
        let _ = tell.send(counted);
        if let (Some(kept), Ok(hold)) = (kept, hold.await) {
            keep(&app, hold, &kept).await;
        }
    });
    Counting { told, placed }
}

impl Counting {
    /// Has the count kept, for the hold that was placed meanwhile; hands it on to whoever shows it. Without this
    /// nothing is kept.
    pub(super) fn keep(self, hold: HoldId) -> Told {
        // A count that failed is not waited for by anybody.
        let _ = self.placed.send(hold);
        self.told
    }
}

async fn keep(app: &App, hold: HoldId, counted: &HeadCount) {
    let done: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "head_count_keep", |txn| {
            review::head_count_keep(txn, hold, counted).await
        });
    if let Err(error) = done {
        tracing::warn!(%hold, %error, "the people under a hold were counted, and the count was not kept");
    }
}

async fn count(app: &App, scope: &Scope) -> Result<HeadCount, StoreError> {
    review::heads_count(app.store.read(), scope, app.clock.now()).await
}

/// Returns whom a hold stops that was just placed.
pub(super) async fn of_placed(hold: &Hold, told: Told) -> HeadCountsView {
    let counted = tokio::time::timeout(WAIT_MAX, told).await;
    let counted = counted.map_err(drop).and_then(|told| told.map_err(drop));
    let view = shown(hold.effect, counted);
    HeadCountsView {
        placed: view.now.clone(),
        ..view
    }
}

/// Returns whom a hold stopped when it was placed, and whom it stops now.
pub(super) async fn of(app: &App, hold: &Hold) -> HeadCountsView {
    let looking = async {
        // A count that cannot be read is one that there is not.
        let placed = review::head_count_kept(app.store.read(), hold.id).await;
        let now = match hold.is_in_force() {
            true => Some(count(app, &hold.scope).await.map(|count| own(count, hold))),
            false => None,
        };
        (placed.ok().flatten(), now)
    };
    match tokio::time::timeout(WAIT_MAX, looking).await {
        Ok((placed, Some(now))) => HeadCountsView {
            placed,
            ..shown(hold.effect, Ok(now))
        },
        Ok((placed, None)) => HeadCountsView {
            placed,
            now: None,
            sentences: Vec::new(),
            not_counted: None,
        },
        Err(_) => shown(hold.effect, Err(())),
    }
}

/// Of those whom holds on some people of a wave keep back, those whom this one means.
fn own(mut count: HeadCount, hold: &Hold) -> HeadCount {
    let part = hold
        .part
        .as_ref()
        .filter(|_| matches!(hold.scope, Scope::Part(..)));
    if let Some(people) = part.and_then(|part| part.people) {
        count.people.not_begun = people;
        for rollout in &mut count.largest {
            rollout.people.not_begun = people;
        }
    }
    count
}

/// `Err`: it took too long.
fn shown(
    effect: MovedPeople,
    counted: Result<Result<HeadCount, StoreError>, ()>,
) -> HeadCountsView {
    let (now, not_counted) = match counted {
        Ok(Ok(count)) => (Some(count), None),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the people under a hold could not be counted");
            let sentence = "its people could not be counted; the log says why, and the hold does not depend on it";
            (None, Some(sentence.to_owned()))
        }
        Err(()) => {
            let sentence =
                "its people were not counted in time: ask again; the hold does not depend on it";
            (None, Some(sentence.to_owned()))
        }
    };
    HeadCountsView {
        placed: None,
        sentences: now
            .as_ref()
            .map(|count| count.people.sentences(effect))
            .unwrap_or_default(),
        now,
        not_counted,
    }
}

/// Says what placing a hold would come to, and places nothing.
///
/// # Errors
///
/// When there is no such scope, effect or kind, or the store cannot be reached.
pub async fn preview(
    app: &App,
    actor: &Actor,
    new: &NewHold,
) -> Result<HoldPreview, OperationError> {
    let (wanted, notes) = wanted_of(app, actor, new).await?;
    let (_, in_force) = rows::holds_known(&app.store).await?;
    // A drill gives no reason: whatever it would be placed for, it would stop the same.
    let wanted = tidegate_orchestrator::hold::Wanted {
        reason: "a drill".to_owned(),
        ..wanted
    };
    let joined = match placement(app.store.read(), &wanted, &in_force).await? {
        Placement::New => None,
        Placement::Joined(id) => Some(id),
    };
    let counted = tokio::time::timeout(WAIT_MAX, count(app, &wanted.scope)).await;
    let mut people = shown(wanted.effect, counted.map_err(drop));
    if let Some(condition) = &wanted.part {
        let sentence = format!(
            "at first these, all of the wave; once sorted out, those with whom nobody has begun and for whom {condition}"
        );
        people.sentences.insert(0, sentence);
    }
    let part = match &wanted.part {
        Some(condition) => matching::of(app, &wanted.scope, condition).await?,
        None => None,
    };
    let now = app.clock.now();
    Ok(HoldPreview {
        dry_run: true,
        would: joined.map_or("place", |_| "join").to_owned(),
        hold: joined,
        kind: wanted.kind.name().to_owned(),
        scope: ScopeView::of(&wanted.scope).asked(wanted.part.as_ref()),
        part,
        effect: wanted.effect.name().to_owned(),
        review_at: wanted
            .review_at
            .or_else(|| wanted.kind.review_by_default(now)),
        people,
        notes,
    })
}
