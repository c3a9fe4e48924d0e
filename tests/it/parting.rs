//! A hold on some people of a wave: they are kept back, the others go on, and nobody slips through.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{
    EASY, import, import_csv, sandbox, started, until_done, until_status,
};
use crate::support::service::Service;
use crate::support::some_people::{ONE_WAVE, country, place, some, until_sorted};
use crate::support::until;

on_each_database!(
    some_people_of_a_wave_are_kept_back_and_the_others_go_on,
    a_halt_of_some_people_ends_by_its_procedure_and_they_go_on_small,
    whoever_waits_for_quiet_waits_for_those_who_are_meant_alone,
    whoever_two_holds_mean_goes_on_when_both_have_ended,
    whoever_is_queued_again_is_sorted_before_the_wave_goes_on,
    a_kill_in_the_middle_of_sorting_lets_nobody_through,
    people_of_now_are_sorted_before_a_wave_goes_on_after_drift,
    drift_moves_nobody_out_of_the_wave_that_a_hold_keeps_them_in,
    a_freeze_of_some_people_of_a_wave_outlives_the_sorting,
    a_condition_that_nobody_can_ask_is_refused_and_holds_nothing,
    a_stop_of_some_people_is_one_line,
);

async fn release(api: &Api, hold: &str) {
    let reason = json!({"reason": "agreed"});
    api.post(&format!("/v1/holds/{hold}/release"), reason)
        .await
        .ok();
}

/// Everybody by directory id: their state, and how often they were sent.
async fn standing(api: &Api) -> BTreeMap<String, (String, u64)> {
    let mut found = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/rollouts/move/members?limit=1000{cursor}");
        let page = api.get(&path).await.ok();
        for item in page["items"].as_array().unwrap() {
            let state = item["state"].as_str().unwrap().to_owned();
            let attempts = item["attempts"].as_u64().unwrap();
            let key = item["key"].as_str().unwrap().to_owned();
            assert_eq!(found.insert(key, (state, attempts)), None, "{item:#}");
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

/// The people of `csv` are in a country by their number.
fn is_german(key: &str) -> bool {
    key.trim_start_matches('e').parse::<u32>().unwrap() % 4 == 0
}

fn is_french(key: &str) -> bool {
    key.trim_start_matches('e').parse::<u32>().unwrap() % 4 == 1
}

async fn totals(api: &Api) -> Value {
    api.get("/v1/rollouts/move").await.ok()["totals"].clone()
}

/// Waits until everybody but those who are kept back has been moved.
async fn until_only_parked(api: &Api, people: u64) -> u64 {
    until("everybody else is moved", 60, async || {
        let totals = totals(api).await;
        let count = |state: &str| totals[state].as_u64().unwrap();
        count("done") + count("parked") == people && count("parked") > 0
    })
    .await;
    totals(api).await["parked"].as_u64().unwrap()
}

async fn some_people_of_a_wave_are_kept_back_and_the_others_go_on(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 3_000).await;
    sandbox(api, json!({"latency_ms": 20, "concurrency": 8})).await;
    started(api, ONE_WAVE).await;
    until_done(api, "move", 150, 30).await;
    let hold = place(api, some("pause", &country("DE"))).await;
    let again = place(api, some("pause", &country("DE"))).await;
    assert_eq!(hold, again, "the same people of the same wave are one hold");
    let view = until_sorted(api, &hold).await;
    let begun = standing(api).await;
    let parked = until_only_parked(api, 3_000).await;
    assert_eq!(view["part"]["people"], parked, "{view:#}");
    assert_eq!(
        view["people"]["now"]["people"]["not_begun"], parked,
        "{view:#}"
    );
    assert_eq!(view["scope"]["where"], country("DE"));
    assert_eq!(view["quiesced"], true, "{view:#}");
    for (key, (state, attempts)) in standing(api).await {
        let was = &begun[&key];
        match state.as_str() {
            "parked" => assert!(
                is_german(&key) && attempts == 0 && was.0 == "parked",
                "{key}"
            ),
            "done" => assert!(!is_german(&key) || was.0 == "done", "{key}: {was:?}"),
            other => panic!("{key} is {other}"),
        }
    }
    let rollout = api.get("/v1/rollouts/move").await.ok();
    assert_eq!(rollout["waves"][0]["state"], "open", "{rollout:#}");
    let why = rollout["why_not_now"]["sentence"].as_str().unwrap();
    assert!(
        why.contains("country = \"DE\"") && why.contains("the works council asks"),
        "{why}"
    );
    release(api, &hold).await;
    let done = until_status(api, "move", "completed", 60).await;
    assert_eq!(done["totals"]["done"], 3_000);
    assert!(
        standing(api)
            .await
            .values()
            .all(|(_, attempts)| *attempts == 1)
    );
    let exposure = api.get("/v1/rollouts/move/exposure").await.ok();
    assert_eq!(exposure["unexplained"], 0, "{exposure:#}");
    service.end_and_fsck();
}

async fn a_halt_of_some_people_ends_by_its_procedure_and_they_go_on_small(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 2_000).await;
    sandbox(api, json!({"latency_ms": 20, "concurrency": 8})).await;
    started(api, ONE_WAVE).await;
    until_done(api, "move", 100, 30).await;
    let placed = api
        .post("/v1/holds?wait=quiesced", some("halt", &country("DE")))
        .await
        .ok();
    assert_eq!(placed["quiesced"], true, "{placed:#}");
    let hold = placed["id"].as_str().unwrap();
    until_sorted(api, hold).await;
    let parked = until_only_parked(api, 2_000).await;
    let reason = json!({"reason": "I know better"});
    let refused = api.post(&format!("/v1/holds/{hold}/release"), reason).await;
    refused.refused(409, "release_needs_procedure");
    assert_eq!(totals(api).await["parked"], parked);
    crate::support::release::halt(api, hold).await;
    let done = until_status(api, "move", "completed", 60).await;
    assert_eq!(done["totals"]["done"], 2_000);
    service.end_and_fsck();
}

async fn whoever_waits_for_quiet_waits_for_those_who_are_meant_alone(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 3_000).await;
    sandbox(api, json!({"latency_ms": 500, "concurrency": 4})).await;
    started(api, ONE_WAVE).await;
    until_done(api, "move", 4, 30).await;
    // It means nobody, so that it is narrowed while the others are in flight, and they go on.
    let begun = std::time::Instant::now();
    let placed = api
        .post("/v1/holds?wait=quiesced", some("halt", &country("ZZ")))
        .await
        .ok();
    assert_eq!(placed["quiesced"], true, "{placed:#}");
    let took = begun.elapsed().as_secs();
    assert!(took < 20, "answered after {took} s");
}

async fn whoever_two_holds_mean_goes_on_when_both_have_ended(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 1_200).await;
    sandbox(api, json!({"latency_ms": 10, "concurrency": 8})).await;
    let everything = json!({"kind": "pause", "scope": {"type": "everything"}, "reason": "first"});
    started(api, ONE_WAVE).await;
    until_done(api, "move", 50, 30).await;
    let first = place(api, everything).await;
    let german = place(api, some("pause", &country("DE"))).await;
    let sales = json!({"attribute": "department", "equals": "Sales"});
    let sales = place(api, some("pause", &sales)).await;
    until_sorted(api, &german).await;
    until_sorted(api, &sales).await;
    release(api, &first).await;
    until_only_parked(api, 1_200).await;
    let in_sales = |key: &str| key.trim_start_matches('e').parse::<u32>().unwrap() % 3 == 1;
    let before = standing(api).await;
    release(api, &german).await;
    until_sorted(api, &german).await;
    until_only_parked(api, 1_200).await;
    for (key, (state, _)) in standing(api).await {
        let was = &before[&key].0;
        assert_eq!(
            state == "parked",
            was == "parked" && in_sales(&key),
            "{key}"
        );
    }
    release(api, &sales).await;
    until_status(api, "move", "completed", 60).await;
    service.end_and_fsck();
}

async fn whoever_is_queued_again_is_sorted_before_the_wave_goes_on(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 1_000).await;
    sandbox(api, json!({"failure_ppm": 200_000, "concurrency": 16})).await;
    let spec = ONE_WAVE.replace(
        "rest: true",
        "rest: true, gate: {failures_at_most: 100%, success_at_least: 99%}",
    );
    started(api, &spec).await;
    until("everybody has answered", 30, async || {
        let totals = totals(api).await;
        totals["done"].as_u64().unwrap() + totals["failed"].as_u64().unwrap() == 1_000
    })
    .await;
    let hold = place(api, some("pause", &country("DE"))).await;
    until_sorted(api, &hold).await;
    let before = standing(api).await;
    api.post("/v1/rollouts/move/retry", json!({"reason": "once more"}))
        .await
        .ok();
    until("whoever failed elsewhere was tried again", 30, async || {
        let now = standing(api).await;
        now.iter()
            .all(|(key, (state, attempts))| match before[key].0.as_str() {
                "failed" if is_german(key) => state == "parked",
                "failed" => *attempts == 2 && (state == "done" || state == "failed"),
                _ => state == "done",
            })
    })
    .await;
    for (key, (state, attempts)) in standing(api).await {
        if state == "parked" {
            assert!(
                is_german(&key) && attempts == 1,
                "{key} was sent {attempts} times"
            );
        }
    }
    let trail = api.get("/v1/audit?limit=1000").await.ok();
    let actions: Vec<&str> = trail["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| entry["action"].as_str())
        .collect();
    assert!(
        actions.contains(&"hold.widen") && actions.contains(&"hold.narrow"),
        "{actions:?}"
    );
    service.end_and_fsck();
}

async fn a_kill_in_the_middle_of_sorting_lets_nobody_through(database: Database) {
    let mut service = Service::start(&database);
    let token = service.api.token.clone();
    import(&service.api, 40_000).await;
    sandbox(&service.api, json!({"latency_ms": 20, "concurrency": 8})).await;
    started(&service.api, ONE_WAVE).await;
    until_done(&service.api, "move", 50, 30).await;
    let hold = place(&service.api, some("pause", &country("DE"))).await;
    let before = standing(&service.api).await;
    service.kill();
    drop(service);
    let service = Service::start_again(&database, &token);
    let api = &service.api;
    until_sorted(api, &hold).await;
    until("somebody else is moved", 30, async || {
        totals(api).await["done"].as_u64().unwrap() > 2_000
    })
    .await;
    for (key, (state, _)) in standing(api).await {
        let was = before[&key].0.as_str();
        let is_free = !is_german(&key) || was == "done" || was == "in_flight";
        assert!(
            is_free || state == "parked",
            "{key}: {was}, and now {state}"
        );
    }
    service.end_and_fsck();
}

async fn people_of_now_are_sorted_before_a_wave_goes_on_after_drift(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 1_500).await;
    sandbox(api, json!({"latency_ms": 20, "concurrency": 8})).await;
    let late = "target: box\nlate_joiners: matching_unfinished_wave\n";
    let spec = ONE_WAVE.replace("target: box\n", late);
    started(api, &spec).await;
    until_done(api, "move", 100, 30).await;
    let german = place(api, some("pause", &country("DE"))).await;
    until_sorted(api, &german).await;
    let halt = json!({"kind": "halt", "scope": {"type": "rollout", "id": "move"}, "reason": "state actor"});
    let halted = api.post("/v1/holds?wait=quiesced", halt).await.ok();
    until("what was under way has come back", 10, async || {
        api.get("/v1/rollouts/move").await.ok()["in_flight"] == 0
    })
    .await;
    let before = standing(api).await;
    // A year: every tenth has left, the parked of the first hundred are French now, and some are new.
    let text = crate::support::people::csv(0..1_600);
    let gone = |line: &&str| !line.starts_with("e0000010");
    let kept: Vec<String> = text
        .lines()
        .filter(gone)
        .map(|line| match line.starts_with("e00000") {
            true => line.replace(",DE,", ",FR,"),
            false => line.to_owned(),
        })
        .collect();
    import_csv(api, kept.join("\n") + "\n").await;
    crate::support::release::halt(api, halted["id"].as_str().unwrap()).await;
    until_sorted(api, &german).await;
    until("everybody else is moved", 60, async || {
        let totals = totals(api).await;
        ["queued", "in_flight", "retry", "unknown"]
            .iter()
            .all(|state| totals[*state] == 0)
    })
    .await;
    for (key, (state, attempts)) in standing(api).await {
        let was = before.get(&key).map_or("new", |(state, _)| state.as_str());
        let is_first = key.starts_with("e00000");
        let expected = match was {
            "done" => "done",
            "parked" if key.starts_with("e0000010") => "departed",
            "parked" if is_first => "done",
            "parked" => "parked",
            "new" if is_german(&key) => "parked",
            _ if key.starts_with("e0000010") => "departed",
            _ => "done",
        };
        assert_eq!(state, expected, "{key} was {was}");
        assert!(attempts <= 1, "{key}");
    }
    release(api, &german).await;
    until_status(api, "move", "completed", 60).await;
    service.end_and_fsck();
}

async fn drift_moves_nobody_out_of_the_wave_that_a_hold_keeps_them_in(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 600).await;
    sandbox(api, json!({"latency_ms": 100, "concurrency": 4})).await;
    let select = |name: &str, department: &str| {
        format!(
            "  - {{name: {name}, select: {{attribute: department, equals: {department}}}, {EASY}}}\n"
        )
    };
    let waves = format!("{}{}", select("it", "IT"), select("sales", "Sales"));
    let spec = format!("rollout: move\npopulation: staff\ntarget: box\nwaves:\n{waves}");
    started(api, &spec).await;
    until_done(api, "move", 8, 30).await;
    let scope = json!({"type": "wave", "id": "move", "wave": 2, "where": country("DE")});
    let hold = json!({"kind": "halt", "scope": scope, "reason": "the works council asks"});
    let german = place(api, hold).await;
    until_sorted(api, &german).await;
    let halt = json!({"kind": "halt", "scope": {"type": "rollout", "id": "move"}, "reason": "state actor"});
    let halted = api.post("/v1/holds?wait=quiesced", halt).await.ok();
    until("what was under way has come back", 10, async || {
        api.get("/v1/rollouts/move").await.ok()["in_flight"] == 0
    })
    .await;
    let before = standing(api).await;
    // Everybody in sales is in IT now: the first wave is theirs, and the halt is on the second.
    let text = crate::support::people::csv(0..600).replace(",Sales", ",IT");
    import_csv(api, text).await;
    crate::support::release::halt(api, halted["id"].as_str().unwrap()).await;
    until_sorted(api, &german).await;
    until("everybody else is moved", 60, async || {
        let totals = totals(api).await;
        ["queued", "in_flight", "retry", "unknown"]
            .iter()
            .all(|state| totals[*state] == 0)
    })
    .await;
    let parked = before.iter().filter(|(_, (state, _))| state == "parked");
    let after: BTreeMap<String, u64> = states_of(api).await;
    assert_eq!(after["parked"], parked.count() as u64, "{after:?}");
    service.end_and_fsck();
}

/// How many people are in each state.
async fn states_of(api: &Api) -> BTreeMap<String, u64> {
    let totals = totals(api).await;
    let counts = totals.as_object().unwrap().iter();
    counts
        .map(|(state, count)| (state.clone(), count.as_u64().unwrap()))
        .collect()
}

async fn a_freeze_of_some_people_of_a_wave_outlives_the_sorting(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 400).await;
    sandbox(api, json!({"latency_ms": 50, "concurrency": 4})).await;
    started(api, ONE_WAVE).await;
    until_done(api, "move", 20, 30).await;
    let mut hold = some("halt", &country("DE"));
    hold["effect"] = json!("freeze");
    let hold = place(api, hold).await;
    until_sorted(api, &hold).await;
    let moved = standing(api).await;
    let moved = moved.iter().find(|(_, (state, _))| state == "done");
    let path = format!("/v1/rollouts/move/members/{}/disprove", moved.unwrap().0);
    let refused = api.post(&path, json!({"reason": "not there"})).await;
    refused.refused(409, "moved_people_frozen");
}

async fn a_condition_that_nobody_can_ask_is_refused_and_holds_nothing(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 100).await;
    sandbox(api, json!({"latency_ms": 200, "concurrency": 1})).await;
    started(api, ONE_WAVE).await;
    for (condition, said) in [
        (json!({"attribute": "planet", "equals": "Mars"}), "planet"),
        (json!({"attribute": "country", "equals": 7}), "quotes"),
        (json!({"attribute": "country"}), "exactly one test"),
        (json!({"any": [country("DE"), {"country": "DE"}]}), "any[1]"),
        (json!("DE"), "map of fields"),
        (
            json!({"attribute": "country", "in": vec!["DE"; 1_000]}),
            "more than 1000 things",
        ),
    ] {
        let refused = api.post("/v1/holds", some("halt", &condition)).await;
        let sentence = refused.refused(422, "where_invalid");
        assert!(sentence.contains(said), "{condition}: {sentence}");
    }
    let wide = json!({"type": "rollout", "id": "move", "where": country("DE")});
    let wide = json!({"kind": "halt", "scope": wide, "reason": "stop"});
    api.post("/v1/holds", wide)
        .await
        .refused(422, "scope_invalid");
    let holds = api.get("/v1/holds?in_force=true").await.ok();
    assert_eq!(holds["items"], json!([]));
}

async fn a_stop_of_some_people_is_one_line(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 400).await;
    sandbox(api, json!({"latency_ms": 100, "concurrency": 1})).await;
    started(api, ONE_WAVE).await;
    let run = |arguments: &[&str]| {
        let done = service.cli(arguments);
        let text = [done.stdout, done.stderr].concat();
        (
            done.status.code().unwrap(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    let stop = [
        "pause",
        "move",
        "--wave",
        "1",
        "--where",
        "country=FR",
        "--reason",
        "asked",
    ];
    let drill: Vec<&str> = stop.iter().copied().chain(["--dry-run"]).collect();
    let (code, text) = run(&drill);
    assert!(
        code == 0 && text.contains("those with country=FR in wave `all`"),
        "{text}"
    );
    assert!(
        text.contains("would keep 1") && text.contains("of the 400 people of the wave"),
        "{text}"
    );
    let (code, text) = run(&stop);
    assert!(
        code == 0 && text.contains("holds the whole wave until"),
        "{text}"
    );
    let id = api.get("/v1/holds?in_force=true").await.ok()["items"][0]["id"].clone();
    until_sorted(api, id.as_str().unwrap()).await;
    let (_, text) = run(&["hold", "list"]);
    assert!(
        text.contains("some people of wave 1") && text.contains("for whom country = \"FR\""),
        "{text}"
    );
    let (_, text) = run(&["why", "e0000397"]);
    assert!(text.contains("kept back"), "{text}");
    assert!(is_french("e0000397"));
    let (code, text) = run(&[
        "pause",
        "move",
        "--where",
        "country=FR",
        "--reason",
        "asked",
    ]);
    assert!(code == 1 && text.contains("--wave"), "{text}");
    let (code, text) = run(&[
        "pause", "move", "--wave", "1", "--where", "country", "--reason", "asked",
    ]);
    assert!(code == 1 && text.contains("ATTRIBUTE=VALUE"), "{text}");
    let (_, text) = run(&["status", "move"]);
    assert!(text.contains("kept back"), "{text}");
    let (_, text) = run(&["members", "move", "--state", "parked", "-o", "csv"]);
    assert!(
        text.starts_with("key,wave,state") && text.contains("e0000397,1,parked"),
        "{text}"
    );
    let (code, text) = run(&["resume", "move", "--reason", "agreed"]);
    assert_eq!(code, 0, "{text}");
    until("nobody is kept back", 20, async || {
        totals(api).await["parked"] == 0
    })
    .await;
}
