//! The command line: what the README promises, in whichever form a person or a program reads it.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::people::{EASY, csv, import, sandbox, started, two_waves, until_status};
use crate::support::service::{PROGRAM, Service, cli};
use crate::support::{on_each_database, until};

on_each_database!(
    the_seven_commands_of_the_readme_work_in_an_empty_folder,
    every_command_answers_json_that_a_program_can_read,
    a_dry_run_of_every_changing_verb_changes_nothing,
    every_changing_verb_wants_a_reason,
    errors_say_what_to_do,
    a_list_beside_the_spec_is_sent_with_it,
    expect_rev_refuses_what_has_changed,
    a_dry_run_says_no_where_the_command_would,
    what_others_wrote_does_not_steer_the_terminal,
    the_trail_is_listed_from_its_end_unless_somebody_says_where,
    no_list_is_wider_than_a_hundred_columns,
);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn good(done: &Output) -> String {
    assert!(
        done.status.success(),
        "{}{}",
        text(&done.stdout),
        text(&done.stderr)
    );
    text(&done.stdout)
}

/// The commands of the README behind some words, as they are written there.
fn readme(behind: &str) -> Vec<String> {
    let text = std::fs::read_to_string(crate::support::repository().join("README.md")).unwrap();
    let (_, after) = text.split_once(behind).unwrap();
    let block = after.split("```").nth(1).unwrap();
    block
        .lines()
        .map(|line| line.split('#').next().unwrap().trim().to_owned())
        .filter(|line| line.starts_with("tidegate "))
        .collect()
}

/// Runs a line of shell in a folder, with the program on the path.
fn shell(service: &Service, folder: &Path, line: &str) -> Output {
    let bin = Path::new(PROGRAM).parent().unwrap().display().to_string();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
    Command::new("sh")
        .args(["-c", line])
        .current_dir(folder)
        .env("PATH", path)
        .env("TIDEGATE_URL", &service.api.url)
        .env("TIDEGATE_TOKEN", &service.api.token)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

async fn the_seven_commands_of_the_readme_work_in_an_empty_folder(database: Database) {
    let service = Service::start(&database);
    let folder = database.file("fresh");
    std::fs::create_dir_all(folder.join("deploy/demo")).unwrap();
    let spec = crate::support::repository().join("deploy/demo/workforce.yaml");
    std::fs::copy(spec, folder.join("deploy/demo/workforce.yaml")).unwrap();
    let commands = readme("## A rollout in seven commands");
    assert!(commands[0].starts_with("tidegate serve"), "{commands:?}");
    assert_eq!(commands.len(), 7, "{commands:?}");
    // The service runs already; the other six as they stand there.
    for line in &commands[1..] {
        let done = shell(&service, &folder, line);
        assert!(
            done.status.success(),
            "{line}: {}{}",
            text(&done.stdout),
            text(&done.stderr)
        );
        assert!(!done.stdout.is_empty(), "{line} says nothing");
    }
    let view = service.api.get("/v1/rollouts/workforce").await.ok();
    assert_eq!(view["status"], "completed");
    let halt = shell(
        &service,
        &folder,
        "tidegate halt --everything --reason \"state actor in the vendor's network\"",
    );
    assert!(
        good(&halt).contains("halt in force"),
        "{}",
        text(&halt.stdout)
    );
    let kept = shell(
        &service,
        &folder,
        "tidegate policy show starter > starter.yaml && tidegate policy test starter.yaml",
    );
    good(&kept);
    for line in readme("what others report stops it by rules") {
        good(&shell(&service, &folder, &line));
    }
    until("the report halts by a rule", 5, async || {
        let held = shell(&service, &folder, "tidegate hold list");
        good(&held).contains("vendor-breach-halts")
    })
    .await;
    let halted = shell(&service, &folder, "tidegate why-not-now workforce");
    // The rollout may be through with everybody before the halt.
    assert!(
        matches!(halted.status.code(), Some(0 | 4)),
        "{}",
        text(&halted.stdout)
    );
    for line in [
        "tidegate why E0000042",
        "tidegate members workforce --state failed",
        "tidegate hold list",
        "tidegate target check sandbox",
    ] {
        let done = shell(&service, &folder, line);
        assert!(
            done.status.success(),
            "{line}: {}{}",
            text(&done.stdout),
            text(&done.stderr)
        );
    }
    service.end_and_fsck();
}

async fn every_command_answers_json_that_a_program_can_read(database: Database) {
    let service = Service::start(&database);
    let folder = database.folder.path().to_owned();
    let file = |name: &str| folder.join(name).display().to_string();
    std::fs::write(folder.join("move.yaml"), two_waves()).unwrap();
    std::fs::write(
        folder.join("more.yaml"),
        two_waves().replace("rollout: move", "rollout: more"),
    )
    .unwrap();
    let (people, spec, more, plan) = (
        file("p.csv"),
        file("move.yaml"),
        file("more.yaml"),
        file("plan.json"),
    );
    let json_of = |arguments: &[&str]| -> Value {
        let mut all = vec!["-o", "json"];
        all.extend_from_slice(arguments);
        let done = service.cli(&all);
        let out = text(&done.stdout);
        serde_json::from_str(&out)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}{}", text(&done.stderr)))
    };
    json_of(&["population", "sample", "--people", "500", "--out", &people]);
    json_of(&["import", &people, "-p", "staff", "--create", "--dry-run"]);
    assert_eq!(
        json_of(&["import", &people, "-p", "staff", "--create"])["version"]["member_count"],
        500
    );
    json_of(&["population", "create", "other"]);
    assert_eq!(
        json_of(&["population", "list"]).as_array().unwrap().len(),
        2
    );
    json_of(&["population", "show", "staff"]);
    json_of(&["population", "member", "staff", "E0000042"]);
    json_of(&["target", "create", "box", "--connector", "sandbox"]);
    json_of(&["target", "list"]);
    json_of(&["target", "show", "box"]);
    assert_eq!(json_of(&["target", "check", "box"])["ok"], true);
    assert_eq!(json_of(&["plan", &spec, "--out", &plan])["people"], 500);
    json_of(&["apply", &plan, "--dry-run"]);
    json_of(&["apply", &plan, "--reason", "go"]);
    // A spec in place of a plan file plans and starts: still one answer.
    assert_eq!(json_of(&["apply", &more, "--reason", "go"])["name"], "more");
    json_of(&["status"]);
    assert_eq!(
        json_of(&["status", "move", "--wait", "--timeout", "60"])["status"],
        "completed"
    );
    json_of(&["why", "E0000042", "--rollout", "move"]);
    json_of(&["why-not-now", "move"]);
    assert_eq!(
        json_of(&["members", "move", "--limit", "7"])
            .as_array()
            .unwrap()
            .len(),
        7
    );
    json_of(&["pause", "move", "--reason", "x"]);
    let hold = json_of(&["pause", "--target", "box", "--reason", "x"]);
    let hold = hold["id"].as_str().unwrap();
    json_of(&["resume", "move", "--reason", "x"]);
    json_of(&["hold", "list"]);
    json_of(&["hold", "list", "--all"]);
    json_of(&["hold", "show", hold]);
    json_of(&["hold", "list", "--overdue"]);
    json_of(&["hold", "review", hold, "--dry-run"]);
    json_of(&["hold", "review", hold, "--reason", "x"]);
    json_of(&["hold", "owner", hold, "first-admin", "--dry-run"]);
    json_of(&["hold", "owner", hold, "first-admin", "--reason", "x"]);
    json_of(&["release", hold, "--dry-run"]);
    json_of(&["release", hold, "--reason", "x"]);
    json_of(&["cancel", "more", "--dry-run"]);
    json_of(&["halt", "--everything", "--dry-run"]);
    json_of(&["approve", "move", "1", "--dry-run"]);
    json_of(&["token", "create", "ci", "--role", "auditor"]);
    json_of(&["token", "list"]);
    json_of(&["token", "revoke", "ci", "--reason", "x"]);
    assert!(
        json_of(&["audit", "list", "--limit", "5"])
            .as_array()
            .unwrap()
            .len()
            == 5
    );
    let fsck = Command::new(PROGRAM)
        .args(["-o", "json", "fsck", "--database", &database.url])
        .output()
        .unwrap();
    let found: Value = serde_json::from_slice(&fsck.stdout).unwrap();
    assert_eq!(found["ok"], true);
    let migrate = Command::new(PROGRAM)
        .args(["-o", "json", "migrate", "--database", &database.url])
        .output()
        .unwrap();
    serde_json::from_slice::<Value>(&migrate.stdout).unwrap();
    // A failure is one too, on standard error.
    let failed = service.cli(&["-o", "json", "status", "nobody"]);
    assert_eq!(failed.status.code(), Some(1));
    let problem: Value = serde_json::from_slice(&failed.stderr)
        .unwrap_or_else(|error| panic!("{error}: {}", text(&failed.stderr)));
    assert_eq!(problem["code"], "rollout_not_found");
}

async fn a_dry_run_of_every_changing_verb_changes_nothing(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 300).await;
    sandbox(api, json!({"failure_ppm": 1_000_000})).await;
    let spec = two_waves().replace(EASY, "gate: {failures_at_most: 0}");
    started(api, &spec).await;
    until_status(api, "move", "held", 30).await;
    let hold = json!({"kind": "pause", "scope": {"type": "target", "id": "box"}, "reason": "r"});
    let hold = api.post("/v1/holds", hold).await.ok()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let file = |name: &str, text: &str| {
        let path = database.file(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let people = file("p.csv", &csv(0..310));
    let other = file(
        "other.yaml",
        &two_waves().replace("rollout: move", "rollout: other"),
    );
    let before = (
        api.get("/v1/audit?limit=1000").await.text,
        api.get("/v1/rollouts").await.ok()["items"][0]["generation"].clone(),
    );
    for arguments in [
        vec!["import", &people, "-p", "staff"],
        vec!["import", &people, "-p", "fresh", "--create"],
        vec!["apply", &other],
        vec!["pause", "move"],
        vec!["halt", "move"],
        vec!["halt", "--everything"],
        vec!["halt", "--target", "box"],
        vec!["resume", "move"],
        vec!["cancel", "move"],
        vec!["retry", "move"],
        vec!["approve", "move", "1"],
        vec!["release", &hold],
        vec!["hold", "review", &hold],
        vec!["hold", "owner", &hold, "first-admin"],
        vec!["population", "create", "new"],
        vec!["target", "create", "new", "--connector", "sandbox"],
        vec!["token", "create", "new", "--role", "auditor"],
        vec!["token", "revoke", "first-admin"],
    ] {
        let mut all = arguments.clone();
        all.push("--dry-run");
        let done = service.cli(&all);
        let said = good(&done);
        assert!(
            said.contains("would"),
            "{arguments:?}: says what would happen: {said}"
        );
    }
    let after = (
        api.get("/v1/audit?limit=1000").await.text,
        api.get("/v1/rollouts").await.ok()["items"][0]["generation"].clone(),
    );
    assert_eq!(after, before);
    assert_eq!(
        api.get("/v1/rollouts").await.ok()["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

async fn every_changing_verb_wants_a_reason(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 100).await;
    sandbox(api, json!({})).await;
    started(api, &two_waves()).await;
    until_status(api, "move", "completed", 30).await;
    for arguments in [
        vec!["pause", "move"],
        vec!["resume", "move"],
        vec!["cancel", "move"],
        vec!["retry", "move"],
        vec!["approve", "move", "1"],
        vec!["release", "some"],
        vec!["hold", "review", "some"],
        vec!["hold", "owner", "some", "first-admin"],
    ] {
        for reason in [&[][..], &["--reason", ""], &["--reason", "  "]] {
            let mut all = arguments.clone();
            all.extend_from_slice(reason);
            let done = service.cli(&all);
            assert_eq!(done.status.code(), Some(1), "{arguments:?}");
            assert!(
                text(&done.stderr).contains("--reason"),
                "{arguments:?}: {}",
                text(&done.stderr)
            );
        }
    }
    assert_eq!(api.get("/v1/holds").await.ok()["items"], json!([]));
}

async fn errors_say_what_to_do(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let said = |done: Output| {
        assert_eq!(done.status.code(), Some(1), "{}", text(&done.stdout));
        assert!(
            done.stdout.is_empty(),
            "an error is no output: {}",
            text(&done.stdout)
        );
        let said = text(&done.stderr);
        assert!(said.starts_with("tidegate: "), "{said}");
        said
    };
    let nobody = said(cli("http://127.0.0.1:9", "tg_x", &["status"]));
    assert!(
        nobody.contains("tidegate serve") && nobody.contains("--url"),
        "{nobody}"
    );
    let wrong = said(cli(&api.url, "tg_wrong", &["status"]));
    assert!(
        wrong.contains("not known") && wrong.contains("TIDEGATE_TOKEN"),
        "{wrong}"
    );
    let none = said(cli(&api.url, "", &["status"]));
    assert!(none.contains("TIDEGATE_TOKEN"), "{none}");
    assert!(said(service.cli(&["status", "nobody"])).contains("`nobody`"));
    assert!(said(service.cli(&["import", "/no/such.csv", "-p", "x"])).contains("/no/such.csv"));
    let note = database.file("spec.txt");
    std::fs::write(&note, two_waves()).unwrap();
    assert!(said(service.cli(&["plan", note.to_str().unwrap()])).contains(".yaml"));
    let spec = database.file("bad.yaml");
    std::fs::write(
        &spec,
        "rollout: r\npopulation: p\ntarget: t\nwaves:\n  - {name: w, count: many}\n",
    )
    .unwrap();
    let bad = said(service.cli(&["plan", spec.to_str().unwrap()]));
    assert!(
        bad.contains("line 5") && bad.contains("waves[0].count"),
        "{bad}"
    );
    assert!(said(service.cli(&["why", "nobody"])).contains("nobody"));
    let unknown = service.cli(&["halt"]);
    assert_eq!(
        unknown.status.code(),
        Some(1),
        "a wrong command line is an error, and no difference"
    );
    assert!(
        text(&unknown.stderr).contains("--everything"),
        "{}",
        text(&unknown.stderr)
    );
    let help = service.cli(&["--help"]);
    assert!(good(&help).contains("Exit codes: 0 ok"));
}

async fn a_list_beside_the_spec_is_sent_with_it(database: Database) {
    let service = Service::start(&database);
    import(&service.api, 100).await;
    sandbox(&service.api, json!({})).await;
    std::fs::write(
        database.file("early.csv"),
        "employee_id,why\ne0000003,pilot\ne0000007,pilot\n",
    )
    .unwrap();
    let text = two_waves().replace("count: 50", "select: {list: early.csv}");
    let spec = database.file("move.yaml");
    std::fs::write(&spec, text).unwrap();
    let done = service.cli(&["-o", "json", "plan", spec.to_str().unwrap()]);
    let plan: Value = serde_json::from_str(&good(&done)).unwrap();
    assert_eq!(plan["waves"][0]["people"], 2);
    std::fs::remove_file(database.file("early.csv")).unwrap();
    let missing = service.cli(&["plan", spec.to_str().unwrap()]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("early.csv"));
}

async fn expect_rev_refuses_what_has_changed(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 100).await;
    sandbox(api, json!({"latency_ms": 400})).await;
    started(api, &two_waves()).await;
    for verb in ["cancel", "retry", "resume"] {
        let mut all = vec![verb, "move", "--reason", "x", "--expect-rev", "999"];
        if verb == "cancel" {
            all.extend(["--confirm", "move"]);
        }
        let done = service.cli(&all);
        assert_eq!(done.status.code(), Some(1), "{verb}");
        assert!(
            text(&done.stderr).contains("generation_stale"),
            "{verb}: {}",
            text(&done.stderr)
        );
    }
    assert_ne!(
        api.get("/v1/rollouts/move").await.ok()["status"],
        "cancelled"
    );
}

async fn what_others_wrote_does_not_steer_the_terminal(database: Database) {
    let service = Service::start(&database);
    let wild = "\u{1b}[2J\u{9b}31m all is well\nreally\u{202e}";
    let halt = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": wild});
    let hold = service.api.post("/v1/holds", halt).await.ok();
    let id = hold["id"].as_str().unwrap();
    for command in [vec!["hold", "list"], vec!["hold", "show", id]] {
        let shown = good(&service.cli(&command));
        assert!(shown.contains("\\u{1b}[2J"), "it is shown: {shown}");
        for steering in ['\u{1b}', '\u{9b}', '\u{202e}'] {
            assert!(!shown.contains(steering), "{shown:?}");
        }
    }
    let refused = service.cli(&["status", wild]);
    let said = text(&refused.stderr);
    assert!(
        !said.contains('\u{1b}') && said.contains("all is well"),
        "{said:?}"
    );
    // A program gets what was written.
    let shown = good(&service.cli(&["-o", "json", "hold", "show", id]));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["reason"], wild);
}

async fn the_trail_is_listed_from_its_end_unless_somebody_says_where(database: Database) {
    let service = Service::start(&database);
    for number in 1..=6 {
        let body = json!({"name": format!("staff{number}")});
        service.api.post("/v1/populations", body).await.ok();
    }
    let rows = |arguments: &[&str]| -> Vec<String> {
        let shown = good(&service.cli(arguments));
        shown.lines().skip(1).map(str::to_owned).collect()
    };
    let all = rows(&["audit", "list", "--after", "0"]);
    assert!(all.len() > 6, "{all:?}");
    assert_eq!(rows(&["audit", "list"]), all);
    assert_eq!(
        rows(&["audit", "list", "--limit", "2"]),
        all[all.len() - 2..]
    );
    assert_eq!(
        rows(&["audit", "list", "--after", "1", "--limit", "2"]),
        all[1..3]
    );
    let both = service.api.get("/v1/audit?after=1&last=2").await;
    both.refused(422, "query_invalid");
}

async fn a_dry_run_says_no_where_the_command_would(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 300).await;
    sandbox(api, json!({})).await;
    let spec = database.file("move.yaml");
    std::fs::write(&spec, two_waves()).unwrap();
    let plan = database.file("plan.json");
    let (spec, plan) = (spec.display().to_string(), plan.display().to_string());
    good(&service.cli(&["plan", &spec, "--out", &plan]));
    good(&service.cli(&["apply", &plan, "--dry-run"]));
    let stale = std::fs::read_to_string(&plan)
        .unwrap()
        .replace("\"digest\": \"", "\"digest\": \"0");
    let old = database.file("old.json").display().to_string();
    std::fs::write(&old, stale).unwrap();
    for (arguments, code) in [
        (vec!["halt", "nobody"], 1),
        (vec!["pause", "move", "--wave", "99"], 1),
        (vec!["halt", "--target", "nowhere"], 1),
        (vec!["disprove", "move", "e0000001"], 1),
        (vec!["approve", "move", "77"], 1),
        (vec!["apply", &old], 5),
    ] {
        let mut all = arguments.clone();
        all.push("--dry-run");
        let done = service.cli(&all);
        assert_eq!(
            done.status.code(),
            Some(code),
            "{arguments:?}: {}",
            text(&done.stderr)
        );
    }
}

async fn no_list_is_wider_than_a_hundred_columns(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 100).await;
    sandbox(api, json!({})).await;
    let facts = json!({"vendor": "microsoft"});
    let facts = api
        .request(reqwest::Method::PUT, "/v1/targets/box/facts")
        .json(&facts);
    crate::support::api::send(facts).await.ok();
    crate::support::people::planned(api, &two_waves()).await;
    let long = "the-security-operations-centre-of-the-whole-group";
    let siem = api.as_role(long, "signal_source").await;
    let titles = ["words that somebody wrote and that go on and on ".repeat(4)];
    for title in titles {
        let report = json!({"kind": "vendor_breach", "severity": "critical", "vendor": "microsoft", "title": title});
        siem.post("/v1/signals", report).await.ok();
    }
    until("the rule holds", 5, async || {
        api.get("/v1/rollouts/move").await.ok()["status"] == "halted"
    })
    .await;
    for command in [
        vec!["hold", "list"],
        vec!["hold", "list", "--each"],
        vec!["signal", "list"],
        vec!["status"],
        vec!["status", "move"],
        vec!["why-not-now", "move"],
        vec!["source", "list"],
        vec!["token", "list"],
        vec!["audit", "list"],
    ] {
        let done = service.cli(&command);
        for line in text(&done.stdout).lines() {
            let wide = line.chars().count();
            assert!(wide <= 100, "{command:?} takes {wide} columns: {line}");
        }
        assert!(!done.stdout.is_empty(), "{command:?}");
    }
    let held = good(&service.cli(&["hold", "list"]));
    assert!(held.contains("severity critical"), "{held}");
    let trail = good(&service.cli(&["audit", "list", "--limit", "200"]));
    let hold = api.get("/v1/holds?in_force=true").await.ok()["items"][0]["id"].clone();
    let subject = format!("hold:{}", hold.as_str().unwrap());
    assert!(trail.contains(&subject), "ids can be copied: {trail}");
}
