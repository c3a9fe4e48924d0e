//! Claims about records: what any version has stored decodes for ever.

use super::*;

fn fixture() -> Rollout {
    let mut rollout = running(failed());
    rollout.last_opened_at = Some(at(1000));
    for (wave, status) in rollout.waves.iter_mut().zip([
        failed(),
        WaveStatus::Draining { until: at(5000) },
        WaveStatus::Open {},
    ]) {
        wave.status = status;
        wave.opened_at = Some(at(1000));
        wave.window_until = Some(at(4600));
        wave.drained_at = Some(at(2000));
        wave.retries = 2;
        wave.tranche = Some(crate::wave::ramp::Tranche {
            people: 200,
            since: at(1000),
            reentry_from: None,
        });
    }
    rollout
}

#[test]
fn a_record_of_version_1_is_read_for_ever_and_version_2_is_written_as_it_always_was() {
    let golden =
        include_str!("../../../../../tests/fixtures/records/v1/rollout_running.json").trim_end();
    assert_eq!(record::decode(golden).unwrap(), fixture());
    // What this version writes is the same but for its number: nothing of a release is in it.
    let as_version_2 = golden.replacen("\"version\":1", "\"version\":2", 1);
    assert_eq!(record::encode(&fixture()).unwrap(), as_version_2);
    let golden = include_str!("../../../../../tests/fixtures/records/v1/rollout_states.ndjson");
    let written: Vec<_> = states()
        .iter()
        .map(|(_, rollout)| record::encode(rollout).unwrap())
        .collect();
    let read: Vec<_> = golden
        .lines()
        .map(|line| record::decode(line).unwrap())
        .collect();
    let expected: Vec<_> = states().into_iter().map(|(_, rollout)| rollout).collect();
    assert_eq!(read, expected);
    let as_version_2 = golden.replace("\"version\":1", "\"version\":2");
    assert_eq!(written, as_version_2.lines().collect::<Vec<_>>());
}

#[test]
fn a_record_of_a_version_to_come_is_refused_and_named() {
    let text = r#"{"version":3,"anything":[]}"#;
    let error = record::decode(text).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the record of a rollout is of version 3, and this build reads up to 2"
    );
    assert!(matches!(
        record::decode("{}"),
        Err(RecordError::Malformed(_))
    ));
    let extra = r#"{"version":1,"rollout":{"lifecycle":{"state":"draft"},"waves":[],"last_opened_at":null,"more":1}}"#;
    assert!(matches!(
        record::decode(extra),
        Err(RecordError::Malformed(_))
    ));
}

#[test]
fn a_record_of_version_2_with_a_release_in_it_decodes_for_ever() {
    let golden =
        include_str!("../../../../../tests/fixtures/records/v2/rollout_went_on.json").trim_end();
    let reentry = Reentry::default();
    let mut rollout = running(WaveStatus::Open {});
    rollout.waves[0].tranche = Some(reentry.tranche(7000, 20_000, at(1000)));
    let plan = Some(plan("two"));
    let events = rollout.decide(
        &Command::GoOn {
            plan,
            reentry,
            wave: None,
        },
        None,
        at(1000),
    );
    let rollout = events.unwrap().iter().fold(rollout, Rollout::apply);
    if std::env::var_os("UPDATE_RECORDS").is_some() {
        let place = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/fixtures/records/v2/rollout_went_on.json"
        );
        std::fs::write(place, record::encode(&rollout).unwrap() + "\n").unwrap();
    }
    assert_eq!(record::encode(&rollout).unwrap(), golden);
    assert_eq!(record::decode(golden).unwrap(), rollout);
}
