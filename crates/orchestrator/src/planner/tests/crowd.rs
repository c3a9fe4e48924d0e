//! However much is stopped elsewhere, a pass over one rollout sees only what covers it.

use super::*;

/// Holds on a hundred thousand other rollouts: halts, pauses, and halts of single waves.
fn elsewhere() -> impl Iterator<Item = InForce> {
    (0..100_000_u128).map(|number| {
        let rollout = RolloutId::new(Uuid::from_u128(1_000 + number));
        let (kind, scope) = match number % 3 {
            0 => (HoldKind::Halt, Scope::Rollout(rollout)),
            1 => (HoldKind::Pause, Scope::Rollout(rollout)),
            _ => (HoldKind::Halt, Scope::Wave(rollout, WaveNumber(1))),
        };
        hold(1_000_000 + number, kind, scope)
    })
}

#[test]
fn a_hundred_thousand_holds_elsewhere_change_nothing_here() {
    let crowd: HoldSet = elsewhere().collect();
    assert_eq!(crowd.len(), 100_000);
    let ours = [
        None,
        Some(hold(5, HoldKind::Pause, Scope::Rollout(rollout_id()))),
        Some(hold(6, HoldKind::Halt, Scope::Everything)),
        Some(hold(
            7,
            HoldKind::Halt,
            Scope::Wave(rollout_id(), WaveNumber(2)),
        )),
    ];
    for ours in ours {
        let mut alone = World::running(vec![facts(100), facts(100)]);
        let mut among = World::running(vec![facts(100), facts(100)]);
        among.holds = crowd.clone();
        for hold in ours.iter() {
            alone.holds.add(hold.clone());
            among.holds.add(hold.clone());
        }
        for now in [0, 60, 3_600, 400 * DAY] {
            assert_eq!(alone.pass(now), among.pass(now), "{ours:?} at {now}");
        }
        // What a pass walks is what covers it, and not the crowd.
        let waves = [None, Some(WaveNumber(1)), Some(WaveNumber(2))];
        for wave in waves {
            let here = Place { wave, ..place() };
            assert!(among.holds.covering(&here).count() <= 1);
        }
        assert!(among.holds.on_waves(rollout_id()).count() <= 1);
    }
}
