//! What a person costs, whether there are few or many.

use serde_json::json;

use crate::asking;
use crate::report::{Report, Row, short};
use crate::support::database::Database;
use crate::world::{Drain, Files, World, one_wave, ten_waves};

/// By how much a person may cost more than at the design point.
const DEARER: f64 = 1.2;

/// Seconds for everybody, by what was done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Costs {
    people: u64,
    import: f64,
    plan: f64,
    drain: f64,
    preparing: f64,
    sending: f64,
}

impl Costs {
    /// Puts together what was measured at the design point.
    pub(crate) fn of(world: &World, plan: f64, drain: &Drain) -> Self {
        Self {
            people: world.people,
            import: world.import.seconds,
            plan,
            drain: drain.seconds,
            preparing: drain.preparing,
            sending: drain.sending,
        }
    }

    fn parts_of_drain(&self) -> String {
        format!(
            "{:.2} s: preparing {:.2} s, ledger turns {:.2} s",
            self.drain, self.preparing, self.sending
        )
    }

    fn parts(&self) -> [(&'static str, f64); 3] {
        let each = |seconds: f64| seconds * 1e6 / self.people as f64;
        [
            ("import", each(self.import)),
            ("plan", each(self.plan)),
            ("drain", each(self.drain)),
        ]
    }
}

/// How many halts of each kind are placed while more people than at the design point are moved.
const HALTS: usize = 100;

/// Measures one size on a database of its own; of a larger one also how long a halt takes. What else the machine does only adds, so the best of
/// several runs counts; small ones are over before they can be timed well and are run more often.
pub(crate) async fn costs(
    report: &mut Report,
    (database, files): (&Database, &Files),
    people: u64,
    is_larger: bool,
) -> Costs {
    println!("  {people} people");
    let mut world = World::new(database, &files.people(people), people).await;
    let runs = if people < 1_000_000 { 5 } else { 2 };
    let mut plan_seconds = f64::INFINITY;
    let mut best: Option<Drain> = None;
    for _ in 0..runs {
        let (_, _, planned) = world.plan(ten_waves).await;
        plan_seconds = plan_seconds.min(planned.seconds);
        let (name, plan, _) = world.plan(one_wave).await;
        let drain = world.drain(&name, &plan).await;
        best = best
            .filter(|best| best.seconds < drain.seconds)
            .or(Some(drain));
    }
    if is_larger {
        asking::halts(report, &mut world, HALTS).await;
    }
    Costs::of(&world, plan_seconds, &best.unwrap_or_default())
}

/// Reports the costs of several sizes beside those of the design point.
pub(crate) fn report(report: &mut Report, on: &str, point: Costs, others: &[Costs]) {
    for (part, (name, at_point)) in point.parts().into_iter().enumerate() {
        for other in others {
            let (_, cost) = other.parts()[part];
            // Of fewer people the fixed costs show; what counts is that more people are not dearer.
            let is_larger = other.people > point.people;
            report.add(Row {
                what: format!("{name}: cost per person at {}", short(other.people as f64)),
                on: on.to_owned(),
                ours: format!("{cost:.2} µs"),
                reference: format!("{at_point:.2} µs at {}", short(point.people as f64)),
                ratio: Some(cost / at_point),
                budget: if is_larger { "± 20 %" } else { "-" }.to_owned(),
                met: is_larger.then_some(cost <= DEARER * at_point),
                note: if name == "drain" { other.parts_of_drain() } else { String::new() },
                figures: json!({"people": other.people, "micros": cost, "micros_at_design_point": at_point}),
                ..Row::default()
            });
        }
    }
}
